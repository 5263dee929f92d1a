"""The audit's own proof: faults are what they are called, and a small pair is audited with and without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cart import cart
from tabb.environments.tasks import get_task
from tabb.experiments.planted_faults import (
    FAULTS,
    POSITION,
    ROBOTS,
    SHIFTS,
    Fault,
    alarms,
    clone_of,
    columns_named,
    findings,
    shifts_of,
    table,
    velocity,
    written,
)


def log(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Columns of a target file, of OTDF's layout."""
    draw = np.random.default_rng(seed)
    states = draw.normal(size=(rows, 11)).astype(np.float32)
    return {
        "observations": states,
        "actions": draw.uniform(-1, 1, (rows, 3)).astype(np.float32),
        "rewards": draw.normal(size=(rows, 1)).astype(np.float32),
        "next_observations": states + np.float32(0.1) * draw.normal(size=states.shape).astype(np.float32),
        "terminals": np.zeros((rows, 1)),
    }


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_changes_the_target_alone_and_keeps_its_columns(fault: Fault) -> None:
    target, source = log(900), log(1000, 1)
    kept = {key: column.copy() for key, column in source.items()}
    fault.plant(target, source)
    assert all(np.array_equal(source[key], kept[key]) for key in kept)
    clean = log(900)
    assert set(target) - {"timeouts"} | {"next_observations"} == set(clean)
    assert target.keys() != clean.keys() or any(
        not np.array_equal(target[key], clean[key], equal_nan=True) for key in clean
    )
    assert len({len(column) for column in target.values()}) == 1


def test_there_are_faults_enough_and_shifts() -> None:
    assert len(FAULTS) >= 25
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    for robot in ROBOTS:
        tasks = shifts_of(robot)
        assert len({task.name for task in tasks}) == SHIFTS
        assert all(task.shift and task.robot == robot for task in tasks)
    assert POSITION < velocity(log(5)) == 9


def test_a_pair_of_files_is_audited_with_and_without_a_fault(tmp_path: Path) -> None:
    source, target = cart(3000), cart(1500, 1, 0.15)
    source_file = written(source, tmp_path / "source.hdf5")
    assert alarms(source_file, written(target, tmp_path / "target.hdf5")) == []
    target["rewards"] = -1000 * target["rewards"]
    file = written(target, tmp_path / "target.hdf5")
    assert alarms(source_file, file) == ["rewards"]
    assert alarms(source_file, file, {"rewards"}) == []
    target["observations"][7, 0] = np.nan
    new = {one.code for one in findings(source_file, written(target, tmp_path / "target.hdf5"))}
    assert "nan" in new


def test_the_columns_that_a_finding_names() -> None:
    assert columns_named("columns 2, 27-30 are the same in every row") == {2, 27, 28, 29, 30}
    assert columns_named("differ in the target by a constant factor: 2 (about 57 times larger), 4 (8 times)") == {2, 4}
    assert columns_named("column 0 of observations moves by about 0.1 a row, 12% of what it spans") == {0}


def test_the_clone_is_a_linear_policy_with_noise() -> None:
    source = log(4000)
    source["actions"] = np.clip(0.3 * source["observations"][:, :3], -1, 1)
    act = clone_of(source)
    states = np.zeros((2000, 11), np.float32)
    states[:, 1] = 1.0
    actions = act(states, np.random.default_rng(0))
    assert actions.dtype == np.float32
    np.testing.assert_allclose(actions.mean(axis=0), [0, 0.3, 0], atol=0.02)
    np.testing.assert_allclose(actions.std(axis=0), 0.1, atol=0.01)
    assert get_task("hopper-gravity-0.5").action_size == 3


def test_the_table_by_hand() -> None:
    def entry(found: bool) -> dict:
        return {"found": found, "by": [], "also": []}

    names = [FAULTS[0].name, FAULTS[1].name]
    planted = {
        "hopper": {names[0]: entry(True), names[1]: entry(False)},
        "ant": dict.fromkeys(names, entry(True)),
    }
    clean = [
        {"data": "otdf", "task": "ant-morph", "quality": "medium", "alarms": []},
        {"data": "shift", "task": "hopper-gravity-0.1", "quality": "clone", "alarms": ["units"]},
    ]
    lines = table({"planted": planted, "clean": clean}).splitlines()
    assert lines[0] == "| planted into morph targets | finding | hopper | ant |"
    assert lines[2] == f"| {names[0]} | `sign`, `misfit` | found | found |"
    assert lines[3] == f"| {names[1]} | `sign`, `misfit` | - | found |"
    assert lines[4] == "| found, of 2 | | 1 | 2 |"
    assert lines[-1] == (
        "3 of 4 faults are found (75%). False alarms: 0 of 1 OTDF's target files. "
        "False alarms: 1 of 1 logs of shifted robots (hopper-gravity-0.1 clone: units)."
    )
