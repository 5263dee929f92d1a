"""The command line: what it prints, one-line errors, exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import tabb
from command_line import BUNDLED, refused, told
from tabb import IQL, TABB
from tabb.backbones import CQL
from tabb.cli import COMMANDS, main
from tabb.commands.train_options import parse_train
from tabb.data import read
from tabb.policy import Policy
from tabb.registry import learners_of
from tabb.rules import AgreedShift, LatentDirectPredictor, LatentPredictor, ResidualPredictor


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TABB_DATA", raising=False)
    monkeypatch.chdir(tmp_path)  # runs/ must not land in the checkout


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A hopper policy that does nothing in particular."""
    generator = np.random.default_rng(0)
    layers = [(11, 8), (8, 3)]
    made = Policy(
        np.zeros(11, np.float32),
        np.ones(11, np.float32),
        tuple(generator.normal(size=size, scale=0.3).astype(np.float32) for size in layers),
        tuple(np.zeros(size[1], np.float32) for size in layers),
        {"task": "hopper-gravity-0.5"},
    )
    return made.save(tmp_path / "policy.npz")


# --- Listing and describing ---


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "--help")
    assert all(f"  {command}" in text for command in COMMANDS)


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: tabb" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "--version").strip() == f"tabb {tabb.__version__}"


