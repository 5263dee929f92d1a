"""The audit of a file and of a pair: what it tells, in which order, and of what it keeps silent."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from audited_logs import bounds, codes, late, limits, repeated, robot, still, stored, twice
from tabb.cli import main
from tabb.data import inspect_arrays, save_npz, write_hdf5
from tabb.data.audit import audit, pair_form, short_form
from tabb.data.audit.columns import check_columns
from tabb.data.audit.episodes import unexplained


@pytest.fixture(scope="module")
def clean():
    return robot()


def test_clean_data_have_notes_alone(clean, tmp_path):
    source = stored(tmp_path / "source.hdf5", clean)
    target = stored(tmp_path / "target.hdf5", robot(2_000, seed=1, gain=0.5))
    found = audit(source=source, target=target)
    assert set(codes(found)) == {"dropped", "coverage", "misfit"}  # two thirds more effect: a large shift, noted
    assert not found.of_level("error")
    assert not found.of_level("warning")


def test_false_next_observations_are_listed(clean, tmp_path):
    columns = {key: column for key, column in clean.items() if key != "timeouts"}
    columns["next_observations"] = np.roll(clean["observations"], -1, axis=0)
    columns["terminals"] = clean["timeouts"] & (np.arange(3_000) < 1_000)
    found = codes(audit(stored(tmp_path / "file.hdf5", columns)))["wrong-next"]
    assert {99, 199, 999} <= set(found.rows)


def test_several_faults_are_all_told_and_ranked(clean, tmp_path):
    columns = {key: column.copy() for key, column in clean.items()}
    still(columns)
    columns["rewards"][3] = np.nan
    bounds(columns)
    found = audit(stored(tmp_path / "file.hdf5", columns))
    levels = [finding.level for finding in found.findings]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    assert {"nan", "action-range", "constant"} <= set(codes(found))


PAIRED = {
    "units": (lambda o: np.concatenate([o[:, :2] * 57.3, o[:, 2:] * 57.3], axis=1), "0 (about 6"),
    "order": (lambda o: o[:, [2, 1, 0, 3]], "column 0 looks like the target's 2, 2 looks like the target's 0"),
}


@pytest.mark.parametrize("code", PAIRED)
def test_faults_between_the_domains(code, clean, tmp_path):
    change, says = PAIRED[code]
    target = robot(2_000, seed=1, gain=0.33)
    target["observations"] = change(target["observations"])
    source, target = stored(tmp_path / "source.hdf5", clean), stored(tmp_path / "target.hdf5", target)
    found = codes(audit(source=source, target=target))[code]
    assert found.level == "warning"
    assert says in found.what


@pytest.mark.parametrize("slow", ["target", "source"])
def test_steps_that_last_longer_in_one_domain(slow, clean, tmp_path):
    sides = {"source": clean, "target": robot(2_000, seed=1, gain=0.33)}
    sides[slow] = robot(2_000, seed=2, repeat=2)
    files = {side: stored(tmp_path / f"{side}.hdf5", columns) for side, columns in sides.items()}
    found = codes(audit(**files))
    assert "misfit" not in found
    times = float(found["rate"].what.split("seems to last ")[1].split()[0])
    assert times == pytest.approx(2 if slow == "target" else 0.5, rel=0.05)
    assert found["rate"].what.endswith("move columns 0, 1")


def test_degrees_are_no_other_rate(clean, tmp_path):
    target = robot(2_000, seed=1, gain=0.33)
    target["observations"][:, :2] *= 57.3
    files = stored(tmp_path / "source.hdf5", clean), stored(tmp_path / "target.hdf5", target)
    assert {"units"} == {one.code for one in audit(source=files[0], target=files[1]).of_level("warning")}


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_sensor_that_is_dead_in_one_domain(side, clean, tmp_path):
    sides = {"source": dict(clean), "target": robot(2_000, seed=1, gain=0.33)}
    sides[side]["observations"] = sides[side]["observations"].copy()
    sides[side]["observations"][:, 3] = 0.0
    files = {name: stored(tmp_path / f"{name}.hdf5", columns) for name, columns in sides.items()}
    (found,) = [one for one in audit(**files).of_level("warning") if one.code == "constant"]
    assert found.what.startswith(f"observation columns are the same in every row of the {side}, but move in the ")
    assert found.what.endswith(": 3")


def test_what_never_changes_is_said_once(clean, tmp_path):
    target = robot(2_000, seed=1)
    target["rewards"][:] = 1.0
    target["observations"][:] = 1.0
    source, target = stored(tmp_path / "source.hdf5", clean), stored(tmp_path / "target.hdf5", target)
    warned = audit(source=source, target=target).of_level("warning")
    assert sorted(one.where for one in warned) == [f"{target}: observations", f"{target}: rewards"]
    assert {one.code for one in warned} == {"constant"}


def test_a_file_that_is_named_twice_is_audited_once(clean, tmp_path):
    source, target = stored(tmp_path / "source.hdf5", clean), stored(tmp_path / "target.hdf5", robot(2_000, seed=1))
    found = audit(source, target, target, source=source, target=target)
    assert found.files == (source, target)
    assert found.findings == audit(source=source, target=target).findings


def test_rows_that_parts_of_a_file_share(clean, tmp_path):
    other = {key: np.concatenate([clean[key][1_000:1_500], column]) for key, column in robot(900, seed=1).items()}
    first, second = stored(tmp_path / "a.hdf5", clean), stored(tmp_path / "b.hdf5", other)
    found = codes(audit(f"{second}+{first}"))["shared-rows"]
    assert found.where == f"{second} and {first}"
    assert found.what.startswith("495 rows of the first (36%) are in the second too")
    assert set(found.rows) == set(range(500)) - set(range(99, 500, 100))
    assert "these rows count twice" in found.fix
    assert codes(audit(f"{first}+{first}"))["identical-rows"].level == "error"
    assert not {"shared-rows", "identical-rows"} & set(
        codes(audit([first, stored(tmp_path / "c.hdf5", robot(seed=5))]))
    )


def test_engines_and_sizes(clean, tmp_path):
    for engine in ("legacy", "native"):
        write_hdf5(tmp_path / f"{engine}.hdf5", robot(500, seed=len(engine)), {"engine": engine})
    source, plain = str(tmp_path / "legacy.hdf5"), stored(tmp_path / "plain.hdf5", robot(400, seed=9))
    assert "engine is legacy and native" in codes(audit(source=source, target=tmp_path / "native.hdf5"))["no-pair"].what
    assert codes(audit(source=source, target=plain))["engine"].where == plain
    narrow = {key: column[:, :3] if key == "observations" else column for key, column in clean.items()}
    assert "observation_size" in codes(audit(source=source, target=stored(tmp_path / "n.hdf5", narrow)))["no-pair"].what


def test_the_same_bytes_under_two_names(clean, tmp_path):
    first = stored(tmp_path / "friction_0.1.hdf5", clean)
    second = str(shutil.copy(first, tmp_path / "friction_0.5.hdf5"))
    found = codes(audit(first, second))["identical-files"]
    assert found.where == f"{first} and {second}"
    assert found.level == "error"


def test_the_same_rows_in_other_bytes(clean, tmp_path):
    first = stored(tmp_path / "friction_0.1.hdf5", clean)
    second = str(tmp_path / "friction_0.5.hdf5")
    write_hdf5(second, clean)  # compressed
    found = codes(audit(first, second))
    assert found["identical-rows"].level == "error"
    assert found["identical-rows"].where == f"{first} and {second}"
    assert found["identical-rows"].what == "hold the same 2,970 rows"  # 30 ends of episodes are dropped
    assert "identical-files" not in found
    said = codes(audit(source=first, target=second))
    assert said["no-pair"].what == "hold the same 2,970 rows"
    assert said["no-pair"].fix == "give the target domain's own data"
    assert "identical-rows" not in said


def test_rows_that_two_files_share(clean, tmp_path):
    other = {key: column[1_500:].copy() for key, column in robot(3_000, seed=1).items()}
    for key, column in other.items():
        column[:500] = clean[key][1_000:1_500]
    first, second = stored(tmp_path / "a.hdf5", clean), stored(tmp_path / "b.hdf5", other)
    found = codes(audit(first, second))["shared-rows"]
    assert found.level == "warning"
    assert found.what.startswith("495 rows of the first (17%) are in the second too")
    assert set(found.rows) == set(range(1_000, 1_500)) - set(range(1_099, 1_500, 100))  # rows of the file
    assert "shared-rows" not in codes(audit(first, stored(tmp_path / "c.hdf5", robot(2_000, seed=2))))


def test_all_faults_of_npz_files_are_told(clean, tmp_path, pair):
    columns = {key: column.copy() for key, column in clean.items()}
    columns["rewards"][[4, 17]] = np.nan
    columns["actions"] *= 3
    np.savez(tmp_path / "own.npz", **columns)
    found = codes(audit(tmp_path / "own.npz"))
    assert found["nan"].rows == (4, 17)
    assert "action-range" in found
    assert "unreadable" not in found
    save_npz(tmp_path / "saved.npz", pair[0])
    with np.load(tmp_path / "saved.npz") as file:
        saved = dict(file)
    saved["observation"][[3, 9]] = np.inf
    np.savez(tmp_path / "saved.npz", **saved)
    assert codes(audit(tmp_path / "saved.npz"))["inf"].rows == (3, 9)


def test_unknown_next_observations_and_episodes_are_no_errors(clean, tmp_path):
    """NaN says there what is read of it: that the next observation, or the row's episode, is not known."""
    number = np.arange(3_000) // 100 * 1.0
    number[300:400] = np.nan
    following = np.roll(clean["observations"], -1, axis=0)
    following[99::100] = np.nan
    columns = {key: clean[key] for key in ("observations", "actions", "rewards", "terminals")}
    columns |= {"episodes": number, "next_observations": following, "next_obs": following}
    found = audit(stored(tmp_path / "own.hdf5", columns))
    assert found.of_level("error") == found.of_level("warning") == []
    unknown = {one.where.rpartition(": ")[2]: one for one in found.findings if one.code == "unknown"}
    assert set(unknown) == {"episodes", "next_observations", "next_obs"}
    assert unknown["episodes"].what.startswith("100 rows hold NaN: which episode the row belongs to is not known")
    assert unknown["next_observations"].rows == tuple(range(99, 3_000, 100))
    outside = next(one for one in found.findings if one.what == "100 rows are dropped: the row belongs to no episode")
    assert outside.fix == "none needed; to keep them, give the number of each row's episode"


