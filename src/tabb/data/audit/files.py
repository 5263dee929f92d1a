"""Checks across files: the same bytes, the same rows, and data of tasks that are the same physics."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from tabb.data.audit.columns import row_sums
from tabb.data.audit.finding import Finding
from tabb.data.report import Loaded
from tabb.environments.tasks import ALL_TASKS, Task
from tabb.shown import percent

MANY_SHARED = 0.001
"""share of a file's rows that are in another file too from which it is said"""
SHARED = ("shared-rows", "identical-rows")
"""codes of what is said then"""


def check_bytes(path: Path, seen: dict[str, str]) -> Iterator[Finding]:
    """Whether a file read before (`seen`: name by digest) has the same bytes under another name."""
    if not os.path.isfile(path):  # a pipe would be waited for, a device read for ever; it is said when it is read
        return
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return  # said when it is read
    first = seen.setdefault(digest, str(path))
    if first != str(path):
        fix = "one of them is not what its name says: fetch or make it again"
        yield Finding("error", "identical-files", f"{first} and {path}", "hold the same bytes", fix)


def check_rows(loaded: Mapping[str, Loaded], reported: set[str]) -> Iterator[Finding]:
    """Rows (s, a, r) that two data sets have in common, bit for bit; pairs in `reported` (`a and b`) are left out."""
    sums = {name: _sums_of(data) for name, data in loaded.items()}
    for first, second in itertools.combinations(loaded, 2):
        where = f"{first} and {second}"
        if where not in reported:
            fix = "do not hold one out against the other, nor join them: these rows would count twice"
            yield from _shared(where, sums[first], sums[second], loaded[first].report.kept_rows, fix)


def check_parts(whole: Loaded) -> Iterator[Finding]:
    """Rows that files which are read as one have in common, bit for bit."""
    report = whole.report
    if len(report.parts) < 2:
        return
    sums = _sums_of(whole)
    ends = np.cumsum([rows for _, rows in report.parts])
    starts = [0, *ends[:-1]]
    inside = [(report.kept_rows >= start) & (report.kept_rows < end) for start, end in zip(starts, ends, strict=True)]
    for first, second in itertools.combinations(range(len(report.parts)), 2):
        where = f"{report.parts[first][0]} and {report.parts[second][0]}"
        rows = report.kept_rows[inside[first]] - starts[first]
        fix = "do not read them as one: these rows count twice"
        yield from _shared(where, sums[inside[first]], sums[inside[second]], rows, fix)


def _sums_of(loaded: Loaded) -> np.ndarray:
    rows = loaded.transitions
    return row_sums([np.asarray(rows.observation), np.asarray(rows.action), np.asarray(rows.reward)])


def _shared(where: str, first: np.ndarray, second: np.ndarray, rows: np.ndarray, fix: str) -> Iterator[Finding]:
    """What two data sets have in common, by the sums of their rows; `rows` are the first's numbers in its file."""
    here, there = np.isin(first, second), np.isin(second, first)
    if not (here.size and there.size and max(here.mean(), there.mean()) > MANY_SHARED):
        return
    if here.all() and there.all():
        fix = "one of them is not what its name says, or both tasks are the same physics: use one of the two"
        yield Finding("error", "identical-rows", where, f"hold the same {len(here):,} rows", fix)
        return
    what = f"{int(here.sum()):,} rows of the first ({percent(float(here.mean()))}) are in the second too"
    yield Finding("warning", "shared-rows", where, what, fix, tuple(rows[here].tolist()))


def check_tasks(loaded: Mapping[str, Loaded]) -> Iterator[Finding]:
    """Data of tasks that are the same physics as others of the catalogue, or as each other."""
    tasks = {name: task for name, data in loaded.items() if (task := task_of(data)) and task.same_physics}
    for name, task in tasks.items():
        others = " and ".join(task.same_physics)
        twins = [other for other, its in tasks.items() if its.name in task.same_physics]
        what = f"is of {task.name}, which is the same physics as {others}"
        if twins:
            what += f": {', '.join(twins)} can differ from it by chance and policy only"
        fix = "count results on these tasks once, and do not take one for a shift of the other"
        yield Finding("warning" if twins else "note", "same-physics", name, what, fix)


def task_of(loaded: Loaded) -> Task | None:
    """The task of the catalogue that a file's attributes (`task`) or else its name (`<task>_<quality>`) state."""
    stated = str(loaded.report.provenance.get("task"))
    words = Path(loaded.report.name.partition("+")[0]).stem.lower().replace("_", "-").split("-")
    names = ["-".join(words[:end]) for end in range(len(words), 0, -1)]
    return next((ALL_TASKS[name] for name in [stated, *names] if name in ALL_TASKS), None)
