"""`audit`: all findings about files, and about a source and a target together."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tabb.data import hdf5, lerobot, npz, storage, tables
from tabb.data.allocation import IN_MEMORY, Memory, Scratch
from tabb.data.audit.alike import check_columns_alike
from tabb.data.audit.columns import check_columns
from tabb.data.audit.domains import constant_columns
from tabb.data.audit.episodes import check_episodes, check_timing
from tabb.data.audit.files import SHARED, check_bytes, check_parts, check_rows, check_tasks
from tabb.data.audit.finding import LEVELS, Finding, Level
from tabb.data.audit.pair import check_pair
from tabb.data.audit.physics import check_physics
from tabb.data.audit.structure import has_no_order
from tabb.data.files import read, split
from tabb.data.lerobot import is_lerobot
from tabb.data.minari_sets import is_minari
from tabb.data.names import joined
from tabb.data.reading import RawColumns, Reading, bounds_of, reading_of, reading_with
from tabb.data.report import Loaded
from tabb.data.store import stores_folder
from tabb.environments.tasks import Task, get_task
from tabb.errors import DataError, UsageError
from tabb.transitions import Transitions

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

    def counts(self, *levels: Level) -> str:
        """How many findings there are of these levels, or of all: `0 errors, 1 warning, 2 notes`."""
        return ", ".join(_count(len(self.of_level(level)), level) for level in levels or LEVELS)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return {
            "files": list(self.files),
            "findings": [finding.to_dict() for finding in self.findings],
            "reports": {name: loaded.report.to_dict() for name, loaded in self.loaded.items()},
        }

    def __str__(self) -> str:
        lines = [*(str(loaded.report) for loaded in self.loaded.values()), "", *map(str, self.findings)]
        return "\n".join([*lines, f"{_count(len(self.files), 'file')}: {self.counts()}"]).lstrip("\n")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def audit(
    *files: PathLike | Sequence[PathLike],
    source: PathLike | None = None,
    target: PathLike | None = None,
    task: str | Task | None = None,
    reading: Reading | None = None,
    action_low: Any = None,
    action_high: Any = None,
    store: bool = False,
    mixture: bool = False,
) -> Audit:
    """Audit files, each for itself and beside the others, and `source` and `target` together too.

    >>> found = tabb.audit(source="simulator.hdf5", target="robot.hdf5")
    >>> found.of_level("error")
    []

    A file is HDF5 (D4RL, ODRL, OTDF) or npz; `a.hdf5+b.hdf5` are two read as one. `task` is that of the files and of
    the target (the source is of its robot, unshifted): logged steps are then compared with simulated ones. Defects are
    findings, not exceptions: also a file that cannot be read is one. `reading`, `action_low` and `action_high` state
    what files mean, and `store` that rows are kept in files, as for `tabb.load`: they need not fit into memory then.
    `mixture` asks which share of the source's steps look like the target's, which takes seconds more.

    Raises:
        UsageError: there is no such task, or it is not that of the data; `mixture` without a source and a target.
    """
    if mixture and (source is None or target is None):
        raise UsageError("mixture: asks how much of a source looks like a target; give source and target")
    known = None if task is None else get_task(task)
    stated = reading_with(reading, action_low, action_high)
    sides = {"source": source, "target": target}
    named = [*files, *(side for side in sides.values() if side is not None)]
    findings: list[Finding] = []
    loaded: dict[str, Loaded] = {}
    digests: dict[str, str] = {}
    read_as: dict[str, Loaded] = {}
    audited: dict[str, Loaded | None] = {}
    for one in named:
        paths = split(one)
        name = joined(paths)
        if name not in audited:  # a file may be named among the files and as a side
            for path in paths:
                findings += check_bytes(path, digests)
            own_findings, audited[name] = _audit_one(paths, stated, store)
            findings += own_findings
        whole = audited[name]
        if whole is not None:
            loaded[whole.report.name] = whole
            read_as[str(one)] = whole
    reported = {finding.where for finding in findings if finding.code in ("identical-files", *SHARED)}
    if source is not None and target is not None and {str(source), str(target)} <= set(read_as):
        pair = list(check_pair(read_as[str(source)], read_as[str(target)], mixture))
        reported |= {finding.where for finding in pair if finding.code == "no-pair"}
        findings += pair
    findings += [*check_rows(loaded, reported), *check_tasks(loaded)]
    if known is not None:
        findings += _physics(loaded, known, read_as.get(str(source)))
    ranked = sorted(findings, key=lambda finding: finding.rank)
    return Audit(tuple(audited), tuple(ranked), loaded)


def short_form(loaded: Loaded) -> list[str]:
    """The warnings about a file's own columns and rewards, one line each, for whoever loads it to train on it.

    What `check_side` says of columns that are the same in all rows is not among them.
    """
    data = loaded.transitions
    stored = {"observations": data.observation, "actions": data.action, "rewards": data.reward}
    findings = [
        *check_columns("", {key: np.asarray(column) for key, column in stored.items()}),
        *(() if has_no_order(loaded.report.doubts) else check_timing("", data)),
    ]
    said = {("constant", f": {key}s") for key in constant_columns(data)}
    warned = [one for one in findings if one.level != "note" and (one.code, one.where) not in said]
    return [f"{one.where.removeprefix(': ')}: {one.what}; {one.fix}".removeprefix(": ") for one in warned]


def pair_form(source: Transitions, target: Transitions) -> list[str]:
    """The warnings about units and order of columns of two domains, one line each, likewise."""
    with np.errstate(over="ignore", invalid="ignore"):
        alike = list(check_columns_alike("source and target", source, target))
    return [f"{one.where}: {one.what}; {one.fix}" for one in alike if one.level != "note"]


def _physics(loaded: dict[str, Loaded], task: Task, source: Loaded | None) -> list[Finding]:
    """Findings about the physics of each file, and of two that follow other engines."""
    findings: list[Finding] = []
    engines: dict[str, str] = {}
    for name, data in loaded.items():
        step_findings, engine = check_physics(data, get_task(task.robot) if data is source else task)
        findings += [step_findings] if step_findings else []
        if engine is not None:
            engines.setdefault(engine, name)
    if len(engines) > 1:
        by_domain = " and ".join(f"{name} engine {engine}" for engine, name in engines.items())
        fix = "take both domains from one engine: the two differ by as much as a shift"
        what = f"steps follow different engines: {by_domain}"
        findings.append(Finding("error", "engine", " and ".join(engines.values()), what, fix))
    return findings


def _audit_one(paths: list[Path], reading: Reading, store: bool) -> tuple[list[Finding], Loaded | None]:
    """Findings about files read as one, and what was read if they could be."""
    findings: list[Finding] = []
    raw = True
    for path in paths:
        try:
            if os.path.isdir(path) and is_minari(path):
                raw = False
                continue
            if os.path.isdir(path) and is_lerobot(path):
                findings += _stored_findings(path, lerobot.raw_columns, reading, store)
                continue
            doors = {"hdf5": hdf5.raw_columns, "zip": npz.raw_columns}
            findings += _stored_findings(path, doors.get(storage.kind(path), tables.raw_columns), reading, store)
        except DataError as error:
            findings.append(_refused(error))
            return findings, None
    try:
        whole = read(list(paths), reading, store=store)
    except DataError as error:
        known = {"nan", "inf", "action-range"}
        if not any(finding.level == "error" and finding.code in known for finding in findings):
            findings.append(_refused(error))
        return findings, None
    if not raw:
        data = whole.transitions
        kept = {"observations": data.observation, "actions": data.action, "rewards": data.reward}
        findings += check_columns(whole.report.name, {key: np.asarray(column) for key, column in kept.items()})
    return [*findings, *check_episodes(whole.report.name, whole), *check_parts(whole)], whole


def _stored_findings(
    path: Path, read_raw: Callable[[Path, Reading, Memory], RawColumns], reading: Reading, store: bool
) -> list[Finding]:
    """Findings about the columns of a file as it stores them."""
    stated = reading_of(path, reading)
    if store:
        with Scratch(stores_folder()) as scratch:
            return _column_findings(path, stated, read_raw(path, stated, scratch))
    return _column_findings(path, stated, read_raw(path, stated, IN_MEMORY))


def _column_findings(path: Path, stated: Reading, stored: RawColumns) -> list[Finding]:
    actions = stored.columns.get("actions")
    size = actions.shape[1] if actions is not None and actions.ndim == 2 else 0
    bounds = bounds_of(stated, stored.provenance, size, str(path)) if size else None
    return list(check_columns(str(path), stored.columns, bounds))


def _refused(error: DataError) -> Finding:
    """A file that cannot be read: the error's one line, of which the last part is the remedy."""
    where, _, rest = str(error).partition(": ")
    what, _, fix = rest.rpartition("; ")
    return Finding("error", "unreadable", where, what or rest, fix if what else "fetch or write the file again")