def test_lengths_and_returns_are_told(clean, tmp_path):
    found = audit(stored(tmp_path / "file.hdf5", clean))
    report = found.to_dict()["reports"][str(tmp_path / "file.hdf5")]
    assert report["lengths"] == [100] * 30
    returns = clean["rewards"].astype(float).reshape(30, 100).sum(axis=1)
    np.testing.assert_allclose(report["returns"], returns)
    text = str(found)
    assert "100 to 100 rows (median 100)" in text
    had = clean["rewards"].astype(float).reshape(30, 100)[:-1, :-1].sum(axis=1).mean()
    told = f"{had:.1f}, mean of episodes, each counted by its rows; {returns.min():,.1f} to {returns.max():,.1f}"
    assert f"{told} with the dropped rows" in text


def test_the_most_harmful_comes_first(clean, tmp_path):
    columns = {key: column.copy() for key, column in clean.items()}
    twice(columns)
    repeated(columns)
    limits(columns)
    found = audit(stored(tmp_path / "file.hdf5", columns))
    order = [finding.code for finding in found.findings if finding.level == "warning"]
    assert order == ["doubt", "duplicated-rows", "duplicated-column"]


def test_a_constant_in_every_reward_hides_no_late_rewards():
    data = inspect_arrays(**robot()).transitions
    more = dataclasses.replace(data, reward=data.reward + 1000)
    assert unexplained(data, 0) < 0.05
    assert unexplained(more, 0) == pytest.approx(unexplained(data, 0), abs=1e-3)


