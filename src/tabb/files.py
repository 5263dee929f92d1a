"""Files that are written whole or not at all, and JSON in them; disks that cannot do all that a local one does."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shlex
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tabb.errors import MachineWarning, RunError, UsageError

LOCK_HELD = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES})
"""what `flock` answers where another process holds the lock; any other error is the disk's"""

_CANNOT = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.EBADF})
"""what a disk answers that does not know a call, which is no news of the file's content"""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextlib.contextmanager
def atomic(path: Path, new: bool = False) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name once the block has ended well; else nothing stays.

    It takes the place of a file of that name. Where it is to be `new`, that is a `FileExistsError`, also where another
    process has made the file meanwhile.

    What makes the file whole must work. Where the disk refuses the rest (the usual mode, a name that outlives a power
    cut), there is one `MachineWarning`.

    Raises `RunError` (one line) where the folder is missing, may not be written, or the disk is full.
    """
    part: Path | None = None
    try:
        handle, text = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        part = Path(text)
        yield part
        _make_ordinary(part)
        with open(part, "rb+") as file:
            sync(file.fileno(), path)
        if new:
            _take_free_name(part, path)
        else:
            os.replace(part, path)
        part = None
    except (OSError, ValueError) as error:
        if new and isinstance(error, FileExistsError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RunError(f"{path}: cannot be written ({reason}); {_remedy(error)}") from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _take_free_name(part: Path, path: Path) -> None:
    """Rename a file to what no file is called. Raises `FileExistsError` where one is; of two processes one succeeds."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a disk on which a file has one name only
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.replace(part, path)
    else:
        part.unlink()


def _make_ordinary(part: Path) -> None:
    """Give a temporary file the mode of an ordinary one: `mkstemp` makes files private, and a data set is not."""
    mask = os.umask(0)
    os.umask(mask)
    try:
        part.chmod(0o666 & ~mask)
    except OSError as error:
        warn_once(f"{part.parent}: this disk has no file modes ({error.strerror}); files have its own mode")


def sync(handle: int, path: Path) -> None:
    """Have the disk keep what was written. A disk without that call gets one warning; other errors are raised."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        warn_once(f"{path.parent}: this disk cannot be told to keep a file ({error.strerror}); a power cut may cost it")


def _sync_folder(folder: Path) -> None:
    """Have the disk keep a file's new name. The file is whole and in place by now, so nothing here may fail."""
    if os.name == "nt":  # there a folder cannot be opened, and needs no such call
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        warn_once(f"{folder}: this disk cannot be told to keep a name ({error.strerror}); a power cut may cost it")


def _remedy(error: OSError | ValueError) -> str:
    """What the user can do about a file that could not be written."""
    code = error.errno if isinstance(error, OSError) else None
    if code in _FULL:
        return "free space or choose another folder"
    if code in _FORBIDDEN:
        return "choose a folder that you may write to, and close other programs that hold the file"
    if code in (errno.ENOENT, errno.ENOTDIR):
        return "make its folder or choose another"
    return "choose another name or folder, and check the disk"


def cache_folder() -> Path | None:
    """$TABB_CACHE, else `tabb` in the user's cache folder; None if $TABB_CACHE is `off` or there is no home."""
    named = os.environ.get("TABB_CACHE")
    if named == "off":
        return None
    if named:
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tabb"
    except RuntimeError:  # a user without a home, as containers have
        return None


def path_of(value: Any, what: str) -> Path:
    """`value`, which is called `what`, as a path. Raises `UsageError` for what is none."""
    if not isinstance(value, str | os.PathLike):
        raise UsageError(f"{what} is {type(value).__name__}: give a path")
    return Path(value)


def paths_of(values: Any, what: str) -> list[Path]:
    """`values`, which are called `what`, as paths; one path is a list of one. Raises `UsageError` as `path_of`."""
    if isinstance(values, str | os.PathLike):
        return [Path(values)]
    if not isinstance(values, Iterable):
        raise UsageError(f"{what} is {type(values).__name__}: give a path, or several")
    return [path_of(one, what) for one in values]


def check_suffix(path: Path, what: str, *suffixes: str) -> None:
    """Raise `UsageError` for a name that ends in another suffix than these. A name without a suffix may be any."""
    if path.suffix and path.suffix.lower() not in suffixes:
        *others, last = suffixes
        listed = f"{', '.join(others)} or {last}" if others else last
        raise UsageError(f"{path}: {what} must end in {listed}")


def quoted(path: str | Path) -> str:
    """A path as a command for a shell has it."""
    return shlex.quote(str(path))


_WARNED: set[str] = set()


def warn_once(message: str) -> None:
    """Issue a `MachineWarning`, the first time that this process has cause to."""
    if message not in _WARNED:
        _WARNED.add(message)
        warnings.warn(message, MachineWarning, stacklevel=3)


def write_json(path: Path, values: Any, new: bool = False) -> None:
    """Indented JSON, whole or not at all; null where a number is not finite, for which JSON has no word.

    `new`: as in `atomic`.
    """
    text = json.dumps(finite(values), indent=2, allow_nan=False) + "\n"
    with atomic(path, new) as part:
        part.write_text(text, encoding="utf-8")


def finite(values: Any) -> Any:
    """The values with None for each number that is not finite."""
    if isinstance(values, float):
        return values if math.isfinite(values) else None
    if isinstance(values, dict):
        return {key: finite(value) for key, value in values.items()}
    return [finite(value) for value in values] if isinstance(values, list | tuple) else values


def read_json(path: Path) -> Any:
    """Raises `RunError` if the file cannot be read or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); the run must be started again") from None
