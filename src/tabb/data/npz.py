"""`.npz` files: a user's own columns (keys as in `from_arrays`), or `Transitions` as they are."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tabb.data import checks, precision, storage
from tabb.data.allocation import IN_MEMORY, Memory
from tabb.data.arrays import build
from tabb.data.column_names import MATRICES, REQUIRED, SAME, Names, names_of
from tabb.data.reading import BOUNDS, NOTHING_STATED, RawColumns, Reading
from tabb.data.report import Loaded
from tabb.data.saved_rows import CUT, EXTRA, saved_rows
from tabb.errors import DataError, TabbError
from tabb.files import atomic
from tabb.own_files import is_steps_of_run, refuse_others
from tabb.transitions import COLUMNS, Transitions

MARK = "tabb"
"""key that tells that tabb wrote a file of columns; it holds attributes as JSON"""
SAVED = "tabb_saved"
"""key that tells that `save_npz` wrote a file; it holds the version of that layout"""
SAVED_VERSION = 1
POLICY = frozenset({"header", "mean", "scale"})
"""keys that every policy of tabb has"""


LARGEST_MARK = 1 << 20
"""bytes"""


class Content(NamedTuple):
    """What is read of a file."""

    columns: dict[str, np.ndarray]  # by key of the file, numbers unchecked
    names: Names | None  # None where the file is one of `save_npz`
    wide: dict[str, list[np.ndarray]]  # stretches of doubles that became float32, by column
    provenance: dict[str, Any]  # attributes, and bounds of actions
    cut: set[int] | None = None  # numbers of the episodes that were cut, where that is known


def load_npz(path: str | Path, reading: Reading = NOTHING_STATED, memory: Memory = IN_MEMORY) -> Loaded:
    """Transitions and report of one file, of either kind:

    - columns: `observations`, `actions`, `rewards` and, where known, `next_observations`, `terminals`,
      `timeouts`, `episodes`, or their names in other libraries: treated as `from_arrays` does, further keys listed in
      the report; `action_low` and `action_high`, if they are there, bound the actions;
    - a file of `save_npz` (`observation`, `action`, ..., and its mark): its rows are checked and taken as they are.

    Nothing is unpickled. Raises `DataError` (one line) naming file, key and row.
    """
    path = Path(path)
    content = read_content(path, reading, memory)
    if content.names is None:
        return saved_rows(content.columns, content.provenance, str(path), "npz", reading, content.cut)
    return build(
        content.columns,
        name=str(path),
        layout="npz",
        provenance=content.provenance,
        owned=True,
        names=content.names,
        wide=content.wide,
        reading=reading,
        memory=memory,
    )


def raw_columns(path: Path, reading: Reading = NOTHING_STATED, memory: Memory = IN_MEMORY) -> RawColumns:
    """The columns of a file (keys as in `from_arrays`), numbers unchecked. Raises `DataError` as `load_npz`."""
    content = read_content(path, reading, memory)
    if content.names is None:
        singular = {"observations": "observation", "actions": "action", "rewards": "reward"}
        return RawColumns({key: content.columns[own] for key, own in singular.items()}, {})
    column_of = {key: column for column, key in content.names.read.items()}
    columns = {column_of.get(key, key): column for key, column in content.columns.items()}
    return RawColumns(columns, content.provenance)


def read_content(path: Path, reading: Reading, memory: Memory = IN_MEMORY) -> Content:
    """What is read of a file, or one line that says why it cannot be."""
    if storage.kind(path) != "zip":
        raise DataError(checks.one_line(f"{path}: is not npz; use tabb.data.load, which reads HDF5 too"))
    try:
        return _read(path, reading, memory)
    except TabbError:
        raise
    except Exception as error:  # zipfile and NumPy raise a dozen types on damaged bytes
        reason = checks.one_line(str(error)) or type(error).__name__
        raise DataError(
            checks.one_line(f"{path}: cannot be read as npz, damaged or cut ({reason[:200]}); fetch or write it again")
        ) from None


def save_npz(path: str | Path, transitions: Transitions, cut: Collection[int] | None = None) -> None:
    """Write `transitions`, all at once or not at all; `load` gives them back bit for bit.

    `cut` are the numbers of the episodes that did not come to their end, where all of them are known: they do not count
    in `Report.mean_return`. Without it the last episode does not.

    Raises `RunError` (one line) if the file cannot be written, `UsageError` if `path` is there and `save_npz` did not
    write it.
    """
    path = Path(path)
    refuse_others(path, "transitions")
    columns: dict[str, Any] = {field: np.asarray(getattr(transitions, field)) for field in COLUMNS}
    bounds = transitions.action_bounds
    columns |= {f"{EXTRA}{name}": np.asarray(column) for name, column in transitions.extras.items()}
    columns |= {} if bounds is None else {"action_low": np.asarray(bounds.low), "action_high": np.asarray(bounds.high)}
    columns |= {} if cut is None else {CUT: np.array(sorted(cut), np.int64)}
    columns[SAVED] = np.array(SAVED_VERSION)
    with atomic(path) as part, open(part, "wb") as file:
        np.savez_compressed(file, **columns)


def write_npz(path: Path, columns: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> None:
    """The columns of a log, all at once or not at all; attributes as JSON.

    Raises `RunError` (one line) if the file cannot be written, `UsageError` if `path` is there and is not tabb's.
    """
    refuse_others(path, "columns")
    more: dict[str, Any] = {key: np.asarray(attributes[key]) for key in BOUNDS if key in attributes}
    more[MARK] = np.array(json.dumps({key: value for key, value in attributes.items() if key not in BOUNDS}))
    with atomic(path) as part, open(part, "wb") as file:
        np.savez_compressed(file, **{**columns, **more})


def _read(path: Path, reading: Reading, memory: Memory) -> Content:
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        stated_names = reading.names.stated()
        names = None if _is_saved(path, entries, stated_names) else names_of(entries, str(path), stated_names)
        kept = [key for key in entries if key.startswith(EXTRA)]
        wanted = (*COLUMNS, *kept) if names is None else names.keys
        more = [key for key in (*BOUNDS, *([CUT] if names is None else [])) if key in entries]
        there = entries if names is None else names.read
        missing = [key for key in (COLUMNS if names is None else REQUIRED) if key not in there]
        if missing:
            policy = "; it looks like a policy, which tabb.Policy.load reads" if set(entries) >= POLICY else ""
            checks.fail(str(path), ", ".join(missing), f"missing; the keys there are: {checks.listed(entries)}{policy}")
        for info in entries.values():
            archive.open(info).close()  # a key renamed by damage must not pass for one that was never there
        size = os.path.getsize(path)
        for key in (*wanted, *more):
            if entries[key].file_size > max(1 << 24, 2_000 * size):
                checks.fail(str(path), key, f"claims {entries[key].file_size:,} bytes, more than the file can hold")
        for key in more:
            _shape(archive, entries[key], str(path), key)
        shapes = {key: _shape(archive, entries[key], str(path), key) for key in wanted}
        checks.shapes(shapes, str(path), _is_saved_matrix if names is None else names.is_matrix)
    columns: dict[str, np.ndarray] = {}
    wide: dict[str, list[np.ndarray]] = {}
    with np.load(path, allow_pickle=False) as file:
        for key in wanted:
            memory.note(f"{path}: reading {key}")
            try:
                array = _mapped(file, key, memory) if memory.on_disk else file[key]
            except TabbError:
                raise
            except Exception as error:  # as above; here the key is known
                reason = checks.one_line(str(error)) or type(error).__name__
                pickled = "object" in reason.lower()
                advice = "store it as float32" if pickled else "fetch or write the file again"
                checks.fail(str(path), key, f"cannot be read ({reason[:200]}); {advice}")
            column = SAME.get(key, key) if names is None else names.column(key)
            if column in ("episodes", "actions"):  # numbers would be rounded, and actions are scaled first
                columns[key] = array
                continue
            columns[key] = checks.narrow(array, memory)
            if columns[key] is not array:
                wide[column] = [block.copy() for block in precision.blocks_of(array)]
        stated = _attributes(file, entries) | {key: file[key].tolist() for key in more if key != CUT}
        cut = _cut(file[CUT], str(path)) if CUT in more else None
    return Content(columns, names, wide, stated, cut)


def _is_saved(path: Path, entries: Collection[str], stated: Collection[str]) -> bool:
    """Whether `save_npz` wrote the file. Raises `DataError` where it may have, but other libraries may have as well.

    Their `terminal` may mark time limits too, and their rows may be in any order.
    """
    if SAVED in entries or is_steps_of_run(path):
        return True
    if {"observation", "episode"} <= set(entries) and not {"observations"} & {*entries, *stated}:
        checks.fail(
            str(path),
            SAVED,
            "missing, so nothing says what `terminal` and `episode` mean here; name the keys (names.observations), or, "
            f"if an earlier tabb saved this file, save it again: numpy.savez(NEW, **numpy.load(OLD), {SAVED}=1)",
        )
    return False


def _cut(numbers: np.ndarray, name: str) -> set[int]:
    """The numbers of episodes that were cut."""
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        checks.fail(
            name, CUT, f"is {numbers.dtype} {numbers.shape}, no list of episodes' numbers; write the file again"
        )
    return set(numbers.tolist())


def _mapped(file: Any, key: str, memory: Memory) -> np.ndarray:
    """An array of the archive, piece by piece; one in the order of Fortran, or of no rows, at once."""
    with file.zip.open(f"{key}.npy") as entry:
        version = np.lib.format.read_magic(entry)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_column, dtype = read(entry)
        if (by_column and len(shape) > 1) or not math.prod(shape) or dtype.hasobject:
            whole: np.ndarray = file[key]
            return whole
        result = memory.empty(shape, dtype)
        row = math.prod(shape[1:]) * dtype.itemsize
        for piece in checks.pieces(shape[0]):
            rows = np.frombuffer(_exactly(entry, (piece.stop - piece.start) * row), dtype)
            result[piece] = rows.reshape(-1, *shape[1:])
    return result


def _exactly(entry: Any, count: int) -> bytes:
    """So many bytes of an entry, whose sum is checked at its end."""
    parts = []
    while count:
        part = entry.read(count)
        if not part:
            raise ValueError("the entry ends early")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _attributes(file: Any, entries: Mapping[str, zipfile.ZipInfo]) -> dict[str, Any]:
    """What `write_npz` wrote of attributes; nothing where that is not to be read."""
    if MARK not in entries or entries[MARK].file_size > LARGEST_MARK:
        return {}
    try:
        values = json.loads(str(file[MARK]))
    except Exception:  # they say nothing that is needed: damage there must not keep the data from being read
        return {}
    return values if isinstance(values, dict) else {}


def _is_saved_matrix(field: str) -> bool:
    """Whether a field of `Transitions` has several entries a row."""
    return f"{field}s" in MATRICES


def _shape(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, key: str) -> tuple[int, ...]:
    """The shape that the array's header claims, once its size agrees with that of the entry: NumPy believes it."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        at = file.tell()
    checks.check_numbers(dtype, name, key)
    claimed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or at + claimed != info.file_size:
        checks.fail(name, key, f"claims {claimed:,} bytes where {info.file_size - at:,} are; write the file again")
    return shape
