"""Rollouts: run a policy for several episodes at once, for evaluation or to collect data."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tabb.environments.engine import Engine
from tabb.environments.lanes import Lanes, OneByOne
from tabb.environments.own_environment import STEP_LIMIT, CheckedEnvironment, open_environment
from tabb.environments.task_lanes import lanes_of
from tabb.environments.tasks import Task, get_task
from tabb.errors import RunError, UsageError
from tabb.files import warn_once

if TYPE_CHECKING:
    from tabb.policy import Actor, Policy

Act = Callable[[NDArray[np.float32], np.random.Generator], Any]
"""(observations [B, S], generator) -> actions [B, A], for the B episodes that still run, in the order of episodes."""


@dataclass(frozen=True)
class Rows:
    """Transitions of a rollout, float32, one row per step, episode after episode.

    In the last row of an episode exactly one of `terminal` and `timeout` is 1. A row with `timeout` 1 has a known next
    observation, whose value is not zero.
    """

    observation: NDArray[np.float32]
    """Shape [N, S]."""
    action: NDArray[np.float32]
    """Shape [N, A], as applied: clipped to the bounds of the action space."""
    reward: NDArray[np.float32]
    """Shape [N]."""
    next_observation: NDArray[np.float32]
    """Shape [N, S]."""
    terminal: NDArray[np.float32]
    """Shape [N]: 1 where the task ended the episode."""
    timeout: NDArray[np.float32]
    """Shape [N]: 1 where the episode was cut, by the time limit or after the last row that was asked for."""


@dataclass(frozen=True)
class Episodes:
    """The episodes of a rollout, one entry per episode."""

    task: Task | None
    """None if the environment came from a factory."""
    returns: NDArray[np.float64]
    """Undiscounted sum of rewards, shape [E]."""
    lengths: NDArray[np.int64]
    """Steps, shape [E]."""
    terminal: NDArray[np.bool_]
    """Whether the task ended the episode, shape [E]."""
    truncated: NDArray[np.bool_]
    """Whether the episode was cut, shape [E]; never together with `terminal`."""
    rows: Rows | None = None
    """All transitions, if they were asked for."""

    @property
    def scores(self) -> NDArray[np.float64]:
        """Normalised score of each episode, shape [E].

        Raises:
            UsageError: the environment came from a factory, so there are no reference returns.
        """
        if self.task is None:
            raise UsageError("no normalised scores: the environment is not a task of tabb")
        return self.task.normalised_score(self.returns)


def rollout(
    act: Act | Policy,
    task: str | Task | None,
    episodes: int = 10,
    seed: int = 0,
    *,
    engine: Engine = "legacy",
    max_steps: int | None = None,
    record: bool = False,
    rows: int | None = None,
    env_factory: Callable[[], gymnasium.Env[Any, Any]] | None = None,
    at_step: Callable[[], None] | None = None,
) -> Episodes:
    """Run `episodes` episodes of `task`, all at once, with actions from `act`.

    Episode k starts with `reset(seed=seed + k)` for any number of episodes, so a deterministic policy that treats rows
    alike has the same episode k in every rollout. `act` is called once per step; its generator is seeded with `seed`.
    Actions outside the action space ([-1, 1] for tasks) are clipped. Two or more robots are stepped together on the
    process's cores, with the same numbers to the last bit as one by one (see `lanes_of`).

    Args:
        act: a policy, or what acts in its place, see `Act`.
        task: a task or its name; None with `env_factory`.
        max_steps: cut episodes after so many steps; the default is the task's limit (1000), or that of the
            environment's Gymnasium spec. One without a limit is cut after 1000 steps, with a `MachineWarning`.
        record: keep every transition in `rows`.
        rows: collect exactly so many transitions from as many episodes as needed, at most `episodes` at once; the last
            row is a timeout if it does not end its episode.
        env_factory: makes the environment in place of a task, a new one in each call: flat Box observations and
            bounded Box actions. Its own terminations and truncations count. What it gives is checked in each step.
        at_step: called before each step; it may raise to stop.

    Raises:
        UsageError: the task or engine is unknown, the spaces do not fit, a number is below 1, or the factory's
            environment raises an exception or gives something else than finite numbers of its shapes.
        RunError: `act` returned a wrong shape or a value that is not finite.
    """
    from tabb.policy import Actor, Policy  # waits for JAX, which commands that only name tasks need not

    if (task is None) == (env_factory is None):
        raise UsageError("give either a task or an env_factory")
    for name, number in (("episodes", episodes), ("max_steps", max_steps), ("rows", rows)):
        if number is not None and not isinstance(number, int | np.integer):
            raise UsageError(f"{name} is {number!r}: give a whole number")
        if number is not None and number < 1:
            raise UsageError(f"{name} is {number}: it must be at least 1")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise UsageError(f"seed is {seed!r}: give a whole number from 0 on")
    known_task = None if task is None else get_task(task)
    opened = None if env_factory is None else open_environment(env_factory)
    if known_task is not None:
        limit = min(max_steps or math.inf, known_task.max_episode_steps)
    else:
        assert opened is not None
        limit = max_steps or opened.step_limit or STEP_LIMIT
    generator = np.random.default_rng(seed)
    at_once = episodes if rows is None else _episodes_for(rows, limit, episodes)
    lanes = lanes_of(known_task, engine, at_once) if known_task else _lanes_from(opened, env_factory)

    def run(first: int, count: int) -> _Batch:
        actor = act.actor(count) if isinstance(act, Policy) else Actor(functools.partial(_acted, act, generator))
        return _run_batch(actor, lanes, seed + first, count, limit, record or rows is not None, at_step)

    try:
        with one_blas_thread():
            batch = run(0, at_once)
            while rows is not None and (missing := rows - int(batch.lengths.sum())) > 0:
                batch = batch.then(run(len(batch.lengths), _episodes_for(missing, limit, episodes)))
    finally:
        lanes.close()
    if opened is not None and not (max_steps or opened.step_limit):
        _tell_cut(opened, batch)
    if rows is not None:
        batch = batch.cut(rows)
    return Episodes(known_task, batch.returns(), batch.lengths, batch.terminal, ~batch.terminal, batch.rows())


def one_blas_thread() -> threadpool_limits:
    """A context in which NumPy's matrix products use one thread.

    A policy's products are too small to gain from more threads, and waiting threads take cores from the physics: on a
    busy machine a call then takes milliseconds instead of microseconds. One thread also keeps scores independent of the
    number of cores, because products of twelve rows or more round differently on several threads.
    """
    return threadpool_limits(1, user_api="blas")


def _episodes_for(rows: int, limit: float | int, most: int) -> int:
    """The fewest episodes that can have so many rows, so that few steps are wasted."""
    return min(most, max(1, math.ceil(rows / limit)))


def _lanes_from(opened: CheckedEnvironment | None, make: Callable[[], gymnasium.Env[Any, Any]] | None) -> OneByOne:
    """Lanes of a factory's environments, the first of which is open already."""
    assert opened is not None
    assert make is not None
    ready = [opened]
    return OneByOne(lambda: ready.pop() if ready else open_environment(make))  # type: ignore[arg-type, return-value]


