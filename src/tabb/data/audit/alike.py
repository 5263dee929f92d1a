"""Whether the columns of two domains mean the same: signs, offsets, units and order; rewards and actions.

Columns are compared by the steps that they make (`tabb.data.audit.mends`). Where no sign, offset, unit or exchange
makes the target fit, the audit says that it does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tabb.data.audit.finding import Finding
from tabb.data.audit.mends import NEGATED, Mend, Model, Steps, mends_between, ridge_fit, sample, surely
from tabb.data.audit.rates import check_rates, rate_factor
from tabb.data.steps import STILL
from tabb.transitions import Transitions

HELD = 300.0
"""Factor up to which several columns may be smaller because the policy holds their joints at a limit: places and speeds
alike. Linear policies in shifted robots reach 144."""
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
"""share of actions within 1% of the largest that only a bound makes"""


def check_columns_alike(names: str, source: Transitions, target: Transitions) -> Iterator[Finding]:
    """Signs, offsets, units and order of the target's columns; scales of its rewards and actions."""
    here, there = sample(source), sample(target)
    size, actions = here.observation.shape[1], here.action.shape[1]
    if min(len(here.change), len(there.change)) < 20 * (size + actions):
        return
    model = Model(here, there)
    mends = mends_between(model, here, there)
    yield from _findings(names, mends, int(model.moving.sum()))
    yield from _still_in_one(names, here, there)
    rate = rate_factor(here, there, {column for mend in mends for column in mend.columns})
    if rate is not None:
        yield from check_rates(names, *rate)
    yield from _rewards(names, here, there, bool(mends))
    actions_differ = list(_actions(names, here, there, model, bool(mends)))
    yield from actions_differ
    if not actions_differ and rate is None:  # steps of other actions, or of other lengths, fit nowhere
        yield from _misfits(names, model)


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


def _still_in_one(names: str, source: Steps, target: Steps) -> Iterator[Finding]:
    """Columns that never change in one domain, and from row to row in the other."""
    sides = {"source": source.observation, "target": target.observation}
    constant = {side: (table == table[0]).all(axis=0) for side, table in sides.items()}
    for side, other, moves in (("source", "target", target.change), ("target", "source", source.change)):
        dead = constant[side] & ~constant[other] & ((moves == 0).mean(axis=0) <= STILL)
        if dead.any() and not constant[side].all():  # all of them are said of the file
            listed = ", ".join(map(str, np.flatnonzero(dead)))
            what = f"observation columns are the same in every row of the {side}, but move in the {other}: {listed}"
            fix = "none needed if these joints are blocked there; else the sensor is dead, or another column is meant"
            yield Finding("warning", "constant", names, what, fix)


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
    seen, change = np.c_[seen, np.ones(len(seen))], target.change / model.unit
    weight = ridge_fit(seen, change)
    effect = weight[len(middle) : -1][:, model.moving]
    sure = model.sure_actions & surely(seen, change, weight, model.moving)[len(middle) : -1]
    known = model.action_effect[:, model.moving]
    square = (known**2).sum(axis=1)
    gain = (known * effect).sum(axis=1) / np.where(square > 0, square, 1.0)
    cosine = (known * effect).sum(axis=1) / np.sqrt(np.maximum(square * (effect**2).sum(axis=1), 1e-300))
    negated = np.flatnonzero(sure & (gain < NEGATED) & (cosine < NEGATED))
    if negated.size:
        what = f"columns {', '.join(map(str, negated))} have the opposite effect in the target"
        yield Finding("warning", "actions", where, what, "negate them in one of the domains, if the motors turn alike")
