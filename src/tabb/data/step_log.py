"""A log that grows step by step, and is a data set at every moment: whoever is killed has lost no row.

It is an HDF5 file with room for all steps of a run, whose columns are those of `Transitions`, mapped into memory: a row
that was written is the operating system's, whatever becomes of the process. Rows of no episode (-1) are not there yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tabb.action_bounds import ActionBounds
from tabb.data.checks import NO_EPISODE
from tabb.errors import RunError
from tabb.transitions import COLUMNS, FLOATS

MARK = "tabb_steps"
"""attribute of the file"""
LAST = "last"
"""column that says which rows are the last of their episode; logs of earlier versions have none"""

FILL = {"episode": np.array(NO_EPISODE, np.int32), LAST: np.array(0, np.int32)}
"""what columns hold before there are rows; the others 0"""


class StepLog:
    """The steps that were taken so far, in the order in which they were."""

    def __init__(self, path: Path, room: int, observation: int, action: int, bounds: ActionBounds | None) -> None:
        """Open the log, or make one with room for so many rows of these sizes.

        Raises `RunError` where that fails, or another log is there.
        """
        widths = {"observation": (observation,), "action": (action,), "next_observation": (observation,)}
        shapes = {name: (room, *widths.get(name, ())) for name in COLUMNS}
        try:
            if not path.exists():
                _make(path, shapes, bounds)
            self._columns = _mapped(path, shapes)
        except (OSError, KeyError, ValueError, AttributeError) as error:  # the last: a group in place of a column
            raise RunError(
                f"{path}: cannot be used as the log of this run's steps ({error}); move it away, or choose another "
                "folder"
            ) from None
        missing = np.flatnonzero(self._columns["episode"] == NO_EPISODE)
        self._count = int(missing[0]) if missing.size else room

    def __len__(self) -> int:
        return self._count

    def add(self, rows: Mapping[str, Any], last: NDArray[np.bool_] | None = None) -> None:
        """Rows behind those that are there: their columns, with the number of each row's episode.

        `last` says which of them are the last of their episode, where that is known.
        """
        places = slice(self._count, self._count + len(rows["episode"]))
        if last is not None and LAST in self._columns:
            self._columns[LAST][places] = last
        for name in FLOATS:
            self._columns[name][places] = rows[name]
        self._columns["episode"][places] = rows["episode"]  # last: a row is there when all of it is
        self._count = places.stop

    def rows(self, places: slice) -> dict[str, np.ndarray]:
        """The columns of the rows at these places."""
        return {name: np.array(self._columns[name][: self._count][places]) for name in COLUMNS}

    def ends(self, places: slice) -> NDArray[np.intp]:
        """Which of the rows at these places are known to be the last of their episode."""
        last = self._columns.get(LAST, np.zeros(self._count, np.int32))[: self._count]
        return np.arange(self._count)[places][last[places] == 1]

    def keep(self) -> None:
        """Have all rows on the disk: a power cut does not take them either."""
        for column in self._columns.values():
            column.flush()


def _make(path: Path, shapes: Mapping[str, tuple[int, ...]], bounds: ActionBounds | None) -> None:
    with h5py.File(path, "x", libver=("v110", "latest")) as file:
        file.attrs[MARK] = 1
        room = {LAST: shapes["episode"]}
        for name, shape in {**shapes, **room}.items():
            layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            fill = FILL.get(name, np.array(0, np.float32))
            layout.set_fill_value(fill)
            space, kind = h5py.h5s.create_simple(shape), h5py.h5t.py_create(fill.dtype)
            h5py.h5d.create(file.id, name.encode(), kind, space, dcpl=layout)
        if bounds is not None:
            file["action_low"], file["action_high"] = np.asarray(bounds.low), np.asarray(bounds.high)


def _mapped(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.memmap[Any, Any]]:
    columns = {}
    with h5py.File(path, "r", locking=False) as file:
        names = (*shapes, *({LAST} & set(file)))
        places = {name: (file[name].id.get_offset(), file[name].shape, file[name].dtype) for name in names}
    for name, (offset, shape, kind) in places.items():
        if offset is None or shape != (wanted := shapes.get(name, shapes["episode"])):
            raise ValueError(f"{name} has shape {shape}, not {wanted}")
        columns[name] = np.memmap(path, kind, "r+", offset, shape)
    return columns
