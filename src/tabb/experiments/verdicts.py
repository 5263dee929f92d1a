"""What can honestly be said of a comparison: its table, means over all rows with intervals, tests, and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tabb.evaluation.statistics import (
    bootstrap,
    interquartile_mean,
    not_significantly_worse,
    paired_t_test,
    performance_profile,
    probability_of_improvement,
    share_of_tasks_won,
)
from tabb.experiments.benchmark import BAR, Table, shared
from tabb.shown import percent


def as_markdown(table: Table, methods: Sequence[str]) -> str:
    """Mean ± standard deviation (seeds) of each cell; the best of a row, and those not significantly worse, bold."""
    lines = [f"| task, source to target | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    for place, row in table.items():
        scores_of_method = {method: list(row.get(method, {}).values()) for method in methods}
        marked = not_significantly_worse(scores_of_method)
        cells = [_cell(scores, method in marked) for method, scores in scores_of_method.items()]
        lines.append(f"| {place} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(scores: list[float], marked: bool) -> str:
    if not scores:
        return "-"
    spread = f" ± {np.std(scores, ddof=1):.1f}" if len(scores) > 1 else ""
    text = f"{np.mean(scores):z.1f}{spread} ({len(scores)})"
    return f"**{text}**" if marked else text


def scores_of(table: Table, method: str) -> dict[str, list[float]]:
    """The scores of one method, by place."""
    return {str(place): list(row[method].values()) for place, row in table.items() if method in row}


def verdicts(
    table: Table, methods: Sequence[str], ours: str, learners: Mapping[str, str] | None = None
) -> dict[str, dict[str, Any]]:
    """What can be said of each method over all rows: its interquartile mean, and how it stands to target-only.

    A method's interquartile mean is over the rows that it has (`rows` of them), each run counted once: a method that
    draws no source rows has the same runs for all source qualities, and likewise for the target. How it stands to
    another is over the rows that both have; of such a method, a pair is one run against the other's mean over the
    qualities, and the bootstrap draws its runs once for all rows that they stand in. `learners` says which learner a
    method is, where its name does not.
    """
    learner = {method: method for method in methods} | dict(learners or {})
    verdict_of: dict[str, dict[str, Any]] = {}
    for method in methods:
        own = scores_of(table, method)
        if not own:
            continue
        once = _once(table, method, learner[method])
        verdict: dict[str, Any] = {"rows": len(own), "runs": sum(map(len, once.scores.values()))}
        verdict["interquartile_mean"] = _estimate(interquartile_mean, once.scores)
        bar = scores_of(table, BAR)
        if method != BAR and set(own) & set(bar):
            two = (once, _once(table, BAR, learner.get(BAR, BAR)))
            verdict["share_of_rows_above_target_only"] = _over_rows(share_of_tasks_won, *two)
            verdict["probability_of_improvement_over_target_only"] = _over_rows(probability_of_improvement, *two)
        if method != ours:
            both = (learner[ours], learner[method])
            pairs = [_paired(table, name, both) for name in (ours, method)]
            if len(set(pairs[0]) & set(pairs[1])) > 1:
                verdict[f"{ours}_less_this"] = paired_t_test(*pairs)._asdict()
        verdict_of[method] = verdict
    return verdict_of


def _estimate(statistic: Callable[..., float], *methods: dict[str, list[float]]) -> dict[str, float | None]:
    """The statistic with its bootstrap interval: None where a row has one run, which says nothing of other seeds."""
    estimate = bootstrap(statistic, *methods)
    known = all(len(scores) > 1 for method in methods for scores in method.values())
    return {"value": estimate.value, "low": estimate.low if known else None, "high": estimate.high if known else None}


class _Runs(NamedTuple):
    """The runs of a method, each once, and the rows that they stand in."""

    scores: dict[str, list[float]]
    row_of: dict[str, str]
    """Which of the scores a row of the table has."""


def _once(table: Table, method: str, learner: str) -> _Runs:
    """The scores of a method, each run once."""
    row_of = {str(place): str(shared(place, learner)) for place, row in table.items() if method in row}
    scores = {row_of[str(place)]: list(row[method].values()) for place, row in table.items() if method in row}
    return _Runs(scores, row_of)


def _over_rows(statistic: Callable[..., float], *methods: _Runs) -> dict[str, float | None]:
    """A statistic of the rows of methods. The bootstrap draws runs: rows that share a run get the same draw of it."""

    def of_rows(*drawn: Mapping[str, Sequence[float]]) -> float:
        pairs = zip(drawn, methods, strict=True)
        return statistic(*({row: scores[its] for row, its in runs.row_of.items()} for scores, runs in pairs))

    return _estimate(of_rows, *(method.scores for method in methods))


def _paired(table: Table, method: str, learners: tuple[str, ...]) -> dict[tuple[str, int], float]:
    """Scores by place and seed, means over the qualities for which one of the learners has one run."""
    by_run: dict[tuple[str, int], list[float]] = {}
    for place, row in table.items():
        for seed, score in row.get(method, {}).items():
            by_run.setdefault((str(shared(place, *learners)), seed), []).append(score)
    return {key: float(np.mean(scores)) for key, scores in by_run.items()}


FEWER = " †"
"""mark of a mean over fewer rows than the table has"""


def verdicts_as_markdown(verdict_of: Mapping[str, Mapping[str, Any]], ours: str) -> str:
    """The same as a table."""
    headings = ("method", "rows", "runs", "interquartile mean", "rows above target-only", "P(run beats target-only)")
    lines = [f"| {' | '.join(headings)} | {ours} less this (paired t) |", "|---" * (len(headings) + 1) + "|"]
    most = max((verdict["rows"] for verdict in verdict_of.values()), default=0)
    for method, verdict in verdict_of.items():
        cells = [_interval(verdict["interquartile_mean"], "{:z.1f}".format) + (FEWER if verdict["rows"] < most else "")]
        for name in ("share_of_rows_above_target_only", "probability_of_improvement_over_target_only"):
            cells.append(_interval(verdict[name], percent) if name in verdict else "-")
        test = verdict.get(f"{ours}_less_this")
        cells.append(
            "-" if test is None else f"{test['difference']:+z.1f} (p = {test['p']:.2g}, {test['pairs']} pairs)"
        )
        lines.append(f"| `{method}` | {verdict['rows']} | {verdict['runs']} | {' | '.join(cells)} |")
    if any(verdict["rows"] < most for verdict in verdict_of.values()):
        lines += ["", f"{FEWER} over fewer rows than {most}: not to be compared with means over all of them."]
    return "\n".join(lines)


def _interval(estimate: Mapping[str, Any], shown: Callable[[float], str]) -> str:
    """A value, with its interval where there is one."""
    value, low, high = (None if estimate[name] is None else shown(estimate[name]) for name in ("value", "low", "high"))
    return f"{value}" if low is None else f"{value} [{low}, {high}]"


# --- Pictures ---


def draw_profiles(scores: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Draw the share of runs above each score, one curve per method; every task has the same weight."""
    from tabb.evaluation.figures import colours, draw_legend, new_figure, save_png

    highest = max(max(seeds) for method in scores.values() for seeds in method.values())
    limits = np.linspace(0.0, max(highest, 1.0) * 1.05, 200)
    figure = new_figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for name, colour in zip(scores, colours(scores), strict=True):
        axes.plot(limits, performance_profile(scores[name], limits), color=colour, linewidth=1.8, label=name)
    axes.set_xlabel("normalised score")
    axes.set_ylabel("share of runs above it")
    axes.set_xlim(0, limits[-1])
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    draw_legend(figure, axes)
    save_png(figure, path)


