"""Files that are written whole or not at all, and JSON in them."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tabb.errors import RunError


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name once the block has ended well; else nothing stays.

    Raises `RunError` (one line) where the folder is missing, may not be written, or the disk is full.
    """
    part: Path | None = None
    try:
        handle, text = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        part = Path(text)
        yield part
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)  # mkstemp makes files private; a data set is an ordinary file
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        part = None
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RunError(f"{path}: cannot be written ({reason}); free space or choose another folder") from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def write_json(path: Path, values: Any) -> None:
    """Indented JSON, whole or not at all."""
    text = json.dumps(values, indent=2) + "\n"
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Raises `RunError` if the file cannot be read or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); the run must be started again") from None
