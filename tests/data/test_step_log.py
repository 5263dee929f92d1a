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


def test_episodes_that_were_cut_do_not_count(tmp_path, monkeypatch):
    """Three at once: one ends after two rows, another begins in its lane, and what still goes on was cut."""
    file = tmp_path / "steps.hdf5"
    log = StepLog(file, 9, 2, 1, None)
    nobody = np.zeros(3, bool)
    log.add(rows_of(7, 35, 70, episodes=[0, 1, 2]), nobody)
    log.add(rows_of(14, 35, 70, episodes=[0, 1, 2]), np.array([True, False, False]))
    report = tabb.data.read([file]).report
    assert report.returns == pytest.approx((3.0, 10.0, 20.0))
    assert (report.unfinished, report.truncations) == ((1, 2), 3)
    assert report.mean_return == pytest.approx((3 + 10 + 20) / 3), "what was cut is most of the log"
    log.add(rows_of(7, 35, episodes=[3, 1]), np.array([False, True]))
    report = tabb.data.read([file]).report
    assert report.unfinished == (2, 3)
    assert report.mean_return == pytest.approx((2 * 3 + 3 * 15) / 5)
    assert ", 2 cut\n" in str(report)
    rows = tabb.load(file)
    tabb.data.save_npz(tmp_path / "steps.npz", rows, cut=[2, 3])
    tabb.data.save_npz(tmp_path / "steps.npz", rows, cut=[2, 3])  # its own file
    tabb.data.save_npz(tmp_path / "whole.npz", rows, cut=[])
    tabb.data.save_npz(tmp_path / "log.npz", rows[:4])  # episode 0 and the first half of 1
    saved = tabb.data.read([tmp_path / "steps.npz"]).report
    assert (saved.unfinished, saved.mean_return, saved.layout) == ((2, 3), report.mean_return, report.layout)
    whole = tabb.data.read([tmp_path / "whole.npz"]).report
    assert (whole.unfinished, whole.mean_return) == ((), pytest.approx((2 * 3 + 3 * 15 + 2 * 20 + 1) / 8))
    ended = tabb.data.read([tmp_path / "log.npz", tmp_path / "whole.npz"]).report
    assert ended.cut == (1,), "the second file says that its last episode ended"
    assert ended.mean_return == pytest.approx((2 * 3 + 2 * 3 + 3 * 15 + 2 * 20 + 1) / 10)
    twice = tabb.data.read([tmp_path / "log.npz"] * 2).report
    assert (twice.cut, twice.mean_return) == ((1, 3), 3.0), "each log may end within an episode"
    joined = tabb.data.read([file, tmp_path / "log.npz"]).report
    assert joined.unfinished == (2, 3)
    assert joined.mean_return == pytest.approx((2 * 3 + 3 * 15 + 2 * 3) / 7)
    monkeypatch.setenv("TABB_CACHE", str(tmp_path / "cache"))
    tabb.data.save_npz(tmp_path / "back.npz", rows[::-1])  # the last row is of episode 0
    for names in (
        ["steps.hdf5"],
        ["steps.hdf5", "log.npz"],
        ["log.npz", "whole.npz"],
        ["log.npz"] * 2,
        ["back.npz"] * 2,
    ):
        files = [tmp_path / name for name in names]
        stored, wanted = (tabb.data.read(files, store=store) for store in (True, False))
        assert (stored.report.mean_return, stored.report.cut) == (wanted.report.mean_return, wanted.report.cut)
        np.testing.assert_array_equal(stored.transitions.episode, wanted.transitions.episode)


def test_converted_steps_know_which_episodes_were_cut(tmp_path):
    file = tmp_path / "steps.hdf5"
    log = StepLog(file, 7, 2, 1, None)
    log.add(rows_of(7, 35, 70, episodes=[0, 1, 2]), np.zeros(3, bool))
    log.add(rows_of(14, 35, 70, 21, episodes=[0, 1, 2, 3]), np.array([True, False, True, True]))
    wanted = tabb.data.read([file]).report
    assert (wanted.unfinished, wanted.cut) == ((1,), (1,))
    before = file
    for name in ("a.hdf5", "b.npz", "c.parquet", "d", "e.hdf5"):
        tabb.data.convert(before, tmp_path / name)
        report = tabb.data.read([tmp_path / name]).report
        assert (report.unfinished, report.cut, report.mean_return) == ((1,), (1,), wanted.mean_return), name
        assert "1 cut\n" in str(report)
        assert "cut_episodes" not in report.provenance
        before = tmp_path / name
    tabb.data.convert(file, tmp_path / "log.csv")
    assert tabb.data.read([tmp_path / "log.csv"]).report.cut is None, "it has no place for it"
    joined = tabb.data.read([tmp_path / "a.hdf5", tmp_path / "log.csv"]).report
    assert joined.cut == (1, 7)


@pytest.mark.parametrize("stated", ['["a"]', "[[1]]", "no list", "[0.5]"])
def test_cut_episodes_that_are_no_numbers_are_one_line(stated, tmp_path):
    log = {name: np.zeros((4, 2), np.float32) for name in ("observations", "next_observations")}
    log |= {"actions": np.zeros((4, 1), np.float32), "rewards": np.arange(4.0), "episodes": np.array([0, 0, 1, 1])}
    with h5py.File(tmp_path / "log.hdf5", "w") as file:
        for name, column in log.items():
            file[name] = column
        file.attrs["cut_episodes"] = stated
    with pytest.raises(DataError, match="cut_episodes: is no list of episodes' numbers") as caught:
        tabb.load(tmp_path / "log.hdf5")
    assert "\n" not in str(caught.value)


def test_a_log_of_an_earlier_version_leaves_out_its_last_episode(tmp_path):
    file = tmp_path / "steps.hdf5"
    StepLog(file, 7, 2, 1, None).add(rows_of(7, 14, 21, 70, episodes=[0, 0, 1, 2]))
    with h5py.File(file, "r+") as content:
        del content["last"]
    report = tabb.data.read([file]).report
    assert (report.unfinished, report.mean_return) == ((2,), pytest.approx((2 * 3 + 3) / 3))


@pytest.mark.parametrize("numbers", [np.zeros((1, 1), int), np.zeros(1)])
def test_numbers_of_cut_episodes_that_are_none_are_one_line(numbers, tmp_path):
    file = tmp_path / "steps.npz"
    StepLog(tmp_path / "steps.hdf5", 2, 2, 1, None).add(rows_of(1, 2, episodes=[0, 0]))
    tabb.data.save_npz(file, tabb.load(tmp_path / "steps.hdf5"), cut=[])
    with np.load(file) as content:
        np.savez(file, **dict(content) | {"cut": numbers})
    with pytest.raises(DataError, match=r"cut: is .*, no list of episodes' numbers") as caught:
        tabb.load(file)
    assert "\n" not in str(caught.value)


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
        del content["last"]
        content["last"] = np.zeros(2, np.int32)
    with pytest.raises(DataError, match=r"last: has shape \(2,\), not \(3,\)"):
        tabb.load(file)
    with h5py.File(file, "r+") as content:
        del content["reward"]
    with pytest.raises(DataError, match="reward: is a link to nothing") as caught:
        tabb.load(file)
    assert "\n" not in str(caught.value)
