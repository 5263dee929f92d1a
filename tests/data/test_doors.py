"""Every door reads the same log to the same bits, and all that is said of a log works behind every door."""

import itertools
import json
import tracemalloc

import h5py
import numpy as np
import pytest

import tabb
from cart import cart
from command_line import refused, told
from tabb.cli import main
from tabb.data import arrow, arrow_columns, convert, describe, load, read, save_npz, write_hdf5
from tabb.data.audit import audit
from tabb.errors import UsageError
from tabb.results.row_scores import RowScores, save_scores
from tabb.training.held_out import split
from tabb.transitions import COLUMNS

pa = pytest.importorskip("pyarrow", reason="doors of tables need the extra `parquet`")
from pyarrow import csv, parquet  # noqa: E402

FORMATS = {"hdf5": "log.hdf5", "npz": "log.npz", "parquet": "log.parquet", "csv": "log.csv", "lerobot": "log"}


def as_float32(log):
    return {key: column.astype(np.float32) if column.dtype == float else column for key, column in log.items()}


WHOLE = as_float32(cart(240, 1))
LOGS = {
    "next observations": WHOLE,
    "flags alone": {key: column for key, column in WHOLE.items() if key != "next_observations"},
    "nothing but rows": {key: WHOLE[key] for key in ("observations", "actions", "rewards", "next_observations")},
    "episodes, and rows of none": {
        **{key: WHOLE[key] for key in ("observations", "actions", "rewards")},
        "episodes": np.where(np.arange(240) % 24 < 2, -1, np.arange(240) // 24),
    },
    "rows of none inside an episode": {
        **{key: WHOLE[key] for key in ("observations", "actions", "rewards")},
        "episodes": np.where(np.arange(240) % 24 == 9, -1, np.arange(240) // 24),
    },
    "bounds of actions": WHOLE | {"actions": WHOLE["actions"] * np.float32(2.5)},
}


def same(one, other):
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert getattr(one, name).dtype == getattr(other, name).dtype
    assert one.action_bounds == other.action_bounds


def bounds_of(name):
    return {"action_low": -2.5, "action_high": 2.5} if name == "bounds of actions" else {}


@pytest.mark.parametrize("name", LOGS)
def test_all_pairs_of_doors(name, tmp_path):
    """A log in each format, made from each other one, is the log."""
    log, bounds = LOGS[name], bounds_of(name)
    quiet = tabb.data.inspect_arrays(**log, **bounds)
    np.savez(tmp_path / "first.npz", **log, **bounds)
    convert(tmp_path / "first.npz", tmp_path / "log.hdf5")
    for file in list(FORMATS.values())[1:]:
        convert(tmp_path / "log.hdf5", tmp_path / file)
    for (one, here), (other, there) in itertools.product(FORMATS.items(), repeat=2):
        found = read(tmp_path / here)
        same(found.transitions, quiet.transitions)
        # Rows of no episode have no place in a LeRobot data set.
        if "lerobot" not in (one, other):
            assert found.report.kept == quiet.report.kept
            np.testing.assert_array_equal(found.report.kept_rows, quiet.report.kept_rows)
        assert found.report.terminals == quiet.report.terminals
        target = tmp_path / f"{one}-{other}" / there
        target.parent.mkdir()
        convert(tmp_path / here, target)
        same(read(target).transitions, quiet.transitions)


def test_csv_and_frames_read_the_same_bits(tmp_path):
    table = parquet_table(tmp_path)
    csv.write_csv(table, tmp_path / "log.csv")
    wanted = tabb.from_arrays(**WHOLE)
    same(load(tmp_path / "log.csv"), wanted)
    same(tabb.from_table(table), wanted)
    convert(tmp_path / "log.csv", tmp_path / "back.parquet")
    same(load(tmp_path / "back.parquet"), wanted)


def parquet_table(folder):
    write_hdf5(folder / "log.hdf5", WHOLE)
    convert(folder / "log.hdf5", folder / "log.parquet")
    return parquet.read_table(folder / "log.parquet")


def test_saved_transitions_are_converted_too(tmp_path):
    data = tabb.from_arrays(**LOGS["bounds of actions"], **bounds_of("bounds of actions"))
    save_npz(tmp_path / "saved.npz", data)
    convert(tmp_path / "saved.npz", tmp_path / "log.parquet")
    found = load(tmp_path / "log.parquet")
    np.testing.assert_allclose(found.action, data.action, atol=1e-6)
    np.testing.assert_array_equal(found.next_observation, data.next_observation)
    assert found.action_bounds == data.action_bounds


def test_cut_episodes_keep_their_numbers_in_a_lerobot_data_set(tmp_path):
    """Episodes 5, 7 and 9 become 0, 1 and 2, and 5, which a row of none divides, two: 0 and 1."""
    place = np.arange(12.0)[:, None]
    number = np.array([5, 5, -1, 5, 5, 7, 7, 7, 9, 9, 9, 9])
    columns = {"observations": place, "actions": place * 0, "rewards": np.ones(12), "next_observations": place + 1}
    columns |= {"terminals": np.zeros(12), "episodes": number}
    write_hdf5(tmp_path / "log.hdf5", columns, {"cut_episodes": [9]})
    convert(tmp_path / "log.hdf5", tmp_path / "log")
    for name in ("log.hdf5", "log"):
        report = read(tmp_path / name).report
        assert (report.lengths, report.cut) == ((2, 2, 3, 4), (0, 1, 3)), "the halves of 5 are no whole episodes"


def test_attributes_go_along(tmp_path):
    attributes = {"engine": "legacy", "algorithm": "SAC"}
    write_hdf5(tmp_path / "a.hdf5", WHOLE, attributes)
    for before, after in itertools.pairwise(["a.hdf5", "b.npz", "c.parquet", "d", "e.hdf5"]):
        convert(tmp_path / before, tmp_path / after, fps=20)
        assert attributes.items() <= read(tmp_path / after).report.provenance.items()
    assert read(tmp_path / "d").report.provenance["fps"] == 20


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_said_of_a_log_is_the_same(format, tmp_path, capsys):
    """The report, `describe`, the audit and held-out episodes behind each door."""
    write_hdf5(tmp_path / "log.hdf5", WHOLE)
    path = tmp_path / FORMATS[format]
    if format != "hdf5":
        convert(tmp_path / "log.hdf5", path)
    wanted, found = read(tmp_path / "log.hdf5"), read(path)
    for name in ("rows", "kept", "episode_ends", "returns", "terminals", "truncations", "doubts"):
        assert getattr(found.report, name) == getattr(wanted.report, name), name
    assert describe(found.transitions) == describe(wanted.transitions)
    assert f"{wanted.report.rows:,} in the file" in told(capsys, "data", "describe", path, "--columns")
    here, there = (
        {(f.level, f.code, f.what, f.rows) for f in audit(one).findings} for one in (path, tmp_path / "log.hdf5")
    )
    assert here == there
    same(split(found.transitions, 0.3).train, split(wanted.transitions, 0.3).train)


def test_other_names_of_formats_are_refused(tmp_path, capsys):
    write_hdf5(tmp_path / "a.hdf5", WHOLE)
    code, line = refused(capsys, "data", "convert", tmp_path / "a.hdf5", tmp_path / "a.xlsx")
    assert (code, "is of no format to write" in line) == (2, True)
    code, line = refused(capsys, "data", "convert", f"{tmp_path}/a.hdf5+{tmp_path}/a.hdf5", tmp_path / "b.npz")
    assert "convert them one at a time" in line
    assert "240 rows in 16 episodes" in told(capsys, "data", "convert", tmp_path / "a.hdf5", tmp_path / "b.npz")
    with pytest.raises(UsageError, match="is there already"):
        convert(tmp_path / "a.hdf5", tmp_path)


@pytest.mark.parametrize("suffix", ["npz", "parquet", "hdf5"])
def test_only_files_of_tabb_are_replaced(suffix, tmp_path):
    write_hdf5(tmp_path / "a.hdf5", WHOLE)
    path = tmp_path / f"log.{suffix}"
    if suffix == "npz":
        np.savez(path, **WHOLE)
    elif suffix == "parquet":
        parquet.write_table(pa.table({"a": [1]}), path)
    else:
        with h5py.File(path, "w") as file:
            file["a"] = 1
    before = path.read_bytes()
    with pytest.raises(UsageError, match="is there already and is not"):
        convert(tmp_path / "a.hdf5", path)
    assert path.read_bytes() == before
    path.unlink()
    convert(tmp_path / "a.hdf5", path)
    convert(tmp_path / "a.hdf5", path)


def test_scores_join_back_to_the_rows(tmp_path):
    log = parquet_table(tmp_path)
    data = read(tmp_path / "log.parquet")
    rows = data.report.kept_rows
    scores = RowScores(
        {"file_row": rows, "weight": rows / 240, "predicted": np.stack([rows, rows + 1], axis=1)}, {"rule": "tabb"}
    )
    save_scores(scores, tmp_path / "scores.parquet")
    save_scores(scores, tmp_path / "scores.parquet")  # tabb's own
    table = parquet.read_table(tmp_path / "scores.parquet")
    np.testing.assert_array_equal(table["predicted_1"].to_numpy(), rows + 1)
    joined = table.join(log.append_column("file_row", pa.array(np.arange(240))), "file_row").sort_by("file_row")
    np.testing.assert_array_equal(joined["rewards"].to_numpy(), data.transitions.reward)
    assert json.loads(table.schema.metadata[b"tabb"])["rule"] == "tabb"
    (tmp_path / "mine.parquet").write_bytes(b"PAR1mine")
    with pytest.raises(UsageError, match="is not a table that tabb wrote"):
        save_scores(scores, tmp_path / "mine.parquet")


def test_no_action_says_what_there_is(capsys):
    assert main(["data"]) == 2
    assert "convert   write a log as" in capsys.readouterr().out


@pytest.mark.parametrize("lists", [False, True])
def test_reading_takes_at_most_twice_the_columns(lists, tmp_path):
    table = np.random.default_rng(0).normal(size=(1_000_000, 4)).astype(np.float32)
    columns = {f"obs_{i}": table[:, i] for i in range(4)}
    if lists:
        columns = {"obs": pa.FixedSizeListArray.from_arrays(pa.array(table.reshape(-1)), 4)}
    names = list(columns)
    parquet.write_table(pa.table(columns), tmp_path / "log.parquet")
    del columns
    pool, before = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        source = arrow.parquet_source([tmp_path / "log.parquet"], "log")
        found, _ = arrow_columns.read_columns(source, {"observations": names}, {})
        peak = tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)
    np.testing.assert_array_equal(found["observations"], table)
    assert peak < 2 * table.nbytes


FULL = cart(3000, 1)
ENDED = FULL["terminals"] | FULL["timeouts"]
FAULTS = {
    "noisy next observations": {
        "next_observations": FULL["next_observations"] + np.random.default_rng(0).normal(0, 1e-3, (3000, 2))
    },
    "next observations of two rows on": {"next_observations": np.roll(FULL["observations"], -2, 0)},
    "flags that say the opposite": {"timeouts": ~ENDED, "next_observations": None},
    "flags a row late": {"timeouts": np.roll(FULL["timeouts"], 1), "next_observations": None},
    "one end of many": {"timeouts": np.arange(3000) == np.flatnonzero(FULL["timeouts"])[-1], "next_observations": None},
    "positions that float32 swallows": {"observations": FULL["observations"] + 5.4e6, "next_observations": None},
    "ticks": {
        "observations": (FULL["observations"] * 1000).astype(np.int64) + 300_000_000,
        "next_observations": None,
    },
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_table_has_the_doubts_of_arrays(fault, tmp_path):
    log = {key: column for key, column in (FULL | FAULTS[fault]).items() if column is not None}
    wanted = tabb.data.inspect_arrays(**log)
    flat = {}
    for key, column in log.items():
        flat |= {f"{key}_{i}": column[:, i] for i in range(column.shape[1])} if column.ndim == 2 else {key: column}
    parquet.write_table(pa.table(flat), tmp_path / "log.parquet")
    found = read(tmp_path / "log.parquet")
    same(found.transitions, wanted.transitions)
    assert found.report.doubts == wanted.report.doubts
    if fault != "noisy next observations":
        assert wanted.report.doubts
