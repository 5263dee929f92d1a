"""Makes the bare environment of any task: a robot, a hand or a maze."""

from __future__ import annotations

from typing import Any

from tabb.environments.antmaze import AntMaze
from tabb.environments.engine import Engine
from tabb.environments.robots import ROBOTS
from tabb.environments.tasks import Task, get_task
from tabb.errors import UsageError


def make_robot(task: str | Task, engine: Engine = "legacy", render_mode: str | None = None, **options: Any) -> Any:
    """The bare environment of a task, without a time limit.

    `options` (width, height, camera_name, ...) are those of Gymnasium's `MujocoEnv` for rendering.

    Raises:
        UsageError: the task, engine or option is unknown.
        TabbError: the model files of the installed Gymnasium are not those of the benchmarks.
    """
    task = get_task(task)
    allowed = {"width", "height", "camera_id", "camera_name", "default_camera_config", "max_geom"}
    unknown = sorted(options.keys() - allowed - {"visual_options"})
    if unknown:
        raise UsageError(f"unknown option {unknown[0]!r} of task {task.name}: choose one of {sorted(allowed)}")
    if task.namespace == "tabb-adroit":
        from tabb.environments.adroit import HAND_ENVS

        return HAND_ENVS[task.robot](task, engine, render_mode, **options)
    if task.namespace == "tabb-antmaze":
        return AntMaze(task, engine, render_mode, **options)
    return ROBOTS[task.robot](task, engine, render_mode, **options)
