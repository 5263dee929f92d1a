"""Logged rows are never written over by what was made of them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py

from tabb.data.checks import one_line
from tabb.data.storage import kind
from tabb.errors import DataError, UsageError

ROWS = {"observations", "observation"}
"""what logged rows are called in D4RL's layout and in `save_npz`'s"""


def refuse_data(out: Path | None) -> None:
    """Raise `UsageError` where `out` is there and holds logged rows (HDF5 or npz).

    Nobody can experiment again: a slip of `--out` must not cost the data.
    """
    if out is not None and out.is_file() and _holds_rows(out):
        raise UsageError(one_line(f"{out}: holds logged data, which would be lost; name another file with --out"))


def _holds_rows(path: Path) -> bool:
    try:
        if kind(path) == "zip":
            with zipfile.ZipFile(path) as archive:
                return not ROWS.isdisjoint(name.removesuffix(".npy") for name in archive.namelist())
        with h5py.File(path, "r") as file:
            return not ROWS.isdisjoint(file)
    except (DataError, OSError, zipfile.BadZipFile):  # no data file that anything could be read from
        return False
