"""The log that grows step by step: a data set at every moment, whatever order the rows came in."""

import h5py
import numpy as np
import pytest

import tabb
from tabb.action_bounds import ActionBounds
from tabb.data.step_log import StepLog
from tabb.errors import DataError, RunError
from tabb.transitions import COLUMNS


def rows_of(*numbers, episodes):
    """Rows that are told apart by their numbers."""
    column = np.array(numbers, np.float32)
    return {
        "observation": np.stack([column, column / 3], axis=1),
        "action": column[:, None] / 100,
        "reward": column / 7,
        "next_observation": np.stack([column + 1, column / 3], axis=1),
        "terminal": (column == 3).astype(np.float32),
        "episode": np.array(episodes, np.int32),
    }


def test_it_is_read_back_at_every_moment_bit_for_bit(tmp_path):
    """Two episodes at once: their rows come by turns, and are read one after the other."""
    file, bounds = tmp_path / "steps.hdf5", ActionBounds((-2.0,), (5.0,))
    log = StepLog(file, 7, 2, 1, bounds)
    with pytest.raises(DataError, match="no step has been taken yet"):
        tabb.load(file)
    log.add(rows_of(1, 2, episodes=[0, 1]))
    log.add(rows_of(3, 4, episodes=[0, 1]))  # no flush, no close
    data = tabb.load(file)
    wanted = rows_of(1, 3, 2, 4, episodes=[0, 0, 1, 1])
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(data, name), wanted[name])
    assert data.action_bounds == bounds
    again = StepLog(file, 7, 2, 1, bounds)
    assert len(again) == 4
    again.add(rows_of(5, 6, 7, episodes=[2, 2, 2]))
    again.keep()
    assert len(StepLog(file, 7, 2, 1, bounds)) == 7
    np.testing.assert_array_equal(again.rows(slice(1, 3))["reward"], rows_of(2, 3, episodes=[0, 0])["reward"])
    audit = tabb.audit(file, file)
    assert "7" in str(audit)


def test_another_log_is_refused(tmp_path):
    file = tmp_path / "steps.hdf5"
    StepLog(file, 7, 2, 1, None)
    with pytest.raises(RunError, match=r"steps.hdf5: cannot be used as the log .*action has shape \(7, 1\)"):
        StepLog(file, 7, 2, 2, None)
    with h5py.File(file, "r+") as content:
        del content["last"]
        content.create_group("last")
    with pytest.raises(RunError, match="cannot be used as the log"):
        StepLog(file, 7, 2, 1, None)
    file.write_bytes(b"no HDF5")
    with pytest.raises(RunError, match="cannot be used as the log"):
        StepLog(file, 7, 2, 1, None)


def test_a_damaged_log_is_one_line(tmp_path):
    file = tmp_path / "steps.hdf5"
    StepLog(file, 3, 2, 1, None).add(rows_of(1, 2, 3, episodes=[0, 0, 0]))
    with h5py.File(file, "r+") as content:
        del content["reward"]
    with pytest.raises(DataError, match="reward: is a link to nothing") as caught:
        tabb.load(file)
    assert "\n" not in str(caught.value)
