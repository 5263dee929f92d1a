"""The camera of each robot, and how it follows the robot."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tabb.environments.mazes import CELL, WALL_HALF_HEIGHT, cells
from tabb.environments.tasks import Task
from tabb.rendering.painter import Camera, Mark

_VIEWS = {
    "hopper": Camera((0, 0, 1.0), 3.9),
    "walker2d": Camera((0, 0, 0.95), 3.7),
    "halfcheetah": Camera((0, 0, 0.6), 3.6),
    "ant": Camera((0, 0, 0.3), 4.5, 90, -35),
    "pen": Camera((0, -0.15, 0.25), 0.9, -45, -35),
    "door": Camera((0, -0.1, 0.25), 1.5, 90, -25),
    "hammer": Camera((0, -0.1, 0.2), 1.3, 45, -30),
    "relocate": Camera((0, -0.1, 0.2), 1.6, 90, -30),
}
_HOP = 0.4  # metres above the start that the picture has room for
_MAZE = Camera((0, 0, 0), 18, 90, -65)


def view_of(task: Task) -> Camera:
    """The camera for a robot at its start."""
    return _MAZE if task.namespace == "tabb-antmaze" else _VIEWS[task.robot]


def follow(task: Task, camera: Camera, state: NDArray[np.float64], model: Any) -> Camera:
    """The camera moved with the torso: along x for planar robots, along x and y for ants, and not for hands.

    `state` is that of `painter.state_of`, which starts with the positions. The camera keeps its height, so that a hop
    is visible, unless the robot would leave the picture (as with a tenth of gravity).
    """
    if task.namespace == "tabb-adroit":
        return camera
    x, y, z = camera.lookat
    if task.namespace == "tabb-antmaze" or task.robot == "ant":
        return dataclasses.replace(camera, lookat=(x + state[0], y + state[1], z))
    # By name, because the model files list the root joints in different orders.
    along, up = (int(model.joint(name).qposadr[0]) for name in ("rootx", "rootz"))
    rise = state[up] - model.qpos0[up]
    return dataclasses.replace(camera, lookat=(x + state[along], y, z + max(0.0, rise - _HOP)))


def above(rows: tuple[str, ...], aspect: float) -> Camera:
    """A camera straight above a maze, x to the right; it shows the whole maze in a picture of this width / height."""
    xs, ys = zip(*(place for kind in set("".join(rows)) for place in cells(rows, kind)), strict=True)
    middle = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, WALL_HALF_HEIGHT)
    height = max(max(ys) - min(ys) + CELL, (max(xs) - min(xs) + CELL) / aspect)
    # MuJoCo's field of view is 45 degrees: a height h fills the picture from a distance of h / (2 tan 22.5°). Walls are
    # nearer than the floor.
    return Camera(middle, 1.21 * height + WALL_HALF_HEIGHT, 90, -89.9)


def marks_of(env: Any) -> tuple[Mark, ...]:
    """Marks for what an environment has beside its model: the goal of a maze, as a ball on the ground."""
    goal = getattr(env.unwrapped, "goal", None)
    return () if goal is None or len(goal) != 2 else (Mark((float(goal[0]), float(goal[1]), 0.5), 0.5),)
