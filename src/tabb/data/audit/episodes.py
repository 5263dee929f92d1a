"""Checks of one file after the rule for episodes: boundaries, time limits, the timing of actions and rewards."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tabb.data.arrays import ABSENT, NOT_STORED, OUTSIDE, PADDED
from tabb.data.audit.finding import Finding
from tabb.data.audit.structure import has_no_order
from tabb.data.report import Loaded
from tabb.float32 import is_constant
from tabb.shown import percent
from tabb.transitions import Transitions

FIT_ROWS = 20_000
"""rows that rewards are explained from"""
EXPLAINED_BETTER = 0.25
"""a reward belongs to another row if that leaves less than this share of the error unexplained"""
SOMEWHAT_BETTER = 0.6
"""as `EXPLAINED_BETTER`, where the best row explains nearly all and both halves of the data agree"""
NEARLY_ALL = 0.1
"""share that is left unexplained where a row explains nearly all"""
LATE, EARLY = 0.6, 0.3
"""A difference of neighbouring rewards two rows off is explained so much better than the one on the other side where
rewards are late, or early; what comes after a step follows from it, so that rewards look late rather than early."""
SUMMED = 0.25
"""rewards are sums if the step explains the difference to a neighbour with less than this share of the error"""
LEAST_GAIN = 0.1
"""share of a step that actions of another row must explain"""
OWN_GAIN = {1: 0.25, -1: 0.5}
"""A row's own action explains less than this share of it, if actions stand late (1) or early (-1). An early one was
chosen in the state that the step led to, and tells of it. In right public data it explains 1.3 times as much at
least."""


def check_episodes(name: str, loaded: Loaded) -> Iterator[Finding]:
    """Findings about a file that could be read, from its report and its transitions."""
    report = loaded.report
    if report.wrong_next:
        count = len(report.wrong_next)
        store = "1 row stores" if count == 1 else f"{count:,} rows store"
        what = f"{store} the first observation of another episode as {'its' if count == 1 else 'their'} next one"
        fix = (
            "tabb drops or mends these rows itself; in other code leave them out: they bootstrap across a reset. "
            "Better: log the last observation of each episode"
        )
        where = f"{name}: next_observations"
        yield Finding("warning", "wrong-next", where, what, fix, report.wrong_next)
    for reason, count in report.dropped.items():
        if reason in (NOT_STORED, PADDED, ABSENT, OUTSIDE) or not report.wrong_next:
            what = f"{'1 row is' if count == 1 else f'{count:,} rows are'} dropped: {reason}"
            fix = "none needed; to keep them, store next_observations with the true last observation of each episode"
            fix = "none needed; to keep them, give the number of each row's episode" if reason == OUTSIDE else fix
            yield Finding("note", "dropped", name, what, fix, report.dropped_rows[reason])
    for doubt in report.doubts:
        what, _, fix = doubt.partition(": ")
        yield Finding("warning", "doubt", name, what, fix or "check it against how the data were logged")
    if report.clipped:
        what = f"{percent(report.clipped[1])} of the rows have an entry clipped at {report.clipped[0]:g}"
        fix = "none needed for training; the true state of these rows is not known, so no simulator can be put into it"
        yield Finding("note", "clipped", f"{name}: observations", what, fix)
    if not has_no_order(report.doubts):
        yield from check_timing(name, loaded.transitions)


def check_timing(name: str, data: Transitions) -> Iterator[Finding]:
    """Whether actions stand a row late or early, and whether rewards do."""
    lag = action_lag(data)
    if lag == 1:
        what = "a step follows from the action of the next row, not from its own: rows hold the action that led to them"
        fix = (
            "move actions one row towards the beginning (actions[:-1] = actions[1:] within each episode, whose last "
            "row goes), so that actions[i] is what was done in observations[i]"
        )
        yield Finding("warning", "action-timing", f"{name}: actions", what, fix)
    if lag == -1:
        what = (
            "a step follows from the action of the row before, not from its own: rows hold the action of the next "
            "step, or the robot obeys a step late"
        )
        fix = (
            "move actions one row towards the end (actions[1:] = actions[:-1] within each episode, whose first row "
            "goes); if the robot obeys late, add the action before to the observation, for the state lacks it"
        )
        yield Finding("warning", "action-timing", f"{name}: actions", what, fix)
    left = {offset: unexplained(data, offset, lag) for offset in (-1, 0, 1)}
    beside = {offset: unexplained_difference(data, offset, lag) for offset in (-1, 0, 1, 2)}
    side, difference = min((("before", beside[0]), ("after", beside[1])), key=lambda pair: pair[1])
    if difference < SUMMED * left[0] and difference < NEARLY_ALL:
        what = f"a step explains the difference to the reward of the row {side} far better than the reward itself"
        fix = "store the reward of each step alone, if these are sums along the episode (returns so far, or to go)"
        yield Finding("warning", "reward-sums", f"{name}: rewards", what, fix)
        return
    best = _reward_lag(data, left, beside, lag)
    if best != 0:
        what = f"a step explains the reward of the row {'before' if best == -1 else 'after'} better than its own: "
        if left[best] < SOMEWHAT_BETTER * left[0]:
            what += f"{percent(1 - left[best])} of its variance, against {percent(max(0.0, 1 - left[0]))}"
        else:
            what += "by how it differs from its neighbours"
        towards, how = (
            ("end", "rewards[1:] = rewards[:-1]") if best == -1 else ("beginning", "rewards[:-1] = rewards[1:]")
        )
        fix = f"move rewards one row towards the {towards} ({how}), so that rewards[i] is what actions[i] earned"
        yield Finding("warning", "reward-timing", f"{name}: rewards", what, fix)


def _reward_lag(data: Transitions, left: dict[int, float], beside: dict[int, float], action_lag: int) -> int:
    """By how many rows rewards stand off: 1 if they stand late, -1 if early, by what steps leave unexplained."""
    best = min(left, key=lambda lag: left[lag])
    if best != 0 and left[best] < EXPLAINED_BETTER * left[0]:
        return best
    if best != 0 and left[best] < min(SOMEWHAT_BETTER * left[0], NEARLY_ALL):
        other, own = (unexplained(data, lag, action_lag, swapped=True) for lag in (best, 0))
        if other < SOMEWHAT_BETTER * own:
            return best
    # Neighbouring rewards that are too alike differ by what is explained all the better.
    if beside[2] < LATE * beside[0] and beside[1] < beside[0] and left[1] <= left[0]:
        return 1
    if beside[-1] < EARLY * beside[1] and beside[0] < beside[1] and left[-1] <= left[0]:
        return -1
    return 0


def inner_rows(data: Transitions) -> np.ndarray:
    """Rows whose neighbours on both sides are of the same episode, spread over the data: the same for every lag.

    None of the three ends the task, which may be rewarded otherwise: a fall that is foreseen is no reward that is late.
    """
    episode = np.asarray(data.episode)
    same = episode[1:] == episode[:-1]
    inner = np.zeros(len(episode), bool)
    goes_on = np.asarray(data.terminal) == 0
    inner[1:-1] = same[:-1] & same[1:] & goes_on[1:-1] & goes_on[2:]
    rows = np.flatnonzero(inner)
    return rows[np.linspace(0, len(rows) - 1, FIT_ROWS).astype(int)] if len(rows) > FIT_ROWS else rows


def moving_columns(table: np.ndarray) -> np.ndarray:
    """The columns of a table [n, K] that move, with mean 0 and spread 1, cut off at five spreads."""
    mean, spread = table.mean(axis=0, dtype=np.float64), table.std(axis=0, dtype=np.float64)
    moves = ~is_constant(mean, spread)
    return np.clip((table[:, moves] - mean[moves]) / spread[moves], -5, 5)


def held_out_error(inputs: np.ndarray, outputs: np.ndarray, swapped: bool = False) -> np.ndarray:
    """Share [K] of the variance of outputs [n, K] that a ridge regression on `inputs` leaves unexplained.

    Fitted to the first half of the rows (the second if `swapped`), asked of the other; 1 for an output that does not
    vary.
    """
    half = len(inputs) // 2
    if swapped:
        inputs, outputs = np.roll(inputs, -half, axis=0), np.roll(outputs, -half, axis=0)
        half = len(inputs) - half
    ridge = 1e-3 * half * np.eye(inputs.shape[1])
    outputs = outputs - outputs[:half].mean(axis=0)  # the ridge is on the constant too, which is no news of a step
    weight = np.linalg.solve(inputs[:half].T @ inputs[:half] + ridge, inputs[:half].T @ outputs[:half])
    spread = outputs[half:].var(axis=0)
    error = ((outputs[half:] - inputs[half:] @ weight) ** 2).mean(axis=0)
    return np.where(spread > 0, error / np.where(spread > 0, spread, 1.0), 1.0)


def action_gains(data: Transitions) -> dict[int, float]:
    """Share of a step beyond (s, s²) that the action of the row itself (0), of the next (1) and of that before (-1)
    explain.

    Means over the columns that move; empty where there are too few rows to tell.
    """
    rows = inner_rows(data)
    if not rows.size:
        return {}
    observation, action = np.asarray(data.observation)[rows], np.asarray(data.action)
    change = moving_columns(np.asarray(data.next_observation)[rows].astype(np.float64) - observation)
    state = moving_columns(observation)
    if not change.shape[1] or len(rows) < 20 * (2 * state.shape[1] + action.shape[1] + 1):
        return {}
    seen = np.concatenate([np.ones((len(rows), 1)), state, state**2], axis=1)
    alone = held_out_error(seen, change)
    gains = {}
    for lag in (-1, 0, 1):
        left = held_out_error(np.concatenate([seen, moving_columns(action[rows + lag])], axis=1), change)
        gains[lag] = float(np.mean(1 - left / np.maximum(alone, 1e-12)))
    return gains


def action_lag(data: Transitions) -> int:
    """1 where steps follow from the action of the next row alone, -1 where from that of the row before alone; else 0.

    That of the next row explains something in any log, for it was chosen in the state that the step led to, and that of
    the row before where actions go on; but then the row's own explains something, too.
    """
    gains = action_gains(data)
    if not gains:
        return 0
    lag = max((1, -1), key=lambda other: gains[other])
    return lag if gains[lag] > LEAST_GAIN and abs(gains[0]) < OWN_GAIN[lag] * gains[lag] else 0


def unexplained(data: Transitions, lag: int, action_lag: int = 0, swapped: bool = False) -> float:
    """Share of the variance of r[i + lag] that a quadratic in (s[i], a[i + action_lag], s'[i] - s[i]) does not explain.

    On rows it was not fitted to; 1 where there are too few rows to tell.
    """
    rows = inner_rows(data)
    seen = _step_terms(data, rows, action_lag)
    if seen is None:
        return 1.0
    return float(held_out_error(seen, np.asarray(data.reward, np.float64)[rows + lag][:, None], swapped)[0])


def unexplained_difference(data: Transitions, lag: int, action_lag: int = 0) -> float:
    """As `unexplained`, of r[i + lag] - r[i + lag - 1]."""
    rows, episode, goes_on = inner_rows(data), np.asarray(data.episode), np.asarray(data.terminal) == 0
    for offset in (lag, lag - 1):
        rows = rows[(rows + offset >= 0) & (rows + offset < len(episode))]
        rows = rows[(episode[rows + offset] == episode[rows]) & goes_on[rows + offset]]
    seen = _step_terms(data, rows, action_lag)
    if seen is None:
        return 1.0
    reward = np.asarray(data.reward, np.float64)
    return float(held_out_error(seen, (reward[rows + lag] - reward[rows + lag - 1])[:, None])[0])


def _step_terms(data: Transitions, rows: np.ndarray, action_lag: int) -> np.ndarray | None:
    """A quadratic's terms of the step at each row; None where there are too few rows to fit it.

    Where actions seem early the robot may obey late instead, and its reward count its own row's action: both are terms.
    """
    if not rows.size:
        return None
    observation = np.asarray(data.observation)[rows]
    change = np.asarray(data.next_observation)[rows] - observation
    actions = [np.asarray(data.action)[rows + lag] for lag in ((-1, 0) if action_lag == -1 else (action_lag,))]
    step = moving_columns(np.concatenate([observation, *actions, change], axis=1))
    if len(rows) < 10 * (2 * step.shape[1] + 1):
        return None
    return np.concatenate([np.ones((len(step), 1)), step, step**2], axis=1)
