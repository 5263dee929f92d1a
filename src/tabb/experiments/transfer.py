"""The transfer figure (after TABB, Figure 1): do source rows that look like target rows return alike there?

One cell per task and seed. Some thousand source rows are sorted twice, by how much they look like target rows
(distance to the nearest in standardised (s, a, s')) and by their mismatch (TBM⁺ of the rule, with its β), and each is
asked two things that neither order saw:

    gap             |G_target - G_source| over h steps of the log's own actions (`tabb.evaluation.replayed_returns`)
    oracle error    |b_tar - b| with V of pooled IQL (`tabb.evaluation.oracle`)

If alikeness meant transferability, both would rise from the first tenth of the rows to the last. V enters TBM and the
oracle error alike; the gap knows no V. A cell is a JSON file; a cell that is there is not computed again.
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
from tabb.evaluation.oracle import ask_target, kept_error, known_state, oracle_error, rank_correlation
from tabb.evaluation.replayed_returns import can_play_on, play_on
from tabb.experiments.cells import keep_cell
from tabb.experiments.oracle import distances, learned_value, mismatch_of, prepared_columns, value_file
from tabb.models.fitting import Report
from tabb.provenance import fingerprint
from tabb.rules import TABB
from tabb.transitions import Transitions

GROUPS = 10
"""tenths of the rows, from the most alike (or of the least mismatch) on"""
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
ORDERS = ("nearest", "tbm+")
"""the two orders of the rows"""
OUTCOMES = {"gap": "return gap", "oracle_error": "oracle Bellman error"}
"""what they are asked to foresee"""


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What a cell depends on, besides its task and seed."""

    source: str = "medium"
    """source data: a quality in $TABB_DATA, or files"""
    target: str = "medium"
    """target data, likewise"""
    rows: int = 3_000
    """source rows that the simulator is asked for"""
    updates: int = 40_000
    """updates of the pooled IQL that V comes from"""
    horizon: int = 50
    """h, steps of the log's actions that are played on in the target domain's simulator"""
    tabb: TABB = dataclasses.field(default_factory=TABB)
    """predictor and β of TBM"""


def replayable_rows(task: Task, source: Transitions, horizon: int, count: int, seed: int) -> NDArray[np.intp]:
    """Numbers of `count` random rows (all, if fewer) whose state and next `horizon` steps are known, in order.

    Raises `DataError` where there are fewer than one for each tenth.
    """
    usable = (np.asarray(source.terminal) == 0) & known_state(task, source) & can_play_on(source, horizon)
    rows = np.flatnonzero(usable)
    if rows.size < GROUPS:
        raise DataError(
            f"source: {rows.size} rows have a fully known state and {horizon} steps after them; at least {GROUPS} are "
            "needed: choose a shorter --horizon or longer episodes"
        )
    return np.sort(np.random.default_rng(seed).choice(rows, min(count, rows.size), replace=False))


def by_tenths(order: ArrayLike, values: ArrayLike) -> list[list[float]]:
    """Quantiles of `values` [N] in each tenth of the rows sorted by `order` [N]; ties in the rows' order."""
    ranked = np.asarray(values, float)[np.argsort(np.asarray(order, float), kind="stable")]
    return [np.quantile(part, QUANTILES).tolist() for part in np.array_split(ranked, GROUPS)]


def run_cell(
    settings: Transfer,
    task_name: str,
    seed: int,
    source: Transitions,
    target: Transitions,
    folder: Path,
    values: Path,
    tell: Report,
) -> None:
    """Compute one task and seed and keep the result in `folder`; V is kept in, or read from, the folder `values`."""
    task, discount = get_task(task_name), IQL().discount
    data = {"source": fingerprint(source), "target": fingerprint(target)}
    rows = replayable_rows(task, source, settings.horizon, settings.rows, seed)
    domains = make_domains(source, target)
    value = learned_value(domains, data, settings.updates, seed, value_file(values, task.name, seed), tell)
    columns = prepared_columns(settings.tabb, domains, data, seed, rows, tell)
    orders = {
        "nearest": distances(domains, rows),
        "tbm+": np.asarray(mismatch_of(settings.tabb, columns, domains.source[rows], value), np.float64),
    }
    tell("simulator", 0.0)
    error = oracle_error(
        lambda raw: np.asarray(value(domains.normaliser(jnp.asarray(raw)))),
        source[rows],
        ask_target(task, source[rows]),
        discount,
    )
    returns = play_on(task, source, rows, settings.horizon, discount)
    keep_cell(settings, task.name, seed, data, measured(orders, error, *returns), folder)


def measured(
    orders: Mapping[str, NDArray[np.float64]],
    error: NDArray[np.float64],
    logged: NDArray[np.float64],
    replayed: NDArray[np.float64],
) -> dict[str, Any]:
    """What a cell holds of its rows' orders, oracle errors and returns, shape [N] each."""
    outcomes = {"gap": np.abs(replayed - logged), "oracle_error": error}
    seen = outcomes | {"logged": logged, "replayed": replayed}
    return {
        "rows": len(error),
        "mean": {name: float(values.mean()) for name, values in seen.items()},
        "quantiles": list(QUANTILES),
        "tenths": {
            order: {name: by_tenths(found, values) for name, values in seen.items()} for order, found in orders.items()
        },
        "rank_correlation": {
            order: {name: rank_correlation(found, values) for name, values in outcomes.items()}
            for order, found in orders.items()
        },
        "first_tenth": {
            order: {
                name: float(kept_error(found, values, [1 / GROUPS])[0] / max(values.mean(), 1e-12))
                for name, values in outcomes.items()
            }
            for order, found in orders.items()
        },
    }


# --- All cells together ---


def tables(results: Sequence[Mapping[str, Any]], seeds: int) -> list[str]:
    """Rank correlations, and the mean of the first tenth relative to all rows, means over seeds, as Markdown."""
    return [
        f"rank correlation of each order of the rows with what came of them, mean over {seeds} seed(s):",
        _table(results, "rank_correlation"),
        "mean of the first tenth (most alike, or of the least mismatch), relative to that of all rows:",
        _table(results, "first_tenth"),
    ]


def _table(results: Sequence[Mapping[str, Any]], key: str) -> str:
    tasks = list(dict.fromkeys(result["task"] for result in results))
    lines = [f"| order | outcome | {' | '.join(tasks)} | mean |", "|---" * (len(tasks) + 3) + "|"]
    for outcome, called in OUTCOMES.items():
        for order in ORDERS:
            means = [mean_over_seeds(results, task, key, order, outcome) for task in tasks]
            cells = " | ".join(f"{mean:.2f}" for mean in [*means, float(np.mean(means))])
            lines.append(f"| {order} | {called} | {cells} |")
    return "\n".join(lines)


def mean_over_seeds(results: Sequence[Mapping[str, Any]], task: str, key: str, order: str, outcome: str) -> float:
    """The mean of one number of a task's cells."""
    return float(np.mean([result[key][order][outcome] for result in results if result["task"] == task]))
