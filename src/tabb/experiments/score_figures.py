"""Pictures of finished comparisons: heat maps by data quality, and scores against the intensity of a shift."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tabb.evaluation.figures import ENDS, colours, save_png
from tabb.experiments.benchmark import Place
from tabb.experiments.finished import Grid, Line, levels_of


def quality_maps(grid: Grid, path: Path) -> None:
    """Draw one robot's mean scores by quality, a map per method, and below them the differences to target-only."""
    from matplotlib.figure import Figure

    across, down = len(grid.scores), 2 if grid.gains else 1
    width, height = 1.0 + 0.75 * len(grid.targets), 0.95 + 0.5 * len(grid.sources)
    figure = Figure(figsize=(1.8 + width * across, 0.9 + height * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False)
    every = np.concatenate([scores.ravel() for scores in grid.scores.values()])
    largest = max((np.nanmax(np.abs(gain), initial=0.0) for gain in grid.gains.values()), default=0.0)
    reach = max(float(largest), 1e-9)
    limits = (min(0.0, float(np.nanmin(every))), max(float(np.nanmax(every)), 1e-9))
    for axes, (method, scores) in zip(panels[0], grid.scores.items(), strict=True):
        _map(axes, grid, scores, "cividis", limits, "{:.0f}")
        axes.set_title(method, loc="left", fontsize=10)
    if grid.gains:
        for axes, method in zip(panels[1], grid.scores, strict=True):
            if method not in grid.gains:
                axes.set_visible(False)
                continue
            _map(axes, grid, grid.gains[method], "PuOr", (-reach, reach), "{:+.0f}")
            axes.set_title(f"{method} less target-only", loc="left", fontsize=10)
    figure.suptitle(f"{grid.robot}: mean normalised score over {', '.join(grid.tasks)}", fontsize=10)
    figure.supxlabel("quality of the target data", fontsize=10)
    figure.supylabel("quality of the source data", fontsize=10)
    save_png(figure, path)


def _map(
    axes: Any, grid: Grid, values: NDArray[np.float64], colour_map: str, limits: tuple[float, float], form: str
) -> None:
    """A heat map with its numbers; a missing cell stays white."""
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


def intensity_curves(found: Mapping[Place, Mapping[str, Line]], path: Path) -> None:
    """Draw mean score against the level of a shift, a panel per shift and pair of qualities, a line per method.

    Bars are Student's 95 % intervals of the mean over seeds, where there are two or more.
    """
    from matplotlib.figure import Figure

    across = min(3, len(found))
    down = -(-len(found) // across)
    figure = Figure(figsize=(1.4 + 3.2 * across, 1.2 + 2.6 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False)
    methods = list(dict.fromkeys(method for lines in found.values() for method in lines))
    colour_of = dict(zip(methods, colours(methods), strict=True))
    drawn: dict[str, Any] = {}
    for axes, (place, lines) in zip(panels.flat, found.items(), strict=False):
        levels = levels_of(lines)
        for method, line in lines.items():
            # A little apart, so that bars do not hide each other.
            aside = 0.07 * (methods.index(method) - (len(methods) - 1) / 2)
            at = [levels.index(level) + aside for level in line.levels]
            for x, interval in zip(at, line.intervals, strict=True):
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
                at, line.means, color=colour_of[method], marker="o", markersize=4, linewidth=1.7
            )
        axes.set_xticks(range(len(levels)), levels)
        axes.set_xlim(-0.4, len(levels) - 0.6)
        axes.set_title(str(place), loc="left", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    for axes in list(panels.flat)[len(found) :]:
        axes.set_visible(False)
    figure.supxlabel("level of the shift", fontsize=10)
    figure.supylabel("mean normalised score", fontsize=10)
    figure.legend(
        [drawn[method] for method in methods],
        methods,
        loc="outside upper center",
        ncols=min(5, len(methods)),
        frameon=False,
        fontsize=9,
    )
    save_png(figure, path)
