"""Several episodes in lockstep, a lane each: how a rollout's environments are stepped."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from tabb.environments.engine import Engine
from tabb.environments.tasks import Task

LANES_PER_THREAD = 2
"""A thread that wakes for less than this costs more than it steps."""


class LaneSteps(NamedTuple):
    """What one step of B lanes led to, a row each."""

    observation: NDArray[np.float32]
    """Shape [B, S]; a new array."""
    reward: NDArray[np.float64]
    """Shape [B]."""
    terminal: NDArray[np.bool_]
    """Shape [B]: the task itself ended."""
    truncated: NDArray[np.bool_]
    """Shape [B]: the environment cut the episode."""


class Lanes(Protocol):
    """One episode in each of several lanes."""

    action_space: Any
    """Of one lane: a flat Box."""

    def reset(self, seed: int, count: int) -> NDArray[np.float32]:
        """Begin an episode in lanes 0 to `count` - 1, lane k with `seed` + k. First observations [count, S]."""
        ...

    def restart(self, lane: int, seed: int) -> NDArray[np.float32]:
        """Begin an episode in one lane, one of those that `reset` has begun before. Its first observation [S]."""
        ...

    def step(self, lanes: list[int], actions: NDArray[np.float32]) -> LaneSteps:
        """Step the B lanes named, in ascending order, with actions [B, A]; the others stand still."""
        ...

    def close(self) -> None: ...


class OneByOne:
    """Lanes that are Gymnasium environments, stepped in turn: for any environment."""

    def __init__(self, make: Callable[[], gymnasium.Env[Any, Any]]) -> None:
        self._make = make
        self._envs: list[Any] = [make()]
        self.action_space = self._envs[0].action_space

    def reset(self, seed: int, count: int) -> NDArray[np.float32]:
        while len(self._envs) < count:
            self._envs.append(self._make())
        return np.stack([self.restart(k, seed + k) for k in range(count)])

    def restart(self, lane: int, seed: int) -> NDArray[np.float32]:
        return self._envs[lane].reset(seed=seed)[0].astype(np.float32)

    def step(self, lanes: list[int], actions: NDArray[np.float32]) -> LaneSteps:
        observations, rewards, ends, cuts = zip(
            *(self._envs[k].step(action)[:4] for k, action in zip(lanes, actions, strict=True)), strict=True
        )
        return LaneSteps(
            np.stack(observations).astype(np.float32),
            np.array(rewards, np.float64),
            np.array(ends, bool),
            np.array(cuts, bool),
        )

    def close(self) -> None:
        for env in self._envs:
            env.close()


def lanes_of(task: Task, engine: Engine, count: int, share: float = 1.0) -> Lanes:
    """Lanes of `task` for up to `count` episodes: together where that can be done, else one by one.

    `share` of the shift, of the four robots alone: see `robots`.

    Both give the same numbers to the last bit. Two and more of the four robots are stepped together if MuJoCo has
    `mujoco.batch` (4.0 has); the hand and the mazes, whose rules are more than a formula of the state, never are.
    """
    from tabb.environments.robots import ROBOTS, make_robot

    def make() -> Any:
        return make_robot(task, engine) if share == 1.0 else ROBOTS[task.robot](task, engine, share=share)

    if task.namespace == "tabb" and count > 1:
        try:
            from tabb.environments.together import Together
        except ImportError:  # an older MuJoCo
            pass
        else:
            return Together(make(), count, threads_for(count))
    return OneByOne(make)  # bare: a wrapper's checks cost as much as a step


def threads_for(lanes: int) -> int:
    """Threads that step `lanes` lanes: of the cores that this process may use as many as are worth waking.

    `OMP_NUM_THREADS` bounds them, as it bounds those of other numeric libraries; for the runs of a plan it is 1.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    bound = os.environ.get("OMP_NUM_THREADS", "")
    if bound.isdecimal() and int(bound) > 0:
        cores = min(cores, int(bound))
    return max(1, min(cores, lanes // LANES_PER_THREAD))
