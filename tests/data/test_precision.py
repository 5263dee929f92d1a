"""Scale and precision: what float32 does not resolve is doubted, with the remedy, in every door."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from tabb.data import inspect_arrays, read
from tabb.data.precision import blocks_of, coarse_columns
from tabb.float32 import is_constant

PLACES = {
    "UTM": lambda x: x + 5.4e6,
    "degrees": lambda x: 48.1 + x * 1e-5,
    "ticks": lambda x: (x * 1000).astype(np.int64) + 300_000_000,
    "time stamps": lambda x: x + 1.7e9,
    "millikelvin": lambda x: 29_300.0 + x * 1e-2,
}


@pytest.mark.parametrize("case", PLACES)
def test_steps_below_the_spacing_of_float32_are_doubted(case, cart_log, tmp_path):
    moved = {key: cart_log[key].copy() for key in ("observations", "next_observations")}
    moved = {key: np.c_[PLACES[case](column[:, 0]), column[:, 1]] for key, column in moved.items()}
    columns = {**cart_log, **moved}
    np.savez(tmp_path / "log.npz", **columns)
    with h5py.File(tmp_path / "log.hdf5", "w") as file:
        for key, column in columns.items():
            file[key] = column
    for loaded in (inspect_arrays(**columns), read(tmp_path / "log.npz"), read(tmp_path / "log.hdf5")):
        (doubt,) = loaded.report.doubts
        assert doubt.startswith("column 0 of observations moves by about ")
        assert "subtract an origin" in doubt
        assert loaded.report.episodes == 189


def test_the_remedy_helps(cart_log):
    moved = {key: cart_log[key] + [5.4e6, 0] - [5.4e6, 0] for key in ("observations", "next_observations")}
    assert inspect_arrays(**{**cart_log, **moved}).report.doubts == ()


def test_a_file_that_was_float32_already(cart_log):
    moved = (cart_log["observations"] + [5.4e6, 0]).astype(np.float32)
    columns = {key: column for key, column in cart_log.items() if key != "next_observations"}
    doubts = inspect_arrays(**{**columns, "observations": moved}).report.doubts
    assert any("column 0 of observations moves by about" in doubt for doubt in doubts)


def test_rewards(cart_log):
    (doubt,) = inspect_arrays(**{**cart_log, "rewards": cart_log["rewards"] + 1e8}).report.doubts
    assert doubt.startswith("rewards change by about ")


def test_what_is_coarse_by_hand():
    rows = np.arange(100.0)
    # float32's spacing is 2**-23 at 1 and 2 at 2**24.
    table = np.c_[rows, 2.0**24 + rows, 2.0**24 + 100 * rows, np.ones(100)]
    assert list(coarse_columns(blocks_of(table))) == [(1, 1.0, 2.0)]
    mean, deviation = np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.0, 3e-7, 1e-3, 1e-12])
    assert is_constant(mean, deviation).tolist() == [True, True, False, False]
