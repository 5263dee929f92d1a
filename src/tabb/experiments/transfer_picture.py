"""The picture of the transfer figure: what source rows return, by tenths of how alike they look and of their TBM⁺."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tabb.evaluation.figures import save_png

COLOURS = {"nearest": "#0072b2", "tbm+": "#d55e00", "logged": "#7f7f7f", "replayed": "#009e73"}
LABELS = {
    "nearest": "sorted by distance to the nearest target row",
    "tbm+": "sorted by TBM⁺",
    "logged": "in the source log",
    "replayed": "same actions in the target's simulator",
}


def transfer_panels(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw a row of panels per task: returns, return gaps and oracle Bellman errors of each tenth of the rows.

    Lines are medians, bands the middle half of the rows; of several seeds the means of both. Rank correlations
    are over single rows.
    """
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(result["task"] for result in results))
    figure = Figure(figsize=(10.5, 1.3 + 2.7 * len(tasks)), layout="constrained")
    panels = figure.subplots(len(tasks), 3, sharex=True, squeeze=False)
    for row, task in zip(panels, tasks, strict=True):
        cells = [result for result in results if result["task"] == task]
        horizon = cells[0]["settings"]["horizon"]
        for name in ("logged", "replayed"):
            _band(row[0], cells, "nearest", name, COLOURS[name])
        row[0].set_title(f"{task}\ndiscounted return of {horizon} steps", loc="left", fontsize=9.5)
        for axes, outcome, title in zip(
            row[1:],
            ("gap", "oracle_error"),
            ("return gap, |difference of the two|", "oracle Bellman error"),
            strict=True,
        ):
            told = []
            for order, called in (("nearest", "distance"), ("tbm+", "TBM⁺")):
                _band(axes, cells, order, outcome, COLOURS[order])
                found = np.mean([cell["rank_correlation"][order][outcome] for cell in cells])
                told.append(f"{called} {found:.2f}")
            axes.set_ylim(bottom=0)
            axes.set_title(f"{title}\nrank correlation: {', '.join(told)}", loc="left", fontsize=9.5)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(0.5, 10.5)
        axes.set_xticks(range(1, 11))
    figure.supxlabel(
        "tenth of the source rows: the most alike first (left, and blue), or those of the least mismatch (orange)",
        fontsize=9.5,
    )
    handles = [panels[0, 0].get_lines()[0], panels[0, 0].get_lines()[1], *panels[0, 1].get_lines()]
    names = ("logged", "replayed", "nearest", "tbm+")
    figure.legend(
        handles, [LABELS[name] for name in names], loc="outside upper center", ncols=2, frameon=False, fontsize=9
    )
    save_png(figure, path)


def _band(axes: Any, cells: Sequence[Mapping[str, Any]], order: str, name: str, colour: str) -> None:
    """Median and middle half by tenths."""
    at = [cells[0]["quantiles"].index(share) for share in (0.25, 0.5, 0.75)]
    low, middle, high = np.mean([cell["tenths"][order][name] for cell in cells], axis=0)[:, at].T
    tenths = np.arange(1, len(middle) + 1)
    axes.fill_between(tenths, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(tenths, middle, color=colour, marker="o", markersize=3, linewidth=1.6)
