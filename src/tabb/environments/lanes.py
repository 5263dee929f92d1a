"""Lanes: several environments that a rollout steps in lockstep, an episode in each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from tabb.environments.own_environment import CheckedEnvironment, check_another
from tabb.environments.safe_actions import APPLIED
from tabb.errors import UsageError


class LaneSteps(NamedTuple):
    """The result of one step of B lanes, a row for each lane."""

    observation: NDArray[np.float32]
    """Shape [B, S]; a new array."""
    reward: NDArray[np.float64]
    """Shape [B]."""
    terminal: NDArray[np.bool_]
    """Shape [B]: the task ended the episode."""
    truncated: NDArray[np.bool_]
    """Shape [B]: the environment cut the episode."""
    applied: NDArray[np.float32] | None = None
    """Shape [B, A]: the actions that were applied, where the environment says so and they may be others than given."""


class Lanes(Protocol):
    """One episode in each of several lanes."""

    action_space: Any
    """The action space of one lane, a flat Box."""

    def reset(self, seed: int, count: int) -> NDArray[np.float32]:
        """Start an episode in lanes 0 to `count` - 1, lane k with `seed` + k; returns first observations [count, S]."""
        ...

    def restart(self, lane: int, seed: int) -> NDArray[np.float32]:
        """Start a new episode in a lane that `reset` has started before; returns its first observation [S]."""
        ...

    def step(self, lanes: list[int], actions: NDArray[np.float32]) -> LaneSteps:
        """Step the B lanes `lanes`, in ascending order, with actions [B, A]; the other lanes do not change."""
        ...

    def close(self) -> None: ...


class OneByOne:
    """Lanes that are Gymnasium environments and are stepped in turn; works for any environment."""

    def __init__(self, make: Callable[[], gymnasium.Env[Any, Any]]) -> None:
        self._make = make
        self._envs: list[Any] = [make()]
        self.action_space = self._envs[0].action_space

    def reset(self, seed: int, count: int) -> NDArray[np.float32]:
        while len(self._envs) < count:
            env: Any = self._make()
            self._envs.append(check_another(env, self._envs) if isinstance(env, CheckedEnvironment) else env)
        return np.stack([self.restart(k, seed + k) for k in range(count)])

    def restart(self, lane: int, seed: int) -> NDArray[np.float32]:
        return self._envs[lane].reset(seed=seed)[0].astype(np.float32)

    def step(self, lanes: list[int], actions: NDArray[np.float32]) -> LaneSteps:
        observations, rewards, ends, cuts, infos = zip(
            *(self._envs[k].step(action) for k, action in zip(lanes, actions, strict=True)), strict=True
        )
        # An environment may say it only where it gave another action than it was asked for.
        applied = [
            info[APPLIED] if isinstance(info, dict) and APPLIED in info else action
            for info, action in zip(infos, actions, strict=True)
        ]
        known = any(isinstance(info, dict) and APPLIED in info for info in infos)
        return LaneSteps(
            np.stack(observations).astype(np.float32),
            np.array(rewards, np.float64),
            np.array(ends, bool),
            np.array(cuts, bool),
            np.stack([np.asarray(action, np.float32) for action in applied]) if known else None,
        )

    def close(self) -> None:
        """Close all of them, even if one raises. Its error is raised in the end, unless another error led here."""
        on_its_way = sys.exc_info()[1]
        try:
            with ExitStack() as closing:
                for env in reversed(self._envs):
                    closing.callback(env.close)
        except UsageError:
            if on_its_way is None:
                raise
