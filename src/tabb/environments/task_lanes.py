"""The lanes of a task: stepped together where that can be done, else one by one."""

from __future__ import annotations

import os
from typing import Any

from tabb.environments.engine import Engine
from tabb.environments.lanes import Lanes, OneByOne
from tabb.environments.tasks import Task

LANES_PER_THREAD = 2
"""A thread that wakes for less than this costs more than it steps."""


def lanes_of(task: Task, engine: Engine, count: int, share: float = 1.0) -> Lanes:
    """Lanes of `task` for up to `count` episodes: together where that can be done, else one by one.

    `share` of the shift, of the four robots alone: see `robots`.

    Both give the same numbers to the last bit. Two and more of the four robots are stepped together if MuJoCo has
    `mujoco.batch` (4.0 has); the hand and the mazes, whose rules are more than a formula of the state, never are.
    """
    from tabb.environments.make_robot import make_robot
    from tabb.environments.robots import ROBOTS

    def make() -> Any:
        return make_robot(task, engine) if share == 1.0 else ROBOTS[task.robot](task, engine, share=share)

    if task.namespace == "tabb" and count > 1:
        try:
            from tabb.environments.together import Together
        except ImportError:  # an older MuJoCo
            pass
        else:
            return Together(make(), count, threads_for(count))
    return OneByOne(make)  # bare: a wrapper's checks cost as much as a step


def threads_for(lanes: int) -> int:
    """Threads that step `lanes` lanes: of the cores that this process may use as many as are worth waking.

    `OMP_NUM_THREADS` bounds them, as it bounds those of other numeric libraries; for the runs of a plan it is 1.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    bound = os.environ.get("OMP_NUM_THREADS", "")
    if bound.isdecimal() and int(bound) > 0:
        cores = min(cores, int(bound))
    return max(1, min(cores, lanes // LANES_PER_THREAD))
