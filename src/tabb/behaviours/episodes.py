"""Steps and episodes of behaviour policies that are not networks, and the rows that they log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tabb.environments.rollout import Rows


class Step(NamedTuple):
    """One transition."""

    observation: NDArray[np.float32]
    action: NDArray[np.float32]
    reward: float
    next_observation: NDArray[np.float32]
    terminal: bool
    timeout: bool
    """Whether the episode was cut here."""


class Episode(NamedTuple):
    """A whole episode."""

    steps: list[Step]
    counts: bool
    """Whether its return is a score of the task: it started where the task starts."""


class LoggedRows(NamedTuple):
    """The rows of a data set."""

    rows: Rows
    returns: NDArray[np.float64]
    """Undiscounted return of each whole episode that counts."""


def first_rows(episodes: Sequence[Episode], count: int) -> LoggedRows:
    """The first `count` steps; the last one is a timeout if its episode went on."""
    steps: list[Step] = []
    returns: list[float] = []
    for episode in episodes:
        taken = episode.steps[: count - len(steps)]
        if not taken:
            break
        if len(taken) == len(episode.steps) and episode.counts:
            returns.append(float(sum(step.reward for step in taken)))
        steps += [*taken[:-1], taken[-1]._replace(timeout=not taken[-1].terminal)]
    return LoggedRows(Rows(*(np.array(column, np.float32) for column in zip(*steps, strict=True))), np.array(returns))
