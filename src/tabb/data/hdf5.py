"""HDF5 files as D4RL lays them out (`timeouts`, no next observations) and as ODRL and OTDF do (the
reverse)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from tabb.data import checks, precision, storage
from tabb.data.allocation import IN_MEMORY, Memory
from tabb.data.arrays import build
from tabb.data.column_names import OPTIONAL, REQUIRED, Names, names_of
from tabb.data.reading import BOUNDS, NOTHING_STATED, RawColumns, Reading
from tabb.data.report import STEPS, Loaded
from tabb.data.saved_rows import saved_rows
from tabb.data.step_log import LAST, MARK
from tabb.errors import DataError, TabbError
from tabb.files import atomic
from tabb.own_files import refuse_others
from tabb.transitions import COLUMNS

DIGEST = "content_sha256"
"""Attribute that `write_hdf5` adds: the digest of the log's own columns, checked by `load_hdf5`."""

# A damaged header can claim any size. No common compression beats 1:1032 (deflate) by much.
_LARGEST_RATIO = 2_000
_ALWAYS_FINE = 1 << 24
_LARGEST_CHUNK = 1 << 22
_LARGEST_ATTRIBUTE = 1 << 20


class Content(NamedTuple):
    """What is read of a file."""

    columns: dict[str, np.ndarray]  # by key of the file, numbers unchecked
    provenance: dict[str, Any]
    names: Names | None  # None where the file is the log of a run's steps
    wide: dict[str, list[np.ndarray]]  # stretches of doubles that became float32, by column
    cut: set[int] | None = None  # numbers of the episodes that were cut, where that is known


def load_hdf5(path: str | Path, reading: Reading = NOTHING_STATED, memory: Memory = IN_MEMORY) -> Loaded:
    """Transitions and report of one file; the rule for ends and dropped rows is that of `from_arrays`.

    Read are `observations`, `actions`, `rewards` (needed), `terminals`, `next_observations`, `timeouts`, `episodes`,
    these under their names in other libraries (`tabb.data.column_names`), and the file's attributes, among which
    `action_low` and `action_high` bound the actions (they may be datasets, too); in AntMaze files
    (29 observation entries and `infos/goal`) rows after which the ant is elsewhere count as timeouts, the number of
    those that no flag marks as `unstated_ends`; `infos` and `metadata` are otherwise ignored, further keys listed in
    the report. Nothing is unpickled. Raises `DataError` (one line) naming file, key and row.
    """
    path = Path(path)
    content = read_content(path, reading, memory)
    columns, provenance = content.columns, content.provenance
    if content.names is None:
        return saved_rows(columns, provenance, str(path), STEPS, reading, content.cut)
    stated = provenance.pop(DIGEST, None)
    written = {key: column for key, column in columns.items() if key in (*REQUIRED, *OPTIONAL)}
    renamed = set(reading.names.stated()) - {"extras"}
    if stated is not None and not renamed and stated != storage.digest(written):
        raise DataError(checks.one_line(f"{path}: content differs from its {DIGEST}; fetch or write it again"))
    layout = "odrl" if "next_observations" in content.names.read and "timeouts" not in content.names.read else "d4rl"
    return build(
        columns,
        name=str(path),
        layout=layout,
        provenance=provenance,
        owned=True,
        names=content.names,
        wide=content.wide,
        reading=reading,
        memory=memory,
    )


def raw_columns(path: Path, reading: Reading = NOTHING_STATED, memory: Memory = IN_MEMORY) -> RawColumns:
    """The columns of a file as it stores them, numbers unchecked. Raises `DataError` where it cannot be read."""
    content = read_content(path, reading, memory)
    if content.names is None:
        singular = {"observations": "observation", "actions": "action", "rewards": "reward"}
        return RawColumns({key: content.columns[own] for key, own in singular.items()}, {})
    column_of = {key: column for column, key in content.names.read.items()}
    columns = {column_of.get(key, key): column for key, column in content.columns.items()}
    return RawColumns(columns, content.provenance)


