"""Where the columns of a file are put while it is read: into memory, or into files that are mapped into memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # not on Windows: there what a kill leaves stays
    fcntl = None  # type: ignore[assignment]

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
LOCKED = ".scratch-"
"""How the names of folders begin that their process keeps locked. One without a lock was left by a killed process."""


class Scratch(Memory):
    """Columns in files of a folder: the system keeps in memory what it has room for.

    The folder and all columns go when the block that it is opened in ends; those of a killed process, when another
    begins.
    """

    on_disk = True

    def __init__(self, root: Path, note: Callable[[str], None] = lambda text: None) -> None:
        self._root, self._note = root, note
        self._folder: Path | None = None
        self._lock: int | None = None
        self._count = 0

    def __enter__(self) -> Scratch:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(self._root)
            new = Path(tempfile.mkdtemp(prefix=".new-", dir=self._root))
            self._lock = _held(new)
            self._folder = new.rename(new.with_name(new.name.replace(".new-", LOCKED)))
        except OSError as error:
            raise RunError(
                f"{self._root}: cannot be written ({error.strerror or error}); set TABB_CACHE to another folder"
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)

    @property
    def folder(self) -> Path:
        """The folder, while it is open."""
        assert self._folder is not None
        return self._folder

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of zeros in a file of its own. Raises `RunError` where the disk is full."""
        self._count += 1
        return new_map(self.folder / f"{self._count}.npy", shape, dtype)

    def note(self, text: str) -> None:
        self._note(text)


def _held(folder: Path) -> int | None:
    """A handle that keeps the folder locked until it is closed.

    None where another process has locked the folder, or the system has no locks.
    """
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _remove_abandoned(root: Path) -> None:
    """Remove the folders of processes that were killed: they may be as large as the data."""
    for folder in root.glob(f"{LOCKED}*"):
        with contextlib.suppress(OSError):  # another process removes it too
            handle = _held(folder)
            if handle is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(handle)


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
