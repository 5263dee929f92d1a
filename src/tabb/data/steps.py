"""Whether the steps of a log agree with what it states: with its next observations, and with the ends of its episodes.

The rule for episode ends (`tabb.data.boundaries`) and the doubts about it (`tabb.data.audit.structure`) both ask here.
Distances are measured in steps: per column, in units of how far it usually moves from one row to the next.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np

from tabb.data.checks import pieces

Relation = Literal[
    "next row",
    "own row",
    "row after next",
    "row before",
    "change",
    "other units",
    "interleaved",
    "no order",
    "nothing",
    "unknown",
]
"""What stored next observations are. `change`: s' - s. `other units`: the next row, each column times a factor and
moved. `interleaved`: a row some rows on, as where several environments are logged in turn. `no order`: they follow from
their own rows, but the rows are in no order. `unknown`: too few rows to tell."""

TURNS = 64
"""environments logged in turn that are looked for"""
FITS = 1e-4
"""share of the variance of stored next observations that the next row in other units leaves"""

SAMPLE = 20_000
"""Rows that steps are measured on."""

FEW = 20
"""With fewer rows than this for each column, nothing is said of what next observations are."""

SAME = 0.05
"""Steps within which a stored next observation is the next row in a file that stores it exactly."""

NOISE = 10.0
"""How many times the median distance a noisy next observation may lie from the next row."""

LEAST = 0.3
"""Steps that a noisy next observation must lie from the next row at least to be another state."""

SHUFFLED = 0.9
"""Share of the distance to rows anywhere from which the next row is no nearer than they are."""
SHUFFLED_ROWS = 500
"""With fewer rows inside episodes nothing is said of their order."""

STILL = 0.7
"""Share of its steps that leave a column as it is from which it is a switch or a goal: its changes are no jumps."""

CLOSER = 0.9
"""Next observations follow the log if they are this much nearer to the next row than to their own."""


def spread_rows(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the row numbers `rows`, spread evenly over them."""
    return rows if len(rows) <= count else rows[np.linspace(0, len(rows) - 1, count).astype(int)]