def read_content(path: Path, reading: Reading, memory: Memory = IN_MEMORY) -> Content:
    """What is read of a file, or one line that says why it cannot be."""
    if storage.kind(path) != "hdf5":
        raise DataError(checks.one_line(f"{path}: is not HDF5; use tabb.data.load, which reads npz too"))
    try:
        return _read(path, reading, memory)
    except TabbError:
        raise
    except Exception as error:  # h5py has a dozen ways to say that bytes make no sense
        reason = checks.one_line(str(error)) or type(error).__name__
        if "locking flag values don't match" in reason:
            raise DataError(
                checks.one_line(f"{path}: is open in this program, with file locking; close it there, then load it")
            ) from None
        raise DataError(
            checks.one_line(f"{path}: cannot be read as HDF5, damaged or cut ({reason[:200]}); fetch or write it again")
        ) from None


def write_hdf5(
    path: str | Path,
    arrays: Mapping[str, Any],
    provenance: Mapping[str, Any] | None = None,
    *,
    extras: Mapping[str, Any] | None = None,
) -> None:
    """Write steps (keys as in `from_arrays`; `terminals` needed) in the D4RL layout, all at once or not at
    all.

    Columns are compressed (gzip, shuffled), `provenance` becomes attributes (JSON where not text or number);
    `action_low` and `action_high` among it are the bounds of actions that are not in [-1, 1]. `extras` are further
    columns [N] of numbers by name.
    Raises `DataError` if the arrays could not be read back by `load_hdf5`, `RunError` if the file cannot be
    written, `UsageError` if `path` is there and is no data set that tabb wrote.
    """
    path = Path(path)
    refuse_others(path, "data")
    columns = _columns_to_write(arrays, provenance or {}, str(path))
    further = {key: checks.real(column, str(path), key) for key, column in (extras or {}).items()}
    checks.same_length(columns | further, str(path))
    write_columns(path, columns | further, {**(provenance or {}), DIGEST: storage.digest(columns)})


