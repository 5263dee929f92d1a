"""Plans of earlier versions, whose cells were options of `tabb train`, are resumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tabb
from command_line import refused, told
from tabb.commands.old_plans import upgrade_plan
from tabb.data import save_npz
from tabb.errors import RunError
from tabb.plain import plain
from tabb.running.plan import read_plan

OLD_PLAN = """{
  "cells": [
    {
      "label": "igdf seed 3",
      "folder": "igdf/seed3",
      "arguments": ["igdf", "--source", "source.npz", "--target=target.npz", "--task", "none", "--updates", "4",
        "--evaluations", "1", "--backbone.hidden", "8", "--backbone.batch-size", "8", "--rule.updates", "2",
        "--preset", "hopper", "--seeds", "3"],
      "updates": 4
    },
    {
      "label": "target-only seed 3",
      "folder": "target-only/seed3",
      "arguments": ["target-only", "--source", "source.npz", "--target", "target.npz", "--updates", "4",
        "--evaluations", "1", "--backbone.hidden", "8", "--backbone.batch-size", "8", "--seeds", "3"],
      "updates": 4
    }
  ]
}
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name, rows in (("source", 200), ("target", 60)):
        moves = generator.normal(size=(rows, 3)), generator.uniform(-1, 1, (rows, 2)), generator.normal(size=rows)
        save_npz(Path(f"{name}.npz"), tabb.from_arrays(*moves, timeouts=np.arange(1, rows + 1) % 20 == 0))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "plan.json").write_text(OLD_PLAN)
    return tmp_path / "runs"


def test_options_become_specs(root: Path) -> None:
    upgrade_plan(root)
    igdf, alone = read_plan(root)
    assert (igdf.label, igdf.folder, igdf.updates) == ("igdf seed 3", "igdf/seed3", 4)
    assert (igdf.spec.rule.keep, igdf.spec.rule.updates, igdf.spec.backbone.hidden) == (0.25, 2, (8,))
    assert (igdf.spec.seed, igdf.spec.task, igdf.spec.settings.evaluations) == (3, None, 1)
    assert igdf.spec.source == (str(root.parent / "source.npz"),)
    assert (alone.spec.source, alone.spec.target) == (None, (str(root.parent / "target.npz"),))
    written = (root / "plan.json").read_bytes()
    upgrade_plan(root)
    assert (root / "plan.json").read_bytes() == written


def test_a_run_that_was_started_is_what_its_config_says(root: Path) -> None:
    upgraded = json.loads(OLD_PLAN)["cells"][1]
    config = {
        "rule": {"name": "target-only"},
        "settings": plain(
            tabb.Settings(updates=5, held_out=0.2, backbone=tabb.IQL(policies=1, hidden=(4,), batch_size=8))
        ),
        "task": None,
        "seeds": [3],
        "seed": 3,
        "origin": {"target": {"files": ["/elsewhere/target.npz"]}, "env": None},
    }
    (root / upgraded["folder"]).mkdir(parents=True)
    (root / upgraded["folder"] / "config.json").write_text(json.dumps(config))
    upgrade_plan(root)
    spec = read_plan(root)[1].spec
    assert (spec.settings.updates, spec.settings.held_out, spec.backbone.hidden) == (5, 0.2, (4,))
    assert spec.target == ("/elsewhere/target.npz",)


@pytest.mark.slow
def test_an_old_plan_is_resumed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "train", "--resume", root, "--progress", "none", "--jobs", "2")
    assert "igdf" in text
    assert "target-only" in text
    assert len(list(root.rglob("result.json"))) == 2


def test_options_that_are_no_more(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "plan.json").write_text(OLD_PLAN.replace("--rule.updates", "--rule.rounds"))
    with pytest.raises(RunError, match=r"igdf seed 3: cannot be read by this version of tabb \(unknown option --rule"):
        upgrade_plan(root)
    code, line = refused(capsys, "train", "--resume", root)
    assert (code, "start these runs again" in line) == (4, True)
