"""Learning curves, and what all pictures share: colours that are safe for colour-blind readers, and writing PNGs."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tabb.environments.tasks import Task
from tabb.evaluation.scores import Evaluation
from tabb.files import atomic
from tabb.own_files import GENERATOR, refuse_others

LONG_NAME = 24
"""characters from which on a name may cover curves"""
MANY_NAMES = 6
LONGEST_LINE = 40

Curve = Sequence[tuple[int, Evaluation]]
"""(updates done, evaluation) of one run."""

COLOURS = {"tabb": "#d55e00", "target-only": "#0072b2", "pooled": "#7f7f7f"}
ENDS: dict[str, Any] = {"solid_capstyle": "butt"}
"""for lines that are intervals: the default cap would make them longer"""
OTHER_COLOURS = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def new_figure(**options: Any) -> Any:
    """A Matplotlib figure. Not of pyplot: no global state, no display, safe in threads.

    `MPLBACKEND`, which a notebook sets for its own kernel, is out of sight while Matplotlib is imported: it would be an
    error where that backend is not installed, and figures in files need none.
    """
    backend = os.environ.pop("MPLBACKEND", None) if "matplotlib" not in sys.modules else None
    try:
        import matplotlib
        from matplotlib.figure import Figure
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with contextlib.suppress(ValueError):  # for whoever draws with pyplot later in this process
            matplotlib.rcParams["backend"] = backend
    return Figure(**options)


def learning_curves(
    curves: Mapping[str, Sequence[Curve]],
    task: Task | None,
    path: Path,
    title: str = "",
    levels: Mapping[str, float] | None = None,
    updates: int | None = None,
) -> None:
    """Draw mean score against updates, one curve per method; the band spans the runs (seeds) of a method.

    If there is a single run, the band is the standard deviation over its episodes; the legend says which it is.
    `levels` are scores to compare with, a dashed line each. `updates` is the length of the runs, for curves that may
    not have come to their end. The PNG is written atomically.
    """
    figure = new_figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for (name, runs), colour in zip(curves.items(), colours(curves), strict=True):
        points = np.array([update for update, _ in runs[0]]) / 1000
        means = np.array([[evaluation.mean for _, evaluation in run] for run in runs])
        if len(runs) > 1:
            low, high = means.min(axis=0), means.max(axis=0)
        else:
            spread = np.array([evaluation.spread for _, evaluation in runs[0]])
            low, high = means[0] - spread, means[0] + spread
        axes.fill_between(points, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(points, means.mean(axis=0), color=colour, marker="o", markersize=3, linewidth=1.8, label=name)
    for name, score in (levels or {}).items():
        axes.axhline(score, color="#000000", linewidth=1.2, linestyle="--", label=name)
    axes.set_xlabel("updates (thousands)")
    axes.set_ylabel("return" if task is None else "normalised score")
    heading = title or ("" if task is None else f"evaluated in {task.name}")
    axes.set_title(heading, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.ticklabel_format(axis="y", useOffset=False)  # returns as they are, not as differences from a power of ten
    axes.set_xlim(left=0, right=None if updates is None else 1.05 * updates / 1000)
    draw_legend(figure, axes, title=band_meaning([len(runs) for runs in curves.values()]), inside=False)
    save_png(figure, path)


def band_meaning(runs: Sequence[int]) -> str:
    """What the bands of curves mean, from the number of runs of each."""
    several, single = any(count > 1 for count in runs), any(count == 1 for count in runs)
    parts = ["lowest to highest run"] if several else []
    if single:
        parts.append(f"{'of a single run ' if several else ''}± 1 standard deviation over episodes")
    return f"bands: {', '.join(parts)}"


def draw_legend(figure: Any, axes: Any, title: str | None = None, inside: bool = True) -> None:
    """The legend of the curves of `axes`: below them, or `inside` unless names are long or many."""
    handles, names = axes.get_legend_handles_labels()
    longest = max(map(len, names), default=0)
    style: dict[str, Any] = {"frameon": False, "title": title, "title_fontsize": 8, "alignment": "left"}
    if inside and longest <= LONG_NAME and len(names) <= MANY_NAMES:
        axes.legend(loc="best", **style)
    else:
        shown = [wrapped(name) for name in names]
        place: dict[str, Any] = {"loc": "outside lower left", "ncols": columns_for(figure, shown), "fontsize": 8}
        figure.legend(handles, shown, **place, **style)


def columns_for(figure: Any, names: Iterable[str]) -> int:
    """How many columns of a legend with these names fit beside one another in a figure."""
    longest = max((len(line) for name in names for line in name.splitlines()), default=0)
    return max(1, min(5, int(figure.get_figwidth() * 14 / (longest + 6))))


def wrapped(name: str) -> str:
    """A name in lines that do not crowd a figure."""
    return "\n".join(textwrap.wrap(name, LONGEST_LINE)) or name


def width_for(names: Iterable[str], width: float) -> float:
    """The width in inches of a figure with these names beside its axes, `width` where they are short."""
    longest = max((len(line) for name in names for line in wrapped(name).splitlines()), default=0)
    return width + 0.08 * max(0, longest - 16)


def colours(names: Iterable[str]) -> list[str]:
    """A colour for each method: its own, or the next of the others."""
    others = itertools.cycle(OTHER_COLOURS)
    return [COLOURS[name] if name in COLOURS else next(others) for name in names]


def save_png(figure: Any, path: Path) -> None:
    """Write a figure as a PNG, atomically. Raises `UsageError` if `path` is there and is no figure of tabb's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    refuse_others(path, "figure")
    canvas = FigureCanvasAgg(figure)
    with atomic(path) as part, open(part, "wb") as file:
        canvas.print_png(file, metadata={"Software": f"{GENERATOR}, with Matplotlib"})
