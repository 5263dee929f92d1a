"""The return of the logged actions after a source row: in the log, and in the target domain's simulator.

    G_source = Σ_k γ^k r_k          logged rewards of the row and the rows after it, h in all
    G_target = Σ_k γ^k r_k,tar      rewards of the target simulator from the row's state, with the same h actions

Rows whose episode ends earlier have no such return, because a shorter one could not be compared. The simulator's sum
stops at a terminal. Neither return depends on anything learned.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tabb.environments.engine import Engine
from tabb.environments.tasks import Task
from tabb.errors import UsageError
from tabb.transitions import Transitions, episode_starts


class Returns(NamedTuple):
    """Discounted returns over h steps from each row, shape [N]."""

    logged: NDArray[np.float64]
    replayed: NDArray[np.float64]


def can_replay(source: Transitions, horizon: int) -> NDArray[np.bool_]:
    """Which rows have `horizon` rows of their episode from themselves on, shape [N].

    Raises `DataError` where rows of an episode are not adjacent.
    """
    rows = np.arange(len(source))
    ends = np.append(episode_starts(source)[1:], len(rows)) - 1
    return ends[np.searchsorted(ends, rows)] - rows + 1 >= horizon


def replay(
    task: Task,
    source: Transitions,
    rows: NDArray[np.intp],
    horizon: int,
    discount: float,
    engine: Engine = "legacy",
) -> Returns:
    """Returns over `horizon` steps from each of `rows`, in the log and in `task`'s simulator.

    The simulator gets the logged actions in their order, whatever states they lead to: the policy is not known. It
    makes a few thousand steps per second.

    Raises:
        UsageError: the task's observations do not hold the whole state, or an episode ends early (see `can_replay`).
    """
    from tabb.environments.make_robot import make_robot

    if task.namespace != "tabb":
        raise UsageError(f"task {task.name}: its observations do not hold the whole state, so no row can be replayed")
    if not can_replay(source, horizon)[rows].all():
        raise UsageError(f"a row's episode ends before {horizon} steps; choose rows where can_replay(...) is true")
    factors = discount ** np.arange(horizon)
    observation, action, reward = (
        np.asarray(column, np.float64) for column in (source.observation, source.action, source.reward)
    )
    returns = Returns(np.zeros(len(rows)), np.zeros(len(rows)))
    env: Any = make_robot(task, engine)
    for number, row in enumerate(rows):
        returns.logged[number] = factors @ reward[row : row + horizon]
        env.restore(observation[row])
        for factor, logged_action in zip(factors, action[row : row + horizon], strict=True):
            _, gain, ended, _, _ = env.step(logged_action)
            returns.replayed[number] += factor * gain
            if ended:
                break
    env.close()
    return returns
