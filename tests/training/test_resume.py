"""A run that was killed, stopped or resumed ends bit-equal to one that never was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tabb
from tabb.data import save_npz
from tabb.errors import DataError, DataWarning, RunError, UsageError
from tabb.training.folder import RunFolder

pytestmark = pytest.mark.usefixtures("optimised_children")

SMALL = [
    *("--updates", "20000", "--evaluations", "5", "--task", "none", "--progress", "none", "--jobs", "1"),
    *("--backbone.policies", "1", "--backbone.hidden", "16", "16", "--backbone.batch-size", "16"),
    *("--backbone.discount", "0.9"),  # fitted Q evaluation takes 44 iterations, not 459
    *("--imitation.matching", "0"),
]
SMALL_PREDICTOR = ["--rule.predictor.updates", "200", "--rule.predictor.hidden", "16", "--rule.predictor.heads", "2"]


def domain(rows: int, seed: int, shift: float) -> tabb.Transitions:
    """Episodes of 50 steps of a damped random walk."""
    generator = np.random.default_rng(seed)
    observation = np.zeros((rows, 3))
    action = generator.uniform(-1, 1, (rows, 2))
    for i in range(1, rows):
        pushed = 0.9 * observation[i - 1] + 0.1 * action[i - 1].sum() + shift
        observation[i] = 0.0 if i % 50 == 0 else pushed + 0.05 * generator.standard_normal(3)
    timeouts = np.arange(1, rows + 1) % 50 == 0
    return tabb.from_arrays(observation, action, -np.abs(observation).sum(1), timeouts=timeouts)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("data")
    save_npz(folder / "source.npz", domain(1000, 0, 0.0))
    save_npz(folder / "target.npz", domain(200, 1, 0.05))
    return ["--source", str(folder / "source.npz"), "--target", str(folder / "target.npz")]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tabb", "train", *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False)


def start_and_wait_for(path: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a run and return as soon as `path` exists, while it is still going on."""
    process = subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.fixture(scope="module")
