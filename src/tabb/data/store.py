"""Rows that need not fit into memory: one table of float32 in a file, which is mapped into memory.

A store is made once for a data set, in the folder `stores` of the cache, and known by the content of its files, by what
is stated of them and by the code that reads them. Nothing is ever taken out of it: remove the folder to have room.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tabb.action_bounds import ActionBounds
from tabb.data import checks
from tabb.data.allocation import Scratch, new_map
from tabb.data.reading import Reading, reading_of
from tabb.data.report import Loaded, Report, join, log_return, not_counted
from tabb.errors import DataError, UsageError
from tabb.files import cache_folder, write_json
from tabb.transitions import FLOATS, Transitions

FORMAT = 1
ROWS, EPISODES, KEPT, ABOUT = "rows.npy", "episodes.npy", "kept_rows.npy", "store.json"
"""Files of a store: the table, the number of each row's episode, the row of the file that it was, and the rest."""

Note = Callable[[str], None]


def stores_folder() -> Path:
    """The folder of all stores. Raises `UsageError` where there is no cache."""
    cache = cache_folder()
    if cache is None:
        raise UsageError("store: rows are kept in the cache, and there is none; set TABB_CACHE to a folder")
    return cache / "stores"


def stored(
    paths: Sequence[Path], reading: Reading, read_parts: Callable[[Scratch], list[Loaded]], note: Note
) -> Loaded:
    """The data set of these files from its store, which is made if it is not there.

    `read_parts` reads each file, with its columns in the scratch that it is given. `note` gets what is done.

    Raises:
        DataError: a file cannot be used.
        UsageError: there is no cache.
        RunError: the store cannot be written.
    """
    root = stores_folder()
    folder = root / _key(paths, reading, note)
    found = _opened(folder, paths)
    if found is not None:
        return found
    with Scratch(root, note) as scratch:
        parts = read_parts(scratch)
        part = scratch.folder / "store"
        part.mkdir()
        _write(part, parts, note)
        del parts
        shutil.rmtree(folder, ignore_errors=True)  # one that cannot be read
        with contextlib.suppress(OSError):  # another process has just made it
            os.rename(part, folder)
        found = _opened(folder, paths)
    if found is None:
        raise DataError(f"{folder}: the store cannot be read back; remove it, and check the disk")
    note(f"{found.report.name}: {len(found.transitions):,} rows are kept in {folder} ({_size(folder) / 1e6:,.0f} MB)")
    return found


def _key(paths: Sequence[Path], reading: Reading, note: Note) -> str:
    """The name of the store of these files: a hash of all that it depends on."""
    digest = hashlib.sha256(f"{FORMAT} {_code()}".encode())
    for path in paths:
        note(f"{path}: looking for its store")
        stated = json.dumps(reading_of(path, reading).to_dict(), sort_keys=True)
        digest.update(f"{path.suffix.lower()} {stated}".encode())
        for file in [path] if os.path.isfile(path) else sorted(one for one in _below(path) if _is_read(one)):
            try:
                with open(file, "rb") as opened:
                    content = hashlib.file_digest(opened, "sha256").hexdigest()
            except OSError as error:
                raise DataError(checks.one_line(f"{file}: cannot be read ({error.strerror or error})")) from None
            digest.update(f"{file.relative_to(path) if file != path else ''} {content}".encode())
    return digest.hexdigest()[:32]


def _below(path: Path) -> Iterable[Path]:
    """All in a folder; nothing where there is none, which is said when it is read."""
    return path.rglob("*") if os.path.isdir(path) else ()


def _is_read(file: Path) -> bool:
    """Whether a file of a data set's folder holds rows or what is said of them."""
    return file.suffix in (".parquet", ".json", ".jsonl", ".hdf5") and file.is_file()


