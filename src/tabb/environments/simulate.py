"""Single steps of a task from given states, for comparisons with data and for the oracle's true next states."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tabb.environments.engine import Engine
from tabb.environments.tasks import Task, get_task
from tabb.errors import DataError, UsageError


class Steps(NamedTuple):
    """The results of single steps, in float64."""

    next_observation: NDArray[np.float64]
    """Shape [N, S]."""
    reward: NDArray[np.float64]
    """Shape [N]."""
    terminal: NDArray[np.bool_]
    """Shape [N]: whether the task ended (time limits do not count)."""


def one_step(task: str | Task, observations: ArrayLike, actions: ArrayLike, engine: Engine = "legacy") -> Steps:
    """One environment step of `task` from each of `observations` [N, S] with `actions` [N, A].

    Rows are independent: for each, the simulator is reset and set to the state that the observation encodes (at x = 0).
    Three things that an observation lacks make a row differ from the logged step:

    - a velocity that hopper and walker2d clipped (at +-10) is taken as it is;
    - the solver's warm start is lost, which matters at 1e-6;
    - the ant's torso position trails its state by an unknown amount, which changes the reward by about 1e-3.

    About 10,000 rows per second.

    Raises:
        UsageError: the task or engine is unknown, or the shapes do not fit the task.
        DataError: an entry is not finite; the message names the first such row.
    """
    from tabb.environments.make_robot import make_robot

    task = get_task(task)
    if task.namespace != "tabb":
        raise UsageError(
            f"task {task.name}: its observations do not hold the whole state, so no step can start from one"
        )
    observations = _rows("observations", observations, task.observation_size)
    actions = _rows("actions", actions, task.action_size)
    if len(observations) != len(actions):
        raise UsageError(f"{len(observations)} observations but {len(actions)} actions: give one of each per row")

    env: Any = make_robot(task, engine)
    steps = Steps(np.empty(observations.shape), np.empty(len(actions)), np.empty(len(actions), bool))
    for row, (observation, action) in enumerate(zip(observations, actions, strict=True)):
        env.restore(observation)
        steps.next_observation[row], steps.reward[row], steps.terminal[row], _, _ = env.step(action)
    env.close()
    return steps


def _rows(name: str, values: ArrayLike, width: int) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or array.shape[1] != width:
        raise UsageError(f"{name} have shape {array.shape}: expected [N, {width}]")
    wrong = ~np.isfinite(array).all(axis=1)
    if wrong.any():
        raise DataError(f"{name} hold a value that is not finite in row {int(wrong.argmax())}")
    return array
