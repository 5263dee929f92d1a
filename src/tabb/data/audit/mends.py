"""Corrections ("mends") of a target's columns after which a model of the source's steps fits them.

A linear one-step model of the source predicts the target's steps. A shift of the dynamics makes it worse; a column
that means something else makes it much worse, and one mend makes it good again. A mend of a column alone (sign, offset,
unit) is tried before an exchange of two.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Literal, NamedTuple

import numpy as np

from tabb.float32 import is_constant
from tabb.transitions import Transitions

SAMPLE = 5_000
"""rows of each domain that are compared"""
TRIED = 1_000
"""rows of the target that mends are tried on"""
SUSPECTS = 32
"""columns that fit worst, among which mends are sought: the work must not grow with the cube of their number"""
MENDS = 8
"""mends that are sought, one after the other"""

OTHER_UNIT = 4.0
"""factor between the domains of both a column's spread and its steps' spread that only another unit makes"""
AGREE = 3.0
"""factor within which the two must agree"""
FAR_UNIT = 30.0
"""factor of both from which they need not agree if the slope of true steps over foretold ones says the same"""
FORETOLD = 0.4
"""correlation of foretold and true steps from which their slope counts"""
CURED = 0.5
"""share of a column's error that a mend may leave"""
WORTH = 0.95
"""share of all columns' error that a mend may leave"""
SIMPLER = 1.1
"""an exchange must leave so many times less error than a mend of one column, which is tried first"""
RARE = 0.001
"""Share of rows left out at either end of a column's range. A column lies elsewhere if the ranges do not meet: a robot
that only lives elsewhere comes there from where it starts."""
CURED_SIGN = 0.3
"""share of a column's error that another sign may leave"""
COUPLED = -0.65
"""Cosine of a column's couplings with all others in the two domains below which its sign differs: it then turns all of
them round. In public data and shifted robots it stays above -0.62; a sign that was turned makes it -0.7 to -0.9."""
COUPLED_STATES = -0.3
"""the same of couplings with the other columns alone: actions that were negated turn the others round"""
SHRUNK = 1e-3
"""ridge of the couplings, as a share of each input's mean square: columns that go together share what they do"""
NEGATED = -0.5
"""effect of an action in the target, in units of its effect in the source, below which its sign differs"""

SURE = 10.0
"""squared effect of an action, in units of its standard error, from which it is no chance; chance makes 1"""

Kind = Literal["sign", "offset", "units", "order"]


class Steps(NamedTuple):
    """Rows that have a next state."""

    observation: np.ndarray  # [n, S], doubles
    action: np.ndarray  # [n, A]
    change: np.ndarray  # [n, S]
    reward: np.ndarray  # [n]


def sample(data: Transitions, count: int = SAMPLE) -> Steps:
    """Rows that have a next state, spread over the data."""
    rows = np.flatnonzero(np.asarray(data.terminal) == 0)
    rows = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)] if len(rows) else rows
    observation, action, following, reward = (
        np.asarray(np.asarray(column)[rows], np.float64)
        for column in (data.observation, data.action, data.next_observation, data.reward)
    )
    return Steps(observation, action, following - observation, reward)


def ridge_fit(inputs: np.ndarray, outputs: np.ndarray, ridge: float = 1e-6) -> np.ndarray:
    """Least squares with a ridge of a millionth (or `ridge`) of each input's mean square."""
    gram = inputs.T @ inputs
    return np.linalg.solve(gram + np.diag(ridge * np.diag(gram) + 1e-300), inputs.T @ outputs)


