"""Environments by name: `make`, and the ids `tabb/<task>-v0` for `gymnasium.make`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium

from tabb.environments.engine import Engine
from tabb.environments.tasks import ALL_TASKS, Task, get_task
from tabb.errors import UsageError


def make(
    task: str | Task, engine: Engine = "legacy", render_mode: str | None = None, **options: Any
) -> gymnasium.Env[Any, Any]:
    """The environment of a task, cut after `task.max_episode_steps` steps (a truncation).

    `engine` is `legacy`, the physics of the D4RL, ODRL and OTDF data, or `native`, that of the installed
    MuJoCo. Further `options` concern rendering: width, height, camera_name, ...

    Raises:
        UsageError: unknown task, engine or option.
        TabbError: the installed Gymnasium has other model files than the benchmarks.
    """
    register()
    name = get_task(task).env_id
    # The checker that Gymnasium adds by default costs more than a step; tests run it on every task.
    return gymnasium.make(name, engine=engine, render_mode=render_mode, disable_env_checker=True, **options)


def register() -> None:
    """Register every task with Gymnasium under its `env_id`; doing so again changes nothing."""
    for task in ALL_TASKS.values():
        name = task.env_id
        if name not in gymnasium.registry:
            gymnasium.register(
                name,
                entry_point="tabb.environments.make_robot:make_robot",
                max_episode_steps=task.max_episode_steps,
                kwargs={"task": task.name},
            )


def env_factory_of(env_id: str) -> Callable[[], gymnasium.Env[Any, Any]]:
    """A factory of the Gymnasium environment `env_id`, for rollouts outside the task catalogue.

    Raises:
        UsageError: Gymnasium knows no such id, or cannot make it.
    """
    try:
        gymnasium.make(env_id).close()
    except Exception as error:  # an environment's constructor may raise anything
        raise UsageError(f"environment {env_id!r} cannot be made: {error}") from None
    return lambda: gymnasium.make(env_id)
