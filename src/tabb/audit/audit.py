"""`audit`: all findings about files, and about a source and a target together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tabb.audit.columns import check_columns
from tabb.audit.episodes import check_episodes
from tabb.audit.finding import LEVELS, Finding, Level
from tabb.audit.pair import check_pair
from tabb.data import storage
from tabb.data.files import read, split
from tabb.data.hdf5 import raw_columns
from tabb.data.report import Loaded
from tabb.errors import DataError

PathLike = str | Path


@dataclasses.dataclass(frozen=True)
class Audit:
    """What an audit found, the most harmful first, and the reports of the files that could be read."""

    files: tuple[str, ...]
    findings: tuple[Finding, ...]
    loaded: dict[str, Loaded]
    """By name of the file (`a+b` for files read as one)."""

    def of_level(self, level: Level) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == level]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return {
            "files": list(self.files),
            "findings": [finding.to_dict() for finding in self.findings],
            "reports": {name: loaded.report.to_dict() for name, loaded in self.loaded.items()},
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{len(self.of_level(level))} {level}s" for level in LEVELS)
        lines = [str(loaded.report) for loaded in self.loaded.values()]
        return "\n".join([*lines, "", *map(str, self.findings), f"{len(self.files)} file(s): {counts}"])


def audit(
    *files: PathLike | Sequence[PathLike], source: PathLike | None = None, target: PathLike | None = None
) -> Audit:
    """Audit files, each for itself, and `source` and `target` together too.

    A file is HDF5 (D4RL, ODRL, OTDF) or npz; `a.hdf5+b.hdf5` are two read as one. Defects are findings, not
    exceptions: also a file that cannot be read is one.
    """
    sides = {"source": source, "target": target}
    named = [*files, *(side for side in sides.values() if side is not None)]
    findings: list[Finding] = []
    loaded: dict[str, Loaded] = {}
    digests: dict[str, str] = {}
    read_as: dict[str, Loaded] = {}
    for one in named:
        paths = split(one)
        for path in paths:
            findings += _same_content(path, digests)
        found, whole = _audit_one(paths)
        findings += found
        if whole is not None:
            loaded[whole.report.name] = whole
            read_as[str(one)] = whole
    if source is not None and target is not None and {str(source), str(target)} <= set(read_as):
        findings += check_pair(read_as[str(source)], read_as[str(target)])
    ranked = sorted(findings, key=lambda finding: (LEVELS.index(finding.level), -len(finding.rows)))
    return Audit(tuple("+".join(map(str, split(one))) for one in named), tuple(ranked), loaded)


def _audit_one(paths: list[Path]) -> tuple[list[Finding], Loaded | None]:
    """Findings about files read as one, and what was read if they could be."""
    findings: list[Finding] = []
    for path in paths:
        try:
            if storage.kind(path) == "hdf5":
                findings += check_columns(str(path), raw_columns(path))
        except DataError as error:
            findings.append(_refused(error))
            return findings, None
    try:
        whole = read(list(paths))
    except DataError as error:
        known = {"nan", "inf", "action-range"}
        if not any(finding.level == "error" and finding.code in known for finding in findings):
            findings.append(_refused(error))
        return findings, None
    if any(storage.kind(path) != "hdf5" for path in paths):
        data = whole.transitions
        stored = {"observations": data.observation, "actions": data.action, "rewards": data.reward}
        findings += check_columns(whole.report.name, {key: np.asarray(column) for key, column in stored.items()})
    return [*findings, *check_episodes(whole.report.name, whole)], whole


def _refused(error: DataError) -> Finding:
    """A file that cannot be read: the error's one line, of which the last part is the remedy."""
    where, _, rest = str(error).partition(": ")
    what, _, fix = rest.rpartition("; ")
    return Finding("error", "unreadable", where, what or rest, fix if what else "fetch or write the file again")


def _same_content(path: Path, seen: dict[str, str]) -> list[Finding]:
    """Whether a file read before has the same bytes under another name."""
    import hashlib

    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return []  # said when it is read
    first = seen.setdefault(digest, str(path))
    if first == str(path):
        return []
    fix = "one of them is not what its name says: fetch or make it again"
    return [Finding("error", "identical-files", f"{first} and {path}", "hold the same bytes", fix)]
