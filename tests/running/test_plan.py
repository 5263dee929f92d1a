"""A plan on disk: what it lists, what is left of it, and which runs failed."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

import tabb
from tabb.errors import RunError, UsageError
from tabb.files import write_json
from tabb.rules import RULES
from tabb.running.plan import (
    FAILED,
    PLAN,
    Cell,
    changed_data,
    failed_runs,
    failures,
    forget_failures,
    note_failure,
    read_plan,
    unfinished,
    write_plan,
)
from tabb.training.spec import RunSpec

SPEC = RunSpec(tabb.TABB(), tabb.IQL(), ("/s",), ("/t",), "hopper-morph", None, 0, tabb.Settings(updates=9))
CELLS = [Cell(f"tabb seed {n}", f"tabb/seed{n}", dataclasses.replace(SPEC, seed=n)) for n in range(3)]


def finish(root: Path, cell: Cell) -> None:
    (root / cell.folder).mkdir(parents=True)
    (root / cell.folder / "result.json").write_text("{}")


def test_a_plan_is_read_back(tmp_path: Path) -> None:
    write_plan(tmp_path, CELLS)
    assert read_plan(tmp_path) == CELLS
    assert [cell.updates for cell in read_plan(tmp_path)] == [9, 9, 9]
    with pytest.raises(RunError, match="already holds runs; go on with `tabb train --resume"):
        write_plan(tmp_path, CELLS[:1])
    assert read_plan(tmp_path) == CELLS
    write_plan(tmp_path, CELLS[:1], replace=True)
    assert read_plan(tmp_path) == CELLS[:1]


def test_of_two_that_begin_at_once_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins once the first has found the folder empty, before it has written."""
    linked = os.link

    def meanwhile(*names: Path) -> None:
        monkeypatch.setattr(os, "link", linked)
        write_plan(tmp_path, CELLS[:1])
        linked(*names)

    monkeypatch.setattr(os, "link", meanwhile)
    with pytest.raises(RunError, match="already holds runs"):
        write_plan(tmp_path, CELLS)
    assert read_plan(tmp_path) == CELLS[:1]
    assert os.listdir(tmp_path) == [PLAN]


def test_what_is_left_of_it(tmp_path: Path) -> None:
    write_plan(tmp_path, CELLS)
    note_failure(tmp_path, CELLS[0], "diverged")
    assert unfinished(tmp_path) == [CELLS[1], CELLS[2], CELLS[0]], "what failed comes last"
    finish(tmp_path, CELLS[1])
    assert unfinished(tmp_path) == [CELLS[2], CELLS[0]]
    assert unfinished(tmp_path, only=tmp_path / "tabb" / "seed2") == [CELLS[2]]
    note_failure(tmp_path, CELLS[2], "out of memory")
    finish(tmp_path, CELLS[0])
    forget_failures(tmp_path, CELLS)
    assert failures(tmp_path) == {"tabb/seed2": "out of memory"}
    finish(tmp_path, CELLS[2])
    forget_failures(tmp_path, CELLS)
    assert not (tmp_path / FAILED).exists()


def test_failed_runs_are_named() -> None:
    root = Path("runs/x")
    assert failed_runs(root, []) is None
    one = failed_runs(root, [(CELLS[0], "diverged")])
    assert str(one) == "tabb seed 0: diverged; try again with `tabb train --resume runs/x`"
    two = failed_runs(root, [(CELLS[0], "diverged"), (CELLS[2], "was killed")])
    assert str(two).startswith("2 runs failed: tabb seed 0: diverged; tabb seed 2: was killed; try again")


def test_data_that_changed_while_a_plan_ran_are_named(tmp_path: Path) -> None:
    pooled, alone = (dataclasses.replace(SPEC, rule=rule) for rule in (tabb.Pooled(), tabb.TargetOnly()))
    fewer = dataclasses.replace(alone, settings=tabb.Settings(updates=9, target_rows=5))
    specs = {"a": pooled, "b": alone, "c": dataclasses.replace(alone, target=("/other",)), "d": fewer, "e": pooled}
    write_plan(tmp_path, [Cell(name, name, spec) for name, spec in specs.items()])
    assert changed_data(tmp_path) is None
    known = {"a": ("s", "t"), "b": ("no rows", "t"), "c": ("no rows", "other"), "d": ("no rows", "five rows")}
    for name, (source, target) in known.items():
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "config.json", {"data": {"source": source, "target": target}})
    assert changed_data(tmp_path) is None
    (tmp_path / "e").mkdir()
    write_json(tmp_path / "e" / "config.json", {"data": {"source": "s", "target": "a longer log"}})
    assert str(changed_data(tmp_path)).startswith(
        "e learned from other target data than a, for /t changed between them"
    )


def test_files_that_are_no_plans(tmp_path: Path) -> None:
    for content, says in (
        ('{"cells": [{"label": "a"}]}', "is not a plan of tabb"),
        ('{"cells": [{"label": "a", "folder": "a", "arguments": [], "updates": 1}]}', "is of an earlier tabb"),
        ('{"cells": [{"label": "a", "folder": "a", "spec": {}}]}', r"plan\.json, a: is no spec of a run"),
        ("[]", "is not a plan of tabb"),
    ):
        (tmp_path / PLAN).write_text(content)
        with pytest.raises(RunError, match=says):
            read_plan(tmp_path)


def test_a_class_of_a_script_is_no_part_of_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass(frozen=True)
    class Mine(tabb.Pooled):
        name = "mine"

    monkeypatch.setitem(RULES, "mine", Mine)
    with pytest.raises(UsageError, match=r"mine: class .* cannot be imported by another process"):
        write_plan(tmp_path / "new", [dataclasses.replace(CELLS[0], spec=dataclasses.replace(SPEC, rule=Mine()))])
    assert not (tmp_path / "new").exists()
    assert json.loads(json.dumps(dataclasses.replace(SPEC, rule=Mine()).to_json()))["rule"] == {"name": "mine"}
