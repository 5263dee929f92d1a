"""Where the columns of a file are put while it is read: into memory, or into files that are mapped into memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tabb.errors import RunError


class Memory:
    """Columns in memory."""

    on_disk = False

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array with any content."""
        return np.empty(shape, dtype)

    def note(self, text: str) -> None:
        """Called with what is being done; columns in memory need no message."""


IN_MEMORY = Memory()


class Scratch(Memory):
    """Columns in files of a folder: the system keeps in memory what it has room for.

    The folder and all columns go when the block that it is opened in ends.
    """

    on_disk = True

    def __init__(self, root: Path, note: Callable[[str], None] = lambda text: None) -> None:
        self._root, self._note = root, note
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._count = 0

    def __enter__(self) -> Scratch:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._folder = tempfile.TemporaryDirectory(prefix=".part-", dir=self._root, ignore_cleanup_errors=True)
        except OSError as error:
            raise RunError(
                f"{self._root}: cannot be written ({error.strerror or error}); set TABB_CACHE to another folder"
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        assert self._folder is not None
        self._folder.cleanup()

    @property
    def folder(self) -> Path:
        """The folder, while it is open."""
        assert self._folder is not None
        return Path(self._folder.name)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of zeros in a file of its own. Raises `RunError` where the disk is full."""
        self._count += 1
        return new_map(self.folder / f"{self._count}.npy", shape, dtype)

    def note(self, text: str) -> None:
        self._note(text)


def new_map(path: Path, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A new `.npy` file, mapped into memory to be filled. Raises `RunError` where the disk has no room for it."""
    try:
        mapped: np.ndarray = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
        with open(path, "rb+") as file:
            # A page that finds no room on the disk when it is written ends the process: room is taken before.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise RunError(
            f"{path.parent}: cannot be written ({error.strerror or error}); free space, or set TABB_CACHE to a folder "
            "on a larger disk"
        ) from None
    return mapped
