"""Runs an evaluation and records the states of some of its episodes for a film."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from tabb.environments.engine import Engine
from tabb.environments.rollout import rollout
from tabb.environments.tasks import Task
from tabb.policy import Policy
from tabb.rendering.painter import Mark, state_of
from tabb.rendering.views import marks_of


@dataclass
class Episode:
    """One episode of an evaluation, T steps long."""

    number: int
    """Its index in the evaluation: it started with reset(seed = first seed + number)."""
    model: Any
    """The `mujoco.MjModel` after the reset, which moves bodies of a hand's model."""
    seconds: float
    """Simulated seconds per step."""
    states: list[NDArray[np.float64]] = field(default_factory=list)
    """T + 1 states, as `painter.state_of` gives them."""
    rewards: list[float] = field(default_factory=list)
    """T rewards."""
    marks: tuple[Mark, ...] = ()
    """Marks that are drawn beside the model."""
    terminal: bool = False
    """Whether the task ended the episode; else the time limit cut it."""

    def return_at(self, step: int) -> float:
        """Undiscounted return of the first `step` steps, summed as evaluations do."""
        return math.fsum(self.rewards[:step])


class _Recorder(gymnasium.Wrapper):
    """Wraps an environment and records its only episode."""

    def __init__(self, env: Any, number: int) -> None:
        super().__init__(env)
        bare = env.unwrapped
        self.episode = Episode(number, bare.model, bare.dt)

    def _record_state(self) -> None:
        self.episode.states.append(state_of(self.env.unwrapped.model, self.env.unwrapped.data))  # type: ignore[attr-defined]

    def reset(self, **options: Any) -> Any:
        result = self.env.reset(**options)
        self._record_state()
        self.episode.marks = marks_of(self.env)
        return result

    def step(self, action: Any) -> Any:
        result = self.env.step(action)
        self._record_state()
        self.episode.rewards.append(float(result[1]))
        self.episode.terminal = bool(result[2])
        return result


def record(
    policy: Policy, task: Task, episodes: int, seed: int, recorded: Collection[int], engine: Engine = "legacy"
) -> list[Episode]:
    """The episodes `recorded` of `evaluate(policy, task, episodes, seed)`, bit for bit.

    All episodes are run: a policy may round differently when it acts in another number of episodes at once, and then
    fall some steps later.
    """
    from tabb.environments.make_robot import make_robot

    records: list[Episode] = []
    environments = 0

    def factory() -> gymnasium.Env[Any, Any]:
        nonlocal environments
        env: gymnasium.Env[Any, Any] = make_robot(task, engine)
        if environments in recorded:
            env = _Recorder(env, environments)
            records.append(env.episode)
        environments += 1
        return env

    rollout(
        policy,
        None,
        episodes,
        seed,
        max_steps=task.max_episode_steps,
        env_factory=factory,
    )
    order = list(recorded)
    return sorted(records, key=lambda episode: order.index(episode.number))
