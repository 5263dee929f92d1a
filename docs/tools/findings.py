"""Draws the pictures of docs/results.md that no experiment draws itself; docs/pictures/finding-*.png.

    python docs/tools/findings.py

Their numbers are those of committed results: oracle*/, ablations/upper-bounds.json, scores/, benchmarks/, extraction/.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import extraction
import scores
import upper_bounds
from diagrams import INK, PICTURES, SOFT, SOURCE, TARGET
from tabb.evaluation.figures import new_figure, save_png
from tabb.experiments.benchmark import SCORES as SCORES_CSV
from tabb.experiments.benchmark_scores import read_scores_csv
from tabb.experiments.cells import merged
from tabb.files import read_json

GREY = "#8a939c"
BOUNDS = {
    "target-only": ("no source data", TARGET),
    "tabb": ("weighted by TBM", SOURCE),
    "weights": ("weighted by the true error", "#8e3b8a"),
    "critic": ("every row corrected by the simulator", "#1a7f4b"),
}
"""what source rows are to the learner, by learner or form of the experiment, with a colour"""


def axes_of(figure: Any, title: str) -> Any:
    """Axes without a frame, with a title over their left end."""
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="y", alpha=0.25)
    axes.set_title(title, loc="left", fontsize=11)
    return axes


def trusted_half() -> Any:
    """Mean error of the half of the source rows that each ranking keeps, in units of that of all rows."""
    kept = {
        "TBM⁺, predictor agreed": ("oracle-agreed-normed", "tbm+", SOURCE),
        "TBM⁺, predictor residual": ("oracle-normed", "tbm+", SOURCE),
        "nearest to target rows": ("oracle-normed", "nearest", GREY),
        "DARA's classifiers": ("oracle-normed", "dara", GREY),
        "IGDF's encoders": ("oracle-normed", "igdf", GREY),
    }
    figure = new_figure(figsize=(6.6, 2.6), dpi=150, layout="constrained")
    axes = axes_of(figure, "Mean error of the half that is kept; 1: of all source rows")
    axes.grid(visible=False)
    for place, (folder, name, colour) in enumerate(kept.values()):
        value = error_of_half(folder, name)
        axes.barh(-place, value, 0.7, color=colour)
        axes.text(value + 0.015, -place, f"{value:.2f}", va="center", fontsize=9)
    axes.axvline(1, color=INK, linewidth=0.8)
    axes.set_yticks([-place for place in range(len(kept))], list(kept))
    axes.set_xlim(0, 1.3)
    return figure


def error_of_half(folder: str, ranking: str) -> float:
    """Mean over tasks of the error of the half that a ranking keeps, relative to all rows, each over its seeds."""
    tasks: dict[str, list[float]] = {}
    for file in sorted((scores.RESULTS / folder).glob("*-seed*.json")):
        cell = read_json(file)
        errors = dict(zip(cell["shares"], cell["kept_error"][ranking], strict=True))
        tasks.setdefault(cell["task"], []).append(errors[0.5] / errors[1.0])
    return float(np.mean([np.mean(seeds) for seeds in tasks.values()]))


def better_rankings() -> Any:
    """Scores of learners with ever better judgement of source rows, beside the one that has none."""
    forms = [run for run in read_json(upper_bounds.RESULTS)["runs"] if run["source"] == "medium"]
    forms = [run for run in forms if run["updates"] == 100_000 and run["policy"].startswith("imitates")]
    tasks = list(dict.fromkeys(run["task"] for run in forms if run["form"] == "weights"))
    known = scores.gathered(scores.SCORES)
    figure = new_figure(figsize=(7, 3.4), dpi=150, layout="constrained")
    axes = axes_of(figure, "Scores in the target domain, 100,000 updates")
    width = 0.8 / len(BOUNDS)
    for place, task in enumerate(tasks):
        for i, (name, (words, colour)) in enumerate(BOUNDS.items()):
            runs = known[task].get(name) or [run for run in forms if (run["task"], run["form"]) == (task, name)]
            value = float(np.mean([run["score"] for run in runs]))
            at = place + (i - (len(BOUNDS) - 1) / 2) * width
            axes.bar(at, value, width * 0.92, color=colour, label=None if place else words)
            axes.text(at, value + 1, f"{value:.0f}", ha="center", fontsize=8)
    axes.set_xticks(range(len(tasks)), tasks)
    axes.set_ylim(0, 85)
    figure.legend(frameon=False, fontsize=8.5, ncols=2, loc="outside lower center")
    return figure


def better_source() -> list[tuple[float, float]]:
    """Scores of target-only and of the better source policy, by target."""
    bar = mean_scores("otdf-expert-20000", "target-only")
    sources = [mean_scores(name, "source-only") for name in ("otdf-expert-20000", "otdf-medium-20000")]
    return [(score, max(one[place] for one in sources if place in one)) for place, score in bar.items()]


def source_as_it_is() -> Any:
    """Targets by the score of target-only and of the better source policy; above the diagonal the source is better."""
    points = better_source()
    figure = new_figure(figsize=(4.8, 4.2), dpi=150, layout="constrained")
    axes = axes_of(figure, f"{len(points)} targets")
    above = sum(theirs > mine for mine, theirs in points)
    for mine, theirs in points:
        axes.plot(mine, theirs, "o", markersize=6, color=SOURCE if theirs > mine else GREY)
    axes.plot([-5, 110], [-5, 110], color=INK, linewidth=0.8)
    axes.text(4, 92, f"the source's policy is better\non {above} of {len(points)}", color=SOURCE, fontsize=9)
    axes.text(58, 46, "target-only is better", color=SOFT, fontsize=9)
    axes.set(xlim=(-5, 110), ylim=(-5, 110), xlabel="score of target-only", ylabel="score of source-only")
    return figure


def mean_scores(name: str, method: str) -> dict[tuple[str, str], float]:
    """Mean scores of a method in a comparison, by task and quality of its target data."""
    table = read_scores_csv(scores.RESULTS / "benchmarks" / name / SCORES_CSV)
    return {
        (place.task, place.target): float(np.mean(list(row[method].values())))
        for place, row in table.items()
        if method in row
    }


def through_a_model() -> Any:
    """Mean scores of policies without a model, with one of target rows, and with one of both domains."""
    cells = [
        cell
        for cell in merged([extraction.MAIN, extraction.MATCHING])
        if all(name in cell["scores"] for name in extraction.HELD)
    ]
    words = ("no model", "a model of target rows", "a model of both domains")
    figure = new_figure(figsize=(6, 2.2), dpi=150, layout="constrained")
    axes = axes_of(figure, f"Mean score on {len(cells)} targets")
    axes.grid(visible=False)
    for place, (name, colour) in enumerate(zip(extraction.HELD, (GREY, TARGET, SOURCE), strict=True)):
        value = float(extraction.scores_of(cells, name).mean())
        axes.barh(-place, value, 0.7, color=colour)
        axes.text(value + 0.8, -place, f"{value:.1f}", va="center", fontsize=9)
    axes.set_yticks([0, -1, -2], words)
    axes.set_xlim(0, 80)
    return figure


def score_by_updates() -> Any:
    """Mean scores along the run, of the policies of the README's picture, over the targets that have all of them."""
    files = sorted(file.name for file in extraction.MATCHING.glob("*.json"))

    def along(name: str, file: str) -> Any:
        """Pairs of updates and score; what is not beside the policies held to paths is in the main cells."""
        held = read_json(extraction.MATCHING / file)["curves"]
        return held[name] if name in held else read_json(extraction.MAIN / file)["curves"][name]

    figure = new_figure(figsize=(6, 3.2), dpi=150, layout="constrained")
    axes = axes_of(figure, f"Mean score on {len(files)} targets")
    for (name, words), colour in zip(extraction.PICTURED.items(), extraction.COLOURS, strict=True):
        curves = np.array([along(name, file) for file in files])
        axes.plot(curves[0, :, 0], curves[:, :, 1].mean(axis=0), "o-", color=colour, label=words)
    axes.set(xlabel="updates", ylim=(0, 75))
    axes.set_xticks(curves[0, :, 0], [f"{update:,.0f}" for update in curves[0, :, 0]])
    figure.legend(frameon=False, fontsize=8.5, loc="outside lower center")
    return figure


DRAWN: dict[str, Callable[[], Any]] = {
    "finding-trust": trusted_half,
    "finding-rankings": better_rankings,
    "finding-source-policy": source_as_it_is,
    "finding-model": through_a_model,
    "finding-updates": score_by_updates,
}
"""what draws each picture, by its file's name without `.png`"""


if __name__ == "__main__":
    for name, draw in DRAWN.items():
        save_png(draw(), PICTURES / f"{name}.png")
