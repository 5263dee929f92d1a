"""The intensity figure (TABB, Figure 2, left): scores of a benchmark against the level of a shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tabb.environments.tasks import ALL_TASKS, SAME_PHYSICS
from tabb.errors import RunError
from tabb.evaluation.figures import ENDS, colours, columns_for, new_figure, save_png, wrapped
from tabb.evaluation.statistics import Estimate, mean_interval
from tabb.experiments.benchmark import Place, Table


class ScoresByLevel(NamedTuple):
    """One method's scores against the level of a shift."""

    levels: list[str]
    means: list[float]
    intervals: list[Estimate | None]
    """Student's 95% interval of the mean over seeds; None with one seed."""


def scores_by_level(table: Table, methods: Sequence[str]) -> dict[Place, dict[str, ScoresByLevel]]:
    """By shift of a robot and pair of qualities, then by method; `hopper-friction` stands for its tasks.

    Raises `RunError` if no task has a level.
    """
    by_shift: dict[Place, dict[str, ScoresByLevel]] = {}
    for place, row in sorted(table.items(), key=lambda item: _strength(ALL_TASKS[item[0].task].level)):
        task = ALL_TASKS[place.task]
        if task.level is None:
            continue
        methods_there = by_shift.setdefault(place._replace(task=f"{task.robot}-{task.shift}"), {})
        for method in methods:
            if method in row:
                scores = list(row[method].values())
                by_level = methods_there.setdefault(method, ScoresByLevel([], [], []))
                by_level.levels.append(task.level)
                by_level.means.append(float(np.mean(scores)))
                by_level.intervals.append(mean_interval(scores) if len(scores) > 1 else None)
    if not by_shift:
        raise RunError("no finished run is of a task with levels, such as hopper-friction-0.5; see `tabb tasks odrl`")
    return by_shift


def levels_of(methods: Mapping[str, ScoresByLevel]) -> list[str]:
    """All levels at which any method has a score, in order."""
    return sorted({level for scores in methods.values() for level in scores.levels}, key=_strength)


def same_physics(table: Table) -> list[str]:
    """A note for each pair of tasks that are the same physics under two names."""
    shown = {place.task for place in table}
    return [f"{' and '.join(names)} are the same physics ({why})" for names, why in SAME_PHYSICS if set(names) <= shown]


def _strength(level: str | None) -> float:
    """For sorting: the size of a factor, or the place of a word in easy, medium, hard."""
    words = ("easy", "medium", "hard")
    return float(words.index(level)) if level in words else float(level or 0)


def intensity_table(by_shift: Mapping[Place, Mapping[str, ScoresByLevel]]) -> str:
    """Markdown: a row per shift and method with the mean at each level, and its interval if there is one."""
    lines = ["| shift, source to target | method | mean score by level [95% interval] |", "|---|---|---|"]
    for place, methods in by_shift.items():
        for method, by_level in methods.items():
            cells = [
                f"{level}: {mean:z.1f}" + (f" [{interval.low:z.1f}, {interval.high:z.1f}]" if interval else "")
                for level, mean, interval in zip(*by_level, strict=True)
            ]
            lines.append(f"| {place} | `{method}` | {', '.join(cells)} |")
    return "\n".join(lines)


def draw_intensity(by_shift: Mapping[Place, Mapping[str, ScoresByLevel]], path: Path) -> None:
    """Draw mean score against the level of a shift: a panel per shift and pair of qualities, a curve per method.

    Bars are Student's 95% intervals of the mean over seeds, if there are two seeds or more.
    """
    across = min(3, len(by_shift))
    down = -(-len(by_shift) // across)
    figure = new_figure(figsize=(1.4 + 3.2 * across, 1.2 + 2.6 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False)
    methods = list(dict.fromkeys(method for scores in by_shift.values() for method in scores))
    colour_of = dict(zip(methods, colours(methods), strict=True))
    drawn: dict[str, Any] = {}
    for axes, (place, scores) in zip(panels.flat, by_shift.items(), strict=False):
        levels = levels_of(scores)
        for method, by_level in scores.items():
            # A little apart, so that bars do not hide each other.
            aside = 0.07 * (methods.index(method) - (len(methods) - 1) / 2)
            at = [levels.index(level) + aside for level in by_level.levels]
            for x, interval in zip(at, by_level.intervals, strict=True):
                if interval is not None:
                    axes.plot(
                        [x, x],
                        [interval.low, interval.high],
                        color=colour_of[method],
                        alpha=0.35,
                        linewidth=4,
                        **ENDS,
                    )
            (drawn[method],) = axes.plot(
                at, by_level.means, color=colour_of[method], marker="o", markersize=4, linewidth=1.7
            )
        axes.set_xticks(range(len(levels)), levels)
        axes.set_xlim(-0.4, len(levels) - 0.6)
        axes.set_title(str(place), loc="left", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    for axes in list(panels.flat)[len(by_shift) :]:
        axes.set_visible(False)
    figure.supxlabel("level of the shift", fontsize=10)
    figure.supylabel("mean normalised score", fontsize=10)
    shown = [wrapped(method) for method in methods]
    figure.legend(
        [drawn[method] for method in methods],
        shown,
        loc="outside upper center",
        ncols=min(columns_for(figure, shown), len(methods)),
        frameon=False,
        fontsize=9,
    )
    save_png(figure, path)
