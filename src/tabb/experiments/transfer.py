"""The transfer figure (after TABB, Figure 1): do source rows that look like target rows have similar returns there?

For each task and seed, some thousand source rows are sorted twice: by their distance to the nearest target row in
standardised (s, a, s'), and by their mismatch (TBM⁺ of the rule, with its β). Neither order uses the two outcomes that
are measured for each row:

    gap             |G_target - G_source| over h steps of the log's own actions (`tabb.evaluation.replayed_returns`)
    oracle error    |b_tar - b| with V of pooled IQL (`tabb.evaluation.oracle`)

If similar rows transferred, both outcomes would rise from the first tenth of the rows to the last. TBM and the oracle
error depend on V; the gap does not. The result of a task and seed is a JSON file, which is not computed again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tabb.backbones import IQL
from tabb.batch import make_domains
from tabb.environments.tasks import Task, get_task
from tabb.errors import DataError
from tabb.evaluation.figures import new_figure, save_png
from tabb.evaluation.oracle import ask_target, kept_error, known_state, oracle_error, rank_correlation
from tabb.evaluation.replayed_returns import can_replay, replay
from tabb.experiments.figure_results import save_result
from tabb.experiments.oracle import distances, learned_value, mismatch_of, prepared_columns, value_file
from tabb.models.fitting import Report
from tabb.provenance import fingerprint
from tabb.rules import TABB
from tabb.transitions import Transitions

GROUPS = 10
"""tenths of the rows, the most similar (or least mismatched) first"""
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
ORDERS = ("nearest", "tbm+")
"""the two orders of the rows"""
OUTCOMES = {"gap": "return gap", "oracle_error": "oracle Bellman error"}
"""what is measured for each row, and its name in tables"""


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What a result depends on, besides its task and seed."""

    source: str = "medium"
    """source data: a quality in $TABB_DATA, or files"""
    target: str = "medium"
    """target data, likewise"""
    rows: int = 3_000
    """source rows that are replayed in the target domain's simulator"""
    updates: int = 40_000
    """updates of pooled IQL, whose V is used"""
    horizon: int = 50
    """h, logged actions that are replayed from each row in the target domain's simulator"""
    tabb: TABB = dataclasses.field(default_factory=TABB)
    """predictor and β of TBM"""


def replayable_rows(task: Task, source: Transitions, horizon: int, count: int, seed: int) -> NDArray[np.intp]:
    """Sorted indices of `count` random rows whose state and next `horizon` steps are known (all rows if fewer).

    Raises `DataError` if there are fewer than one for each tenth.
    """
    usable = (np.asarray(source.terminal) == 0) & known_state(task, source) & can_replay(source, horizon)
    rows = np.flatnonzero(usable)
    if rows.size < GROUPS:
        raise DataError(
            f"source: only {rows.size} rows have a fully known state and {horizon} steps after them, and at least "
            f"{GROUPS} are needed; choose a shorter --horizon or longer episodes"
        )
    return np.sort(np.random.default_rng(seed).choice(rows, min(count, rows.size), replace=False))


def by_tenths(order: ArrayLike, values: ArrayLike) -> list[list[float]]:
    """Quantiles of `values` [N] in each tenth of the rows sorted by `order` [N]; ties in the rows' order."""
    ranked = np.asarray(values, float)[np.argsort(np.asarray(order, float), kind="stable")]
    return [np.quantile(part, QUANTILES).tolist() for part in np.array_split(ranked, GROUPS)]


def compute_result(
    settings: Transfer,
    task_name: str,
    seed: int,
    source: Transitions,
    target: Transitions,
    folder: Path,
    values: Path,
    tell: Report,
) -> None:
    """Compute one task and seed and write the result to `folder`; V is read from, or written to, `values`."""
    task, discount = get_task(task_name), IQL().discount
    data = {"source": fingerprint(source), "target": fingerprint(target)}
    rows = replayable_rows(task, source, settings.horizon, settings.rows, seed)
    domains = make_domains(source, target)
    value = learned_value(domains, data, settings.updates, seed, value_file(values, task.name, seed), tell)
    columns = prepared_columns(settings.tabb, domains, data, seed, rows, tell)
    mismatch = mismatch_of(settings.tabb, columns, domains.source[rows], value)
    orders = {
        "nearest": distances(domains, rows),
        "tbm+": np.asarray(mismatch["tbm_plus"], np.float64),
    }
    tell("simulator", 0.0)
    error = oracle_error(
        lambda raw: np.asarray(value(domains.normaliser(jnp.asarray(raw)))),
        source[rows],
        ask_target(task, source[rows]),
        discount,
    )
    returns = replay(task, source, rows, settings.horizon, discount)
    save_result(settings, task.name, seed, data, measured(orders, error, *returns), folder)


