"""Oracle Bellman error of source rows, from the target domain's simulator, and how well a ranking predicts it.

    b_tar = r_tar + γ (1 - d_tar) V(s'_tar)      one step of the target simulator from the row's s with its a
    b     = r + γ (1 - d) V(s')                  the row's own backup
    oracle error = |b_tar - b|                   (TABB, Figure 3)

A ranking gives each row a number; larger means that the row should be trusted less. A good ranking gives small numbers
to rows with small oracle errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.spatial
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from tabb.environments.engine import Engine
from tabb.environments.simulate import one_step
from tabb.environments.tasks import Task
from tabb.errors import DataError
from tabb.transitions import Transitions

Value = Callable[[NDArray[np.float32]], ArrayLike]
"""V of raw observations [N, S], shape [N]."""
VELOCITY_BOUND = {"hopper": 10.0, "walker2d": 10.0}
"""Observations of these robots clip velocities at this bound, so that the true velocity is not known there."""
POSITIONS = {"hopper": 5, "walker2d": 8}
"""Entries of their observations before the velocities."""


class Truth(NamedTuple):
    """What follows source rows in the target domain's simulator."""

    next_observation: NDArray[np.float32]
    reward: NDArray[np.float32]
    terminal: NDArray[np.float32]


def known_state(task: Task, rows: Transitions) -> NDArray[np.bool_]:
    """Which rows have a fully known state, from which a simulator can start: no velocity is clipped."""
    if task.robot not in POSITIONS:
        return np.ones(len(rows), bool)
    velocities = np.asarray(rows.observation)[:, POSITIONS[task.robot] :]
    return np.abs(velocities).max(axis=1) < VELOCITY_BOUND[task.robot]


def usable_rows(task: Task, source: Transitions, count: int, seed: int = 0) -> NDArray[np.intp]:
    """Sorted indices of `count` random rows that are not terminal and have a known state (all such rows if fewer)."""
    rows = np.flatnonzero((np.asarray(source.terminal) == 0) & known_state(task, source))
    if not rows.size:
        raise DataError("source: no row's state is fully known (all are terminal or have a clipped velocity)")
    return np.sort(np.random.default_rng(seed).choice(rows, min(count, rows.size), replace=False))


def ask_target(task: Task, rows: Transitions, engine: Engine = "legacy") -> Truth:
    """One step of the target domain's simulator from the state of each row, with its action."""
    step = one_step(task, rows.observation, rows.action, engine)
    return Truth(
        step.next_observation.astype(np.float32), step.reward.astype(np.float32), step.terminal.astype(np.float32)
    )


def oracle_error(value: Value, rows: Transitions, truth: Truth, discount: float) -> NDArray[np.float64]:
    """|b_tar - b| of each row, in units of return."""

    def backup(reward: ArrayLike, terminal: ArrayLike, following: NDArray[np.float32]) -> NDArray[np.float64]:
        future = np.asarray(value(following), np.float64)
        return np.asarray(reward, np.float64) + discount * (1.0 - np.asarray(terminal, np.float64)) * future

    own = backup(rows.reward, rows.terminal, np.asarray(rows.next_observation))
    return np.abs(backup(truth.reward, truth.terminal, truth.next_observation) - own)


def rank_correlation(ranking: ArrayLike, error: ArrayLike) -> float:
    """Spearman's rank correlation; 0 if all rows have the same rank or the same error."""
    ranking, error = np.asarray(ranking, float), np.asarray(error, float)
    if min(len(np.unique(ranking)), len(np.unique(error))) < 2:
        return 0.0
    return float(scipy.stats.spearmanr(ranking, error).statistic)


def kept_error(ranking: ArrayLike, error: ArrayLike, shares: Sequence[float]) -> NDArray[np.float64]:
    """Mean oracle error of the most trusted share of the rows, for each share in (0, 1]; ties keep the rows' order."""
    ordered = np.asarray(error, float)[np.argsort(np.asarray(ranking, float), kind="stable")]
    means = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    return means[[max(1, round(share * len(ordered))) - 1 for share in shares]]


def nearest_distance(rows: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean distance from each of `rows` [N, W] to the nearest of `target` [M, W], in the same standard units."""
    return scipy.spatial.cKDTree(target).query(rows)[0]