def draw_intervals(
    estimates: Mapping[str, Mapping[str, Any]], path: Path, rows: Mapping[str, int] | None = None
) -> None:
    """Draw each method's interquartile mean and its interval (if there is one), the best on top.

    `rows` are how many rows of the table each mean is over; a mean over fewer than another says so.
    """
    from tabb.evaluation.figures import ENDS, colours, new_figure, save_png, width_for, wrapped

    names = sorted(estimates, key=lambda name: estimates[name]["value"])
    rows = rows or {}
    most = max(rows.values(), default=0)
    # A mean over fewer rows is of other tasks: it stands beside the others and may not be read as one of them.
    fewer = {name: f"{name} ({rows[name]} of {most} rows)" for name in names if rows.get(name, most) < most}
    labels = [wrapped(fewer.get(name, name)) for name in names]
    figure = new_figure(figsize=(width_for(labels, 6.4), 0.9 + 0.4 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    colour_of = dict(zip(estimates, colours(estimates), strict=True))  # by the methods' order, as in other figures
    for height, name in enumerate(names):
        estimate, colour = estimates[name], colour_of[name]
        if estimate["low"] is not None:
            axes.plot(
                [estimate["low"], estimate["high"]], [height, height], color=colour, linewidth=6, alpha=0.4, **ENDS
            )
        axes.plot(estimate["value"], height, marker="|", markersize=14, markeredgewidth=2.5, color=colour)
    axes.set_yticks(range(len(names)), labels)
    axes.set_ylim(-0.7, len(names) - 0.3)
    known = any(estimate["low"] is not None for estimate in estimates.values())
    axes.set_xlabel("interquartile mean of normalised scores" + (", with 95% interval" if known else ""))
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    save_png(figure, path)