def test_what_training_says_of_a_file(clean):
    columns = {key: column.copy() for key, column in clean.items()}
    assert short_form(inspect_arrays(**columns)) == []
    late(columns)
    twice(columns)
    said = short_form(inspect_arrays(**columns))
    assert said[0].startswith("observations: columns 0 and 3 are equal in every row; check that no sensor")
    assert said[1].startswith("rewards: a step explains the reward of the row after better")
    assert len(said) == 2


def test_training_says_it(clean, capsys):
    from tabb.commands.training_data import check_data

    columns = {key: column.copy() for key, column in clean.items()}
    late(columns)
    sides = {"source": inspect_arrays(**clean), "target": inspect_arrays(**columns)}
    check_data(sides, "legacy", None, show=True)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tabb: warning: ")]
    assert len(said) == 1
    assert said[0].startswith("tabb: warning: target: rewards: a step explains the reward of the row after better")
    check_data(sides, "legacy", None, show=False)
    assert capsys.readouterr().err == ""


def test_coverage_counts_states_where_the_target_was(clean, tmp_path):
    source = {key: column.copy() for key, column in clean.items()}
    target = robot(3_000, seed=0)
    source["observations"][:1_500] += 50.0  # fifteen whole episodes, far away
    rows = stored(tmp_path / "source.hdf5", source), stored(tmp_path / "target.hdf5", target)
    what = codes(audit(source=rows[0], target=rows[1]))["coverage"].what
    assert 40 <= int(what.split("%")[0]) <= 50


