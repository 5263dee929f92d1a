"""Episodes that a policy acts in, several in step: what it has seen of each is kept here, not in the policy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Actor:
    """Acts in B episodes in step, by their present observations alone. `Policy.actor` makes one.

    actor = policy.actor(episodes=1)
    actions = actor.act(observations)      # [B, S] -> [B, A]
    actor.told(actions, rewards)           # what was done in this step, and what it brought: [B, A] and [B]
    """

    def __init__(self, act: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        """`act` gives the actions of observations."""
        self._act = act

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions [B, A] for the observations [B, S] of the episodes that still run, in their order."""
        return self._act(observations)

    def told(self, actions: ArrayLike, rewards: ArrayLike) -> None:
        """The step is done: `actions` [B, A] were applied and brought `rewards` [B]."""

    def keep(self, rows: NDArray[np.intp]) -> None:
        """Only the episodes of these rows go on."""
