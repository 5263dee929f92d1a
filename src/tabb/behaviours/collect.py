"""Collect a data set: roll a policy out in a task and write the transitions with their provenance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tabb._version import __version__
from tabb.action_bounds import ActionBounds, action_bounds
from tabb.data.files import read
from tabb.data.hdf5 import write_hdf5
from tabb.data.report import Report
from tabb.environments.engine import Engine
from tabb.environments.own_environment import (
    STEP_LIMIT,
    check_action_space,
    check_task_takes,
    flat_spaces,
    open_environment,
)
from tabb.environments.registration import env_factory_of
from tabb.environments.rollout import Act, Rows, rollout
from tabb.environments.tasks import Task, get_task
from tabb.errors import UsageError
from tabb.policy import Policy
from tabb.shown import rounded

if TYPE_CHECKING:
    import gymnasium


def collect(
    policy: Policy | None,
    task: str | Task | None,
    path: str | Path,
    *,
    rows: int = 5_000,
    noise: float = 0.0,
    seed: int = 0,
    engine: Engine | None = None,
    next_observations: bool = False,
    provenance: Mapping[str, Any] | None = None,
    env_factory: Callable[[], gymnasium.Env[Any, Any]] | str | None = None,
) -> Report:
    """Roll `policy` (None: uniform random actions) out in `task` and write exactly `rows` transitions to an HDF5 file.

    Actions are the policy's plus Gaussian noise of standard deviation `noise`, clipped to [-1, 1]; the file holds the
    clipped actions that were applied. `engine` defaults to the policy's, and to `legacy` without one. The layout is
    D4RL's (observations, actions, rewards, terminals, timeouts), with `next_observations` on request. Attributes of
    the file hold task, engine, seeds, noise, versions and the mean score of whole episodes, each counted once
    (`Report.mean_return` counts them by their rows). In place of a task, `env_factory` is the id of any Gymnasium
    environment of flat boxes, or makes one; the file then holds the mean return in place of the mean score, and states
    bounds of actions that are not in [-1, 1].

    Returns:
        The report of the file, read back from disk.

    Raises:
        UsageError: the task or engine is unknown, or the policy belongs to another robot; noise without a policy, or an
            engine for an environment that is no task.
        RunError: the file cannot be written.
    """
    if (task is None) == (env_factory is None):
        raise UsageError("task and env_factory: give one of them")
    if policy is None and noise:
        raise UsageError(f"noise={noise}: uniform random actions have no noise added; use noise=0, or give a policy")
    if env_factory is not None and engine is not None:
        raise UsageError(f"engine={engine}: an environment of your own has its own physics; leave engine out")
    if env_factory is not None:
        return _collect_elsewhere(
            policy, env_factory, path, rows, noise, seed, next_observations, dict(provenance or {})
        )
    assert task is not None
    task = get_task(task)
    engine = engine or (policy.about.get("engine") if policy is not None else None) or "legacy"
    if policy is not None:
        check_task_takes(policy.action_bounds, task.name)
    _check_sizes(policy, f"task {task.name}", (task.observation_size, task.action_size))
    episodes = rollout(_acting(policy, task.action_size, noise, None), task, seed=seed, engine=engine, rows=rows)
    logged = episodes.rows
    assert logged is not None
    whole = episodes.terminal | (episodes.lengths >= task.max_episode_steps)
    attributes = about_task(task, engine, seed, noise)
    if whole.any():
        attributes["mean_score"] = round(float(task.normalised_score(episodes.returns[whole]).mean()), 2)
    write_hdf5(path, arrays_of(logged, next_observations), attributes | dict(provenance or {}))
    return read(path).report


def _collect_elsewhere(
    policy: Policy | None,
    make: Callable[[], gymnasium.Env[Any, Any]] | str,
    path: str | Path,
    rows: int,
    noise: float,
    seed: int,
    next_observations: bool,
    provenance: dict[str, Any],
) -> Report:
    """`collect` in an environment outside the catalogue, which has no reference returns."""
    factory = env_factory_of(make) if isinstance(make, str) else make
    first = flat_spaces(open_environment(factory))
    sizes = first.observation_space.shape[0], first.action_space.shape[0]
    _check_sizes(policy, f"environment {first.name}", sizes)
    space = first.action_space
    bounds = policy.action_bounds if policy else action_bounds(space.low.tolist(), space.high.tolist(), sizes[1])
    limit = first.step_limit or STEP_LIMIT
    first.close()
    act = _acting(policy, sizes[1], noise, bounds)
    episodes = rollout(
        act, None, seed=seed, rows=rows, env_factory=lambda: check_action_space(open_environment(factory), bounds)
    )
    assert episodes.rows is not None
    attributes = {"env_id": first.name, **_how(seed, noise)}
    if bounds is not None:
        attributes |= {"action_low": list(bounds.low), "action_high": list(bounds.high)}
    whole = episodes.terminal | (episodes.lengths >= limit)
    whole[:-1] = True  # only the last one may be cut where the rows are reached
    if whole.any():
        attributes["mean_return"] = rounded(float(episodes.returns[whole].mean()))
    write_hdf5(path, arrays_of(episodes.rows, next_observations), attributes | provenance)
    return read(path).report


def _check_sizes(policy: Policy | None, where: str, sizes: tuple[int, int]) -> None:
    """Raise `UsageError` unless the policy's observations and actions have these sizes."""
    for name, size in zip(("observation_size", "action_size"), sizes, strict=True):
        if policy is not None and getattr(policy, name) != size:
            raise UsageError(
                f"policy and {where} do not fit: {name} is {getattr(policy, name)} and {size}; collect in one of the "
                "same robot"
            )


def _acting(policy: Policy | None, action_size: int, noise: float, bounds: ActionBounds | None) -> Act | Policy:
    """The policy with Gaussian noise; uniform random actions without a policy. Noise is in units of [-1, 1].

    Raises `UsageError` for noise on a policy that remembers its episode.
    """
    if policy is not None and not noise:
        return policy
    if policy is not None and policy.remembers:
        raise UsageError(f"noise={noise}: this policy remembers its episode, and collects without noise; use noise=0")
    half = 1.0 if bounds is None else bounds.middle_and_half()[1]

    def act(observations: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
        if policy is None:
            drawn = generator.uniform(-1, 1, (len(observations), action_size)).astype(np.float32)
            return drawn if bounds is None else bounds.restored(drawn)
        actions = policy.act(observations)
        return actions + half * noise * generator.standard_normal(actions.shape, np.float32)

    return act


def arrays_of(rows: Rows, next_observations: bool) -> dict[str, Any]:
    """Columns of a file in D4RL's layout, with or without `next_observations`."""
    arrays = {
        "observations": rows.observation,
        "actions": rows.action,
        "rewards": rows.reward,
        "terminals": rows.terminal.astype(bool),
        "timeouts": rows.timeout.astype(bool),
    }
    return arrays | ({"next_observations": rows.next_observation} if next_observations else {})


def about_task(task: Task, engine: Engine, seed: int, noise: float) -> dict[str, Any]:
    """Attributes of a file that say where its rows were collected and with which versions."""
    return {"env_id": task.env_id, "task": task.name, "engine": engine, **_how(seed, noise)}


def _how(seed: int, noise: float) -> dict[str, Any]:
    """Seeds, noise and versions."""
    import gymnasium
    import mujoco

    return {
        "reset_seed0": seed,
        "noise": noise,
        "tabb_version": __version__,
        "mujoco_version": mujoco.__version__,
        "gymnasium_version": gymnasium.__version__,
    }
