"""Robots between the unshifted one and a shift of it: a way from one to the other in small steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabb.environments.engine import Engine
from tabb.environments.robots import make_robot
from tabb.environments.tasks import ALL_TASKS, Task


def robot_between(task: Task, engine: Engine, share: float) -> Any:
    """A robot with `share` (0 to 1) of the task's shift: each number of its compiled model lies so far between.

    Sizes, masses, limits, friction and gravity move alike. With 0 it is the unshifted robot but for rounding, with 1
    the task's own to the last bit; between, inertias are only about those of the sizes. No data set is collected there.
    """
    robot = make_robot(task, engine)
    if share >= 1.0:
        return robot
    base = make_robot(ALL_TASKS[task.robot], engine)
    for shifted, unshifted in ((robot.model, base.model), (robot.model.opt, base.model.opt)):
        for name in dir(shifted):
            if not name.startswith("_"):
                _blend(getattr(shifted, name), getattr(unshifted, name), share, name.endswith("quat"))
    base.close()
    return robot


def _blend(shifted: Any, unshifted: Any, share: float, rotation: bool) -> None:
    """Write the blend of two arrays into the first; other attributes stay."""
    if not isinstance(shifted, np.ndarray) or shifted.dtype.kind != "f" or np.array_equal(shifted, unshifted):
        return
    blend = (1.0 - share) * unshifted + share * shifted
    shifted[...] = blend / np.linalg.norm(blend, axis=-1, keepdims=True) if rotation else blend
