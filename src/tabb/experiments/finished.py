"""Figures of runs that `tabb benchmark` has finished: qualities of data, intensity of a shift (TABB, Figure 2).

A folder of cells `<task>/<source>-<target>/<method>/seed<k>` is read whole, or the scores.csv of its report where the
cells are not kept; nothing is trained.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tabb.environments.tasks import ALL_TASKS, SAME_PHYSICS
from tabb.errors import RunError
from tabb.evaluation.statistics import Estimate, mean_interval
from tabb.experiments.benchmark import BAR, CSV_COLUMNS, NONE, SCORES, Place, Table
from tabb.files import read_json


def read_cells(root: Path) -> Table:
    """Scores of all finished cells below `root`; a method that draws no rows of a domain counts for all its qualities.

    Where there is no cell, those of its scores.csv. Raises `RunError` where there is neither, or runs of different
    length, which cannot be compared.
    """
    table: Table = {}
    lengths: dict[int, Path] = {}
    for file in sorted(root.glob("*/*-*/*/seed*/result.json")):
        seed, method, qualities, task = (parent.name for parent in file.parents[:4])
        if task not in ALL_TASKS or not seed.removeprefix("seed").isdecimal():
            continue
        result = read_json(file)
        try:
            updates, score = int(result["updates"]), result["score"]
        except (KeyError, TypeError, ValueError):
            raise RunError(f"{file}: is no result of tabb; remove its folder, or run the cell again") from None
        if score is None:
            continue
        lengths.setdefault(updates, file)
        place = Place(task, *qualities.split("-", 1))
        table.setdefault(place, {}).setdefault(method, {})[int(seed.removeprefix("seed"))] = float(score)
    if not table and (root / SCORES).is_file():
        return read_scores(root / SCORES)
    if not table:
        raise RunError(
            f"{root}: holds no finished cells of `tabb benchmark` (task/source-target/method/seed0/...) and no {SCORES}"
        )
    if len(lengths) > 1:
        (one, here), (other, there) = list(lengths.items())[:2]
        raise RunError(f"{there}: is a run of {other:,} updates, but {here} of {one:,}; they cannot be compared")
    return _spread(table)


def read_scores(file: Path) -> Table:
    """The scores.csv of a report, read back. Raises `RunError` for a file that is none, with its bad line."""
    try:
        lines = list(csv.reader(file.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{file}: cannot be read ({error}); write it again with `tabb benchmark ... --report`") from None
    if not lines or lines[0] != list(CSV_COLUMNS):
        raise RunError(f"{file}: does not begin with {','.join(CSV_COLUMNS)}; it is no scores.csv of `tabb benchmark`")
    table: Table = {}
    for number, line in enumerate(lines[1:], start=2):
        try:
            task, source, target, method, seed, score = line[0], line[1], line[2], line[3], int(line[4]), float(line[5])
            if len(line) != len(CSV_COLUMNS) or task not in ALL_TASKS or not math.isfinite(score):
                raise ValueError(line)
        except (ValueError, IndexError):
            raise RunError(
                f"{file}, line {number}: {','.join(line)!r} is no score of a task (see `tabb tasks`)"
            ) from None
        scores = table.setdefault(Place(task, source, target), {}).setdefault(method, {})
        if seed in scores:
            raise RunError(f"{file}, line {number}: seed {seed} of {method} is there twice for {task}; remove one")
        scores[seed] = score
    if not table:
        raise RunError(f"{file}: holds no score; finish the benchmark first")
    return table


def _spread(table: Table) -> Table:
    """The same, with methods that draw no rows of a domain in the row of every quality of it, all else equal."""
    found = {place: dict(row) for place, row in table.items() if NONE not in place}
    for place, row in table.items():
        if NONE in place:
            same = [other for other in found if all(one in (NONE, two) for one, two in zip(place, other, strict=True))]
            for other in same or [place]:
                found.setdefault(other, {}).update(row)
    return found


def methods_of(table: Table, named: Sequence[str] = ()) -> list[str]:
    """The methods of a table (those named, if any are), the bar last. Raises `RunError` for one without a cell."""
    there = list(dict.fromkeys(method for row in table.values() for method in row))
    for method in named:
        if method not in there:
            raise RunError(f"no cell of {method} is finished; there are {', '.join(there)}")
    return sorted(named or there, key=lambda method: method == BAR)


# --- Qualities ---


class Grid(NamedTuple):
    """One robot's mean scores by quality."""

    robot: str
    sources: list[str]
    targets: list[str]
    scores: dict[str, NDArray[np.float64]]
    """By method, shape [sources, targets]: mean over tasks of the means over seeds; NaN where a cell is missing."""
    gains: dict[str, NDArray[np.float64]]
    """By method, likewise: mean difference to target-only on the same tasks and seeds."""
    tasks: list[str]
    """Tasks that have every method and pair of qualities that any task has: the means are over these."""


