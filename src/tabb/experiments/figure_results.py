"""Results of a figure that is computed task by task and seed by seed: a JSON file for each, computed once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabb.errors import RunError
from tabb.files import read_json, write_json
from tabb.plain import from_plain, plain
from tabb.provenance import environment


def result_file(folder: Path, task: str, seed: int) -> Path:
    """The file of a task's and seed's result."""
    return folder / f"{task}-seed{seed}.json"


def save_result(
    settings: Any, task: str, seed: int, data: Mapping[str, str], measured: Mapping[str, Any], folder: Path
) -> None:
    """Write what was measured, with the settings (a dataclass) and the fingerprints of the data."""
    about = {"task": task, "seed": seed, "settings": plain(settings), "data": dict(data)}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(result_file(folder, task, seed), about | dict(measured) | {"environment": environment()})


def read_result(folder: Path, task: str, seed: int, settings: Any) -> dict[str, Any]:
    """The result of a task and seed. Raises `RunError` if it was computed with other settings."""
    file = result_file(folder, task, seed)
    result = read_json(file)
    # Fields that the settings of an older file lack get their defaults.
    if plain(from_plain(type(settings), result.get("settings") or {})) != plain(settings):
        raise RunError(f"{file}: was computed with other settings; choose another folder with --out")
    return result
