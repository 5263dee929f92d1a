"""What the logged actions after a source row earn: in the log, and in the target domain's simulator.

    G_source = Σ_k γ^k r_k          rewards of the row and of the rows after it in its episode, h of them
    G_target = Σ_k γ^k r_k,tar      the target simulator, put into the row's state, with the same h actions

Rows whose episode ends earlier have no such return: a shorter one could not be compared. The simulator's sum ends
where the task does. Nothing learned enters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tabb.environments.engine import Engine
from tabb.environments.tasks import Task
from tabb.errors import UsageError
from tabb.transitions import Transitions


class Returns(NamedTuple):
    """Discounted returns of h steps, a row each, shape [N]."""

    logged: NDArray[np.float64]
    replayed: NDArray[np.float64]


def can_play_on(source: Transitions, horizon: int) -> NDArray[np.bool_]:
    """Which rows are followed by enough others of their episode: `horizon` rows, themselves included. Shape [N]."""
    episode = np.asarray(source.episode)
    ends = np.flatnonzero(np.r_[episode[1:] != episode[:-1], True])
    rows = np.arange(len(episode))
    return ends[np.searchsorted(ends, rows)] - rows + 1 >= horizon


def play_on(
    task: Task,
    source: Transitions,
    rows: NDArray[np.intp],
    horizon: int,
    discount: float,
    engine: Engine = "legacy",
) -> Returns:
    """Returns over `horizon` steps from each of `rows`, in the log and in `task`'s simulator.

    The actions are the log's, in its order, whatever states they lead to in the target domain: no policy is known.
    A few thousand steps per second. Raises `UsageError` for a task whose states its observations do not hold, and for
    rows that the log does not follow that long (see `can_play_on`).
    """
    from tabb.environments.make_robot import make_robot

    if task.namespace != "tabb":
        raise UsageError(f"task {task.name}: an observation does not hold its whole state, so no row can be replayed")
    if not can_play_on(source, horizon)[rows].all():
        raise UsageError(f"a row's episode ends before {horizon} steps have passed; choose among can_play_on(...)")
    factors = discount ** np.arange(horizon)
    observation, action, reward = (
        np.asarray(column, np.float64) for column in (source.observation, source.action, source.reward)
    )
    found = Returns(np.zeros(len(rows)), np.zeros(len(rows)))
    env: Any = make_robot(task, engine)
    for number, row in enumerate(rows):
        found.logged[number] = factors @ reward[row : row + horizon]
        env.restore(observation[row])
        for factor, done in zip(factors, action[row : row + horizon], strict=True):
            _, gain, ended, _, _ = env.step(done)
            found.replayed[number] += factor * gain
            if ended:
                break
    env.close()
    return found