def _code() -> str:
    """A hash of the code that reads files: another rule for the ends of episodes makes other rows."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _write(folder: Path, parts: list[Loaded], note: Note) -> None:
    """The rows of all parts, one after the other, in a new store."""
    rows = sum(len(part.transitions) for part in parts)
    report = join([part.report for part in parts], math.nan)  # the return once all rows are there
    first = parts[0].transitions
    shapes = {name: np.shape(getattr(first, name))[1:] for name in FLOATS} | dict.fromkeys(report.extras, ())
    widths = {name: math.prod(shape) for name, shape in shapes.items()}
    table = new_map(folder / ROWS, (rows, sum(widths.values())), np.float32)
    episodes = new_map(folder / EPISODES, (rows,), np.int32)
    kept = new_map(folder / KEPT, (rows,), np.int64)
    begin, episode, told, cut = 0, 0, 0.0, set()
    for part in parts:
        data = part.transitions
        for piece in checks.pieces(len(data)):
            there = slice(begin + piece.start, begin + piece.stop)
            at = 0
            for name, width in widths.items():
                column = data.extras[name] if name in report.extras else getattr(data, name)
                table[there, at : at + width] = column[piece].reshape(-1, width)
                at += width
            episodes[there] = data.episode[piece]
            episodes[there] += episode
            if there.stop / rows >= told:
                note(f"{report.name}: writing its store, {there.stop / rows:.0%}")
                told += 0.1
        cut |= {episode + number for number in not_counted(part.report, data.episode)}
        episode = int(episodes[begin : begin + len(data)].max()) + 1
        begin += len(data)
    for piece in checks.pieces(rows):
        kept[piece] = report.kept_rows[piece]
    # Of the parts' own columns: in the table, rewards lie so far apart that all of it would be read from the disk.
    rewards = np.concatenate([part.transitions.reward for part in parts])
    known = parts[0].report.cut if len(parts) == 1 else tuple(sorted(cut))
    report = dataclasses.replace(report, mean_return=log_return(rewards, episodes, cut), cut=known)
    for one in (table, episodes, kept):
        one.flush()  # type: ignore[attr-defined]
    told_of = dataclasses.asdict(dataclasses.replace(report, kept_rows=np.empty(0, np.intp)))
    del told_of["kept_rows"]
    about = {
        "format": FORMAT,
        "rows": rows,
        "columns": {name: list(shape) for name, shape in shapes.items()},
        "report": told_of,
    }
    write_json(folder / ABOUT, about)


def _opened(folder: Path, paths: Sequence[Path]) -> Loaded | None:
    """The data set of a store, its columns mapped; None if there is no store, or not a whole one."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        table, episodes, kept = (np.load(folder / name, mmap_mode="r") for name in (ROWS, EPISODES, KEPT))
        columns: dict[str, np.ndarray] = {}
        at = 0
        for name, shape in about["columns"].items():
            width = math.prod(shape)
            columns[name] = table[:, at : at + width] if shape else table[:, at]
            at += width
        sizes = {len(table), len(episodes), len(kept)}
        if about["format"] != FORMAT or sizes != {about["rows"]} or table.shape[1] != at:
            return None
        report = _report(about["report"], paths)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    fields = {name: columns.pop(name) for name in FLOATS}
    transitions = Transitions(**fields, episode=episodes, action_bounds=report.action_bounds, extras=columns)
    return Loaded(transitions, dataclasses.replace(report, kept_rows=kept))


def _report(values: dict[str, Any], paths: Sequence[Path]) -> Report:
    """The report of a store, under the names that its files have now."""
    bounds = values.pop("action_bounds")
    provenance = values.pop("provenance")
    fields = {name: _as_tuples(value) for name, value in values.items()}
    fields["name"] = "+".join(map(str, paths))
    fields["parts"] = tuple((str(path), rows) for path, (_, rows) in zip(paths, fields["parts"], strict=False))
    bounds = None if bounds is None else ActionBounds(**{name: tuple(value) for name, value in bounds.items()})
    return Report(**fields, provenance=provenance, action_bounds=bounds)


def _as_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_tuples(one) for key, one in value.items()}
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value