def step_size(observations: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """How far each column usually moves from one of `rows` to the row after it: the 0.9 quantile [S] of the size.

    A column that rarely moves has its root mean square step instead, one that never moves infinity: it says nothing.
    """
    rows = spread_rows(rows, SAMPLE)
    if not len(rows):
        return np.full(observations.shape[1], np.inf)
    sizes = np.abs(observations[rows + 1].astype(np.float64) - observations[rows])
    usual = np.quantile(sizes, 0.9, axis=0)
    usual = np.where(usual > 0, usual, np.sqrt((sizes**2).mean(axis=0)))
    return np.where(usual > 0, usual, np.inf)


def stand_still(observations: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Columns (bool [S]) that hardly ever change from one of `rows` to the row after it: switches, phases, goals."""
    if not len(rows):
        return np.zeros(observations.shape[1], bool)
    same: np.ndarray = (observations[rows + 1] == observations[rows]).mean(axis=0) > STILL
    return same


def distances(first: np.ndarray, second: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Distance [N] of the rows of two matrices [N, S], root mean square over the columns that move, in steps."""
    columns = np.flatnonzero(np.isfinite(unit))
    result = np.zeros(len(first))
    if columns.size:
        for piece in pieces(len(first)):
            apart = (first[piece][:, columns].astype(np.float64) - second[piece][:, columns]) / unit[columns]
            result[piece] = np.sqrt((apart**2).mean(axis=1))
    return result


@dataclasses.dataclass(frozen=True)
class NextRows:
    """How the stored next observations of a file stand to its rows."""

    relation: Relation
    equal: np.ndarray
    """bool [N]: the stored next observation is the next row, bit for bit."""
    near: np.ndarray
    """bool [N]: it is the next row, as exactly as this file states it."""
    exact: bool
    """most rows outside ends hold the next row bit for bit"""

    @property
    def follow(self) -> bool:
        return self.relation == "next row"


def compare_next_rows(observations: np.ndarray, stored: np.ndarray, inner: np.ndarray) -> NextRows:
    """Compare stored next observations [N, S] with the rows [N, S]. `inner` [N] marks rows no end is stated for.

    A row that holds NaN is near to nothing.
    """
    rows = len(observations)
    equal = np.zeros(rows, bool)
    for piece in pieces(rows - 1):
        after = slice(piece.start + 1, piece.stop + 1)
        equal[piece] = (stored[piece] == observations[after]).all(axis=1)
    known = inner[:-1].copy()
    for piece in pieces(rows - 1):
        known[piece] &= ~np.isnan(stored[piece]).any(axis=1)
    asked = np.flatnonzero(known)
    exact = not len(asked) or bool(equal[asked].mean() >= 0.5)
    unit = step_size(observations, asked)
    apart = distances(stored[:-1], observations[1:], unit)
    if exact:
        near = equal.copy()
        # Half a file of exact rows can hold rounded ones too: they are no ends.
        near[:-1] |= (apart <= SAME) & np.isfinite(unit).any()
        return NextRows("next row", equal, near, True)
    asked = spread_rows(asked, SAMPLE)
    relation = _relation(observations, stored, asked, unit)
    near = equal.copy()
    if relation == "next row":
        near[:-1] |= apart <= max(NOISE * float(np.median(apart[asked])), LEAST)
    return NextRows(relation, equal, near, False)


def _relation(observations: np.ndarray, stored: np.ndarray, rows: np.ndarray, unit: np.ndarray) -> Relation:
    """What the stored next observations of `rows` are, where most are not exactly the next row."""

    def median(following: np.ndarray, offset: int) -> float:
        at = np.clip(rows + offset, 0, len(observations) - 1)
        return float(np.median(distances(following, observations[at], unit)))

    following = stored[rows]
    same = [name for name, offset in _OFFSETS.items() if _equal(observations, stored, rows, offset)]
    if same:
        return same[0]
    turns = (turn for turn in range(3, TURNS + 1) if _equal(observations, stored, rows, turn))
    if next(turns, None):
        return "interleaved"
    to_next, to_own = median(following, 1), median(following, 0)
    if len(rows) < FEW * observations.shape[1]:
        return "next row" if to_next < CLOSER * to_own else "unknown"
    others: dict[Relation, float] = {"own row": to_own, "row after next": median(following, 2)}
    others["row before"] = median(following, -1)
    nearest = min(others, key=lambda name: others[name])
    if others[nearest] < 0.1 * to_next and in_order(observations):
        return nearest
    if median(following + observations[rows], 1) < 0.1 * to_next:
        return "change"
    if _in_other_units(following, observations[np.minimum(rows + 1, len(observations) - 1)]):
        return "other units"
    if to_next < CLOSER * to_own:
        return "next row"
    return "no order" if predictable(observations[rows], following) else "nothing"


_OFFSETS: dict[Relation, int] = {"own row": 0, "row after next": 2, "row before": -1}


def _equal(observations: np.ndarray, stored: np.ndarray, rows: np.ndarray, offset: int) -> bool:
    """Whether most stored next observations of `rows` are the row so many rows on, bit for bit."""
    inside = rows[(rows + offset >= 0) & (rows + offset < len(observations))]
    few = spread_rows(inside, 2_000)
    return len(few) >= FEW and bool((stored[few] == observations[few + offset]).all(axis=1).mean() > 0.5)


def _in_other_units(following: np.ndarray, after: np.ndarray) -> bool:
    """Whether each column that moves is that of the next rows, times a factor and moved."""
    pair = [table.astype(np.float64) - table.mean(axis=0, dtype=np.float64) for table in (following, after)]
    squares = [(table**2).mean(axis=0) for table in pair]
    moves = (squares[0] > 0) & (squares[1] > 0)
    left = 1 - (pair[0] * pair[1]).mean(axis=0)[moves] ** 2 / (squares[0] * squares[1])[moves]
    return bool(moves.any() and np.median(left) < 0.5 and _mostly_fits(following[:, moves], after[:, moves]))


def _mostly_fits(following: np.ndarray, after: np.ndarray) -> bool:
    """Whether most rows lie on one line in each column, another than the diagonal; ends of episodes need not."""
    first, second = following.astype(np.float64), after.astype(np.float64)
    good = np.ones(len(first), bool)
    for _ in range(3):
        fit = [np.polyfit(second[good, k], first[good, k], 1) for k in range(first.shape[1])]
        error = np.stack([first[:, k] - np.polyval(fit[k], second[:, k]) for k in range(first.shape[1])], axis=1)
        size = np.sqrt(((error / first.std(axis=0)) ** 2).mean(axis=1))
        good = size <= max(float(np.quantile(size, 0.8)), 1e-12)
    factors, offsets = np.array(fit).T
    elsewhere = (np.abs(factors - 1) > 0.05) | (np.abs(offsets) > 0.5 * first.std(axis=0))
    return bool((size**2)[good].mean() < FITS and elsewhere.any())


def predictable(observations: np.ndarray, following: np.ndarray) -> bool:
    """Whether a linear map of the rows [n, S] foretells any column of `following` [n, S] on rows it was not fitted to.

    Rows of another state have nothing to do with it: less than a tenth of their variance is foretold by chance.
    """
    seen = observations.astype(np.float64)
    spread = seen.std(axis=0)
    seen = np.c_[(seen - seen.mean(axis=0)) / np.where(spread > 0, spread, 1.0), np.ones(len(seen))]
    wanted = following.astype(np.float64)
    fit = np.arange(len(seen)) % 2 == 0
    gram = seen[fit].T @ seen[fit] + 1e-6 * fit.sum() * np.eye(seen.shape[1])
    left = wanted[~fit] - seen[~fit] @ np.linalg.solve(gram, seen[fit].T @ wanted[fit])
    variance = wanted[~fit].var(axis=0)
    moves = variance > 0
    return bool(moves.any() and ((left.var(axis=0)[moves] / variance[moves]) < 0.9).any())


def in_order(observations: np.ndarray) -> bool:
    """Whether adjacent rows are closer than others, so that the rows stand in the order of a log."""
    rows = spread_rows(np.arange(len(observations) - 1), SAMPLE)
    return len(rows) >= FEW and _nearness(observations, rows) < 0.5


def are_shuffled(observations: np.ndarray, end: np.ndarray) -> bool:
    """Whether rows inside episodes (`end` marks the last ones) say nothing of the rows after them.

    They are no nearer to them than to any other row, and do not foretell them. Public data reach 0.8 of the distance
    to other rows, rows in no order 1.
    """
    rows = spread_rows(np.flatnonzero(~end[:-1]), SAMPLE)
    if len(rows) < SHUFFLED_ROWS or not SHUFFLED <= _nearness(observations, rows) < math.inf:
        return False  # infinite where most rows are one and the same: they say nothing of their order
    return not predictable(observations[rows], observations[rows + 1])


def _nearness(observations: np.ndarray, rows: np.ndarray) -> float:
    """Median distance from `rows` to the rows after them, as a share of that to rows anywhere."""
    spread = observations[rows].std(axis=0, dtype=np.float64)
    unit = np.where(spread > 0, spread, np.inf)
    beside = np.median(distances(observations[rows + 1], observations[rows], unit))
    others = np.median(distances(observations[np.random.default_rng(0).permutation(rows)], observations[rows], unit))
    return float(beside / others) if others > 0 else math.inf


class Surprise:
    """How unlike the usual steps of a file a step from one row to the next is.

    A linear model of the change in (s, a) is fitted to usual steps (without the oddest fifth), and the Mahalanobis
    distance squared of its error is measured in units of the median one.
    """

    def __init__(self, observations: np.ndarray, actions: np.ndarray, end: np.ndarray) -> None:
        near_end = end.copy()
        near_end[1:] |= end[:-1]
        near_end[:-1] |= end[1:]
        near_end[-1] = True
        self._observations, self._actions = observations, actions
        rows = spread_rows(np.flatnonzero(~near_end), SAMPLE)
        self.rows = rows
        spread = observations[rows].std(axis=0, dtype=np.float64) if len(rows) else np.zeros(observations.shape[1])
        moves = spread > 1e-6 * np.abs(observations[rows]).max(axis=0, initial=0.0)
        steady = moves & ~stand_still(observations, rows)
        self._columns = np.flatnonzero(steady if steady.any() else moves)
        self.enough = len(rows) >= FEW * (len(self._columns) + actions.shape[1]) and len(self._columns) > 0
        if not self.enough:
            return
        self._unit, self._middle = spread[self._columns], observations[rows][:, self._columns].mean(0, dtype=np.float64)
        seen, change = self._inputs(rows), self._change(rows)
        self._steps = np.maximum(np.quantile(np.abs(change), 0.9, axis=0), 1e-9)
        usual = np.arange(len(rows))
        for _ in range(5):  # steps across ends that nobody states must not widen the measure of the usual ones
            gram = seen[usual].T @ seen[usual] + 1e-9 * len(usual) * np.eye(seen.shape[1])
            self._weight = np.linalg.solve(gram, seen[usual].T @ change[usual])
            error = change - seen @ self._weight
            values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(error[usual].T)))
            # An error of a millionth of a step is rounding, not a surprise.
            floor = max(1e-6 * values.max(), (1e-6 * self._steps.min()) ** 2, 1e-30)
            self._whiten = vectors / np.sqrt(np.maximum(values, floor))
            square = ((error @ self._whiten) ** 2).sum(axis=1)
            usual = np.flatnonzero(square <= np.quantile(square, 0.8))
        self._median = max(float(np.median(square)), 1e-12)

    def _inputs(self, rows: np.ndarray) -> np.ndarray:
        scaled = (self._observations[rows][:, self._columns] - self._middle) / self._unit
        return np.c_[scaled, self._actions[rows], np.ones(len(rows))]

    def _change(self, rows: np.ndarray) -> np.ndarray:
        after, before = (self._observations[at][:, self._columns].astype(np.float64) for at in (rows + 1, rows))
        return (after - before) / self._unit

    def error(self, rows: np.ndarray) -> np.ndarray:
        """Error of the model for the steps from `rows` to the rows after them, [n, K], in column spreads."""
        return self._change(rows) - self._inputs(rows) @ self._weight

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Surprise [n] at the steps from `rows` to the rows after them: about 1 for a usual step."""
        return ((self.error(rows) @ self._whiten) ** 2).sum(axis=1) / self._median

    def in_steps(self, rows: np.ndarray) -> np.ndarray:
        """The model's error [n], root mean square over columns, in units of how far each column usually moves."""
        return np.sqrt(((self.error(rows) / self._steps) ** 2).mean(axis=1))