def test_files_that_cannot_be_read_are_findings(clean, tmp_path, pair):
    (tmp_path / "empty.hdf5").write_bytes(b"")
    whole = stored(tmp_path / "whole.hdf5", clean)
    (tmp_path / "cut.hdf5").write_bytes(Path(whole).read_bytes()[:3_000])
    lacking = stored(tmp_path / "lacking.hdf5", {key: clean[key] for key in ("observations", "actions")})
    found = audit(tmp_path / "empty.hdf5", tmp_path / "cut.hdf5", lacking, tmp_path / "none.hdf5", whole)
    wrong = found.of_level("error")
    assert [finding.code for finding in wrong] == ["unreadable"] * 4
    assert list(found.loaded) == [whole]
    assert not [finding for finding in found.findings if finding.code == "identical-files"]
    save_npz(tmp_path / "pair.npz", pair[0])
    assert not audit(tmp_path / "pair.npz").of_level("error")
    required = {key: clean[key] for key in ("observations", "actions", "rewards")}
    (unclear,) = audit(stored(tmp_path / "dones.hdf5", required | {"dones": clean["timeouts"]})).findings
    assert unclear.fix.startswith("name it terminals if the task itself ended there")


def test_repetitions_are_those_of_whole_rows():
    columns = {"observations": np.zeros((3, 2), np.float32), "actions": np.array([[0.1], [0.2], [0.1]], np.float32)}
    columns["observations"][:, 0] = [1, 1, 1]
    columns["rewards"] = np.array([1.0, 1.0, 1.5], np.float32)
    assert "duplicated-rows" not in {finding.code for finding in check_columns("x", columns)}
    columns["rewards"][2] = 1.0
    (found,) = [finding for finding in check_columns("x", columns) if finding.code == "duplicated-rows"]
    assert found.rows == (2,)