@pytest.mark.parametrize("command", [["train", "tabb"], ["train"], ["evaluate"], ["collect"], ["tasks"]])
def test_every_command_explains_itself(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    assert "usage: tabb" in capsys.readouterr().out


def test_help_of_a_rule_has_its_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    for rule, expected in (("tabb", True), ("pooled", False)):
        with pytest.raises(SystemExit):
            main(["train", rule, "--help"])
        assert ("--rule.temperature" in capsys.readouterr().out) == expected


def test_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert "92 tasks" in told(capsys, "tasks")
    listed = json.loads(told(capsys, "tasks", "hopper", "otdf", "--json"))
    assert [task["name"] for task in listed] == ["hopper-gravity-0.5", "hopper-kinematic", "hopper-morph"]


def test_tasks_do_not_wait_for_jax() -> None:
    script = "import sys; from tabb.cli import main; main(['tasks']); assert 'jax' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("width", ["40", "95", "100", "200"])
@pytest.mark.parametrize("boxes", [True, False])  # tyro's form for a UTF-8 terminal, and the other
def test_errors_of_options_do_not_depend_on_the_terminal(width: str, boxes: bool, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setattr("tyro._fmtlib._FORCE_UTF8_BOXES", boxes)
    for arguments, says in (
        ("train tabb --trak tensorboard", "unknown option --trak; perhaps you meant --task or --track"),
        (f"train tabb --out {'a' * 90} {'b' * 90}", f"{'b' * 90}: belongs to no option"),
        ("train tabb --progress loud", "--progress: 'loud' is none of auto, bar, lines, none"),
        ("export x --fromat onnx", "give --format {onnx,stablehlo,npz}; unknown option --fromat"),
        ("benchmark otdf --updates many", "--updates: 'many' is not a whole number"),
    ):
        assert main(arguments.split()) == 2
        line = capsys.readouterr().err
        assert line.startswith(f"tabb: error: {says}; see `"), line
    assert os.environ["COLUMNS"] == width


def test_import_tabb_is_enough_for_all_of_it() -> None:
    script = (
        "import sys, tabb; assert 'jax' not in sys.modules\n"
        "tabb.data.read; tabb.errors.DataError; tabb.data.audit.audit\n"
        "for name in dir(tabb): getattr(tabb, name)\n"
        "try: tabb.dta\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "module 'tabb' has no attribute 'dta'\n"


def test_data_list_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "hopper_medium.hdf5").write_bytes(b"x")
    monkeypatch.setenv("TABB_DATA", str(tmp_path))
    listed = json.loads(told(capsys, "data", "list", "--json"))
    assert ("source", "hopper", "medium") in [(e["domain"], e["task"], e["quality"]) for e in listed]


# --- Collecting and evaluating ---


def test_collect_then_describe(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "data.hdf5"
    told(capsys, "collect", policy, "--rows", "300", "--noise", "0.3", "--seed", "5", "--out", out)
    with h5py.File(out) as file:
        assert file["observations"].shape == (300, 11)
        assert file["observations"].dtype == np.float32
        assert np.abs(file["actions"][:]).max() <= 1
        ends = np.asarray(file["terminals"]) | np.asarray(file["timeouts"])
        assert ends[-1]
        assert file.attrs["engine"] == b"legacy"  # fixed-length strings: HDF5 may crash on damaged others
        assert file.attrs["task"] == b"hopper-gravity-0.5"
        assert len(file.attrs["policy_sha256"]) == 64
    (described,) = json.loads(told(capsys, "data", "describe", out, "--json", "--columns"))
    assert described["report"]["rows"] == 300
    assert len(described["columns"]["observation"]["mean"]) == 11
    assert "300 in the file" in told(capsys, "data", "describe", out)


def test_collecting_again_gives_the_same_rows(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        told(capsys, "collect", policy, "--rows", "200", "--noise", "0.3", "--out", tmp_path / f"{name}.hdf5")
    first, second = (read(tmp_path / f"{name}.hdf5").transitions for name in ("a", "b"))
    np.testing.assert_array_equal(first.observation, second.observation)
    np.testing.assert_array_equal(first.action, second.action)
    told(capsys, "collect", policy, "--rows", "200", "--noise", "0.3", "--seed", "9", "--out", tmp_path / "c.hdf5")
    assert not np.array_equal(first.action, read(tmp_path / "c.hdf5").transitions.action)


def test_collected_next_observations_follow_the_rows(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for flag in ([], ["--next-observations"]):
        told(capsys, "collect", policy, "--rows", "150", "--out", tmp_path / f"{len(flag)}.hdf5", *flag)
    bare, full = (read(tmp_path / f"{n}.hdf5").transitions for n in (0, 1))
    rows = len(bare) - 1
    np.testing.assert_array_equal(bare.observation[:rows], full.observation[:rows])
    alive = np.asarray(bare.terminal[:rows]) == 0
    np.testing.assert_array_equal(bare.next_observation[:rows][alive], full.next_observation[:rows][alive])
    assert len(full) == 150, "with stored next observations the cut row counts too"


def test_random_policy_is_collected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "collect", "random", "--task", "halfcheetah", "--rows", "50", "--out", tmp_path / "r.hdf5")
    assert "policy=random" in text


def test_what_would_be_ignored_in_collecting_is_refused(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.hdf5"
    for words, says in (
        (["random", "--task", "hopper", "--noise", "0.3"], "noise=0.3: uniform random actions have no noise added"),
        (["random", "--env", "tabb/hopper-v0", "--engine", "native"], "engine=native: an environment of your own"),
        ([str(policy), "--env", "tabb/hopper-v0", "--engine", "legacy"], "engine=legacy: an environment of your own"),
    ):
        assert main(["collect", *words, "--rows", "5", "--out", str(out)]) == 2
        assert capsys.readouterr().err.startswith(f"tabb: error: {says}")
        assert not out.exists()


def test_evaluate(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("evaluate", policy, "--episodes", "2", "--json")
    first, again = json.loads(told(capsys, *arguments)), json.loads(told(capsys, *arguments))
    assert first == again
    assert len(first["scores"]) == 2
    assert first["task"] == "hopper-gravity-0.5"
    task = tabb.get_task(first["task"])
    np.testing.assert_allclose(first["scores"], task.normalised_score(first["returns"]))
    shifted = json.loads(told(capsys, *arguments, "--task", "hopper-gravity-2.0"))
    assert shifted["returns"] != first["returns"]


def test_evaluate_in_any_environment(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("evaluate", policy, "--env", "tabb/hopper-v0", "--episodes", "1")
    result = json.loads(told(capsys, *arguments, "--json"))
    assert result["scores"] is result["engine"] is None, "its physics are its own"
    assert told(capsys, *arguments).endswith("(1 episode, seed 10000)\n")
    assert result["mean"] == result["returns"][0]


def test_help_names_backbones_and_presets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "igdf@cql", "--help"])
    text = capsys.readouterr().out
    assert "--backbone.conservatism" in text
    assert all(word in text for word in ("td3-bc", "bcq", "--preset", "kinematic of otdf"))
    # Of settings within settings, those that the preset changes, as options name them.
    assert "quick of tabb (predictor residual)" in text


def options_in_help(capsys: pytest.CaptureFixture[str], *words: str) -> set[str]:
    """The options of the rule and of the backbone that the help of `tabb train` shows."""
    with pytest.raises(SystemExit):
        main(["train", *words, "--help"])
    return set(re.findall(r"--(?:rule|backbone)\.[a-z.-]+(?= )", capsys.readouterr().out)) - {
        "--rule.predictor.updates"
    }


def test_help_shows_a_newcomer_few_options(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    first = options_in_help(capsys, "tabb")
    assert {"--rule.temperature", "--rule.predictor", "--backbone.expectile"} <= first
    assert len(first) <= 25
    of_agreed = options_in_help(capsys, "tabb", "--rule.predictor", "agreed") - first
    assert "--rule.predictor.shift-penalty" in of_agreed
    assert not of_agreed & options_in_help(capsys, "tabb", "--rule.predictor", "latent-direct") - {
        f"--rule.predictor.{name}" for name in ("heads", "hidden", "batch-size", "learning-rate", "weight-decay")
    }


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ("", TABB()),
        ("--rule.predictor.updates 7", TABB(predictor=AgreedShift(updates=7))),
        ("--rule.predictor residual --rule.predictor.hidden 9", TABB(predictor=ResidualPredictor(hidden=9))),
        ("--rule.predictor=latent --rule.predictor.latent_size 9", TABB(predictor=LatentPredictor(latent_size=9))),
        ("--rule.predictor.form agreed", TABB(predictor=AgreedShift(updates=5_000, weight_decay=1e-3))),
        (
            "--rule.predictor.space latent --rule.predictor.form=direct --rule.predictor.no-source-head",
            TABB(predictor=LatentDirectPredictor(source_head=False)),
        ),
    ],
)
def test_a_predictor_is_chosen_by_name(options: str, rule: TABB) -> None:
    (learner,), _ = parse_train(["tabb"], options.split())
    assert learner.rule == rule


def test_a_preset_keeps_the_constants_of_the_suite() -> None:
    (learner,) = learners_of(["tabb"], "quick", ("antmaze",))
    assert learner.backbone == IQL(expectile=0.9, temperature=10.0)
    assert learner.rule == TABB(predictor=ResidualPredictor())
    (other,) = learners_of(["tabb@cql"], "quick")
    assert (other.rule, other.backbone) == (learner.rule, CQL())


# --- Errors ---


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["trian"], 2, "did you mean train"),
        (["train", "tab"], 2, "unknown rule 'tab': did you mean tabb?"),
        (["train", "magic"], 2, "unknown rule 'magic': use one of tabb, pooled, target-only"),
        (["train", "tabb@ppo"], 2, "tabb@ppo: unknown backbone 'ppo': use one of iql, td3-bc, cql, bcq, bear, clone"),
        (["train", "tab@cql"], 2, "unknown rule 'tab'"),
        (
            ["train", "tabb", "--backbone.value-weight", "2"],
            2,
            "--backbone.value-weight: changes nothing here; it counts with --backbone.extraction improvement",
        ),
        (["train", "tabb", "--rule.no-weigh-policy"], 2, "--rule.weigh-policy: changes nothing here; it counts with"),
        (["train", "tabb", "pooled", "--imitation.copies=2"], 2, "it counts with --imitation.rows noisy or corrective"),
        (["train", "dara@bcq"], 2, "takes only rules that say which rows are drawn (pooled, target-only), not dara"),
        (["train", "tabb@td3-bc", "--rule.predictor", "latent"], 2, "predictor latent needs a backbone with a value"),
        (["train", "tabb", "--rule.predictor", "magic"], 2, "--rule.predictor: unknown predictor 'magic': use one of"),
        (["train", "tabb", "--rule.predictor"], 2, "--rule.predictor: needs a name, one of residual, direct, latent"),
        (["train", "tabb", "--rule.predictor.latent-size", "8"], 2, "unknown option --rule.predictor.latent-size"),
        (["train", "tabb", "--rule.predictor.form", "agreed", "--rule.predictor=latent"], 2, "give the name alone"),
        (["train", "tabb", "--rule.weigh-by", "similarity"], 2, "a rule of its own: `tabb train similarity`"),
        (["train", "pooled", "--rule.predictor", "agreed"], 2, "unknown option --rule.predictor"),
        (["train", "tabb@td3-bc", "--backbone.expectile", "0.7"], 2, "--backbone.expectile"),
        (["train", "pooled@td3-bc", "--backbone.policy-delay", "0"], 2, "policy_delay=0"),
        (["train", "pooled", "pooled"], 2, "named twice"),
        (["train", "pooled", "pooled@iql"], 2, "named twice"),
        (["train", "igdf", "--rule.hidden", "0"], 2, "needs layers of width 1"),
        (["train", "bosa", "--preset", "odrl"], 2, "bosa does not have it"),
        (["train", "igdf", "--preset", "ant"], 2, "it has halfcheetah, hopper, walker2d"),
        (["train", "dara", "--preset", "hopper"], 2, "dara does not have it; some others have"),
        (["train", "pooled@bcq", "--preset", "hopper"], 2, "pooled@bcq does not have it; some others have"),
        (["train", "dara", "--preset"], 2, "--preset: give its name"),
        (["train", "--source", "a.hdf5"], 2, "--source without --target"),
        (["train", "tabb", "--updatse", "5"], 2, "error: unknown option --updatse; perhaps you meant --updates; see `"),
        (
            ["train", "tabb", "--updatse", "5", "--rule.temprature", "2"],
            2,
            "unknown option --updatse and --rule.temprature; perhaps you meant --rule.temperature or --updates; see",
        ),
        (["train", "tabb", "--out", "a", "b"], 2, "error: b: belongs to no option; see"),
        (["train", "tabb", "--updates", "many"], 2, "error: --updates: 'many' is not a whole number; see"),
        (["train", "tabb", "--updates"], 2, "error: --updates: needs 1 value; see"),
        (["train", "tabb", "--seeds", "a"], 2, "error: --seeds: 'a' is no value for it; see"),
        (
            ["train", "tabb", "pooled", "--rule.temperature", "1"],
            2,
            "--rule.temperature: is of one rule, and these are",
        ),
        (["train", "bosa", "pooled", "--backbone.discount", "1"], 2, "--backbone.discount: is of one backbone"),
        (["train", "tabb", "--env", "tabb/ant-v0", "--task", "hopper"], 2, "--task hopper with --env tabb/ant-v0"),
        (["train", "pooled", "--resume", "runs"], 2, "pooled with --resume: the folder says what is trained"),
        (["train", "tabb", "--updates", "0"], 2, "updates=0: must be at least 1"),
        (["train", "tabb", "--rule.temperature", "-1"], 2, "must be positive"),
        (["train", "tabb", "--rule.predictor.heads", "0"], 2, "heads=0"),
        (["train", "pooled", "--rule.temperature", "1"], 2, "unknown option --rule.temperature; see"),
        (["train", "tabb", "--backbone.expectile", "2"], 2, "expectile=2.0"),
        (["train", "tabb", "--source", "medium"], 2, "--source without --target"),
        (
            ["train", "tabb", "--source", "medum", "--target", "medum", "--task", "hopper-morph"],
            2,
            "target data 'medum' is neither a file nor a quality; did you mean medium?",
        ),
        (["train", "tabb", "--target", "medium"], 2, "--target without --source"),
        (["train", "source-only", "--source", "nowhere.hdf5"], 2, "--source without --target"),
        (["train", "target-only", "--target", "nowhere.hdf5"], 3, "nowhere.hdf5: no such file"),
        (["train", "target-only", "--target", "medium"], 2, "give --task"),
        (["train", "tabb", "--source", "medium", "--target", "medium"], 2, "give --task"),
        (["train", "tabb", "--seeds", "0", "0"], 2, "seeds=(0, 0)"),
        (["train", "tabb", "--seeds"], 2, "seeds=()"),
        (["train", "tabb", "--seeds", "-1"], 2, "-1"),
        (["train", "tabb", "--source", "medium", "--task", "hopper-gravty-0.5"], 2, "hopper-gravity-0.5"),
        (["train", "tabb", "--source", "medium", "--task", "hopper-morph"], 3, "TABB_DATA is not set"),
        (["train", "tabb", "--target", "nowhere.hdf5", "--source", "nowhere.hdf5"], 3, "nowhere.hdf5: no such file"),
        (
            ["train", "tabb", "--progress", "loud"],
            2,
            "error: --progress: 'loud' is none of auto, bar, lines, none; see",
        ),
        (["train", "tabb", "--updates", "1e3"], 2, "--updates: '1e3' is not a whole number"),
        (["train", "tabb", "--rule.temperature", "warm"], 2, "'warm' is not a number"),
        (["train", "tabb", "--env", "tabb/ant-v0"], 2, "give --source FILE"),
        (
            ["train", "tabb", *BUNDLED, "--env", "tabb/ant-v0", "--progress", "none"],
            2,
            "observation_size is 111 and 11",
        ),
        (["train", "tabb", "--jobs", "0"], 2, "--jobs 0"),
        (["train", "--resume", "nowhere"], 4, "nowhere"),
        (
            ["tasks", "swimmer"],
            2,
            "no task holds swimmer; `tabb tasks` lists 92, `tabb tasks adroit` 28, `tabb tasks ant",
        ),
        (["data", "show"], 2, "use one of list, describe"),
        (["figure", "orcle"], 2, "unknown figure 'orcle': use one of oracle, quality,"),
        (["audit"], 2, "error: name files, or --source FILE --target FILE"),
        (["train", "tabb", "--held-out", "x"], 2, "error: --held-out: 'x' is not a number; see"),
        (["train", "tabb", "tabb@cql", "--rule.temperature", "2"], 2, "--rule.temperature: is of one rule, and these"),
        (
            ["export"],
            2,
            "error: give PATH (a finished run folder (runs/.../seed0), or a policy.npz) and --format {onnx,",
        ),
        (["data", "describe"], 2, "name at least one file"),
        (["data", "describe", "nowhere.hdf5"], 3, "nowhere.hdf5: no such file"),
        (["evaluate"], 2, "PATH"),
        (["evaluate", "nowhere.npz"], 4, "nowhere.npz: no such policy"),
        (["evaluate", "{policy}", "--task", "ant"], 2, "observation_size is 11 and 111"),
        (["evaluate", "{policy}", "--task", "nothing"], 2, "unknown task"),
        (["evaluate", "{policy}", "--env", "tabb/hopper-v0", "--engine", "native"], 2, "has its own physics"),
        (["evaluate", "{policy}", "--task", "hopper", "--env", "tabb/hopper-v0"], 2, "--task hopper with --env"),
        (["evaluate", "{policy}", "--engine", "new"], 2, "--engine"),
        (["evaluate", "{policy}", "--episodes", "0"], 2, "episodes is 0"),
        (["evaluate", "{policy}", "--env", "Nothing-v0"], 2, "cannot be made"),
        (["collect", "random", "--out", "x.hdf5"], 2, "give --task"),
        (["collect", "{policy}", "--out", "{policy}"], 2, "is there already"),
        (["collect", "{policy}", "--out", "x.hdf5", "--noise", "-1"], 2, "--noise"),
        (["collect", "{policy}", "--out", "x.hdf5", "--rows", "0"], 2, "rows is 0"),
        (["collect", "{policy}", "--out", "no/folder/x.hdf5", "--rows", "5"], 4, "cannot be written"),
    ],
)
def test_one_line_errors(
    arguments: list[str], code: int, says: str, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, line = refused(capsys, *(argument.replace("{policy}", str(policy)) for argument in arguments))
    assert says in line
    assert found == code
    assert not Path("runs").exists(), "an error leaves no folder behind"


def test_data_of_another_engine(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, engine in (("legacy", "legacy"), ("native", "native")):
        out = tmp_path / f"{name}.hdf5"
        told(capsys, "collect", policy, "--rows", "60", "--engine", engine, "--out", out)
    files = ["--source", str(tmp_path / "legacy.hdf5"), "--target", str(tmp_path / "native.hdf5")]
    code, line = refused(capsys, "train", "pooled", *files, "--task", "hopper-gravity-0.5")
    assert (code, "engine" in line) == (3, True)
    alone = ["--target", str(tmp_path / "native.hdf5"), "--task", "hopper-gravity-0.5"]
    code, line = refused(capsys, "train", "target-only", *alone)
    assert "say --engine native" in line


def test_the_gymnasium_id_of_the_readme() -> None:
    script = "import gymnasium; print(gymnasium.make('tabb:tabb/hopper-gravity-0.5-v0').spec.id)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "tabb/hopper-gravity-0.5-v0", done.stderr


def test_a_damaged_policy(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy.write_bytes(policy.read_bytes()[:-200])
    code, line = refused(capsys, "evaluate", policy)
    assert code == 4
    assert "damaged" in line
