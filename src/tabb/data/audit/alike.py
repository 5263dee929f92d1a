"""Whether the columns of two domains mean the same: signs, offsets, units and order; rewards and actions.

A linear one-step model of the source is asked how well it foretells the target's steps. A shift of the dynamics makes
it worse; a column that means something else makes it much worse, and one mend makes it good again. A mend of a column
alone (sign, offset, unit) is tried before an exchange of two; where none helps, the audit says that it does not fit.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from tabb.data.audit.finding import Finding
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
HELD = 300.0
"""Factor up to which several columns may be smaller because the policy holds their joints at a limit: places and speeds
alike. Linear policies in shifted robots reach 144."""
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
COUPLED = -0.6
"""Cosine of a column's couplings with all others in the two domains below which its sign differs: it then turns all of
them round. In public data and shifted robots it stays above -0.5; a sign that was turned makes it -0.7 to -0.9."""
COUPLED_STATES = -0.3
"""the same of couplings with the other columns alone: actions that were negated turn the others round"""
SHRUNK = 1e-3
"""ridge of the couplings, as a share of each input's mean square: columns that go together share what they do"""
ILL = 5.0
"""times the source's own error from which a column does not fit; the limits of a joint reach 15"""
UNFIT = 0.5
"""steps of a column that its error must reach: in logs without noise the source's own error is next to nothing"""
ODD = 30.0
"""times the source's own error that no shift of the public data makes"""

CORRELATED = 0.7
"""correlation of the target's rewards with those that the source's rewards foretell, from which their scales compare;
in public data it is 0.97 at least, with slopes of 0.95 to 1.07"""
OTHER_REWARDS = 2.0
"""factor of slopes from which rewards are in other units"""
OTHER_SPREAD = 30.0
"""factor of spreads from which they are where nothing can be foretold"""
OTHER_RANGE = 1.4
"""factor between the largest actions of both domains from which they are in other units, if they pile up there"""
PILED = 0.005
"""share of actions within 1 % of the largest that only a bound makes"""
NEGATED = -0.5
"""effect of an action in the target, in units of its effect in the source, below which its sign differs"""

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
        self.effect = weight[:size] / scale[:, None]
        """change [S] of each column's prediction by a unit of another, [S, S]"""
        self.action_effect = weight[size:-1]
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

    alone = [Mend("sign", (int(i),), -1.0) for i in suspects]
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


def check_columns_alike(names: str, source: Transitions, target: Transitions) -> Iterator[Finding]:
    """Signs, offsets, units and order of the target's columns; scales of its rewards and actions."""
    here, there = sample(source), sample(target)
    size, actions = here.observation.shape[1], here.action.shape[1]
    if min(len(here.change), len(there.change)) < 20 * (size + actions):
        return
    model = Model(here, there)
    mends: list[Mend] = []
    if model.moving.any():
        for column in turned(here, there, model.moving):
            mends.append(Mend("sign", (column,), -1.0))
            model.make(mends[-1])
        mends += made_mends(model, MENDS - len(mends))
        # What is far off hides other faults behind it, and an exchange can look like two units: again after it.
        if far := far_units(model, _changed_by(mends)):
            mends += [*far, *made_mends(model, MENDS - len(mends))]
        # A column that was negated or exchanged lies elsewhere, too: the offset of what is left alone.
        mends += offsets(model, _changed_by(mends))
    yield from _findings(names, mends, int(model.moving.sum()))
    yield from _rewards(names, here, there, bool(mends))
    actions_differ = list(_actions(names, here, there, model, bool(mends)))
    yield from actions_differ
    if not actions_differ:  # steps of other actions fit nowhere
        yield from _misfits(names, model)


def _changed_by(mends: list[Mend]) -> set[int]:
    return {column for mend in mends for column in mend.columns}


def _findings(names: str, mends: list[Mend], moving: int) -> Iterator[Finding]:
    """What the mends say of columns, of which so many move: one finding for each kind."""
    by_kind = {kind: [mend for mend in mends if mend.kind == kind] for kind in ("units", "sign", "offset", "order")}
    if made := by_kind["units"]:
        listed = ", ".join(f"{mend.columns[0]} (about {_times(1 / mend.factor)})" for mend in made)
        what = f"observation columns differ in the target by a constant factor: {listed}"
        fix = "convert both domains to the same units (degrees and radians differ by 57.3, mm and m by 1000)"
        small = sum(1 < mend.factor < HELD for mend in made)
        several = 2 <= small <= moving / 2
        held = small == len(made) and (several or not any(mend.sure for mend in made))
        fix = f"none needed if the target's policy holds these joints; else {fix}" if held else fix
        yield Finding("note" if held else "warning", "units", names, what, fix)
    if made := by_kind["sign"]:
        listed = ", ".join(str(mend.columns[0]) for mend in made)
        what = f"observation columns have the other sign in the target: {listed}"
        yield Finding("warning", "sign", names, what, "negate them in one of the domains")
    if made := by_kind["offset"]:
        listed = ", ".join(f"{mend.columns[0]} (by about {-mend.offset:.3g})" for mend in made)
        what = f"observation columns are shifted in the target: {listed}"
        yield Finding("warning", "offset", names, what, "measure them from the same origin in both domains")
    if made := by_kind["order"]:
        order: dict[int, int] = {}
        for mend in made:
            i, j = mend.columns
            order[i], order[j] = order.get(j, j), order.get(i, i)
        listed = ", ".join(f"{i} looks like the target's {order[i]}" for i in sorted(order) if order[i] != i)
        fix = "bring the observation's entries into the same order in both files"
        yield Finding("warning", "order", names, f"the source's observation column {listed}", fix)


