"""The lanes of a task: stepped together if possible, else one by one."""

from __future__ import annotations

import os
from typing import Any

from tabb.cores import core_count
from tabb.environments.engine import Engine
from tabb.environments.lanes import Lanes, OneByOne
from tabb.environments.tasks import Task

LANES_PER_THREAD = 2
"""Least number of lanes for a thread; with fewer its overhead exceeds the work."""


def lanes_of(task: Task, engine: Engine, count: int, share: float = 1.0) -> Lanes:
    """Lanes of `task` for up to `count` episodes: stepped together if possible, else one by one.

    Both give the same numbers to the last bit. Two or more of the four robots are stepped together if MuJoCo has
    `mujoco.batch` (from 4.0); hands and mazes never are, as their rewards and ends are not formulas of the state.
    `share` of the shift is for the four robots only (see `robots`).
    """
    from tabb.environments.make_robot import make_robot
    from tabb.environments.robots import ROBOTS

    def make() -> Any:
        return make_robot(task, engine) if share == 1.0 else ROBOTS[task.robot](task, engine, share=share)

    if task.namespace == "tabb" and count > 1:
        try:
            from tabb.environments.batched_lanes import BatchedLanes
        except ImportError:  # an older MuJoCo
            pass
        else:
            return BatchedLanes(make(), count, threads_for(count))
    return OneByOne(make)  # without wrappers, whose checks cost as much as a step


def threads_for(lanes: int) -> int:
    """Threads that step `lanes` lanes: as many of this process's cores as have enough lanes.

    `OMP_NUM_THREADS` is an upper bound, as in other numeric libraries; it is 1 for the runs of a plan.
    """
    cores = core_count()
    bound = os.environ.get("OMP_NUM_THREADS", "")
    if bound.isdecimal() and int(bound) > 0:
        cores = min(cores, int(bound))
    return max(1, min(cores, lanes // LANES_PER_THREAD))
