"""Learning curves, and what all pictures share: colours that are safe for colour-blind readers, and writing PNGs."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tabb.environments.tasks import Task
from tabb.evaluation.scores import Evaluation
from tabb.files import atomic
from tabb.own_files import GENERATOR, refuse_others

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


def learning_curves(curves: Mapping[str, Sequence[Curve]], task: Task | None, path: Path, title: str = "") -> None:
    """Draw mean score against updates, one curve per method; the band spans the runs (seeds) of a method.

    If there is a single run, the band is the standard deviation over its episodes. The PNG is written atomically.
    """
    figure = new_figure(figsize=(7.2, 4.2), layout="constrained")
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