def surely(inputs: np.ndarray, outputs: np.ndarray, weight: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Inputs (bool [K]) whose effect on the `moving` outputs is no chance: it is several standard errors large."""
    if not moving.any():
        return np.zeros(len(weight), bool)
    gram = inputs.T @ inputs
    spread = np.diag(np.linalg.inv(gram + np.diag(1e-6 * np.diag(gram) + 1e-300)))
    error = np.maximum((outputs - inputs @ weight).var(axis=0), 1e-12)[moving]
    sure: np.ndarray = (weight[:, moving] ** 2 / (spread[:, None] * error)).mean(axis=1) > SURE
    return sure


def couplings(steps: Steps) -> np.ndarray:
    """What each column and each action does to the step of each column, [S + A, S], all in their own spreads."""
    spread, pace = (np.where(of > 0, of, 1.0) for of in (steps.observation.std(axis=0), steps.change.std(axis=0)))
    states = (steps.observation - steps.observation.mean(axis=0)) / spread
    return ridge_fit(np.c_[states, steps.action, np.ones(len(states))], steps.change / pace, SHRUNK)[:-1]


def turned(source: Steps, target: Steps, moving: np.ndarray) -> list[int]:
    """Columns that all others are coupled with the other way round in the target, the clearest first."""
    here, there = couplings(source), couplings(target)
    size = len(moving)
    # Actions that were negated turn what they do to every column, and no column is to blame.
    for action in range(size, len(there)):
        if _cosine(here[action, moving], there[action, moving]) < NEGATED:
            there[action] *= -1
    found: list[int] = []
    while len(found) < MENDS:
        cosines = np.ones(size)
        for i in np.flatnonzero(moving):
            others = np.flatnonzero(moving & (np.arange(size) != i))
            pairs = [np.r_[table[i, others], table[others, i], table[size:, i]] for table in (here, there)]
            if _cosine(*(pair[: 2 * len(others)] for pair in pairs)) < COUPLED_STATES:
                cosines[i] = _cosine(*pairs)
        if cosines.min() >= COUPLED or int(np.argmin(cosines)) in found:
            return found
        worst = int(np.argmin(cosines))
        found.append(worst)
        there[worst] *= -1
        there[:, worst] *= -1
    return found


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    size = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / size) if size > 0 else 1.0


@dataclasses.dataclass(frozen=True)
class Mend:
    """A change of the target's columns after which the source's model fits them."""

    kind: Kind
    columns: tuple[int, ...]
    factor: float = 1.0
    offset: float = 0.0
    sure: bool = True
    """Whether the steps say so, and not the column's spread and pace alone, which a joint that is held makes small."""


class Model:
    """A linear one-step model of the source, and the target's columns as they stand after the mends made so far."""

    def __init__(self, source: Steps, target: Steps) -> None:
        middle = source.observation.mean(axis=0)
        spread = source.observation.std(axis=0)
        scale = np.where(is_constant(middle, spread), 1.0, spread)
        seen = np.c_[(source.observation - middle) / scale, source.action, np.ones(len(source.action))]
        fit = np.arange(len(seen)) % 2 == 0
        unit = source.change.std(axis=0)
        self.moving = ~is_constant(middle, unit) & ~is_constant(
            target.observation.mean(axis=0), target.change.std(axis=0)
        )
        self.unit = np.where(unit > 0, unit, 1.0)
        weight = ridge_fit(seen[fit], source.change[fit] / self.unit)
        error = np.abs(source.change[~fit] / self.unit - seen[~fit] @ weight)
        self.own = np.maximum(np.median(error, axis=0), 1e-3)
        """the model's error [S] on source rows it was not fitted to, in units of each column's steps"""
        size = len(middle)
        self._usual, self._scale = np.median(source.observation, axis=0), scale
        self.effect = weight[:size] / scale[:, None]
        """change [S] of each column's prediction by a unit of another, [S, S]"""
        self.action_effect = weight[size:-1]
        self.sure_actions = surely(seen[fit], source.change[fit] / self.unit, weight, self.moving)[size:-1]
        """actions [A] that surely do something in the source"""
        few = np.linspace(0, len(target.change) - 1, min(TRIED, len(target.change))).astype(int)
        self.observation, self.change = target.observation[few].copy(), target.change[few] / self.unit
        seen = np.c_[(self.observation - middle) / scale, target.action[few], np.ones(len(few))]
        self.residual = self.change - seen @ weight
        self.spread = np.where(self.moving, target.observation.std(axis=0) / np.maximum(scale, 1e-300), 1.0)
        self.pace = np.where(self.moving, target.change.std(axis=0) / self.unit, 1.0)
        self.away = np.median(target.observation, axis=0) - np.median(source.observation, axis=0)
        here, there = (np.quantile(side.observation, [RARE, 1 - RARE], axis=0) for side in (source, target))
        self.apart = (here[1] < there[0]) | (there[1] < here[0])

    def error(self, residual: np.ndarray) -> np.ndarray:
        """Median size [S] of the residuals around their median: a constant force, which is a shift, is no misfit."""
        return np.where(self.moving, np.median(np.abs(residual - np.median(residual, axis=0)), axis=0), 0.0)

    def after(self, mend: Mend) -> np.ndarray:
        """Residuals [n, S] of the target's steps when `mend` is made."""
        if mend.kind == "order":
            i, j = mend.columns
            # Inputs i and j change places, and so do the changes of both columns (each in units of its own).
            difference = self.observation[:, j] - self.observation[:, i]
            residual = self.residual - np.outer(difference, self.effect[i] - self.effect[j])
            ratio = self.unit[j] / self.unit[i]
            residual[:, i] += self.change[:, j] * ratio - self.change[:, i]
            residual[:, j] += self.change[:, i] / ratio - self.change[:, j]
            return residual
        (i,) = mend.columns
        difference = (mend.factor - 1) * self.observation[:, i] + mend.offset
        residual = self.residual - np.outer(difference, self.effect[i])
        residual[:, i] += (mend.factor - 1) * self.change[:, i]
        return residual

    def make(self, mend: Mend) -> None:
        """Make `mend`."""
        self.residual = self.after(mend)
        if mend.kind == "order":
            i, j = mend.columns
            ratio = self.unit[j] / self.unit[i]
            self.observation[:, [i, j]] = self.observation[:, [j, i]]
            self.change[:, i], self.change[:, j] = self.change[:, j] * ratio, self.change[:, i] / ratio
            return
        (i,) = mend.columns
        self.observation[:, i] = mend.factor * self.observation[:, i] + mend.offset
        self.change[:, i] *= mend.factor
        self.spread[i], self.pace[i] = (abs(mend.factor) * value[i] for value in (self.spread, self.pace))

    def unit_factors(self) -> np.ndarray:
        """How many times larger [S] a column is in the target, by its spread and its steps; 1 where they disagree."""
        with np.errstate(divide="ignore"):
            logs = np.log(np.maximum([self.spread, self.pace], 1e-12))
        least, apart = np.abs(logs).min(axis=0), np.abs(logs[0] - logs[1])
        clear = (least > np.log(OTHER_UNIT)) & (apart < np.log(AGREE))
        same_side, (slope, known) = logs[0] * logs[1] > 0, self.slopes()
        clear |= (least > np.log(FAR_UNIT)) & same_side & known & (np.abs(slope - logs.mean(axis=0)) < np.log(AGREE))
        # A joint that is held makes just the small steps that its small speeds foretell.
        clear &= ~(known & (logs.mean(axis=0) < 0) & (np.abs(slope) < np.log(AGREE)))
        return np.where(clear & self.moving, np.exp(logs.mean(axis=0)), 1.0)

    def slopes(self) -> tuple[np.ndarray, np.ndarray]:
        """How many times larger [S] true steps are than foretold ones (logarithm), and where they correlate enough."""
        foretold = self.change - self.residual
        steps = [table - table.mean(axis=0) for table in (foretold, self.change)]
        squares = [(table**2).mean(axis=0) + 1e-300 for table in steps]
        product = (steps[0] * steps[1]).mean(axis=0)
        return np.log(np.maximum(product / squares[0], 1e-300)), product > FORETOLD * np.sqrt(squares[0] * squares[1])

    def turned_away(self) -> np.ndarray:
        """Columns (bool [S]) that another sign takes away from where the source's are, by a spread of theirs or more: a
        speed forwards fits the steps backwards too, but it is no other sign."""
        here = np.median(self.observation, axis=0)
        away: np.ndarray = np.abs(-here - self._usual) > np.abs(here - self._usual) + self._scale
        return away

    def suspects(self) -> np.ndarray:
        """The columns that fit worst, measured by the source's own error."""
        moving = np.flatnonzero(self.moving)
        misfit = self.error(self.residual)[moving] / self.own[moving]
        return np.sort(moving[np.argsort(-misfit, kind="stable")[:SUSPECTS]])


def best_mend(model: Model) -> Mend | None:
    """The mend that leaves the least error, if it cures the columns that it changes; one of a column alone before an
    exchange."""
    before = model.error(model.residual)
    total = before[model.moving].sum()
    suspects = model.suspects()
    factors = model.unit_factors()

    def leaves(mend: Mend) -> float:
        after = model.error(model.after(mend))
        share = CURED_SIGN if mend.kind == "sign" else CURED
        cured = all(after[column] <= share * before[column] for column in mend.columns)
        return after[model.moving].sum() if cured else np.inf

    alone = [Mend("sign", (int(i),), -1.0) for i in suspects[~model.turned_away()[suspects]]]
    alone += [Mend("units", (int(i),), 1 / factors[i]) for i in suspects if factors[i] != 1]
    exchanges = [Mend("order", (int(i), int(j))) for i, j in itertools.combinations(suspects, 2)]
    best, least = None, WORTH * total
    for mends, by in ((alone, 1.0), (exchanges, SIMPLER)):
        left = [leaves(mend) for mend in mends]
        if left and min(left) * (by if best is not None else 1.0) < least:
            least = min(left)
            best = mends[left.index(least)]
    return best


def made_mends(model: Model, most: int) -> list[Mend]:
    """At most so many mends, each the best after those before it; they are made."""
    mends: list[Mend] = []
    while len(mends) < most and (mend := best_mend(model)) is not None:
        model.make(mend)
        mends.append(mend)
    return mends


def far_units(model: Model, mended: set[int]) -> list[Mend]:
    """Columns whose spread and steps both differ by a factor that no shift makes, where no other mend cured them."""
    factors = model.unit_factors()
    far = np.flatnonzero(np.abs(np.log(factors)) > np.log(FAR_UNIT))
    slope, known = model.slopes()
    sure = known & (np.abs(slope - np.log(factors)) < np.log(AGREE))
    mends = [Mend("units", (int(i),), float(1 / factors[i]), sure=bool(sure[i])) for i in far if i not in mended]
    for mend in mends:
        model.make(mend)
    return mends


def offsets(model: Model, mended: set[int]) -> list[Mend]:
    """Columns that lie elsewhere in the target, where the source's model asks for it: its predictions are off by just
    what the offset does to them."""
    before = np.abs(np.median(model.residual, axis=0))
    mends = []
    for i in sorted({*np.flatnonzero(model.apart & model.moving).tolist()} - mended):
        mend = Mend("offset", (int(i),), 1.0, -float(model.away[i]))
        after = np.abs(np.median(model.after(mend), axis=0))
        asked = np.abs(model.effect[i] * model.away[i]) > 0.5
        if asked.any() and after[asked].sum() < CURED * before[asked].sum():
            mends.append(mend)
            model.make(mend)
    return mends


def mends_between(model: Model, source: Steps, target: Steps) -> list[Mend]:
    """All mends of the target's columns, in the order in which they were found; they are made in `model`."""
    if not model.moving.any():
        return []
    mends: list[Mend] = []
    for column in turned(source, target, model.moving):
        mends.append(Mend("sign", (column,), -1.0))
        model.make(mends[-1])
    mends += made_mends(model, MENDS - len(mends))
    # What is far off hides other faults behind it, and an exchange can look like two units: again after it.
    if far := far_units(model, _changed_by(mends)):
        mends += [*far, *made_mends(model, MENDS - len(mends))]
    # A column that was negated or exchanged lies elsewhere, too: the offset of what is left alone.
    mends += offsets(model, _changed_by(mends))
    return mends


def _changed_by(mends: list[Mend]) -> set[int]:
    return {column for mend in mends for column in mend.columns}
