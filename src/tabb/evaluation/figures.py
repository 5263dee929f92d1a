"""Pictures: learning curves and the comparison of methods. Colours are safe for colour-blind readers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tabb.environments.tasks import Task
from tabb.evaluation.scores import Evaluation
from tabb.files import atomic

Curve = Sequence[tuple[int, Evaluation]]
"""(updates done, evaluation) of one run."""

COLOURS = {"tabb": "#d55e00", "target-only": "#0072b2", "pooled": "#7f7f7f"}
ENDS: dict[str, Any] = {"solid_capstyle": "butt"}
"""for lines that are intervals: the default cap would make them longer"""
OTHER_COLOURS = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def learning_curves(curves: Mapping[str, Sequence[Curve]], task: Task | None, path: Path, title: str = "") -> None:
    """Draw mean score against updates, one curve per method; the band spans the runs (seeds) of a method.

    If there is a single run, the band is the standard deviation over its episodes. The PNG is written atomically.
    """
    # Not pyplot: no global state, no display, safe in threads.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for (name, runs), colour in zip(curves.items(), colours(curves), strict=True):
        updates = np.array([update for update, _ in runs[0]]) / 1000
        means = np.array([[evaluation.mean for _, evaluation in run] for run in runs])
        if len(runs) > 1:
            low, high = means.min(axis=0), means.max(axis=0)
        else:
            spread = np.array([evaluation.spread for _, evaluation in runs[0]])
            low, high = means[0] - spread, means[0] + spread
        axes.fill_between(updates, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(updates, means.mean(axis=0), color=colour, marker="o", markersize=3, linewidth=1.8, label=name)
    axes.set_xlabel("updates (thousands)")
    axes.set_ylabel("return" if task is None else "normalised score")
    heading = title or ("" if task is None else f"evaluated in {task.name}")
    axes.set_title(heading, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.set_xlim(left=0)
    axes.legend(frameon=False, loc="best")
    save_png(figure, path)


def profiles(scores: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Draw the share of runs above each score, one curve per method; every task has the same weight."""
    from matplotlib.figure import Figure

    from tabb.evaluation.statistics import performance_profile  # scipy.stats is slow to import, and training draws too

    highest = max(max(seeds) for method in scores.values() for seeds in method.values())
    limits = np.linspace(0.0, max(highest, 1.0) * 1.05, 200)
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for name, colour in zip(scores, colours(scores), strict=True):
        axes.plot(limits, performance_profile(scores[name], limits), color=colour, linewidth=1.8, label=name)
    axes.set_xlabel("normalised score")
    axes.set_ylabel("share of runs above it")
    axes.set_xlim(0, limits[-1])
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    save_png(figure, path)


def interval_bars(estimates: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw each method's interquartile mean and its interval (if there is one), the best on top."""
    from matplotlib.figure import Figure

    names = sorted(estimates, key=lambda name: estimates[name]["value"])
    figure = Figure(figsize=(6.4, 0.9 + 0.4 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    colour_of = dict(zip(estimates, colours(estimates), strict=True))  # by the methods' order, as in other figures
    for height, name in enumerate(names):
        estimate, colour = estimates[name], colour_of[name]
        if estimate["low"] is not None:
            axes.plot(
                [estimate["low"], estimate["high"]], [height, height], color=colour, linewidth=6, alpha=0.4, **ENDS
            )
        axes.plot(estimate["value"], height, marker="|", markersize=14, markeredgewidth=2.5, color=colour)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.7, len(names) - 0.3)
    known = any(estimate["low"] is not None for estimate in estimates.values())
    axes.set_xlabel("interquartile mean of normalised scores" + (", with 95 % interval" if known else ""))
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    save_png(figure, path)


def difference_bars(differences: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw mean differences to the default with their intervals (if there are any), the first on top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 0.9 + 0.3 * len(differences)), layout="constrained")
    axes = figure.add_subplot()
    for height, estimate in enumerate(differences.values()):
        significant = estimate["low"] is not None and (estimate["low"] > 0 or estimate["high"] < 0)
        colour = COLOURS["tabb"] if significant else COLOURS["pooled"]
        if estimate["low"] is not None:
            axes.plot(
                [estimate["low"], estimate["high"]], [height, height], color=colour, linewidth=5, alpha=0.4, **ENDS
            )
        axes.plot(estimate["value"], height, marker="|", markersize=11, markeredgewidth=2.5, color=colour)
    axes.axvline(0.0, color="#000000", linewidth=0.6, linestyle=":")
    axes.set_yticks(range(len(differences)), list(differences))
    axes.set_ylim(len(differences) - 0.3, -0.7)
    axes.set_xlabel("normalised score less that of the default, with 95 % interval")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    save_png(figure, path)


def colours(names: Iterable[str]) -> list[str]:
    """A colour for each method: its own, or the next of the others."""
    others = itertools.cycle(OTHER_COLOURS)
    return [COLOURS[name] if name in COLOURS else next(others) for name in names]


def save_png(figure: Any, path: Path) -> None:
    """Write a figure as a PNG, atomically."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    with atomic(path) as part, open(part, "wb") as file:
        canvas.print_png(file)