def write_columns(path: Path, columns: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> None:
    """Arrays and attributes as one HDF5 file, whole or not at all; compressed (gzip, shuffled).

    Raises `RunError` if the file cannot be written.
    """
    # HDF5 reports a full disk late and badly, so the file is made in memory and its bytes are written
    # plainly. Version 1.10 of the format puts checksums on its metadata.
    with h5py.File("memory", "w", driver="core", backing_store=False, libver=("v110", "latest")) as file:
        for key, array in columns.items():
            file.create_dataset(key, data=array, compression="gzip", compression_opts=4, shuffle=True)
        for key, value in attributes.items():
            _write_attribute(file, key, value)
        file.flush()
        image = file.id.get_file_image()
    with atomic(path) as part:
        part.write_bytes(image)


def _write_attribute(file: h5py.File, key: str, value: Any) -> None:
    """Texts have a fixed length: a damaged heap of variable ones makes HDF5 2.0 loop forever or crash."""
    if isinstance(value, int | float):
        file.attrs[key] = value
        return
    text = (value if isinstance(value, str) else json.dumps(value)).encode()
    file.attrs.create(key, np.bytes_(text), dtype=h5py.string_dtype("utf-8", max(1, len(text))))


def _columns_to_write(arrays: Mapping[str, Any], provenance: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
    """The arrays with the types they are stored in, after a trial of what a reader will make of them."""
    unknown = sorted(set(arrays) - {*REQUIRED, *OPTIONAL})
    if unknown:
        checks.fail(name, unknown[0], f"is not a column of this layout; use {', '.join((*REQUIRED, *OPTIONAL))}")
    _need(arrays, arrays, name, (*REQUIRED, "terminals"))
    build(dict(arrays), name=name, layout="d4rl", provenance=dict(provenance))
    columns = {}
    for key in arrays:
        if key in ("terminals", "timeouts"):
            columns[key] = checks.flag(arrays[key], name, key)
        elif key == "episodes":
            columns[key] = checks.episode_numbers(arrays[key], name, key).astype(np.int64)
        else:
            columns[key] = np.ascontiguousarray(
                checks.column(arrays[key], name, key) if key == "rewards" else arrays[key], dtype=np.float32
            )
    return columns


def _read(path: Path, reading: Reading, memory: Memory) -> Content:
    name, size = str(path), os.path.getsize(path)
    columns: dict[str, np.ndarray] = {}
    wide: dict[str, list[np.ndarray]] = {}
    with h5py.File(path, "r", locking=False) as file:  # files are replaced whole, and many shares cannot lock
        if MARK in file.attrs:
            return _steps(file, name, size)
        names = names_of(file, name, reading.names.stated())
        _need(names.read, file, name, REQUIRED)
        items = {key: direct(file, key, name) for key in names.keys}
        for key, item in items.items():
            check_dataset(item, name, key, size)
        checks.shapes({key: item.shape for key, item in items.items()}, name, names.is_matrix)
        for key, item in items.items():
            memory.note(f"{name}: reading {key}")
            try:
                if names.column(key) in ("episodes", "actions") or DIGEST in file.attrs:
                    columns[key] = _as_stored(item, memory)
                else:
                    columns[key], wide[names.column(key)] = _values(item, memory)
            except TabbError:
                raise
            except Exception as error:  # as above; here the key is known
                reason = checks.one_line(str(error)) or type(error).__name__
                checks.fail(name, key, f"cannot be read, damaged or cut ({reason[:200]}); fetch the file again")
        provenance = {key: _plain(file.attrs[key]) for key in file.attrs if _readable(file, key)}
        for key in set(BOUNDS) & set(file):
            item = direct(file, key, name)
            check_dataset(item, name, key, size)
            provenance[key] = _plain(item[()])
        inside = isinstance(file.get("infos", getlink=True), h5py.HardLink) and isinstance(file["infos"], h5py.Group)
        names = names._replace(maze=inside and "goal" in file["infos"])
    return Content(columns, provenance, names, {key: blocks for key, blocks in wide.items() if blocks})


def _steps(file: h5py.File, name: str, size: int) -> Content:
    """The rows of a run's log of steps that are there, episode after episode, and the bounds of actions.

    The log knows which row is the last of its episode; the others were cut, or still go on.
    """
    items = {key: direct(file, key, name) for key in (*COLUMNS, *(key for key in (LAST, *BOUNDS) if key in file))}
    for key, item in items.items():
        check_dataset(item, name, key, size)
    columns = {key: items[key][()] for key in COLUMNS}
    there = np.flatnonzero(columns["episode"] != checks.NO_EPISODE)
    if not there.size:
        checks.fail(name, "episode", "no step has been taken yet; train the run first")
    order = there[np.argsort(columns["episode"][there], kind="stable")]
    numbers, last = columns["episode"][there], items[LAST][()] if LAST in items else None
    if last is None:  # the log of an earlier version
        cut = {int(numbers.max())}
    elif last.shape == columns["episode"].shape:
        cut = set(numbers.tolist()) - set(numbers[last[there] == 1].tolist())
    else:
        checks.fail(name, LAST, f"has shape {last.shape}, not {columns['episode'].shape}; copy the file again")
    bounds = {key: items[key][()].tolist() for key in BOUNDS if key in items}
    return Content({key: column[order] for key, column in columns.items()}, bounds, None, {}, cut)


def _as_stored(item: h5py.Dataset, memory: Memory) -> np.ndarray:
    """What a dataset holds, in its own type."""
    if not memory.on_disk or item.ndim == 0:
        stored: np.ndarray = item[()]
        return stored
    result = memory.empty(item.shape, item.dtype)
    for piece in _pieces_of(item):
        result[piece] = item[piece]
    return result


def _pieces_of(item: h5py.Dataset) -> Iterator[slice]:
    """The rows of a dataset in pieces of whole chunks: each chunk is decompressed once."""
    at_once = item.chunks[0] if item.chunks else 1
    step = max(1, checks.PIECE // at_once) * at_once
    return (slice(begin, min(begin + step, len(item))) for begin in range(0, len(item), step))


def _values(item: h5py.Dataset, memory: Memory) -> tuple[np.ndarray, list[np.ndarray]]:
    """What a dataset holds; doubles as float32, piece by piece, where that is all their range needs.

    With stretches of the doubles that became float32.
    """
    if item.dtype.kind != "f" or item.dtype.itemsize <= 4 or item.ndim == 0:
        return _as_stored(item, memory), []
    result = memory.empty(item.shape, np.float32)
    for piece in _pieces_of(item):
        part = checks.narrow(item[piece])
        if part.dtype != np.float32:
            return _as_stored(item, memory), []
        result[piece] = part
    return result, precision.blocks_of(item)


def direct(group: h5py.Group, path: str, name: str, key: str | None = None, links: int = 8) -> Any:
    """The object at `path` below `group` (`key` in messages), by links within the file only.

    A data file must not pull in what others hold: HDF5 itself would open them unasked.
    """
    item: Any = group
    key = key or path
    for part in path.split("/"):
        if part in ("", "."):
            continue
        link = item.get(part, getlink=True) if isinstance(item, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            checks.fail(name, key, f"is a link into another file ({link.filename}); copy the data into this one")
        try:
            if isinstance(link, h5py.SoftLink) and links:
                item = direct(item.file["/"] if link.path.startswith("/") else item, link.path, name, key, links - 1)
            else:
                item = item[part] if isinstance(link, h5py.HardLink) else None
        except KeyError:
            item = None
        if item is None:
            checks.fail(name, key, "is a link to nothing or a damaged entry; fetch or write the file again")
    return item


def check_dataset(item: Any, name: str, key: str, size: int) -> None:
    """`item` of a file of `size` bytes is a dataset of numbers that can be read within that size."""
    if not isinstance(item, h5py.Dataset):
        kind = "group" if isinstance(item, h5py.Group) else "type"
        checks.fail(name, key, f"is a {kind}; a dataset of this name is needed there")
    check_storage(item, name, key, size)
    if item.shape is None:
        checks.fail(name, key, f"holds no values, not numbers of {item.dtype}; store it as float32")
    checks.check_numbers(item.dtype, name, key)


def check_storage(item: h5py.Dataset, name: str, key: str, size: int) -> None:
    """The rows of `item` are in this file, of `size` bytes, and can be: reading must not allocate what is not there."""
    if item.is_virtual or item.external:
        checks.fail(name, key, "keeps its rows in other files; copy the data into this one")
    if item.shape is None:
        return
    stored = item.chunks is None and item.id.get_offset() is not None  # as they are: not compressed
    if item.nbytes > (size if stored else max(_ALWAYS_FINE, _LARGEST_RATIO * size)):
        checks.fail(name, key, f"claims {item.nbytes:,} bytes, more than the file can hold: it is damaged")
    chunk = math.prod(item.chunks or (0,)) * item.dtype.itemsize
    if chunk > max(_LARGEST_CHUNK, item.nbytes, 2 * size):
        checks.fail(name, key, f"needs {chunk:,} bytes at once for {item.nbytes:,} of data; store it in smaller chunks")


def _need(has: Iterable[str], keys: Iterable[str], name: str, needed: Iterable[str]) -> None:
    missing = [key for key in needed if key not in has]
    if missing:
        checks.fail(name, ", ".join(missing), f"missing; the keys there are: {checks.listed(keys)}")


def _readable(file: h5py.File, key: str) -> bool:
    """Huge attributes and exotic types hold nothing that is needed; they must not keep the data from being read."""
    try:
        if file.attrs.get_id(key).get_storage_size() > _LARGEST_ATTRIBUTE:
            return False
        return isinstance(_plain(file.attrs[key]), str | int | float | list)
    except Exception:
        return False


def _plain(value: Any) -> Any:
    """An attribute as a Python text, number or list."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