def whole(files: list[str], optimised_children: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TABB run that was never stopped."""
    out = tmp_path_factory.mktemp("whole")
    done = run("tabb", *files, *SMALL, *SMALL_PREDICTOR, "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out / "seed0"


def assert_same_run(first: Path, second: Path) -> None:
    with np.load(first / "policy.npz") as a, np.load(second / "policy.npz") as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])
    with np.load(first / "checkpoint.npz") as a, np.load(second / "checkpoint.npz") as b:
        for name in a.files:
            if name != "header":  # holds wall times
                np.testing.assert_array_equal(a[name], b[name])
    lines = [[_without_rate(line) for line in RunFolder(folder).metrics()] for folder in (first, second)]
    assert lines[0] == lines[1]


def _without_rate(line: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in line.items() if key != "rate"}


def test_killed_in_training(files: list[str], whole: Path, tmp_path: Path) -> None:
    process = start_and_wait_for(
        tmp_path / "seed0" / "checkpoint.npz", "tabb", *files, *SMALL, *SMALL_PREDICTOR, "--out", str(tmp_path)
    )
    process.kill()
    process.communicate()
    assert not (tmp_path / "seed0" / "result.json").exists(), "killed too late to prove anything"
    done = run("--resume", str(tmp_path), "--progress", "none")
    assert done.returncode == 0, done.stderr
    assert_same_run(whole, tmp_path / "seed0")


@pytest.mark.slow
def test_killed_while_preparing(files: list[str], whole: Path, tmp_path: Path) -> None:
    process = start_and_wait_for(
        tmp_path / "seed0" / "config.json", "tabb", *files, *SMALL, *SMALL_PREDICTOR, "--out", str(tmp_path)
    )
    process.kill()
    process.communicate()
    assert not (tmp_path / "seed0" / "prepared.npz").exists(), "killed too late to prove anything"
    done = run("--resume", str(tmp_path / "seed0"), "--progress", "none")  # the run folder itself will do
    assert done.returncode == 0, done.stderr
    assert_same_run(whole, tmp_path / "seed0")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_stopped_by_the_user(number: int, files: list[str], whole: Path, tmp_path: Path) -> None:
    process = start_and_wait_for(
        tmp_path / "seed0" / "checkpoint.npz", "tabb", *files, *SMALL, *SMALL_PREDICTOR, "--out", str(tmp_path)
    )
    process.send_signal(number)
    told = process.communicate()[1].strip()
    assert process.returncode == 130
    first, last = told.splitlines()
    assert "stopping as soon as all is saved" in first
    assert f"tabb train --resume {tmp_path}" in last
    done = run("--resume", str(tmp_path), "--progress", "none")
    assert done.returncode == 0, done.stderr
    assert_same_run(whole, tmp_path / "seed0")


def test_a_finished_run_is_left_as_it_is(whole: Path) -> None:
    before = (whole / "policy.npz").read_bytes()
    done = run("--resume", str(whole), "--progress", "none")
    assert done.returncode == 0, done.stderr
    assert (whole / "policy.npz").read_bytes() == before


def test_a_second_run_does_not_overwrite_the_first(files: list[str], whole: Path) -> None:
    done = run("tabb", *files, *SMALL, *SMALL_PREDICTOR, "--out", str(whole.parent))
    assert done.returncode == 4
    assert "already holds a run" in done.stderr
    assert "--resume" in done.stderr


@pytest.mark.slow
def test_a_plan_of_processes_is_resumed_whole(files: list[str], tmp_path: Path) -> None:
    plan = tmp_path / "plan"
    arguments = ["pooled", "target-only", *files, *SMALL[:4], *SMALL[8:], "--seeds", "0", "1", "--jobs", "2"]
    process = start_and_wait_for(
        plan / "pooled" / "seed0" / "checkpoint.npz", *arguments, "--out", str(plan), "--progress", "none"
    )
    process.send_signal(signal.SIGINT)
    told = process.communicate()[1].strip()
    assert process.returncode == 130, told
    assert len(list(plan.rglob("result.json"))) < 4, "stopped too late to prove anything"
    done = run("--resume", str(plan), "--progress", "none", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    whole = tmp_path / "whole"
    done = run(*arguments, "--out", str(whole), "--progress", "none")
    assert done.returncode == 0, done.stderr
    for cell in ("pooled/seed0", "pooled/seed1", "target-only/seed0", "target-only/seed1"):
        assert_same_run(whole / cell, plan / cell)


@pytest.mark.slow
def test_a_child_of_a_plan_ends_with_its_parent(files: list[str], tmp_path: Path) -> None:
    process = start_and_wait_for(
        tmp_path / "pooled" / "seed0" / "checkpoint.npz",
        *("pooled", "target-only", *files, "--updates", "2000000", *SMALL[2:4], *SMALL[8:]),
        *("--out", str(tmp_path), "--progress", "none", "--jobs", "1"),
    )
    process.kill()  # no handler of ours runs
    process.communicate()
    metrics = tmp_path / "pooled" / "seed0" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        size = metrics.stat().st_size
        time.sleep(2.0)
        if metrics.stat().st_size == size:
            return
    pytest.fail("the child trains on without its parent")


# --- Through the library ---


def small_settings(**changes: object) -> tabb.Settings:
    backbone = tabb.IQL(policies=1, hidden=(16, 16), batch_size=16)
    return tabb.Settings(**{"updates": 200, "evaluations": 2, "backbone": backbone, **changes})  # type: ignore[arg-type]


def test_other_data_are_not_resumed(tmp_path: Path) -> None:
    source, target = domain(500, 0, 0.0), domain(200, 1, 0.05)
    tabb.train(tabb.Pooled(), source, target, settings=small_settings(), folder=tmp_path)
    with pytest.raises(RunError, match="another data"):
        tabb.train(tabb.Pooled(), source, domain(200, 2, 0.05), settings=small_settings(), folder=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("rule", "changes", "part"),
    [(tabb.TargetOnly(), {}, "rule"), (tabb.Pooled(), {"updates": 300}, "settings")],
)
def test_another_learner_is_not_resumed(rule: tabb.Rule, changes: dict, part: str, tmp_path: Path) -> None:
    source, target = domain(500, 0, 0.0), domain(200, 1, 0.05)
    tabb.train(tabb.Pooled(), source, target, settings=small_settings(), folder=tmp_path)
    with pytest.raises(RunError, match=f"another {part}"):
        tabb.train(rule, source, target, settings=small_settings(**changes), folder=tmp_path, resume=True)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    source, target = domain(500, 0, 0.0), domain(200, 1, 0.05)
    tabb.train(tabb.Pooled(), source, target, settings=small_settings(), folder=tmp_path)
    checkpoint = tmp_path / "seed0" / "checkpoint.npz"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(RunError, match=r"checkpoint\.npz.*damaged"):
        tabb.train(tabb.Pooled(), source, target, settings=small_settings(), folder=tmp_path, resume=True)


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    source, target = domain(500, 0, 0.0), domain(200, 1, 0.05)
    tabb.train(tabb.Pooled(), source, target, settings=small_settings(), folder=tmp_path)
    again = {"settings": small_settings(), "folder": tmp_path, "resume": True}
    with RunFolder(tmp_path / "seed0").locked(), pytest.raises(RunError, match="another process trains here"):
        tabb.train(tabb.Pooled(), source, target, **again)
    tabb.train(tabb.Pooled(), source, target, **again)


def test_the_record_of_a_run_is_complete(tmp_path: Path) -> None:
    source, target = domain(500, 0, 0.0), domain(200, 1, 0.05)
    (run,) = tabb.train(tabb.Pooled(), source, target, settings=small_settings(), folder=tmp_path, seeds=[7])
    folder = RunFolder(tmp_path / "seed7")
    config = folder.config()
    assert config["seed"] == 7
    assert config["rule"] == {"name": "pooled"}
    assert config["settings"]["backbone"]["hidden"] == [16, 16]
    assert set(config["environment"]["versions"]) >= {"jax", "numpy", "mujoco", "tabb-rl"}
    training = [line for line in folder.metrics() if line["kind"] == "training"]
    assert training[-1]["update"] == 200
    assert all(np.isfinite(line["critic_loss"]) for line in training)
    result = json.loads(folder.result_file.read_text())
    assert result["score"] is None
    assert run.score is None, "nothing was evaluated"
    loaded = tabb.Policy.load(folder.path)
    observation = np.asarray(target.observation[:5])
    np.testing.assert_array_equal(loaded.act(observation), run.policy.act(observation))


def test_seeds_differ_and_repeat() -> None:
    source, target = domain(500, 0, 0.0), domain(200, 1, 0.05)
    first, second = tabb.train(tabb.Pooled(), source, target, settings=small_settings(), seeds=[0, 1])
    (again,) = tabb.train(tabb.Pooled(), source, target, settings=small_settings(), seeds=[1])
    observation = np.asarray(target.observation[:5])
    assert not np.array_equal(first.policy.act(observation), second.policy.act(observation))
    np.testing.assert_array_equal(second.policy.act(observation), again.policy.act(observation))


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"source": None}, UsageError, "needs source data"),
        ({"task": "hopper"}, UsageError, "observation_size is 11 and 3"),
        ({"task": "hoper"}, UsageError, "did you mean hopper"),
        ({"seeds": []}, UsageError, "seeds"),
        ({"seeds": [1, 1]}, UsageError, "seeds"),
        ({"seeds": 3.5}, UsageError, "seeds"),
        ({"source": "a.hdf5"}, UsageError, "tabb.load"),
        ({"settings": {"updates": 3}}, UsageError, "tabb.Settings"),
        ({"progress": "verbose"}, UsageError, "auto, bar, lines or none"),
    ],
)
def test_wrong_arguments(change: dict, error: type[Exception], says: str) -> None:
    arguments = {"source": domain(500, 0, 0.0), "target": domain(200, 1, 0.05), "settings": small_settings()}
    with pytest.raises(error, match=says) as caught:
        tabb.train(tabb.Pooled(), **{**arguments, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rule", ["tabb", tabb.TABB])
def test_a_rule_must_be_an_instance(rule: object) -> None:
    with pytest.raises(UsageError, match=r"tabb\.TABB\(\)"):
        tabb.train(rule, domain(500, 0, 0.0), domain(200, 1, 0.05))  # type: ignore[arg-type]


def test_domains_of_different_robots() -> None:
    moved = np.arange(40.0).reshape(10, 4)
    wide = tabb.from_arrays(moved, 0.01 * moved[:, :2], moved[:, 0], timeouts=np.arange(10) == 9)
    with pytest.raises(DataError, match="observation_size"):
        tabb.train(tabb.Pooled(), domain(500, 0, 0.0), wide)


def test_data_that_look_wrong_are_warned_of() -> None:
    source, target = domain(500, 0, 0.0), domain(200, 1, 0.05)
    target.reward[:] = 1
    with pytest.warns(DataWarning) as told:
        tabb.train(tabb.Pooled(), source, target, settings=small_settings())
    assert any("target's reward is the same" in str(warning.message) for warning in told)
    assert {warning.filename for warning in told} == {__file__}


def test_a_diverging_run_says_so() -> None:
    source = domain(500, 0, 0.0)
    source = source[:]
    settings = small_settings(backbone=tabb.IQL(policies=1, hidden=(16, 16), batch_size=16, learning_rate=1e30))
    with pytest.raises(RunError, match="diverged"):
        tabb.train(tabb.Pooled(), source, domain(200, 1, 0.05), settings=settings)


def test_disk_full_keeps_what_was_saved(files: list[str], tmp_path: Path) -> None:
    """A file-size limit stands in for a full disk: the write of the checkpoint fails in the same place."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000));"
        "from tabb.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["pooled", *files, *SMALL, "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", script, "train", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"},
    )
    assert done.returncode == 4, done.stderr
    assert "cannot be written" in done.stderr.splitlines()[-1]
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("*.part"))


