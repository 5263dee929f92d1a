"""The quality figure (TABB, Figure 2, right): mean scores of a benchmark by the quality of source and target data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tabb.environments.tasks import ALL_TASKS
from tabb.errors import RunError
from tabb.evaluation.figures import new_figure, save_png
from tabb.experiments.benchmark import BAR, Place, Table


class QualityGrid(NamedTuple):
    """One robot's mean scores by quality."""

    robot: str
    sources: list[str]
    targets: list[str]
    scores: dict[str, NDArray[np.float64]]
    """By method, shape [sources, targets]: mean over tasks of the means over seeds; NaN where there is no run."""
    gains: dict[str, NDArray[np.float64]]
    """By method, shape [sources, targets]: mean difference to target-only on the same tasks and seeds."""
    tasks: list[str]
    """The tasks that the means are over: those with every method at every pair of qualities."""


def quality_grids(table: Table, methods: Sequence[str]) -> list[QualityGrid]:
    """A grid per robot. Raises `RunError` for a robot that has no task with all methods at all qualities."""
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
            entry = sources.index(source), targets.index(target)
            rows = [own[Place(task, source, target)] for task in tasks]
            for method in methods:
                scores[method][entry] = np.mean([np.mean(list(row[method].values())) for row in rows])
            for method in gains:
                gains[method][entry] = np.mean([_gain(row[method], row[BAR]) for row in rows])
        grids.append(QualityGrid(robot, sources, targets, scores, gains, tasks))
    return grids


def _gain(ours: dict[int, float], bar: dict[int, float]) -> float:
    """Mean difference over common seeds; NaN where there are none."""
    both = sorted(set(ours) & set(bar))
    return float(np.mean([ours[seed] - bar[seed] for seed in both])) if both else float("nan")


def _in_order(names: Iterable[str]) -> list[str]:
    """Known qualities from poor to good, then the others by name."""
    known = ("medium_replay", "medium", "medium_expert", "expert")
    return sorted(set(names), key=lambda name: (known.index(name) if name in known else len(known), name))


def quality_table(grids: Sequence[QualityGrid]) -> str:
    """Markdown: a row per robot, method, source and target quality."""
    lines = ["| robot | method | source to target | score | less target-only |", "|---|---|---|---|---|"]
    for grid in grids:
        for method, scores in grid.scores.items():
            for at in np.argwhere(~np.isnan(scores)):
                source, target = grid.sources[at[0]], grid.targets[at[1]]
                less = grid.gains[method][tuple(at)] if method in grid.gains else np.nan
                gain = "-" if np.isnan(less) else f"{less:+z.1f}"
                lines.append(
                    f"| {grid.robot} | `{method}` | {source} to {target} | {scores[tuple(at)]:z.1f} | {gain} |"
                )
    return "\n".join(lines)


def draw_quality(grid: QualityGrid, path: Path) -> None:
    """Draw one robot's mean scores as a heat map per method, and below them the differences to target-only."""
    across, down = len(grid.scores), 2 if grid.gains else 1
    width, height = 1.0 + 0.75 * len(grid.targets), 0.95 + 0.5 * len(grid.sources)
    figure = new_figure(figsize=(1.8 + width * across, 0.9 + height * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False)
    every = np.concatenate([scores.ravel() for scores in grid.scores.values()])
    largest = max((np.nanmax(np.abs(gain), initial=0.0) for gain in grid.gains.values()), default=0.0)
    reach = max(float(largest), 1e-9)
    limits = (min(0.0, float(np.nanmin(every))), max(float(np.nanmax(every)), 1e-9))
    for axes, (method, scores) in zip(panels[0], grid.scores.items(), strict=True):
        _map(axes, grid, scores, "cividis", limits, "{:z.0f}")
        axes.set_title(method, loc="left", fontsize=10)
    if grid.gains:
        for axes, method in zip(panels[1], grid.scores, strict=True):
            if method not in grid.gains:
                axes.set_visible(False)
                continue
            _map(axes, grid, grid.gains[method], "PuOr", (-reach, reach), "{:+z.0f}")
            axes.set_title(f"{method} less target-only", loc="left", fontsize=10)
    figure.suptitle(f"{grid.robot}: mean normalised score over {', '.join(grid.tasks)}", fontsize=10)
    figure.supxlabel("quality of the target data", fontsize=10)
    figure.supylabel("quality of the source data", fontsize=10)
    save_png(figure, path)


def _map(
    axes: Any, grid: QualityGrid, values: NDArray[np.float64], colour_map: str, limits: tuple[float, float], form: str
) -> None:
    """A heat map with its numbers; where there is no run it stays white."""
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colour_map, vmin=limits[0], vmax=limits[1], aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            red, green, blue, _ = image.cmap(image.norm(value))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            axes.text(column, row, form.format(value), ha="center", va="center", fontsize=9, color="w" if dark else "k")
    axes.set_xticks(range(len(grid.targets)), [name.replace("_", "\n") for name in grid.targets], fontsize=8)
    axes.set_yticks(range(len(grid.sources)), [name.replace("_", "\n") for name in grid.sources], fontsize=8)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