def _tell_cut(env: CheckedEnvironment, batch: _Batch) -> None:
    """Warn where episodes ran into a limit that the environment does not state."""
    count = int(np.sum(~batch.terminal & (batch.lengths >= STEP_LIMIT)))
    if count:
        warn_once(
            f"environment {env.name}: states no step limit, so {count} of {len(batch.lengths)} episodes were cut after "
            f"{STEP_LIMIT:,} steps; give max_episode_steps where it is registered"
        )


# --- The loop ---


@dataclass
class _Batch:
    """Finished episodes, in the order of their seeds."""

    rewards: list[list[float]]
    terminal: NDArray[np.bool_]
    steps: list[tuple[list[Any], list[Any]]] | None
    """T + 1 observations and T actions of each episode; None if they were not recorded."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.array([len(rewards) for rewards in self.rewards], np.int64)

    def returns(self) -> NDArray[np.float64]:
        return np.array([math.fsum(rewards) for rewards in self.rewards])

    def then(self, other: _Batch) -> _Batch:
        steps = None if self.steps is None or other.steps is None else self.steps + other.steps
        return _Batch(self.rewards + other.rewards, np.append(self.terminal, other.terminal), steps)

    def cut(self, rows: int) -> _Batch:
        """The first `rows` rows; the last episode is not terminal if any of it was cut off."""
        assert self.steps is not None
        ends = np.cumsum(self.lengths)
        last = int(np.searchsorted(ends, rows))  # the episode of the last row
        excess = int(ends[last]) - rows
        rewards, terminal = self.rewards[: last + 1], self.terminal[: last + 1].copy()
        steps = self.steps[: last + 1]
        if excess:
            observations, actions = steps[last]
            rewards[last], terminal[last] = rewards[last][:-excess], False
            steps[last] = (observations[:-excess], actions[:-excess])
        return _Batch(rewards, terminal, steps)

    def rows(self) -> Rows | None:
        if self.steps is None:
            return None
        terminal, timeout = np.zeros((2, int(self.lengths.sum())), np.float32)
        last = np.cumsum(self.lengths) - 1
        terminal[last] = self.terminal
        timeout[last] = ~self.terminal
        return Rows(
            observation=np.concatenate([seen[:-1] for seen, _ in self.steps]),
            action=np.concatenate([done for _, done in self.steps]),
            reward=np.concatenate(self.rewards).astype(np.float32),
            next_observation=np.concatenate([seen[1:] for seen, _ in self.steps]),
            terminal=terminal,
            timeout=timeout,
        )


def _acted(act: Act, generator: np.random.Generator, observations: NDArray[np.float32]) -> Any:
    return act(observations, generator)


def _run_batch(
    actor: Actor,
    lanes: Lanes,
    seed: int,
    count: int,
    limit: float | int,
    record: bool,
    at_step: Callable[[], None] | None = None,
) -> _Batch:
    """One episode in each of `count` lanes, in lockstep; `seed` is that of the first."""
    observations = lanes.reset(seed, count)
    low, high = lanes.action_space.low, lanes.action_space.high
    rewards: list[list[float]] = [[] for _ in range(count)]
    terminal = np.zeros(count, bool)
    steps: list[tuple[list[Any], list[Any]]] = [([row], []) for row in observations]
    alive = list(range(count))

    step = 0
    while alive:
        step += 1
        if at_step is not None:
            at_step()
        actions = _clipped(actor.act(observations), len(alive), low, high, step)
        after = lanes.step(alive, actions)
        observations, reward, ended, truncated = after[:4]
        actions = actions if after.applied is None else np.clip(after.applied, low, high).astype(np.float32)
        actor.told(actions, reward)
        for k, value in zip(alive, reward.tolist(), strict=True):
            rewards[k].append(value)
        terminal[alive] = ended
        if record:
            for k, seen, done in zip(alive, observations, actions, strict=True):
                steps[k][0].append(seen)
                steps[k][1].append(done)
        running = np.flatnonzero(~(ended | truncated)) if step < limit else np.empty(0, int)
        if len(running) < len(alive):
            actor.keep(running)
            observations, alive = observations[running], [alive[row] for row in running]
    return _Batch(rewards, terminal, steps if record else None)


def _clipped(actions: Any, rows: int, low: Any, high: Any, step: int) -> NDArray[np.float32]:
    """The policy's actions as a new float32 array [rows, A] inside the bounds."""
    array = np.asarray(actions, np.float32)
    if array.shape != (rows, len(low)):
        raise RunError(
            f"the policy returned actions of shape {array.shape} at step {step}: expected {(rows, len(low))}"
        )
    if not np.isfinite(array).all():
        raise RunError(f"the policy returned an action that is not finite at step {step}")
    return np.clip(array, low, high)
