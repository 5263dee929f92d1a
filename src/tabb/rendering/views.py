"""Where the camera stands for each robot, and what follows the robot."""

from __future__ import annotations

import dataclasses
from typing import Any

from tabb.environments.mazes import CELL, cells
from tabb.environments.tasks import Task
from tabb.rendering.painter import Camera, Mark

_VIEWS = {
    "hopper": Camera((0, 0, 0.75), 3.2),
    "walker2d": Camera((0, 0, 0.85), 3.6),
    "halfcheetah": Camera((0, 0, 0.45), 3.2),
    "ant": Camera((0, 0, 0.3), 4.5, 90, -35),
    "pen": Camera((0, -0.15, 0.25), 0.9, -45, -35),
    "door": Camera((0, -0.1, 0.25), 1.3, 90, -25),
    "hammer": Camera((0, -0.1, 0.2), 1.3, 45, -30),
    "relocate": Camera((0, -0.1, 0.15), 1.3, 90, -30),
}
_MAZE = Camera((0, 0, 0), 18, 90, -65)


def view_of(task: Task) -> Camera:
    """The camera for a robot at its start."""
    return _MAZE if task.namespace == "tabb-antmaze" else _VIEWS[task.robot]


def follow(task: Task, camera: Camera, state: Any, model: Any) -> Camera:
    """The camera moved with the torso: along x for the robots of a plane, along x and y for ants, not for hands.

    `state` is that of `painter.state_of`, which begins with the positions. The height stays: a hop is seen as one.
    """
    if task.namespace == "tabb-adroit":
        return camera
    x, y, z = camera.lookat
    if task.namespace == "tabb-antmaze" or task.robot == "ant":
        return dataclasses.replace(camera, lookat=(x + state[0], y + state[1], z))
    return dataclasses.replace(camera, lookat=(x + state[_first_position(model)], y, z))


def _first_position(model: Any) -> int:
    """Where the root's x stands among the positions: by name, as a file may list its root joints in any order."""
    return int(model.joint("rootx").qposadr[0])


def above(rows: tuple[str, ...]) -> Camera:
    """A camera that sees a whole maze from straight above, x to the right; 0.8 of the picture's height hold its rows."""
    everything = [place for kind in set("".join(rows)) for place in cells(rows, kind)]
    xs, ys = zip(*everything, strict=True)
    middle = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, 0.0)
    height = max(max(ys) - min(ys) + CELL, 0.75 * (max(xs) - min(xs) + CELL))
    # MuJoCo's field of view is 45 degrees high: what is h high fills it from a distance of h / (2 tan 22.5).
    return Camera(middle, 1.3 * height, 90, -89.9)


def marks_of(env: Any) -> tuple[Mark, ...]:
    """What an environment holds beside its model: the goal of a maze, a ball on the ground."""
    goal = getattr(env.unwrapped, "goal", None)
    return () if goal is None or len(goal) != 2 else (Mark((float(goal[0]), float(goal[1]), 0.5), 0.5),)
