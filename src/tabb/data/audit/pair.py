"""Checks of a source and a target together: the same rows, engines, units, order of dimensions, coverage."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import scipy.spatial

from tabb.data.audit.domains import check_domains
from tabb.data.audit.finding import Finding
from tabb.data.report import Loaded
from tabb.errors import DataError
from tabb.transitions import Transitions

SAMPLE = 5_000
"""rows of each domain that are compared"""
OTHER_UNIT = 4.0
"""factor between the domains of both a column's spread and its steps' spread that only another unit makes"""
MENDED = 0.5
"""share of the one-step error that may be left when suspected units are converted"""
WORTH = 0.8
"""share of the one-step error that may be left when two columns are exchanged"""
ORDER_SAMPLE = 1_000
"""rows that orders of columns are tried on"""


def check_pair(source: Loaded, target: Loaded) -> Iterator[Finding]:
    """Findings about two data sets as the domains of one problem."""
    names = f"{source.report.name} and {target.report.name}"
    try:
        warnings = check_domains(source.transitions, target.transitions, source.report, target.report)
    except DataError as error:
        yield Finding("error", "no-pair", names, str(error).removeprefix(f"source {names}: "), "see there")
        return
    for warning in warnings:
        what, _, fix = warning.partition("; ")
        yield Finding("warning", "pair", names, what, fix or "check that both are data of the same task")
    engines = [loaded.report.engine for loaded in (source, target)]
    if None in engines and engines != [None, None]:
        silent = (source, target)[engines.index(None)].report.name
        what = f"states no engine; the other file is of engine {engines[0] or engines[1]}"
        fix = "make sure that both come from the same physics: MuJoCo before and after 3.0 differ as much as a shift"
        yield Finding("note", "engine", silent, what, fix)
    yield from check_columns_alike(names, source.transitions, target.transitions)
    yield from check_coverage(names, source.transitions, target.transitions)


def sample(data: Transitions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations, actions and changes of rows that have a next state, spread over the data."""
    rows = np.flatnonzero(np.asarray(data.terminal) == 0)
    rows = rows[np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int)] if len(rows) else rows
    observation = np.asarray(data.observation, np.float64)[rows]
    change = np.asarray(data.next_observation, np.float64)[rows] - observation
    return observation, np.asarray(data.action, np.float64)[rows], change


def one_step_error(fitted: np.ndarray, s: np.ndarray, a: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Median absolute error of a linear model of the change, per column."""
    return np.median(np.abs(change - np.concatenate([s, a, np.ones((len(s), 1))], axis=1) @ fitted), axis=0)


def check_columns_alike(names: str, source: Transitions, target: Transitions) -> Iterator[Finding]:
    """Units and order of the observation's columns: a linear one-step model of the source must fit the target."""
    s, a, change = sample(source)
    t, b, moved = sample(target)
    if min(len(s), len(t)) < 20 * (s.shape[1] + a.shape[1]):
        return
    seen = np.concatenate([s, a, np.ones((len(s), 1))], axis=1)
    fitted = np.linalg.solve(seen.T @ seen + 1e-6 * len(s) * np.eye(seen.shape[1]), seen.T @ change)
    moving = (change.std(axis=0) > 1e-9) & (moved.std(axis=0) > 1e-9)
    unit = np.where(moving, change.std(axis=0), 1.0)

    def error(t: np.ndarray, moved: np.ndarray) -> float:
        return float((one_step_error(fitted, t, b, moved) / unit)[moving].mean())

    plain = error(t, moved)
    spread = np.where(moving, t.std(axis=0) / np.maximum(s.std(axis=0), 1e-12), 1.0)
    pace = np.where(moving, moved.std(axis=0) / unit, 1.0)
    both = np.where(np.sign(np.log(spread)) == np.sign(np.log(pace)), np.minimum(*_sizes(spread, pace)), 1.0)
    other = moving & (both > OTHER_UNIT)
    if other.any():
        factor = np.where(other, np.sqrt(spread * pace), 1.0)
        if error(t / factor, moved / factor) < MENDED * plain:
            told = ", ".join(f"{i} (about {factor[i]:.3g} times)" for i in np.flatnonzero(other))
            fix = "convert both domains to the same units (degrees and radians differ by 57.3, mm and m by 1000)"
            what = f"observation columns are larger in the target by a constant factor: {told}"
            yield Finding("warning", "units", names, what, fix)
            return
    few = np.linspace(0, len(t) - 1, min(ORDER_SAMPLE, len(t))).astype(int)
    rest = np.arange(t.shape[1])

    def error_of(order: np.ndarray) -> float:
        whole = np.concatenate([order, rest[len(order) :]])
        misfit = one_step_error(fitted, t[few][:, whole], b[few], moved[few][:, whole])
        return float((misfit / unit)[moving].mean())

    order = best_order(np.flatnonzero(moving), error_of)
    moved_columns = np.flatnonzero(order != np.arange(len(order)))
    if moved_columns.size:
        told = ", ".join(f"{i} looks like the target's {order[i]}" for i in moved_columns)
        fix = "bring the observation's entries into the same order in both files"
        yield Finding("warning", "order", names, f"the source's observation column {told}", fix)


def _sizes(*ratios: np.ndarray) -> tuple[np.ndarray, ...]:
    """Each ratio as a factor of at least 1."""
    return tuple(np.exp(np.abs(np.log(np.maximum(ratio, 1e-12)))) for ratio in ratios)


def best_order(columns: np.ndarray, error: Callable[[np.ndarray], float]) -> np.ndarray:
    """An order of the target's columns with a smaller one-step error: exchanges of two of `columns`, the best first."""
    order = np.arange(int(columns.max()) + 1 if columns.size else 0)
    least = error(order)
    while True:
        tried = {}
        for i, j in itertools.combinations(columns, 2):
            other = order.copy()
            other[[i, j]] = other[[j, i]]
            tried[i, j] = (error(other), other)
        if not tried:
            return order
        found, other = min(tried.values(), key=lambda pair: pair[0])
        if found > WORTH * least:
            return order
        least, order = found, other


def check_coverage(names: str, source: Transitions, target: Transitions) -> Iterator[Finding]:
    """Which share of the source's states lies where the target data have been.

    There: no farther from a target row than all but 5 % of target rows are from rows of other target episodes (of
    the other half of the data where there is one episode).
    """
    (x, _, _), (y, _, _) = sample(source), sample(target)
    if min(len(x), len(y)) < 20:
        return
    rows = np.flatnonzero(np.asarray(target.terminal) == 0)
    episode = np.asarray(target.episode)[rows[np.linspace(0, len(rows) - 1, len(y)).astype(int)]]
    if len(np.unique(episode)) == 1:
        episode = np.arange(len(y)) // (len(y) // 2 + 1)
    middle, spread = y.mean(axis=0), y.std(axis=0)
    x, y = ((z - middle) / np.where(spread > 1e-6, spread, 1.0) for z in (x, y))
    half = episode <= np.median(np.unique(episode))
    own = np.concatenate(
        [scipy.spatial.cKDTree(y[part]).query(y[~part])[0] for part in (half, ~half) if part.any() and (~part).any()]
    )
    near = scipy.spatial.cKDTree(y).query(x)[0] <= np.quantile(own, 0.95)
    what = f"{near.mean():.0%} of the source's states lie where the target data have been"
    fix = "more target data, or source data nearer to it; elsewhere no method can check the source against the target"
    yield Finding("note", "coverage", names, what, fix if near.mean() < 0.5 else "none needed")