def _times(factor: float) -> str:
    return f"{factor:.3g} times larger" if factor > 1 else f"{1 / factor:.3g} times smaller"


def _misfits(names: str, model: Model) -> Iterator[Finding]:
    """Columns that no mend makes fit: a large shift of the dynamics, or something that the audit does not know."""
    error = model.error(model.residual)
    ratio = np.where(error > UNFIT, error / model.own, 0.0)
    if not (ratio > ILL).any():
        return
    worst = np.argsort(-ratio, kind="stable")[: min(5, int((ratio > ILL).sum()))]
    listed = ", ".join(f"{i} ({ratio[i]:.0f} times the source's error)" for i in worst)
    what = f"columns of the target do not fit the source's steps: {listed}; no sign, unit or exchange mends it"
    fix = "none needed if the shift itself is in these columns; else check what they hold"
    yield Finding("warning" if ratio.max() > ODD else "note", "misfit", names, what, fix)


def _rewards(names: str, source: Steps, target: Steps, mended: bool) -> Iterator[Finding]:
    """Scale and sign of the target's rewards, against those that the source's rewards foretell for its steps."""
    spreads = source.reward.std(), target.reward.std()
    if min(spreads) == 0:
        return
    fix = "compute rewards by the same function, in the same units, in both domains"
    where = f"{names}: rewards"
    middle, unit = source.observation.mean(axis=0), source.observation.std(axis=0)
    unit, pace = (np.where(value > 0, value, 1.0) for value in (unit, source.change.std(axis=0)))

    def seen(steps: Steps) -> np.ndarray:
        states, changes = np.clip((steps.observation - middle) / unit, -10, 10), np.clip(steps.change / pace, -10, 10)
        return np.c_[np.ones(len(states)), states, steps.action, changes, steps.action**2]

    foretold = seen(target) @ ridge_fit(seen(source), source.reward)
    spread = foretold.std()
    correlation = float(np.corrcoef(foretold, target.reward)[0, 1]) if spread > 0 else 0.0
    if not mended and abs(correlation) > CORRELATED:
        slope = correlation * spreads[1] / spread
        if slope < 0:
            what = "the target's rewards have the other sign: they fall where the source's rise"
            yield Finding("warning", "rewards", where, what, fix)
        if not 1 / OTHER_REWARDS < abs(slope) < OTHER_REWARDS:
            what = f"the target's rewards are about {_times(abs(slope))} than the source's for the same steps"
            yield Finding("warning", "rewards", where, what, fix)
        return
    if max(spreads) > OTHER_SPREAD * min(spreads):
        what = f"the target's rewards spread {_times(spreads[1] / spreads[0])} than the source's"
        yield Finding("warning", "rewards", where, what, fix)


def _actions(names: str, source: Steps, target: Steps, model: Model, mended: bool) -> Iterator[Finding]:
    """Range and sign of the target's actions."""
    where = f"{names}: actions"
    largest = [np.abs(steps.action).max(axis=0) for steps in (source, target)]
    negative = [steps.action.min(axis=0) < -0.05 * size for steps, size in zip((source, target), largest, strict=True)]
    # Actions in [0, 1] reach down to their bound, 0; those of a policy that pushes one way need not.
    reach_zero = target.action.min(axis=0) < 0.05 * largest[1]
    one_sided = np.flatnonzero(negative[0] & ~negative[1] & (largest[1] > 0) & reach_zero)
    fix = "rescale both domains' actions to [-1, 1] by the bounds of the same action space"
    if one_sided.size:
        what = f"columns {', '.join(map(str, one_sided))} are never negative in the target, but in the source they are"
        yield Finding("warning", "actions", where, what, fix)
    sides = (("target", largest[1], largest[0], target), ("source", largest[0], largest[1], source))
    for side, own, other, steps in sides:
        piled = (np.abs(steps.action) >= 0.99 * own).mean(axis=0) > PILED
        narrow = np.flatnonzero(piled & (own > 0) & (other > OTHER_RANGE * own))
        narrow = np.setdiff1d(narrow, one_sided)
        if narrow.size:
            listed = ", ".join(f"{i} (at {own[i]:.3g}, not {other[i]:.3g})" for i in narrow[:5])
            yield Finding("warning", "actions", where, f"columns have another bound in the {side}: {listed}", fix)
    if mended or not model.moving.any():
        return
    middle, spread = target.observation.mean(axis=0), target.observation.std(axis=0)
    seen = np.c_[(target.observation - middle) / np.where(spread > 0, spread, 1.0), target.action]
    effect = ridge_fit(np.c_[seen, np.ones(len(seen))], target.change / model.unit)[len(middle) : -1][:, model.moving]
    known = model.action_effect[:, model.moving]
    square = (known**2).sum(axis=1)
    gain = (known * effect).sum(axis=1) / np.where(square > 0, square, 1.0)
    cosine = (known * effect).sum(axis=1) / np.sqrt(np.maximum(square * (effect**2).sum(axis=1), 1e-300))
    negated = np.flatnonzero((gain < NEGATED) & (cosine < NEGATED))
    if negated.size:
        what = f"columns {', '.join(map(str, negated))} have the opposite effect in the target"
        yield Finding("warning", "actions", where, what, "negate them in one of the domains, if the motors turn alike")
