"""Episodes that go on: environments in which a learner takes some steps now, and some later.

A world is where steps are taken. Its episodes are known by their numbers, which give their seeds, so that what was done
can be done again: the state of an episode is its number and the actions since it began.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

from tabb.action_bounds import ActionBounds, action_bounds
from tabb.environments.engine import Engine
from tabb.environments.lanes import Lanes, OneByOne
from tabb.environments.own_environment import STEP_LIMIT, open_environment
from tabb.environments.task_lanes import lanes_of
from tabb.environments.tasks import Task
from tabb.errors import RunError
from tabb.files import warn_once


@dataclasses.dataclass(frozen=True)
class World:
    """An environment to take steps in."""

    name: str
    open: Callable[[int], Lanes]
    """Lanes for so many episodes at once."""
    limit: int
    """Steps after which an episode is cut: a truncation, never a terminal."""
    observation_size: int
    action_size: int
    action_bounds: ActionBounds | None
    """What -1 and 1 are in the environment's units; None where it takes actions in [-1, 1]."""
    repeats: bool
    """Whether the same seed and actions give the same episode again, at no cost: true of the catalogue's tasks."""
    reward_offset: float = 0.0
    """Added to rewards for training."""
    reward_scale: float = 1.0
    """What they are multiplied by before."""
    states_limit: bool = True
    """Whether the limit is the environment's own, or one that it is given because it states none."""


def world_of_task(task: Task, engine: Engine) -> World:
    """The simulator of a task."""
    return World(
        name=task.name,
        open=lambda count: lanes_of(task, engine, count),
        limit=task.max_episode_steps,
        observation_size=task.observation_size,
        action_size=task.action_size,
        action_bounds=None,
        repeats=True,
        reward_offset=task.reward_offset,
    )


def world_of_environment(make: Callable[[], gymnasium.Env[Any, Any]]) -> World:
    """The environment that `make` makes: nothing is known of how it repeats itself, and it may be a robot.

    Raises `UsageError` where it cannot be made, or its spaces are not flat boxes.
    """
    env = open_environment(make)
    low, high = env.action_space.low.tolist(), env.action_space.high.tolist()
    world = World(
        name=env.name,
        open=lambda count: OneByOne(lambda: open_environment(make)),  # type: ignore[arg-type, return-value]
        limit=env.step_limit or STEP_LIMIT,
        observation_size=env.observation_space.shape[0],
        action_size=env.action_space.shape[0],
        action_bounds=action_bounds(low, high, len(low)),
        repeats=False,
        states_limit=env.step_limit is not None,
    )
    env.close()
    return world


class Steps(NamedTuple):
    """Steps that were taken, one row each, float32."""

    observation: NDArray[np.float32]
    action: NDArray[np.float32]
    """In [-1, 1]: as applied, where the environment gave the robot another one than was asked for."""
    reward: NDArray[np.float32]
    next_observation: NDArray[np.float32]
    terminal: NDArray[np.float32]
    last: NDArray[np.bool_]
    """Whether the row is the last of its episode, which came to its end or was cut."""
    episode: NDArray[np.int32]
    """Number of each row's episode."""


class FinishedEpisode(NamedTuple):
    """An episode that came to its end, or was cut."""

    total: float
    """Undiscounted return, with the environment's own rewards."""
    length: int


class EpisodesState(NamedTuple):
    """What running episodes go on from, as arrays of fixed shapes."""

    started: NDArray[np.int32]
    """Shape []: how many episodes have begun."""
    number: NDArray[np.int32]
    """Shape [L]: the number of each lane's episode."""
    age: NDArray[np.int32]
    """Shape [L]: its steps so far."""
    action: NDArray[np.float32]
    """Shape [L, limit, A]: their actions, in [-1, 1]; [L, 0, A] in a world where they cannot be played again."""
    observation: NDArray[np.float32]
    """Shape [L, S]: where they are."""


