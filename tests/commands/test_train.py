"""`tabb train`: what it makes, what it says, and what it refuses to go on with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tabb
from command_line import refused, told
from tabb.cli import main
from tabb.data import read, save_npz
from tabb.policy import Policy
from tabb.running.processes import last_words


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TABB_DATA", raising=False)
    monkeypatch.chdir(tmp_path)  # runs/ must not land in the checkout


SMALL = ["--updates", "20", "--backbone.policies", "1", "--backbone.hidden", "8", "8", "--backbone.batch-size", "8"]
SMALL += ["--backbone.discount", "0.9"]  # fitted Q evaluation takes 44 iterations, not 459


@pytest.fixture
def own_files(tmp_path: Path) -> list[str]:
    """Options that name two small files of data that belong to no task."""
    files = []
    for name, rows in (("source", 200), ("target", 60)):
        generator = np.random.default_rng(rows)
        data = tabb.from_arrays(
            generator.normal(size=(rows, 3)),
            generator.uniform(-1, 1, (rows, 2)),
            generator.normal(size=rows),
            timeouts=np.arange(1, rows + 1) % 20 == 0,
        )
        save_npz(tmp_path / f"{name}.npz", data)
        files += [f"--{name}", str(tmp_path / f"{name}.npz")]
    return files


def test_train_on_own_files(own_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "train", "pooled", *own_files, *SMALL, "--out", tmp_path / "runs")
    assert "pooled" in text
    assert (tmp_path / "runs" / "seed0" / "policy.npz").exists()
    assert Policy.load(tmp_path / "runs" / "seed0").act(np.zeros(3)).shape == (2,)


@pytest.mark.slow
def test_a_rule_on_another_backbone(own_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--rule.predictor.updates", "2", "--rule.predictor.hidden", "8"]
    text = told(capsys, "train", "tabb@td3-bc", *own_files, *SMALL, *arguments, "--out", tmp_path / "runs")
    assert "tabb@td3-bc" in text
    config = json.loads((tmp_path / "runs" / "seed0" / "config.json").read_text())
    assert (config["rule"]["name"], config["settings"]["backbone"]["name"]) == ("tabb", "td3-bc")
    assert Policy.load(tmp_path / "runs" / "seed0").act(np.zeros(3)).shape == (2,)


@pytest.mark.slow
def test_a_preset_reaches_the_learners_that_have_it(
    own_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several learners become processes of their own; each must be told by name and with its preset."""
    updates = ["--updates", "2", "--progress", "none", "--preset", "odrl"]
    text = told(capsys, "train", "pooled@td3-bc", "pooled", *own_files, *updates, "--out", tmp_path / "runs")
    assert "pooled@td3-bc" in text
    backbones = {}
    for name in ("pooled@td3-bc", "pooled"):
        config = json.loads((tmp_path / "runs" / name / "seed0" / "config.json").read_text())
        backbones[name] = config["settings"]["backbone"]
    assert (backbones["pooled@td3-bc"]["name"], backbones["pooled@td3-bc"]["policy_delay"]) == ("td3-bc", 1)
    assert backbones["pooled"]["name"] == "iql"
    # Finished runs are not run again, and the plan still knows their names.
    assert "pooled@td3-bc" in told(capsys, "train", "--resume", tmp_path / "runs")


def test_a_preset_of_a_rule(own_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told(
        capsys,
        "train",
        "igdf",
        *own_files,
        *SMALL,
        "--preset",
        "hopper",
        "--rule.updates",
        "2",
        "--out",
        tmp_path / "a",
    )
    assert json.loads((tmp_path / "a" / "seed0" / "config.json").read_text())["rule"]["keep"] == 0.25


@pytest.mark.slow
def test_what_is_said_beside_a_preset_changes_that_alone(
    own_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [*SMALL, "--rule.predictor.updates", "2", "--rule.predictor.hidden", "8"]
    told(capsys, "train", "tabb", *own_files, *small, "--preset", "quick", "--out", tmp_path / "a")
    config = json.loads((tmp_path / "a" / "seed0" / "config.json").read_text())
    predictor = config["rule"]["predictor"]
    assert (predictor["name"], predictor["updates"], predictor["weight_decay"]) == ("residual", 2, 1e-3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pooled@bcq", "--imitation.matching", "0.1"], "cannot be held to logged paths; use matching=0, or another"),
        (["pooled@cql", "pooled", "--imitation.best", "0.5"], "the policy of backbone cql imitates no rows"),
        (["pooled", "--store", "--imitation.rows", "noisy"], "imitation rows=noisy: makes copies of all target rows"),
        (["otdf", "--store"], "its columns compare all rows with one another; read the data without --store"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_data_are_read(
    arguments: list[str],
    says: str,
    own_files: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tabb.data.read", lambda *_, **__: pytest.fail("read"))
    monkeypatch.setattr("tabb.training.from_files.read", lambda *_, **__: pytest.fail("read"))
    code, line = refused(capsys, "train", *arguments, *own_files)
    assert (code, says in line) == (2, True), line
    assert not Path("runs").exists()


def test_runs_from_arrays_are_resumed_in_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    data = tabb.from_arrays(
        generator.normal(size=(160, 3)),
        generator.uniform(-1, 1, (160, 2)),
        generator.normal(size=160),
        timeouts=np.arange(1, 161) % 20 == 0,
    )
    settings = tabb.Settings(updates=10, backbone=tabb.IQL(policies=1, hidden=(8,), batch_size=8))
    tabb.train(tabb.TargetOnly(), None, data, settings=settings, folder=tmp_path / "runs")
    assert "target-only" in told(capsys, "train", "--resume", tmp_path / "runs")
    (tmp_path / "runs" / "seed0" / "result.json").unlink()
    code, line = refused(capsys, "train", "--resume", tmp_path / "runs")
    assert (code, "resume=True" in line) == (2, True)
    code, line = refused(capsys, "evaluate", tmp_path / "runs")
    assert "name one of seed0" in line


def test_the_last_words_of_a_child_are_no_warning(tmp_path: Path) -> None:
    log = tmp_path / "seed0.log"
    log.write_text("tabb: error: disk full\ntabb: warning: source: column 2 never changes\n")
    assert last_words(log) == "disk full"
    log.write_text("tabb: warning: source: column 2 never changes\n")
    assert last_words(log) == "ended without a word"


@pytest.mark.parametrize("learners", [["pooled"], pytest.param(["pooled", "target-only"], marks=pytest.mark.slow)])
def test_a_target_of_two_episodes_is_warned_of_once(
    learners: list[str], own_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = read(tmp_path / "target.npz").transitions
    save_npz(tmp_path / "target.npz", data[np.asarray(data.episode) < 2])
    arguments = [*own_files, *SMALL[2:], "--updates", "2", "--jobs", "1", "--out", str(tmp_path / "runs")]
    assert main(["train", *learners, *arguments]) == 0
    told_of = capsys.readouterr().err
    assert told_of.count("tabb: warning: the target has 2 episodes, so none is held out to judge policies by") == 1
    assert main(["train", *learners, *arguments[:-1], str(tmp_path / "again"), "--held-out", "0"]) == 0
    assert "is held out" not in capsys.readouterr().err