def test_command(clean, tmp_path, capsys):
    good = stored(tmp_path / "good.hdf5", clean)
    assert main(["audit", good, "--out", str(tmp_path / "audit.json")]) == 0
    assert "0 errors, 0 warnings, 1 note\n" in capsys.readouterr().out
    assert json.loads((tmp_path / "audit.json").read_text())["findings"][0]["code"] == "dropped"
    columns = {key: column.copy() for key, column in clean.items()}
    columns["rewards"][3] = np.nan
    assert main(["audit", stored(tmp_path / "bad.hdf5", columns), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["findings"][0]["rows"] == [3]
    assert main(["audit", good, "--task", "no-task"]) == 2
    assert "unknown task 'no-task'" in capsys.readouterr().err
    assert main(["audit"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.data
def test_boundary_rows_of_the_public_target_files(real_data):
    facts = json.loads((real_data / "otdf_datasets.json").read_text())
    checked = 0
    for file in sorted((real_data / "target").glob("*_medium_expert.hdf5")):
        found = codes(audit(file))
        assert set(found["wrong-next"].rows) == set(wrong_rows(facts, file.name)), file.name
        assert not {"reward-timing", "duplicated-rows", "doubt"} & set(found)
        checked += 1
    assert checked == 12


@pytest.mark.data
def test_public_target_files_that_share_rows(real_data):
    files = [
        real_data / "target" / f"walker2d_morph_{quality}.hdf5" for quality in ("medium", "expert", "medium_expert")
    ]
    found = [finding for finding in audit(*files).findings if finding.code == "shared-rows"]
    assert [finding.what.split(" rows")[0] for finding in found] == ["2,996", "590"]


def wrong_rows(facts, name):
    """The rows that the fact table lists for a file."""
    return facts["files"][Path(name).stem]["wrong_next_observation_rows"]


def test_one_absurd_number_is_found():
    columns = robot(300)
    columns["observations"][123, 2] = 1e30
    (found,) = [one for one in check_columns("log", columns) if one.code == "outlier"]
    assert found.level == "warning"
    assert found.where == "log: observations"
    assert found.rows == (123,)
    assert not [one for one in check_columns("log", robot(300)) if one.code == "outlier"]


@pytest.mark.parametrize("others", [1e-6, 1.0, 1e9])
def test_what_is_absurd_in_a_column_does_not_depend_on_the_others(others):
    """99% of column 1 do not exceed 3: 40,000 is absurd there in any unit of the others, and a rare 3 is not."""
    table = np.random.default_rng(0).normal(0, others, (1_000, 4))
    table[:, 1] = np.arange(1_000) % 4
    table[:, 2] = 0.0
    table[[5, 900], 2] = 3.0
    table[:, 3] = 0.0
    assert not [one for one in check_columns("log", {"observations": table}) if one.code == "outlier"]
    table[70, 1], table[80, 3] = 40_000.0, 1e30
    (one,) = [one for one in check_columns("log", {"observations": table}) if one.code == "outlier"]
    assert one.rows == (70, 80)


def test_an_absurd_number_is_found_beside_an_unknown_one():
    columns = robot(300)
    columns["observations"][[123, 200], 2] = 1e30, np.nan
    found = {one.code: one for one in check_columns("log", columns)}
    assert found["outlier"].rows == (123,)
    assert found["nan"].rows == (200,)
    assert found["nan"].what == "1 row holds NaN"


def test_numbers_beyond_float32_are_an_error_and_no_warning_of_numpy(tmp_path):
    columns = robot(300)
    columns["observations"] = columns["observations"].astype(np.float64) * 1e45
    (found,) = audit(stored(tmp_path / "file.hdf5", columns)).findings
    assert found.code == "unreadable"
    assert "not a finite float32" in found.what


def test_rows_that_are_all_the_same_are_in_no_disorder(clean):
    columns = {key: column.copy() for key, column in clean.items()}
    columns["observations"][:] = 0.5
    assert inspect_arrays(**columns).report.doubts == ()


def test_pairs_are_told_when_they_are_trained_on():
    source, target = (inspect_arrays(**robot(seed=seed, gain=gain)).transitions for seed, gain in ((0, 0.3), (1, 0.25)))
    assert pair_form(source, target) == []
    degrees = robot(seed=1, gain=0.25)
    degrees["observations"] = degrees["observations"] * np.float32([57.3, 1, 57.3, 1])
    (line, *_) = pair_form(source, inspect_arrays(**degrees).transitions)
    assert line.startswith("source and target")
    assert "57" in line


def test_a_pipe_is_no_file(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.hdf5")
    (found,) = audit([str(tmp_path / "pipe.hdf5")]).findings
    assert found.level == "error"
    assert "pipe" in found.what
