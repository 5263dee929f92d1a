"""Rows that stay in a file: the same as in memory, made once, and made anew where they cannot be read."""

import importlib
import json
import os
import shutil
import tracemalloc

import numpy as np
import pytest

import tabb
from cart import cart
from tabb.action_bounds import action_bounds
from tabb.cli import main
from tabb.data import Reading, allocation, checks, convert, read, store, write_hdf5
from tabb.data.audit import audit
from tabb.data.hdf5 import write_columns
from tabb.errors import DataError, RunError, UsageError
from tabb.provenance import fingerprint
from tabb.transitions import COLUMNS, is_stored

convert_module = importlib.import_module("tabb.data.convert")  # the package has a function of that name


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TABB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small_pieces(monkeypatch):
    """So few rows in a piece that a small file has many of them."""
    monkeypatch.setattr("tabb.data.checks.PIECE", 128)
    monkeypatch.setattr("tabb.transitions.PIECE", 128)


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.hdf5"
    write_hdf5(path, cart(1000, 1), {"engine": "legacy"}, extras={"cost": np.arange(1000.0)})
    return path


def same(first, second):
    """Two data sets with the same rows bit for bit, and the same report."""
    for name in COLUMNS:
        here, there = getattr(first.transitions, name), getattr(second.transitions, name)
        assert here.dtype == there.dtype
        assert np.array_equal(here, there), name
    assert list(first.transitions.extras) == list(second.transitions.extras)
    for name, column in first.transitions.extras.items():
        assert np.array_equal(column, second.transitions.extras[name])
    assert first.transitions.action_bounds == second.transitions.action_bounds
    assert first.report == second.report
    assert np.array_equal(first.report.kept_rows, second.report.kept_rows)


@pytest.mark.parametrize("ending", [".hdf5", ".npz", ".parquet", ""])
def test_rows_are_those_in_memory_whatever_the_door(log, tmp_path, small_pieces, ending):
    path = tmp_path / f"other{ending}"
    convert(log, path)
    stored = read(path, store=True)
    assert is_stored(stored.transitions)
    assert not is_stored(read(path).transitions)
    same(read(path), stored)
    same(read(path), read(path, store=True))  # from the store that is there now


def test_a_log_without_next_observations_in_doubles_of_any_order_of_bounds(tmp_path, small_pieces):
    columns = {key: column for key, column in cart(900, 2).items() if key != "next_observations"}
    columns["actions"] = 3 * columns["actions"]
    path = tmp_path / "doubles.hdf5"
    write_columns(path, {key: np.asarray(column) for key, column in columns.items()}, {})
    reading = Reading(action_low=(-3.0,), action_high=(3.0,))
    same(read(path, reading), read(path, reading, store=True))
    assert read(path, reading, store=True).transitions.action_bounds == action_bounds(-3.0, 3.0, 1)


def test_saved_transitions_and_rows_in_the_order_of_fortran(tmp_path, log):
    tabb.data.save_npz(tmp_path / "saved.npz", read(log).transitions)
    same(read(tmp_path / "saved.npz"), read(tmp_path / "saved.npz", store=True))
    columns = cart(300, 3)
    np.savez(tmp_path / "fortran.npz", **columns | {"observations": np.asfortranarray(columns["observations"])})
    same(read(tmp_path / "fortran.npz"), read(tmp_path / "fortran.npz", store=True))


def test_several_files_are_one_data_set(log, tmp_path, small_pieces):
    other = tmp_path / "other.hdf5"
    write_hdf5(other, cart(500, 7), {"engine": "legacy"})
    same(read([log, other]), read([log, other], store=True))


def test_a_store_is_made_once_and_known_by_content(log, cache, tmp_path):
    said = []
    read(log, store=True, note=said.append)
    assert any("are kept in" in line for line in said)
    (folder,) = (cache / "stores").iterdir()
    assert {file.name for file in folder.iterdir()} == {"rows.npy", "episodes.npy", "kept_rows.npy", "store.json"}
    said.clear()
    moved = tmp_path / "moved.hdf5"
    os.rename(log, moved)
    found = read(moved, store=True, note=said.append)
    assert said == [f"{moved}: looking for its store"]
    assert found.report.name == str(moved)
    read(moved, Reading(action_low=(-2.0,), action_high=(2.0,)), store=True)  # stated otherwise: other rows
    write_hdf5(moved, cart(1000, 5))
    read(moved, store=True)
    assert len(list((cache / "stores").iterdir())) == 3


@pytest.mark.parametrize("harm", ["cut", "no list", "another format", "other rows"])
def test_a_damaged_store_is_made_anew(log, cache, harm):
    read(log, store=True)
    (folder,) = (cache / "stores").iterdir()
    about = json.loads((folder / "store.json").read_text())
    if harm == "cut":
        os.truncate(folder / "rows.npy", 4000)
    elif harm == "no list":
        (folder / "store.json").write_text("{")
    else:
        about |= {"format": 99} if harm == "another format" else {"rows": 3}
        (folder / "store.json").write_text(json.dumps(about))
    same(read(log), read(log, store=True))