class RunningEpisodes:
    """One episode in each of several lanes of a world. No environment is opened before the first step."""

    def __init__(self, world: World, lanes: int, first_seed: int) -> None:
        """Episode n begins with `reset(seed=first_seed + n)`."""
        self._world, self._count, self._first_seed = world, lanes, first_seed
        self._lanes: Lanes | None = None
        self._started = 0
        self._numbers, self._ages = np.zeros((2, lanes), np.int32)
        self._actions = np.zeros((lanes, world.limit if world.repeats else 0, world.action_size), np.float32)
        self._now = np.zeros((lanes, world.observation_size), np.float32)
        self._returns = np.zeros(lanes)
        self._finished: list[FinishedEpisode] = []
        self._over: list[int] = []
        """Lanes whose next episode has not begun yet."""

    def observe(self) -> NDArray[np.float32]:
        """The observation of each lane, shape [L, S]; episodes that came to their end are followed by others."""
        self._begin_next()
        if self._lanes is None:
            self._lanes = self._world.open(self._count)
            self._now = self._lanes.reset(self._first_seed + self._started, self._count)
            self._numbers[:] = self._started + np.arange(self._count)
            self._ages[:], self._returns[:] = 0, 0.0
            self._started += self._count
        return self._now.copy()

    def step(self, actions: NDArray[np.float32]) -> Steps:
        """One step with actions [B, A] in [-1, 1] in the first B lanes.

        Raises `RunError`, and takes no step, where one of them is not finite.

        An episode that ends is followed by another only when that is observed: a robot's reset takes long and may fail,
        and the step is in nobody's hands until this returns.
        """
        before = self.observe()
        assert self._lanes is not None
        finite = np.isfinite(actions).all(axis=1)
        if not finite.all():
            raise RunError(
                f"the action for {self._world.name} is {actions[~finite][0].tolist()}, and nothing was moved; lower "
                "the backbone's learning rate or check the scale of rewards and observations"
            )
        numbers = self._numbers[: len(actions)].copy()
        count, actions = len(actions), np.clip(actions, -1.0, 1.0).astype(np.float32)
        lanes = list(range(count))
        after = self._lanes.step(lanes, self._in_units(actions))
        if after.applied is not None:
            bounds = self._world.action_bounds
            applied = after.applied if bounds is None else bounds.scaled(after.applied)
            actions = np.clip(applied, -1.0, 1.0).astype(np.float32)
        if self._world.repeats:
            self._actions[lanes, self._ages[:count]] = actions
        self._ages[:count] += 1
        self._returns[:count] += after.reward
        self._now[:count] = after.observation
        last = after.terminal | after.truncated | (self._ages[:count] >= self._world.limit)
        if not self._world.states_limit and (last & ~after.terminal & ~after.truncated).any():
            warn_once(
                f"environment {self._world.name}: states no step limit, so its episodes are cut after "
                f"{self._world.limit:,} steps; give max_episode_steps where it is registered"
            )
        for lane in np.flatnonzero(last):
            self._finished.append(FinishedEpisode(float(self._returns[lane]), int(self._ages[lane])))
            self._over.append(int(lane))
        return Steps(
            before[:count],
            actions,
            after.reward.astype(np.float32),
            after.observation.astype(np.float32),
            after.terminal.astype(np.float32),
            last,
            numbers,
        )

    def _begin_next(self) -> None:
        while self._lanes is not None and self._over:
            lane = self._over[0]
            self._now[lane] = self._lanes.restart(lane, self._first_seed + self._started)
            self._numbers[lane], self._ages[lane], self._returns[lane] = self._started, 0, 0.0
            self._started += 1
            del self._over[0]

    def finished(self) -> list[FinishedEpisode]:
        """The episodes that have ended since this was asked the last time."""
        finished, self._finished = self._finished, []
        return finished

    def state(self) -> EpisodesState:
        """What `restore` goes on from: in a world that repeats itself, where the next episodes have begun."""
        if self._world.repeats:
            self._begin_next()
        return EpisodesState(
            np.asarray(self._started, np.int32),
            self._numbers.copy(),
            self._ages.copy(),
            self._actions.copy(),
            self._now.copy(),
        )

    def begin_after(self, number: int) -> None:
        """Have all further episodes begin with numbers above this one: it and those before it are known."""
        self._started = max(self._started, number + 1)

    def restore(self, state: EpisodesState) -> bool:
        """Go on from a state; whether the episodes go on where they were.

        In a world that repeats itself they are played again up to there. Else, and where that leads elsewhere (another
        version of the simulator), new ones begin.
        """
        self.close()
        self._started = int(state.started)
        if not self._started:
            return True
        if not self._world.repeats:
            return False
        lanes = self._lanes = self._world.open(self._count)
        self._now = lanes.reset(self._first_seed, self._count)
        self._numbers, self._ages = np.array(state.number), np.array(state.age)
        self._actions, self._returns = np.array(state.action), np.zeros(self._count)
        for lane in range(self._count):
            self._now[lane] = lanes.restart(lane, self._first_seed + int(self._numbers[lane]))
            for action in self._actions[lane, : self._ages[lane]]:
                after = lanes.step([lane], self._in_units(action[None]))
                self._now[lane] = after.observation[0]
                self._returns[lane] += after.reward[0]
        if np.array_equal(self._now, state.observation):
            return True
        self.close()
        return False

    def _in_units(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        bounds = self._world.action_bounds
        return actions if bounds is None else bounds.restored(actions)

    def close(self) -> None:
        """Close the environments; a next step opens them again, in new episodes."""
        self._over.clear()
        if self._lanes is not None:
            self._lanes.close()
            self._lanes = None
