"""Whether data follow the physics of a task of the catalogue, and of which engine: asked of the simulator itself."""

from __future__ import annotations

import numpy as np

from tabb.data.audit.finding import Finding
from tabb.data.checks import pieces
from tabb.data.report import Loaded
from tabb.environments.simulate import one_step
from tabb.environments.tasks import ALL_TASKS, Task
from tabb.errors import UsageError

STEPS = 200
"""rows that are simulated anew"""
FOLLOWS = 1e-3
"""median error of a step (largest entry, in its unit) up to which data follow a physics; the right one is below 1e-4"""
CLEARLY = 10.0
"""how many times worse another physics must fit before a file is said to follow one of the two"""


def check_physics(loaded: Loaded, task: Task) -> tuple[Finding | None, str | None]:
    """Compare logged steps with simulated ones, of the task and of the unshifted robot, in both engines.

    Returns a finding, and the engine that the data follow where just one of the two fits. Of hands and
    mazes, which no observation can start, it says that it cannot tell. Raises `UsageError` where the task is not of the
    data's robot.
    """
    name, data = loaded.report.name, loaded.transitions
    for size in ("observation_size", "action_size"):
        if getattr(data, size) != getattr(task, size):
            raise UsageError(
                f"{name}: {size} is {getattr(data, size)} but {getattr(task, size)} in task {task.name}; "
                "name the task that the data come from"
            )
    if task.namespace != "tabb":
        what = f"physics not checked: an observation of {task.name} does not hold all that a step begins with"
        return Finding("note", "physics", name, what, "none needed; hands and mazes cannot be started from a row"), None
    rows = _rows(loaded)
    if not len(rows):
        return None, None
    s, a, true = (np.asarray(part)[rows] for part in (data.observation, data.action, data.next_observation))
    error = {
        (one, engine): float(np.median(np.abs(one_step(ALL_TASKS[one], s, a, engine).next_observation - true).max(1)))
        for one in dict.fromkeys((task.name, task.robot))
        for engine in ("legacy", "native")
    }
    asked = {engine: error[task.name, engine] for engine in ("legacy", "native")}
    engine = min(asked, key=lambda one: asked[one])
    (best, its_engine), least = min(error.items(), key=lambda pair: pair[1])
    errors = f"median error of a step {asked[engine]:.1g}, with the other engine {max(asked.values()):.1g}"
    if asked[engine] > FOLLOWS or asked[engine] > CLEARLY * least:
        what = f"does not follow the physics of {task.name}: {errors}"
        if best != task.name and least <= FOLLOWS:
            what += f"; it follows {best}, engine {its_engine} ({least:.1g})"
        fix = "name the task that the data come from; then look for other units, another order or another engine"
        return Finding("warning", "physics", name, what, fix), None
    elif max(asked.values()) < CLEARLY * asked[engine]:
        what = f"follows the physics of {task.name} in either engine: {errors}"
        return Finding("note", "physics", name, what, "none needed"), None
    if loaded.report.engine not in (None, engine):
        what = f"states engine {loaded.report.engine} but follows engine {engine} of {task.name}: {errors}"
        fix = "correct the attribute `engine`: engines differ as much as a shift"
        return Finding("error", "engine", name, what, fix), engine
    what = f"follows the physics of {task.name}, engine {engine}: {errors}"
    return Finding("note", "physics", name, what, "none needed; the other domain must be of this engine too"), engine


def _rows(loaded: Loaded) -> np.ndarray:
    """Rows whose state and next state are known whole: not terminal, not clipped."""
    data = loaded.transitions
    known = np.asarray(data.terminal) == 0
    if loaded.report.clipped:
        limit = loaded.report.clipped[0]
        for part in (np.asarray(data.observation), np.asarray(data.next_observation)):
            for piece in pieces(len(part)):
                known[piece] &= np.abs(part[piece]).max(axis=1) < limit
    rows = np.flatnonzero(known)
    return rows[np.linspace(0, len(rows) - 1, min(STEPS, len(rows))).astype(int)] if len(rows) else rows
