"""Data files for the nodes: read once, put once into Ray's object store, known by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tabb.data.catalogue import BUNDLED, resolve
from tabb.errors import DataError
from tabb.running.cluster.node import sha256

OPTIONS = ("--source", "--target", "--task")


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
            within = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
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


def files_of(arguments: Sequence[str]) -> tuple[str, dict[str, list[Path]]]:
    """The task and the data files of each domain that a cell with these arguments of `tabb train` reads.

    Raises what `resolve` raises for data that are not there.
    """
    from tabb.commands.train import where
    from tabb.registry import learners_of

    told = {name: last_value(arguments, f"--{name}") for name in ("source", "target", "task", "env")}
    told |= {name: told[name] or BUNDLED for name in ("source", "target")}
    (learner,) = learners_of([arguments[0]])
    draws = bool(learner.rule.shares(learner.backbone.batch_size)[0])
    task, _ = where(SimpleNamespace(**told), draws)
    domains = ("source", "target") if draws else ("target",)
    return task, {domain: resolve(str(told[domain]), task, domain) for domain in domains}  # type: ignore[arg-type]


def last_value(arguments: Sequence[str], option: str) -> str | None:
    """The value of an option, `--name value` or `--name=value`; the last one counts."""
    found = None
    for one, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if one == option:
            found = following
        elif one.startswith(f"{option}="):
            found = one.partition("=")[2]
    return found
