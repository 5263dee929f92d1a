"""Whole suites of data sets: which, resumed, and what the manifest says of them."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from tabb.behaviours import behaviour_cloning
from tabb.behaviours.recipe import Recipe
from tabb.behaviours.suite import is_made, sets_of
from tabb.cli import main
from tabb.data import read
from tabb.data.catalogue import find, resolve
from tabb.environments.simulate import one_step
from tabb.environments.tasks import get_task
from tabb.errors import RunError
from tabb.policy import Policy

SHORT = ["--first-steps", "24", "--shifted-steps", "16", "--rows", "60", "--jobs", "1"]


@pytest.fixture(autouse=True)
def _no_data(monkeypatch):
    monkeypatch.delenv("TABB_DATA", raising=False)


def test_the_sets_of_the_suites():
    odrl = sets_of("odrl", (), ("medium", "expert"), 5_000, 100_000)
    assert len(odrl) == 160
    assert {data.domain for data in odrl} == {"target"}
    hands = sets_of("adroit", (), ("expert",), 5_000, 100_000)
    assert sorted(data.name for data in hands if data.domain == "source") == [
        f"{hand}_expert" for hand in ("door", "hammer", "pen", "relocate")
    ]
    assert len(hands) == 28
    (source, target) = sets_of("antmaze", ("antmaze-small", "antmaze-small-empty"), ("medium",), 5_000, 100_000)
    assert (source.domain, source.name, source.rows) == ("source", "antmaze_small_diverse", 100_000)
    assert (target.domain, target.name, target.rows) == ("target", "antmaze_small_empty_diverse", 5_000)


@pytest.mark.slow
def test_a_suite_is_made_once_and_found_again(tmp_path, capsys, monkeypatch):
    out = tmp_path / "made"
    command = ["collect", "otdf", "--tasks", "hopper-morph", "--out", str(out), *SHORT]
    assert main(command) == 0
    assert "2 new, 0 were there" in capsys.readouterr().out
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["command"] == "tabb " + " ".join(command)
    assert [entry["quality"] for entry in manifest["sets"]] == ["expert", "medium"]
    for entry in manifest["sets"]:
        content = (out / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert entry["behaviour"]["start"].endswith(" there)")  # in hopper
        assert (out / entry["behaviour"]["policy"]).is_file()
        assert entry["behaviour"]["with_a_growing_shift_too"] is True  # nobody hops after 16 steps
    told = json.loads((out / "practice" / "hopper-morph" / "practice.json").read_text())
    assert told["kept"][0][0] == 0
    assert told["kept"][-1][0] >= 16

    # The folder is one of TABB_DATA's, and the data are those of the task.
    monkeypatch.setenv("TABB_DATA", str(out))
    (path,) = find("hopper-morph", "medium", "target")
    found = read(path)
    assert len(found.transitions) == 60
    assert found.report.provenance["task"] == "hopper-morph"
    task = get_task("hopper-morph")
    asked = one_step(task, found.transitions.observation, found.transitions.action, "legacy")
    assert np.abs(asked.next_observation - found.transitions.next_observation).max() < 1e-4
    assert asked.reward == pytest.approx(found.transitions.reward, abs=1e-4)

    before = (out / manifest["sets"][0]["file"]).stat().st_mtime_ns
    assert main(command) == 0
    assert "0 new, 2 were there" in capsys.readouterr().out
    assert (out / manifest["sets"][0]["file"]).stat().st_mtime_ns == before

    # A lost file is made again from the practice that is kept, and is the same, byte for byte in its columns.
    logged = found.transitions.observation.copy()
    path.unlink()
    assert main(command) == 0
    assert "1 new, 1 were there" in capsys.readouterr().out
    assert np.array_equal(read(path).transitions.observation, logged)

    assert main([*command, "--noise", "0.5"]) == 4
    assert "was made with another recipe" in capsys.readouterr().err
    assert (
        main(["collect", "otdf", "--tasks", "hopper-kinematic", "--out", str(out), *SHORT[2:], "--first-steps", "8"])
        == 4
    )
    assert "hopper: was searched with other settings or from other source data" in capsys.readouterr().err


@pytest.mark.slow
def test_mazes(tmp_path, monkeypatch, capsys):
    from tabb.behaviours import walker_training

    monkeypatch.setattr(walker_training, "UPDATES", 4)
    out = tmp_path / "mazes"
    tasks = ["antmaze-small", "antmaze-small-empty"]
    assert main(["collect", "antmaze", "--tasks", *tasks, "--out", str(out), "--source-rows", "900", *SHORT]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert [entry["rows"] for entry in manifest["sets"]] == [900, 60]
    assert manifest["sets"][1]["score"] is None  # no episode was whole
    monkeypatch.setenv("TABB_DATA", str(out))
    source = read(resolve("diverse", "antmaze-small-empty", "source"))
    target = read(resolve("diverse", "antmaze-small-empty", "target"))
    assert (len(source.transitions), len(target.transitions)) == (900, 60)
    assert source.transitions.observation_size == 29
    assert not np.array_equal(source.transitions.action[:60], target.transitions.action[:60])
    assert len(list((out / "practice").iterdir())) == 1  # one walker for all


@pytest.mark.slow
def test_source_data_are_where_the_search_begins(tmp_path, monkeypatch, capsys):
    """Clones of the robot's source files come first, and are policies that a quality may be."""
    (tmp_path / "data" / "source").mkdir(parents=True)
    monkeypatch.setattr(behaviour_cloning, "UPDATES", 50)
    shutil.copy(find("hopper", "bundled", "source")[0], tmp_path / "data" / "source" / "hopper_medium.hdf5")
    monkeypatch.setenv("TABB_DATA", str(tmp_path / "data"))
    out = tmp_path / "made"
    assert main(["collect", "otdf", "--tasks", "hopper-morph", "--qualities", "expert", "--out", str(out), *SHORT]) == 0
    assert "no source data" not in capsys.readouterr().err
    first = Policy.load(out / "practice" / "hopper" / "0.npz")
    assert first.about["clone_of"] == "hopper_medium.hdf5"
    told = json.loads((out / "practice" / "hopper" / "practice.json").read_text())["about"]
    assert told["start"] == "a clone of hopper_medium.hdf5"

    # Without them, what is there is not what would be found.
    monkeypatch.delenv("TABB_DATA")
    (out / "target" / "hopper_morph_expert.hdf5").unlink()
    assert main(["collect", "otdf", "--tasks", "hopper-morph", "--qualities", "expert", "--out", str(out), *SHORT]) == 4
    assert "was searched with other settings or from other source data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["odrl", "--tasks", "hopper-morph"], "hopper-morph is not a task of suite odrl"),
        (["odrl", "--tasks", "hoper-morph"], "unknown task 'hoper-morph'"),
        (["odrl", "--qualities", "good"], "--qualities good: use medium, expert"),
        (["odrl", "--rows", "0"], "--rows 0: must be at least 1"),
        (["odrl", "--seed", "-1"], "--seed -1: must not be negative"),
        (["odrl", "--noise", "-1"], "--noise -1.0: must lie between"),
        (["odrl", "--first-in", "hopper-gravity-0.5"], "name an unshifted robot, or walker"),
    ],
)
def test_wrong_options(arguments, words, tmp_path, capsys):
    assert main(["collect", *arguments, "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["collect", "odrl", "--out", str(tmp_path / "file")]) == 4
    assert "file: cannot be made (" in capsys.readouterr().err


def test_a_set_of_other_rows_is_not_this_one(tmp_path):
    (data,) = sets_of("otdf", ("hopper-morph",), ("expert",), 60, 1)
    for folder in ("records", "target"):
        (tmp_path / folder).mkdir()
    (tmp_path / "target" / "hopper_morph_expert.hdf5").touch()
    recipe = json.loads(json.dumps(Recipe().__dict__))
    (tmp_path / "records" / "hopper_morph_expert.json").write_text(json.dumps({"recipe": recipe, "rows": 60}))
    assert is_made(tmp_path, data, Recipe())
    with pytest.raises(RunError, match="was made with another recipe"):
        is_made(tmp_path, data._replace(rows=61), Recipe())
    with pytest.raises(RunError, match="was made with another recipe"):
        is_made(tmp_path, data, Recipe(shifted_steps=1))


def test_hands_do_not_depend_on_searches(tmp_path):
    """Their data stay good whatever a search is told, also those made before there were searches."""
    (data,) = sets_of("adroit", ("pen-broken-joint-medium",), ("expert",), 60, 1)
    for folder in ("records", "target"):
        (tmp_path / folder).mkdir()
    (tmp_path / "target" / f"{data.name}.hdf5").touch()
    before = {"first_updates": 200_000, "noise": 0.1, "seed": 0, "engine": "legacy"}
    (tmp_path / "records" / f"{data.name}.json").write_text(json.dumps({"recipe": before, "rows": 60}))
    assert is_made(tmp_path, data, Recipe(first_steps=7))
    with pytest.raises(RunError, match="was made with another recipe"):
        is_made(tmp_path, data, Recipe(noise=0.2))


def test_a_kept_policy_can_be_rolled_out_by_hand(tmp_path, capsys):
    """What the manifest names is a policy like any other."""
    out = tmp_path / "made"
    assert main(["collect", "otdf", "--tasks", "hopper-morph", "--qualities", "expert", "--out", str(out), *SHORT]) == 0
    entry = json.loads((out / "manifest.json").read_text())["sets"][0]
    policy = out / entry["behaviour"]["policy"]
    assert Policy.load(policy).action_size == 3
    again = tmp_path / "again.hdf5"
    options = ["--rows", "60", "--noise", "0.1", "--seed", str(entry["first_seed"]), "--next-observations"]
    assert main(["collect", str(policy), "--task", "hopper-morph", "--out", str(again), *options]) == 0
    one, other = (read(path).transitions for path in (again, out / entry["file"]))
    assert np.array_equal(one.observation, other.observation)
    assert np.array_equal(one.action, other.action)
