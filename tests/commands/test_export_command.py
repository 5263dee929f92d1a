"""`tabb export`: files of real runs, and one line for each error."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tabb.action_bounds import ActionBounds
from tabb.cli import main
from tabb.data import save_npz
from tabb.policy import Policy
from tabb.policy.candidates import CandidatePolicy


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "seed0"
    folder.mkdir()
    weights = (np.full((3, 2), 0.1, np.float32),)
    Policy(np.zeros(3, np.float32), np.ones(3, np.float32), weights, (np.zeros(2, np.float32),)).save(
        folder / "policy.npz"
    )
    return folder


@pytest.mark.parametrize("format", ["onnx", "stablehlo", "npz"])
def test_a_line_tells_the_file(format, run_folder, tmp_path, capsys):
    assert main(["export", str(run_folder), "--format", format]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{format}: {run_folder / f'policy.{format}'} (")
    assert "3 observations in, 2 actions in [-1, 1] out" in told
    out = tmp_path / f"elsewhere.{format}"
    assert main(["export", str(run_folder / "policy.npz"), "--format", format, "--out", str(out)]) == 0
    assert out.stat().st_size > 100


def test_the_line_tells_the_bounds_of_actions(run_folder, capsys):
    policy = Policy.load(run_folder)
    dataclasses.replace(policy, action_bounds=ActionBounds((-2.0, 0.0), (0.5, 1.0))).save(run_folder / "policy.npz")
    assert main(["export", str(run_folder), "--format", "npz"]) == 0
    assert "3 observations in, 2 actions in [-2, 0.5], [0, 1] out" in capsys.readouterr().out


def test_errors_are_one_line(run_folder, tmp_path, capsys):
    for code, says, arguments in (
        (2, "format", [str(run_folder)]),
        (2, "tflite", [str(run_folder), "--format", "tflite"]),
        (2, "is a folder", [str(run_folder), "--format", "onnx", "--out", str(tmp_path)]),
        (2, "must end in .onnx", [str(run_folder), "--format", "onnx", "--out", str(run_folder / "policy.npz")]),
        (4, "is a folder without a policy", [str(tmp_path), "--format", "npz"]),
        (4, "cannot be written", [str(run_folder), "--format", "npz", "--out", str(tmp_path / "none" / "a.npz")]),
    ):
        assert main(["export", *arguments]) == code
        told = capsys.readouterr()
        assert told.err.startswith("tabb: error: ")
        assert says in told.err
        assert told.err.count("\n") == 1
        assert not told.out
    assert [file.name for file in run_folder.iterdir()] == ["policy.npz"]


@pytest.mark.slow
def test_runs_of_both_kinds(make_pair, tmp_path):
    """Trained, exported and run: what a learner saves is what the exporter reads."""
    source, target = make_pair(400, 200)
    for name, data in (("source", source), ("target", target)):
        save_npz(tmp_path / f"{name}.npz", data)
    data = ["--source", str(tmp_path / "source.npz"), "--target", str(tmp_path / "target.npz")]
    small = [
        "--updates",
        "300",
        "--evaluations",
        "0",
        "--progress",
        "none",
        "--jobs",
        "1",
        "--backbone.batch-size",
        "32",
    ]
    learners = (("pooled", Policy, []), ("pooled@bcq", CandidatePolicy, ["--backbone.cvae-hidden", "32", "32"]))
    for learner, kind, also in learners:
        out = tmp_path / learner
        assert main(["train", learner, *data, *small, *also, "--out", str(out)]) == 0
        (file,) = out.rglob("policy.npz")
        policy = Policy.load(file)
        assert type(policy) is kind
        observations = target.observation[:50]
        assert main(["export", str(file.parent), "--format", "onnx"]) == 0
        session = onnxruntime.InferenceSession(file.with_suffix(".onnx"), providers=["CPUExecutionProvider"])
        (actions,) = session.run(["action"], {"observation": observations})
        wanted = policy.act(observations)
        assert np.abs(wanted - wanted[0]).max() > 0.01
        # Nearly equal candidates may change places: at most one row in fifty here.
        assert (np.abs(actions - wanted).max(axis=1) < 1e-6).sum() >= (50 if kind is Policy else 49)
