"""Data files for the nodes: read once, put once into Ray's object store, known by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabb.data.lerobot import is_lerobot
from tabb.errors import DataError, UsageError
from tabb.running.cluster.node import sha256
from tabb.training.spec import RunSpec


class Shipping:
    """The data of a plan's cells. Nodes fetch what they do not have yet; a file goes to each node once."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._items: dict[Path, dict[str, Any]] = {}

    def data_of(self, files: dict[str, list[Path]]) -> dict[str, list[dict[str, Any]]]:
        """What a node takes, for the files of each domain. Raises `DataError` if one cannot be read."""
        return {domain: [self._item(path) for path in paths] for domain, paths in files.items()}

    def _item(self, path: Path) -> dict[str, Any]:
        if path not in self._items:
            within = _within(path)
            names = [file.relative_to(path).as_posix() if path.is_dir() else "" for file in within]
            try:
                sums = [sha256(file) for file in within]
                references = [self._ray.put(file.read_bytes()) for file in within]
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror or error}); change its mode") from None
            key = hashlib.sha256("".join(name + one for name, one in zip(names, sums, strict=True)).encode())
            parts = list(zip(names, sums, references, strict=True))
            self._items[path] = {
                "name": path.name,
                "path": str(path.resolve()),
                "key": key.hexdigest()[:32],
                "parts": parts,
            }
        return self._items[path]


def _within(path: Path) -> list[Path]:
    """The file itself, or the files of a folder; of a LeRobot data set without its videos."""
    if not path.is_dir():
        return [path]
    folders = [path / "meta", path / "data"] if is_lerobot(path) else [path]
    return sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())


def check_files(specs: Sequence[RunSpec]) -> None:
    """Raise `DataError` for the first data file of these runs that is not here.

    Raises `UsageError` for runs that start from the weights of another, which nodes do not have, and for those that
    take steps in an environment that is no task: it may be a robot, which is at this machine.
    """
    if started := next((spec.start for spec in specs if spec.start is not None), None):
        raise UsageError(f"start={started}: nodes do not have the run to start from; go on without --ray")
    for spec in specs:
        if spec.own_steps:
            raise UsageError(f"steps in {spec.own_steps[0]}: are taken at this machine; go on without --ray")
    for path in dict.fromkeys(path for spec in specs for paths in spec.files.values() for path in paths):
        if Path(f"{path}.toml").exists():
            raise UsageError(f"{path}.toml: nodes do not get it; write the data anew with `tabb data convert`")
        if not path.exists():
            raise DataError(f"{path}: no such file; put it back, or start the runs again with another one")
