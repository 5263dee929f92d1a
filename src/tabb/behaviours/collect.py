"""Collect a data set: roll a policy out in a task and write the transitions with their provenance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tabb._version import __version__
from tabb.data.files import read
from tabb.data.hdf5 import write_hdf5
from tabb.data.report import Report
from tabb.environments.engine import Engine
from tabb.environments.own_environment import check_task_takes
from tabb.environments.rollout import Rows, rollout
from tabb.environments.tasks import Task, get_task
from tabb.errors import UsageError
from tabb.policy import Policy


def collect(
    policy: Policy | None,
    task: str | Task,
    path: str | Path,
    *,
    rows: int = 5_000,
    noise: float = 0.0,
    seed: int = 0,
    engine: Engine | None = None,
    next_observations: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> Report:
    """Roll `policy` (None: uniform random actions) out in `task` and write exactly `rows` transitions to an HDF5 file.

    Actions are the policy's plus Gaussian noise of standard deviation `noise`, clipped to [-1, 1]; the file holds the
    clipped actions that were applied. `engine` defaults to the policy's, and to `legacy` without one. The layout is
    D4RL's (observations, actions, rewards, terminals, timeouts), with `next_observations` on request. Attributes of
    the file hold task, engine, seeds, noise, versions and the mean score.

    Returns:
        The report of the file, read back from disk.

    Raises:
        UsageError: the task or engine is unknown, or the policy belongs to another robot.
        RunError: the file cannot be written.
    """
    task = get_task(task)
    engine = engine or (policy.about.get("engine") if policy is not None else None) or "legacy"
    if policy is not None:
        check_task_takes(policy.action_bounds, task.name)
    if policy is not None and policy.observation_size != task.observation_size:
        raise UsageError(
            f"policy and task {task.name} do not fit: observation_size is {policy.observation_size} and "
            f"{task.observation_size}; collect in a task of the same robot"
        )

    def act(observations: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
        if policy is None:
            return generator.uniform(-1, 1, (len(observations), task.action_size)).astype(np.float32)
        actions = policy.act(observations)
        if noise:
            actions = actions + noise * generator.standard_normal(actions.shape, np.float32)
        return actions

    episodes = rollout(act, task, seed=seed, engine=engine, rows=rows)
    logged = episodes.rows
    assert logged is not None
    whole = episodes.terminal | (episodes.lengths >= task.max_episode_steps)
    attributes = about_task(task, engine, seed, noise)
    if whole.any():
        attributes["mean_score"] = round(float(task.normalised_score(episodes.returns[whole]).mean()), 2)
    write_hdf5(path, arrays_of(logged, next_observations), attributes | dict(provenance or {}))
    return read(path).report


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
    import gymnasium
    import mujoco

    return {
        "env_id": task.env_id,
        "task": task.name,
        "engine": engine,
        "reset_seed0": seed,
        "noise": noise,
        "tabb_version": __version__,
        "mujoco_version": mujoco.__version__,
        "gymnasium_version": gymnasium.__version__,
    }