def test_seeds_and_lists_from_python(tmp_path: Path) -> None:
    """NumPy's seeds are as good as Python's; a taken folder and a list of widths are found before training."""
    source, target = domain(2000, 0, 0.0), domain(1000, 1, 0.05)
    tiny = tabb.IQL(policies=1, hidden=(8,), batch_size=8)
    settings = tabb.Settings(updates=2, backbone=tiny)
    tabb.train(tabb.Pooled(), source, target, seeds=list(np.arange(1, 2)), settings=settings, folder=tmp_path)
    assert json.loads((tmp_path / "seed1" / "config.json").read_text())["seeds"] == [1]
    with pytest.raises(RunError, match="seed1: already holds a run"):
        tabb.train(tabb.Pooled(), source, target, seeds=[0, 1], settings=settings, folder=tmp_path)
    assert not (tmp_path / "seed0").exists()
    widths = tabb.IQL(policies=1, hidden=(8,))
    object.__setattr__(widths, "hidden", [8])  # as a user may; the tests' own checker of types would not let it pass
    lists = tabb.Settings(updates=2, backbone=widths)
    with pytest.raises(UsageError, match=r"^IQL hidden=\[8\] is a list; give a tuple"):
        tabb.train(tabb.Pooled(), source, target, settings=lists, folder=tmp_path / "other")
    assert not (tmp_path / "other").exists()
    unknown = dict.fromkeys(["engine"], "Legacy")
    with pytest.raises(UsageError, match=r"^Settings engine='Legacy' is unknown: use legacy or native"):
        tabb.Settings(**unknown)