@pytest.mark.parametrize("reader", ["store", "convert"])
def test_a_file_that_changes_between_two_looks_at_it(reader, log, cache, tmp_path, monkeypatch):
    """A store would bear the name of other rows; a converted log have the rows of one file and the ends of another."""
    module, name = {"store": (store, "_key"), "convert": (convert_module, "_stored")}[reader]
    look = getattr(module, name)

    def meanwhile(*arguments):
        found = look(*arguments)
        write_hdf5(log, cart(900, 2), {"engine": "legacy"})
        return found

    monkeypatch.setattr(module, name, meanwhile)
    with pytest.raises(DataError, match=r"log\.hdf5: was changed while it was read"):
        read(log, store=True) if reader == "store" else convert(log, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()
    assert not list((cache / "stores").glob("*"))


def test_what_cannot_be_kept_is_one_line(log, cache, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "none.hdf5", store=True)
    write_hdf5(tmp_path / "wide.hdf5", cart(100), {})
    (tmp_path / "text.npz").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="is neither HDF5"):
        read(tmp_path / "text.npz", store=True)
    assert not list((cache / "stores").iterdir()), "nothing is left of a store that could not be made"
    monkeypatch.setattr(allocation.os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(RunError, match=r"cannot be written \(disk full\); free space"):
        read(log, store=True)
    monkeypatch.setenv("TABB_CACHE", "off")
    with pytest.raises(UsageError, match="set TABB_CACHE to a folder"):
        read(log, store=True)


def test_what_a_killed_process_left_goes_and_what_another_holds_stays(cache):
    with allocation.Scratch(cache) as held:
        held.empty((5, 2), np.float32)
        left = cache / f"{allocation.LOCKED}of-a-killed-process"
        shutil.copytree(held.folder, left)
        with allocation.Scratch(cache) as another:
            assert not left.exists()
            assert sorted(cache.iterdir()) == sorted([held.folder, another.folder])
        assert list(held.folder.iterdir()) == [held.folder / "1.npy"]
    assert not list(cache.iterdir())


def test_the_hash_of_rows_is_that_in_memory(log, small_pieces):
    assert fingerprint(read(log).transitions) == fingerprint(read(log, store=True).transitions)


def test_the_audit_finds_the_same(log, tmp_path, small_pieces):
    other = tmp_path / "real.hdf5"
    write_hdf5(other, cart(400, 3, 0.15))
    with_store = audit(source=log, target=other, store=True)
    assert with_store.to_dict() == audit(source=log, target=other).to_dict()
    columns = cart(300, 4)
    columns["actions"][[3, 9]] = 7.0
    columns["observations"][4] = np.nan
    columns["rewards"][:] = 1.0
    write_columns(tmp_path / "wrong.hdf5", columns, {})
    assert audit(tmp_path / "wrong.hdf5", store=True).findings == audit(tmp_path / "wrong.hdf5").findings


def test_describe_and_audit_say_the_same_of_a_store(log, capsys):
    printed = []
    for more in ((), ("--store",)):
        assert main(["data", "describe", str(log), "--columns", *more]) == 0
        assert main(["audit", str(log), *more]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


@pytest.mark.slow
def test_a_run_from_a_store_says_so_and_goes_on_from_there(log, tmp_path):
    options = ["--task", "none", "--updates", "10", "--evaluations", "0", "--progress", "none", "--source", str(log)]
    options += ["--target", str(log), "--backbone.hidden", "8", "--store", "--out", str(tmp_path / "run")]
    assert main(["train", "target-only", *options]) == 0
    assert json.loads((tmp_path / "run" / "seed0" / "config.json").read_text())["origin"]["store"] is True
    assert main(["train", "--resume", str(tmp_path / "run"), "--progress", "none"]) == 0


def test_load_gives_the_columns_of_the_table(log):
    rows = tabb.load(log, store=True)
    assert is_stored(rows)
    assert np.array_equal(rows.reward, tabb.load(log).reward)
    assert store.stores_folder().name == "stores"


@pytest.mark.parametrize("kind", ["f2", "i2", "f8"])
def test_numbers_of_any_type_become_float32_piece_by_piece(kind, tmp_path, small_pieces, monkeypatch):
    """Never as one array in memory, which the rows need not fit into: matrices lie in files, as float32."""
    log = cart(1000, 1)
    wide = {"observations": np.round(100 * log["observations"]).astype(kind), "actions": log["actions"].astype("f2")}
    np.savez(tmp_path / "log.npz", **{key: log[key] for key in ("rewards", "terminals", "timeouts")}, **wide)
    made = []

    def matrix(*arguments, **options):
        made.append(whole(*arguments, **options))
        return made[-1]

    whole = checks.matrix
    monkeypatch.setattr(checks, "matrix", matrix)
    same(read(tmp_path / "log.npz", store=True), read(tmp_path / "log.npz"))
    assert made[0].dtype == np.float32
    assert isinstance(made[0], np.memmap) or isinstance(made[0].base, np.memmap)


def test_a_matrix_is_made_float32_in_a_file(tmp_path, small_pieces):
    stored = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.int16, (40_000, 60))
    stored[:] = np.arange(60)
    with allocation.Scratch(tmp_path / "scratch") as scratch:
        tracemalloc.start()
        made = checks.matrix(stored, "log", "observations", memory=scratch)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        np.testing.assert_array_equal(made[[0, -1]], [range(60)] * 2)
    assert peak < 1_000_000 < made.nbytes