def measured(
    orders: Mapping[str, NDArray[np.float64]],
    error: NDArray[np.float64],
    logged: NDArray[np.float64],
    replayed: NDArray[np.float64],
) -> dict[str, Any]:
    """The numbers of a result, from its rows' orders, oracle errors and returns, shape [N] each."""
    outcomes = {"gap": np.abs(replayed - logged), "oracle_error": error}
    by_name = outcomes | {"logged": logged, "replayed": replayed}
    return {
        "rows": len(error),
        "mean": {name: float(values.mean()) for name, values in by_name.items()},
        "quantiles": list(QUANTILES),
        "tenths": {
            order: {name: by_tenths(ranks, values) for name, values in by_name.items()}
            for order, ranks in orders.items()
        },
        "rank_correlation": {
            order: {name: rank_correlation(ranks, values) for name, values in outcomes.items()}
            for order, ranks in orders.items()
        },
        "first_tenth": {
            order: {
                name: float(kept_error(ranks, values, [1 / GROUPS])[0] / max(values.mean(), 1e-12))
                for name, values in outcomes.items()
            }
            for order, ranks in orders.items()
        },
    }


# --- All results together ---


def tables(results: Sequence[Mapping[str, Any]], seeds: int) -> list[str]:
    """Rank correlations, and the mean of the first tenth relative to all rows, means over seeds, as Markdown."""
    return [
        f"rank correlation of each order of the rows with the outcomes, mean over {seeds} seed(s):",
        _table(results, "rank_correlation"),
        "mean of the first tenth (most similar, or least mismatched), relative to that of all rows:",
        _table(results, "first_tenth"),
    ]


def _table(results: Sequence[Mapping[str, Any]], key: str) -> str:
    tasks = list(dict.fromkeys(result["task"] for result in results))
    lines = [f"| order | outcome | {' | '.join(tasks)} | mean |", "|---" * (len(tasks) + 3) + "|"]
    for outcome, label in OUTCOMES.items():
        for order in ORDERS:
            means = [mean_over_seeds(results, task, key, order, outcome) for task in tasks]
            cells = " | ".join(f"{mean:z.2f}" for mean in [*means, float(np.mean(means))])
            lines.append(f"| {order} | {label} | {cells} |")
    return "\n".join(lines)


def mean_over_seeds(results: Sequence[Mapping[str, Any]], task: str, key: str, order: str, outcome: str) -> float:
    """The mean of one number over the results of a task."""
    return float(np.mean([result[key][order][outcome] for result in results if result["task"] == task]))


# --- The picture ---

COLOURS = {"nearest": "#0072b2", "tbm+": "#d55e00", "logged": "#7f7f7f", "replayed": "#009e73"}
LABELS = {
    "nearest": "sorted by distance to the nearest target row",
    "tbm+": "sorted by TBM⁺",
    "logged": "in the source log",
    "replayed": "same actions in the target's simulator",
}


def draw_transfer(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw a row of panels per task: returns, return gaps and oracle Bellman errors of each tenth of the rows.

    Lines are medians and bands the middle half of the rows, both averaged over seeds. Rank correlations are over
    single rows.
    """
    tasks = list(dict.fromkeys(result["task"] for result in results))
    figure = new_figure(figsize=(10.5, 1.3 + 2.7 * len(tasks)), layout="constrained")
    panels = figure.subplots(len(tasks), 3, sharex=True, squeeze=False)
    for row, task in zip(panels, tasks, strict=True):
        of_task = [result for result in results if result["task"] == task]
        horizon = of_task[0]["settings"]["horizon"]
        for name in ("logged", "replayed"):
            _band(row[0], of_task, "nearest", name, COLOURS[name])
        row[0].set_title(f"{task}\ndiscounted return of {horizon} steps", loc="left", fontsize=9.5)
        for axes, outcome, title in zip(
            row[1:],
            ("gap", "oracle_error"),
            ("return gap, |difference of the two|", "oracle Bellman error"),
            strict=True,
        ):
            correlations = []
            for order, label in (("nearest", "distance"), ("tbm+", "TBM⁺")):
                _band(axes, of_task, order, outcome, COLOURS[order])
                correlation = np.mean([result["rank_correlation"][order][outcome] for result in of_task])
                correlations.append(f"{label} {correlation:z.2f}")
            axes.set_ylim(bottom=0)
            axes.set_title(f"{title}\nrank correlation: {', '.join(correlations)}", loc="left", fontsize=9.5)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(0.5, 10.5)
        axes.set_xticks(range(1, 11))
    figure.supxlabel(
        "tenth of the source rows: the most similar first (left, and blue), or the least mismatched first (orange)",
        fontsize=9.5,
    )
    handles = [panels[0, 0].get_lines()[0], panels[0, 0].get_lines()[1], *panels[0, 1].get_lines()]
    names = ("logged", "replayed", "nearest", "tbm+")
    figure.legend(
        handles, [LABELS[name] for name in names], loc="outside upper center", ncols=2, frameon=False, fontsize=9
    )
    save_png(figure, path)


def _band(axes: Any, of_task: Sequence[Mapping[str, Any]], order: str, name: str, colour: str) -> None:
    """Median and middle half by tenths."""
    at = [of_task[0]["quantiles"].index(share) for share in (0.25, 0.5, 0.75)]
    low, middle, high = np.mean([result["tenths"][order][name] for result in of_task], axis=0)[:, at].T
    tenths = np.arange(1, len(middle) + 1)
    axes.fill_between(tenths, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(tenths, middle, color=colour, marker="o", markersize=3, linewidth=1.6)
