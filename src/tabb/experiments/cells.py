"""Cells of a figure that is computed task by task and seed by seed: each a JSON file, computed once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabb.errors import RunError
from tabb.files import read_json, write_json
from tabb.plain import from_plain, plain
from tabb.provenance import environment


def cell_file(folder: Path, task: str, seed: int) -> Path:
    """Where a cell's result is kept."""
    return folder / f"{task}-seed{seed}.json"


def keep_cell(
    settings: Any, task: str, seed: int, data: Mapping[str, str], measured: Mapping[str, Any], folder: Path
) -> None:
    """Write what was measured in a cell, with the settings (a dataclass) and the fingerprints of its data."""
    about = {"task": task, "seed": seed, "settings": plain(settings), "data": dict(data)}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(cell_file(folder, task, seed), about | dict(measured) | {"environment": environment()})


def read_cell(folder: Path, task: str, seed: int, settings: Any) -> dict[str, Any]:
    """The result of a cell. Raises `RunError` if it was computed with other settings."""
    file = cell_file(folder, task, seed)
    found = read_json(file)
    # Read and written again: settings that a cell from before did not have yet have their defaults.
    if plain(from_plain(type(settings), found.get("settings") or {})) != plain(settings):
        raise RunError(f"{file}: was computed with other settings; choose another folder with --out")
    return found
