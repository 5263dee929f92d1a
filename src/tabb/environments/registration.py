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
    """The environment of a task; episodes are truncated after `task.max_episode_steps` steps.

    >>> env = tabb.make("hopper-gravity-0.5")
    >>> observation, _ = env.reset(seed=0)
    >>> observation.shape, env.action_space.shape
    ((11,), (3,))
    >>> env.close()

    `engine` is `legacy`, the physics of the D4RL, ODRL and OTDF data, or `native`, the physics of the installed
    MuJoCo. `options` are for rendering: width, height, camera_name, ...

    Raises:
        UsageError: the task, engine or option is unknown.
        TabbError: the model files of the installed Gymnasium are not those of the benchmarks.
    """
    register()
    name = get_task(task).env_id
    # Gymnasium's default checker costs more than a step; tests run it on every task.
    return gymnasium.make(name, engine=engine, render_mode=render_mode, disable_env_checker=True, **options)


def register() -> None:
    """Register every task with Gymnasium under its `env_id`, unless it is registered already."""
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
        UsageError: Gymnasium does not know the id, or cannot make its environment.
    """

    def make() -> gymnasium.Env[Any, Any]:
        # Gymnasium's checker would stop at what `CheckedEnvironment` says in one line.
        return gymnasium.make(env_id, disable_env_checker=True)

    try:
        make().close()
    except Exception as error:  # an environment's constructor may raise anything
        raise UsageError(f"environment {env_id!r} cannot be made: {error}") from None
    return make
