"""Logs for tests of the audit: a small robot's, files and findings of them, and faults to plant."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np


def robot(rows=3_000, seed=0, gain=0.3, length=100, lag=0, repeat=1):
    """A damped pendulum-like log: two positions, two velocities, two actions; truncated every `length` rows.

    The robot obeys the action `lag` steps before, and does each `repeat` times between two rows.
    """
    generator = np.random.default_rng(seed)
    state, observations, actions, rewards = None, [], [], []
    for row in range(rows):
        if row % length == 0:
            state, sent = 0.3 * generator.normal(size=4), [np.zeros(2)] * lag
        action = generator.uniform(-0.9, 0.9, 2)
        sent.append(action)
        obeyed, following = sent.pop(0), state
        for _ in range(repeat):
            velocity = 0.9 * following[2:] - 0.2 * following[:2] + gain * obeyed + 0.01 * generator.normal(size=2)
            following = np.concatenate([following[:2] + 0.1 * velocity, velocity])
        observations.append(state)
        actions.append(action)
        rewards.append(following[0] - state[0] - 0.1 * (action**2).sum())
        state = following
    timeouts = np.arange(rows) % length == length - 1
    return {
        "observations": np.asarray(observations, np.float32),
        "actions": np.asarray(actions, np.float32),
        "rewards": np.asarray(rewards, np.float32),
        "terminals": np.zeros(rows, bool),
        "timeouts": timeouts,
    }


def stored(path: Path, columns) -> str:
    """Plainly, as others write: also what tabb would refuse to write."""
    with h5py.File(path, "w") as file:
        for key, column in columns.items():
            file[key] = column
    return str(path)


def codes(found):
    return {finding.code: finding for finding in found.findings}


def put(key, row, value):
    def edit(columns):
        columns[key][row] = value

    return edit


def bounds(columns):
    columns["actions"] *= 3


def still(columns):
    columns["observations"][:, 1] = 0.5


def stuck(columns):
    columns["actions"][:, 1] = 0.0


def twice(columns):
    columns["observations"][:, 3] = columns["observations"][:, 0]


def repeated(columns):
    for key in ("observations", "actions", "rewards"):
        columns[key][1000:1100] = columns[key][:100]


def saturated(columns):
    columns["actions"][:900] = np.sign(columns["actions"][:900])


def late(columns):
    columns["rewards"] = np.roll(columns["rewards"], 1)


def early(columns):
    columns["rewards"] = np.roll(columns["rewards"], -1)


def ahead(columns):
    columns["actions"] = np.roll(columns["actions"], -1, axis=0)


def behind(columns):
    columns["actions"] = np.roll(columns["actions"], 1, axis=0)


def limits(columns):
    columns["terminals"], columns["timeouts"] = columns["timeouts"], columns["terminals"]


def flat(columns):
    columns["rewards"][:] = 1.0
