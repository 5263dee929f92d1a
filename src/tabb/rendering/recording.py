"""The evaluation itself, with the states of some of its episodes kept for a film."""

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
    """Its place in the evaluation: it began with reset(seed = first seed + number)."""
    model: Any
    """The `mujoco.MjModel` as the reset left it: hands move bodies of the model itself."""
    seconds: float
    """Time of a step."""
    states: list[NDArray[np.float64]] = field(default_factory=list)
    """T + 1 states, as `painter.state_of` gives them."""
    rewards: list[float] = field(default_factory=list)
    """T rewards."""
    marks: tuple[Mark, ...] = ()
    """What a picture shows beside the model."""
    terminal: bool = False
    """The task itself ended; else the time limit cut it."""

    def return_at(self, step: int) -> float:
        """Undiscounted return of the first `step` steps, summed as evaluations do."""
        return math.fsum(self.rewards[:step])


class _Kept(gymnasium.Wrapper):
    """An environment that writes its one episode down."""

    def __init__(self, env: Any, number: int) -> None:
        super().__init__(env)
        bare = env.unwrapped
        self.episode = Episode(number, bare.model, bare.dt)

    def _keep(self) -> None:
        self.episode.states.append(state_of(self.env.unwrapped.model, self.env.unwrapped.data))  # type: ignore[attr-defined]

    def reset(self, **options: Any) -> Any:
        answer = self.env.reset(**options)
        self._keep()
        self.episode.marks = marks_of(self.env)
        return answer

    def step(self, action: Any) -> Any:
        answer = self.env.step(action)
        self._keep()
        self.episode.rewards.append(float(answer[1]))
        self.episode.terminal = bool(answer[2])
        return answer


def record(
    policy: Policy, task: Task, episodes: int, seed: int, keep: Collection[int], engine: Engine = "legacy"
) -> list[Episode]:
    """The episodes `keep` of `evaluate(policy, task, episodes, seed)`, bit for bit: all of them are run.

    A policy may round differently where it acts for another number of episodes at once, and falls some steps later;
    that is why the others are run too.
    """
    from tabb.environments.make_robot import make_robot

    kept: list[Episode] = []
    made = 0

    def factory() -> gymnasium.Env[Any, Any]:
        nonlocal made
        env: gymnasium.Env[Any, Any] = make_robot(task, engine)
        if made in keep:
            env = _Kept(env, made)
            kept.append(env.episode)
        made += 1
        return env

    rollout(
        lambda observations, _: policy.act(observations),
        None,
        episodes,
        seed,
        max_steps=task.max_episode_steps,
        env_factory=factory,
    )
    order = list(keep)
    return sorted(kept, key=lambda episode: order.index(episode.number))
