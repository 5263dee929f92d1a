"""Checks of one file after the rule for episodes: boundaries, time limits, the timing of rewards."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tabb.data.arrays import LEAKED, NOT_STORED
from tabb.data.audit.finding import Finding
from tabb.data.report import Loaded
from tabb.transitions import Transitions

FIT_ROWS = 20_000
"""rows that rewards are explained from"""
EXPLAINED_BETTER = 0.25
"""a reward belongs to another row if that leaves less than this share of the error unexplained"""


def check_episodes(name: str, loaded: Loaded) -> Iterator[Finding]:
    """Findings about a file that could be read, from its report and its transitions."""
    report = loaded.report
    if report.wrong_next:
        what = f"{len(report.wrong_next):,} rows store the first observation of another episode as their next one"
        fix = (
            "tabb drops or mends these rows itself; in other code leave them out: they bootstrap across a reset. "
            "Better: log the last observation of each episode"
        )
        where = f"{name}: next_observations"
        yield Finding("warning", "wrong-next", where, what, fix, report.wrong_next)
    for reason, count in report.dropped.items():
        if reason == NOT_STORED or (reason == LEAKED and not report.wrong_next):
            what = f"{count:,} rows are dropped: {reason}"
            fix = "none needed; to keep them, store next_observations with the true last observation of each episode"
            yield Finding("note", "dropped", name, what, fix, report.dropped_rows[reason])
    for doubt in report.doubts:
        what, _, fix = doubt.partition(": ")
        yield Finding("warning", "doubt", name, what, fix or "check it against how the data were logged")
    if report.clipped:
        what = f"{report.clipped[1]:.0%} of the rows have an entry clipped at {report.clipped[0]:g}"
        fix = "none needed for training; the true state of these rows is not known, so no simulator can be put into it"
        yield Finding("note", "clipped", f"{name}: observations", what, fix)
    yield from check_reward_timing(name, loaded.transitions)


def check_reward_timing(name: str, data: Transitions) -> Iterator[Finding]:
    """Whether the rewards of the row before or after are explained far better by a row's step than its own."""
    left = {lag: unexplained(data, lag) for lag in (-1, 0, 1)}
    best = min(left, key=lambda lag: left[lag])
    if best != 0 and left[best] < EXPLAINED_BETTER * left[0]:
        there = "the row before" if best == -1 else "the row after"
        what = (
            f"a step explains the reward of {there} better than its own: {1 - left[best]:.0%} of its variance, "
            f"against {1 - left[0]:.0%}"
        )
        fix = f"shift rewards by one row {'up' if best == -1 else 'down'}, so that rewards[i] is what actions[i] earned"
        yield Finding("warning", "reward-timing", f"{name}: rewards", what, fix)


def unexplained(data: Transitions, lag: int) -> float:
    """Share of the variance of r[i + lag] that a quadratic in (s, a, s' - s)[i] leaves unexplained on held-out rows."""
    episode, following = np.asarray(data.episode), np.asarray(data.next_observation)
    number = np.arange(len(episode))
    other = np.clip(number + lag, 0, len(episode) - 1)
    # Rows whose neighbours on both sides are of the same episode: the same rows for every lag.
    before, after = np.clip(number - 1, 0, None), np.clip(number + 1, None, len(episode) - 1)
    inner = (episode[before] == episode) & (episode[after] == episode) & (before < number) & (after > number)
    inner &= np.asarray(data.terminal) == 0
    rows = np.flatnonzero(inner)
    if len(rows) > FIT_ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, FIT_ROWS).astype(int)]
    observation = np.asarray(data.observation)[rows]
    step = np.concatenate([observation, np.asarray(data.action)[rows], following[rows] - observation], axis=1)
    step = step[:, step.std(axis=0) > 1e-6].astype(np.float64)
    if len(rows) < 10 * (2 * step.shape[1] + 1):
        return 1.0  # too few rows to tell
    step = np.clip((step - step.mean(axis=0)) / step.std(axis=0), -5, 5)
    seen = np.concatenate([np.ones((len(step), 1)), step, step**2], axis=1)
    reward = np.asarray(data.reward, np.float64)[other[rows]]
    half = len(rows) // 2
    ridge = 1e-3 * half * np.eye(seen.shape[1])
    weight = np.linalg.solve(seen[:half].T @ seen[:half] + ridge, seen[:half].T @ reward[:half])
    spread = reward[half:].var()
    return float(((reward[half:] - seen[half:] @ weight) ** 2).mean() / spread) if spread > 0 else 1.0