def quality_grids(table: Table, methods: Sequence[str]) -> list[Grid]:
    """A grid per robot. Raises `RunError` for a robot no task of which has all methods at all qualities."""
    grids = []
    for robot in dict.fromkeys(ALL_TASKS[place.task].robot for place in table):
        own = {place: row for place, row in table.items() if ALL_TASKS[place.task].robot == robot}
        sources = _in_order(place.source for place in own)
        targets = _in_order(place.target for place in own)
        pairs = {(place.source, place.target) for place in own}
        tasks = [
            task
            for task in dict.fromkeys(place.task for place in own)
            if all(set(methods) <= set(own.get(Place(task, *pair), {})) for pair in pairs)
        ]
        if not tasks:
            raise RunError(
                f"{robot}: no task has {', '.join(methods)} at all its qualities; finish the benchmark first"
            )
        empty = np.full((len(sources), len(targets)), np.nan)
        scores = {method: empty.copy() for method in methods}
        gains = {method: empty.copy() for method in methods if method != BAR and BAR in methods}
        for source, target in pairs:
            at = sources.index(source), targets.index(target)
            rows = [own[Place(task, source, target)] for task in tasks]
            for method in methods:
                scores[method][at] = np.mean([np.mean(list(row[method].values())) for row in rows])
            for method in gains:
                gains[method][at] = np.mean([_gain(row[method], row[BAR]) for row in rows])
        grids.append(Grid(robot, sources, targets, scores, gains, tasks))
    return grids


def _gain(ours: dict[int, float], bar: dict[int, float]) -> float:
    """Mean difference over common seeds; NaN where there are none."""
    both = sorted(set(ours) & set(bar))
    return float(np.mean([ours[seed] - bar[seed] for seed in both])) if both else float("nan")


def _in_order(names: Iterable[str]) -> list[str]:
    """Qualities from poor to good, others after them by name."""
    known = ("medium_replay", "medium", "medium_expert", "expert")
    return sorted(set(names), key=lambda name: (known.index(name) if name in known else len(known), name))


# --- Intensity ---


class Line(NamedTuple):
    """One method's scores against the level of a shift."""

    levels: list[str]
    means: list[float]
    intervals: list[Estimate | None]
    """Student's 95 % interval of the mean over seeds; None with one seed."""


def intensity_lines(table: Table, methods: Sequence[str]) -> dict[Place, dict[str, Line]]:
    """Lines by method, for each shift of a robot at each pair of qualities; `hopper-friction` stands for its tasks.

    Raises `RunError` where no task has a level.
    """
    found: dict[Place, dict[str, Line]] = {}
    for place, row in sorted(table.items(), key=lambda item: _strength(ALL_TASKS[item[0].task].level)):
        task = ALL_TASKS[place.task]
        if task.level is None:
            continue
        lines = found.setdefault(place._replace(task=f"{task.robot}-{task.shift}"), {})
        for method in methods:
            if method in row:
                scores = list(row[method].values())
                line = lines.setdefault(method, Line([], [], []))
                line.levels.append(task.level)
                line.means.append(float(np.mean(scores)))
                line.intervals.append(mean_interval(scores) if len(scores) > 1 else None)
    if not found:
        raise RunError("no finished cell is of a task with levels, such as hopper-friction-0.5; see `tabb tasks odrl`")
    return found


def levels_of(lines: Mapping[str, Line]) -> list[str]:
    """All levels that any of the lines has, in order."""
    return sorted({level for line in lines.values() for level in line.levels}, key=_strength)


def same_physics(table: Table) -> list[str]:
    """What a reader must know of tasks that are the same physics under two names, a line each."""
    there = {place.task for place in table}
    return [f"{' and '.join(names)} are the same physics ({why})" for names, why in SAME_PHYSICS if set(names) <= there]


def _strength(level: str | None) -> float:
    """Of factors their size; of easy, medium and hard their place."""
    words = ("easy", "medium", "hard")
    return float(words.index(level)) if level in words else float(level or 0)


# --- As tables ---


def grids_as_markdown(grids: Sequence[Grid]) -> str:
    """A line per robot, method, source and target quality."""
    lines = ["| robot | method | source to target | score | less target-only |", "|---|---|---|---|---|"]
    for grid in grids:
        for method, scores in grid.scores.items():
            for at in np.argwhere(~np.isnan(scores)):
                source, target = grid.sources[at[0]], grid.targets[at[1]]
                gain = f"{grid.gains[method][tuple(at)]:+.1f}" if method in grid.gains else "-"
                lines.append(f"| {grid.robot} | `{method}` | {source} to {target} | {scores[tuple(at)]:.1f} | {gain} |")
    return "\n".join(lines)


def lines_as_markdown(found: Mapping[Place, Mapping[str, Line]]) -> str:
    """A line per shift and method: the mean at each level, with its interval where there is one."""
    lines = ["| shift, source to target | method | mean score by level [95 % interval] |", "|---|---|---|"]
    for place, methods in found.items():
        for method, line in methods.items():
            cells = [
                f"{level}: {mean:.1f}" + (f" [{interval.low:.1f}, {interval.high:.1f}]" if interval else "")
                for level, mean, interval in zip(*line, strict=True)
            ]
            lines.append(f"| {place} | `{method}` | {', '.join(cells)} |")
    return "\n".join(lines)
