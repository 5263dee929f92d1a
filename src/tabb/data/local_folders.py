"""The folders of local data: those that the environment variable `TABB_DATA` names, and no other."""

from __future__ import annotations

import os
from pathlib import Path

from tabb.data.checks import one_line
from tabb.errors import UsageError

VARIABLE = "TABB_DATA"


def named_shelves() -> list[Path]:
    """The folders in the order in which they are looked through; several are separated as in PATH. None need exist."""
    return [Path(name).expanduser() for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]


def shelves() -> list[Path]:
    """The same. Raises `UsageError` (one line) if one is not a folder."""
    folders = named_shelves()
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(
                one_line(
                    f"{VARIABLE}={os.environ[VARIABLE]}: {folder} is not a folder; name those that hold source/ and "
                    f"target/, several with {os.pathsep!r} between them"
                )
            )
    return folders
