"""`load` and `read`: any supported file, or several as one data set."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tabb.action_bounds import same_bounds
from tabb.data import storage
from tabb.data.allocation import IN_MEMORY, Memory, Scratch
from tabb.data.checks import one_line
from tabb.data.hdf5 import load_hdf5
from tabb.data.lerobot import is_lerobot, load_lerobot
from tabb.data.names import locate, parts_of
from tabb.data.npz import load_npz
from tabb.data.reading import Reading, reading_of, reading_with
from tabb.data.report import STEPS, Loaded, join, log_return, not_counted
from tabb.data.store import stored
from tabb.data.tables import load_table
from tabb.errors import DataError, UsageError
from tabb.transitions import COLUMNS, Transitions

PathLike = str | Path


def load(
    path: PathLike | Sequence[PathLike],
    reading: Reading | None = None,
    *,
    action_low: Any = None,
    action_high: Any = None,
    store: bool = False,
) -> Transitions:
    """The transitions of a file, HDF5 (D4RL, ODRL, OTDF), npz, Parquet or CSV, told apart by content.

    >>> rows = tabb.load("robot.hdf5")
    >>> rows.observation.shape, rows.action.shape, rows.reward.shape
    ((300, 11), (300, 3), (300,))
    >>> len(tabb.load(["simulator.hdf5", "robot.hdf5"]))
    900

    Also of a data set named `otdf:hopper-morph-medium`, `d4rl:hopper-medium-v2` (see `tabb data list`) or
    `minari:mujoco/hopper/medium-v0`, which is fetched if it is not at hand, and of the folder of a Minari data set.
    Several files, as a list or as "a.hdf5+b.hdf5", are joined in this order into one data set (medium_expert
    is medium followed by expert); `\\+` is a plus in a name. What looks wrong but can be used is a `DataWarning`.

    `action_low`, `action_high` are the bounds of the action space, a number or one for each entry, where actions are
    not logged in [-1, 1] and the file does not say so itself. `reading` states these and more.

    With `store` the rows need not fit into memory: they are kept in a file of the cache (`tabb.data.store`), which is
    made once, and what is returned are the columns of that file.

    Raises `DataError` (one line) for files that are missing, damaged or do not match.
    """
    return read(path, reading, action_low=action_low, action_high=action_high, store=store).warned()


def read(
    path: PathLike | Sequence[PathLike],
    reading: Reading | None = None,
    *,
    action_low: Any = None,
    action_high: Any = None,
    store: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> Loaded:
    """As `load`, with the report of what was found, kept and dropped; `note` is told how far a store is made."""
    reading = reading_with(reading, action_low, action_high)
    paths = split(path)
    if not paths:
        raise DataError("no file given; name at least one")
    if store:
        before = [state_of(one) for one in paths]  # a store bears the name of what the files held when it was begun

        def read_parts(scratch: Scratch) -> list[Loaded]:
            parts = [_load_one(one, reading, scratch, state) for one, state in zip(paths, before, strict=True)]
            _check_alike(parts)
            return parts

        return stored(paths, reading, read_parts, note)
    parts = [_load_one(one, reading) for one in paths]
    _check_alike(parts)
    if len(parts) == 1:
        return parts[0]
    return _joined(parts)


def _check_alike(parts: Sequence[Loaded]) -> None:
    """Raise `DataError` for files that cannot be one data set."""
    first = parts[0]
    for part in parts[1:]:
        for size in ("observation_size", "action_size"):
            here, there = getattr(first.transitions, size), getattr(part.transitions, size)
            if here != there:
                raise DataError(
                    one_line(
                        f"{part.report.name}: {size} is {there} but {here} in {first.report.name}; "
                        "join only files of one robot"
                    )
                )
        here, there = first.transitions.action_bounds, part.transitions.action_bounds
        if not same_bounds(here, there):
            raise DataError(
                one_line(
                    f"{part.report.name}: the bounds of actions are {there or '[-1, 1]'} but {here or '[-1, 1]'} in "
                    f"{first.report.name}; join only files of one action space"
                )
            )
        # A file without the attribute is another physics too, as far as anyone can tell.
        if part.report.engine != first.report.engine:
            raise DataError(
                one_line(
                    f"{part.report.name}: engine is {part.report.engine or 'not stated'} but "
                    f"{first.report.engine or 'not stated'} in {first.report.name}; "
                    "join only files of one engine"
                )
            )


def _joined(parts: list[Loaded]) -> Loaded:
    """Several files as one data set; the list is emptied."""
    first = parts[0]
    reports, bounds = [part.report for part in parts], first.transitions.action_bounds
    first_extras = list(first.transitions.extras)
    # Column by column, each let go of as it is joined: a+b must not need the memory of both twice.
    shared = [name for name in first_extras if all(name in p.transitions.extras for p in parts)]
    extras = {name: np.concatenate([np.asarray(p.transitions.extras[name]) for p in parts]) for name in shared}
    tables = [{name: np.asarray(getattr(p.transitions, name)) for name in COLUMNS} for p in parts]
    parts.clear()
    del first
    before, cut = 0, set()
    for table, report in zip(tables, reports, strict=True):
        cut |= {before + number for number in not_counted(report, table["episode"])}
        table["episode"] = table["episode"] + np.int32(before)
        before = int(table["episode"].max()) + 1
    joined = {name: np.concatenate([table.pop(name) for table in tables]) for name in COLUMNS}
    mean_return = log_return(joined["reward"], joined["episode"], cut)
    return Loaded(Transitions(**joined, action_bounds=bounds, extras=extras), join(reports, mean_return, cut))


def split(path: PathLike | Sequence[PathLike]) -> list[Path]:
    """The paths named: a list, one path, or several with `+` between (`\\+` is a plus in a name)."""
    if isinstance(path, str):
        return [_one(part) for part in parts_of(path) if part or "+" not in path]
    if isinstance(path, Path):
        return [_one(str(path))]
    if not isinstance(path, Sequence):
        raise UsageError(f"file is {type(path).__name__}: give a path, or several as a list")
    return [one for part in path for one in split(part)]


def _one(text: str) -> Path:
    return locate(text) or Path(text)


def _load_one(
    path: Path, reading: Reading, memory: Memory = IN_MEMORY, before: tuple[int, ...] | None = None
) -> Loaded:
    """The data set at `path`; `before` is its state when the reading began, if that was earlier."""
    before = before or state_of(path)
    loaded = _loaded(path, reading, memory)
    check_unchanged(path, before, loaded)
    return loaded


def check_unchanged(path: Path, before: tuple[int, ...] | None, loaded: Loaded) -> None:
    """Raise `DataError` if the file is not in the state of `before`: half of each of two would be taken for data.

    Logs of a run's steps are read while they grow.
    """
    if loaded.report.layout != STEPS and state_of(path) != before:
        raise DataError(one_line(f"{path}: was changed while it was read; read it again when it is whole"))


def state_of(path: Path) -> tuple[int, ...] | None:
    """What tells whether a file was written to, or replaced; None for a folder, and where the disk does not say."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return None
    return None if stat.S_ISDIR(found.st_mode) else (found.st_ino, found.st_size, found.st_mtime_ns)


def _loaded(path: Path, reading: Reading, memory: Memory) -> Loaded:
    reading = reading_of(path, reading)
    if os.path.isdir(path):  # unlike Path's, False also where the name is too long
        from tabb.data.minari_sets import is_minari, load_minari

        if is_minari(path):
            if memory.on_disk:
                raise UsageError(
                    f"{path}: a Minari data set is read into memory; convert it: tabb data convert FROM TO"
                )
            return load_minari(path, reading)
        if is_lerobot(path):
            return load_lerobot(path, reading, memory)
    door = {"hdf5": load_hdf5, "zip": load_npz}.get(storage.kind(path), load_table)
    return door(path, reading, memory)
