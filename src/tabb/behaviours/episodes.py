"""What a behaviour policy that is no network logs: steps, episode by episode."""

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
    """The episode was cut here."""


class Episode(NamedTuple):
    """A whole one."""

    steps: list[Step]
    counts: bool
    """Whether its return is one of the task: it began at the task's start."""


class LoggedRows(NamedTuple):
    """A data set."""

    rows: Rows
    returns: NDArray[np.float64]
    """Undiscounted, of each whole episode that counts."""


def joined(episodes: Sequence[Episode], count: int) -> LoggedRows:
    """The first `count` steps; the last one is marked a timeout if its episode went on."""
    steps: list[Step] = []
    returns: list[float] = []
    for episode in episodes:
        kept = episode.steps[: count - len(steps)]
        if not kept:
            break
        if len(kept) == len(episode.steps) and episode.counts:
            returns.append(float(sum(step.reward for step in kept)))
        steps += [*kept[:-1], kept[-1]._replace(timeout=not kept[-1].terminal)]
    return LoggedRows(Rows(*(np.array(column, np.float32) for column in zip(*steps, strict=True))), np.array(returns))
