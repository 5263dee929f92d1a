"""Costs, weights and further columns stay with their rows through every door, and no learner sees them."""

import dataclasses

import numpy as np
import pytest

import tabb
from cart import cart
from tabb.batch import make_domains
from tabb.data import Reading, convert, load, read, save_npz, write_hdf5
from tabb.errors import DataError
from tabb.provenance import fingerprint
from tabb.transitions import concatenate

pytest.importorskip("pyarrow", reason="doors of tables need the extra `parquet`")

LOG = {key: column for key, column in cart(200, 1).items() if key != "next_observations"}
COST = np.arange(200, dtype=np.float32)
CURRENT = np.linspace(-1, 1, 200).astype(np.float32)
EXTRAS = {"cost": COST, "current": CURRENT}
NAMED = Reading(names={"extras": "curr*"})


@pytest.mark.parametrize("name", ["log.hdf5", "log.npz", "log.parquet", "log"])
def test_they_stay_with_their_rows(name, tmp_path):
    np.savez(tmp_path / "first.npz", **LOG, **EXTRAS, heat=CURRENT)
    if name == "log.npz":
        (tmp_path / "first.npz").rename(tmp_path / name)
    else:
        convert(tmp_path / "first.npz", tmp_path / name, NAMED)
    loaded = read(tmp_path / name, NAMED)
    rows = loaded.report.kept_rows
    assert 0 < len(rows) < 200
    assert set(loaded.report.extras) == set(EXTRAS)
    for key, column in EXTRAS.items():
        np.testing.assert_array_equal(loaded.transitions.extras[key], column[rows])
        assert loaded.transitions.extras[key].dtype == np.float32
    assert f"extras     {', '.join(loaded.report.extras)}" in str(loaded.report)
    # One that nobody asks for is not read, but named; a cost is kept without being asked for.
    plain = read(tmp_path / name)
    assert set(plain.transitions.extras) == {"cost"}
    assert "current" in plain.report.unread


def test_arrays_saved_files_slices_and_joins(tmp_path):
    data = tabb.from_arrays(**LOG, cost=COST, extras={"current": CURRENT})
    assert set(data.extras) == set(EXTRAS)
    np.testing.assert_array_equal(data[10:20].extras["cost"], data.extras["cost"][10:20])
    save_npz(tmp_path / "a.npz", data)
    save_npz(tmp_path / "a.npz", data)  # tabb's own file may be replaced
    again = load(tmp_path / "a.npz")
    np.testing.assert_array_equal(again.extras["current"], data.extras["current"])
    convert(tmp_path / "a.npz", tmp_path / "a.parquet", Reading(names={}))
    np.testing.assert_array_equal(load(tmp_path / "a.parquet").extras["cost"], data.extras["cost"])
    save_npz(tmp_path / "b.npz", dataclasses.replace(data, extras={"cost": data.extras["cost"]}))
    joined = load([tmp_path / "a.npz", tmp_path / "b.npz"])
    assert set(joined.extras) == {"cost"}
    np.testing.assert_array_equal(joined.extras["cost"], np.tile(data.extras["cost"], 2))
    both = concatenate(data, load(tmp_path / "b.npz"))
    np.testing.assert_array_equal(both.extras["cost"], joined.extras["cost"])


@pytest.mark.parametrize(
    ("extras", "words"),
    [
        ({"cost": COST[:-1]}, "cost: has 199 rows but observations has 200"),
        ({"cost": np.where(COST == 5, np.nan, COST)}, "cost: row 5 is nan"),
        ({"cost": np.stack([COST, COST], axis=1)}, r"cost: has shape \(200, 2\)"),
        ({"rewards": COST}, "rewards: is a column of the log already"),
        ({"cost": ["dear"] * 200}, "cost: holds"),
    ],
)
def test_what_is_no_extra(extras, words):
    with pytest.raises(DataError, match=words):
        tabb.from_arrays(**LOG, extras=extras)


def test_extras_that_are_not_there(tmp_path):
    write_hdf5(tmp_path / "a.hdf5", LOG, extras={"cost": COST})
    with pytest.raises(DataError, match=r"names.extras: heat: no such key; there are actions, cost"):
        load(tmp_path / "a.hdf5", Reading(names={"extras": ["cost", "heat"]}))
    with pytest.raises(DataError, match="cost: has 7 rows"):
        write_hdf5(tmp_path / "a.hdf5", LOG, extras={"cost": COST[:7]})


def test_no_learner_sees_them(pair):
    with_extras = dataclasses.replace(pair[1], extras={"cost": np.full(len(pair[1]), np.nan, np.float32)})
    assert not make_domains(pair[0], with_extras).target.extras
    assert fingerprint(with_extras) == fingerprint(pair[1])
