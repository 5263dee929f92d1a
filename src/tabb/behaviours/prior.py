"""Prior rows: logged source states and actions, with what the simulator of the shifted robot makes of them."""

from __future__ import annotations

import dataclasses

import numpy as np

from tabb.environments.engine import Engine
from tabb.environments.simulate import one_step
from tabb.environments.tasks import Task
from tabb.errors import DataError
from tabb.evaluation.oracle import known_state
from tabb.transitions import Transitions, concatenate

QUALITIES = ("medium", "medium_replay", "expert")
ROWS = 100_000


def prior_rows(task: Task, engine: Engine = "legacy", seed: int = 0) -> tuple[Transitions | None, tuple[str, ...]]:
    """Up to `ROWS` true transitions of `task` from source data at hand, and the names of their files.

    States and actions are the logged ones of the source files of `QUALITIES` that there are; next states, rewards
    and terminals are what the task's own simulator makes of them. None where no file is at hand, or where a state
    cannot be restored from an observation (hands and mazes).
    """
    if task.namespace != "tabb":
        return None, ()
    from tabb.data.catalogue import resolve
    from tabb.data.files import read

    generator = np.random.default_rng(seed)
    rows: Transitions | None = None
    files: list[str] = []
    for quality in QUALITIES:
        try:
            (path,) = resolve(quality, task.name, "source")
        except DataError:
            continue
        logged = read(path).transitions
        chosen = generator.choice(len(logged), min(ROWS // len(QUALITIES), len(logged)), replace=False)
        logged = logged[np.sort(chosen)]
        asked = _asked(task, logged[known_state(task, logged)], engine)
        rows = asked if rows is None else concatenate(rows, asked)
        files.append(path.name)
    return rows, tuple(files)


def _asked(task: Task, logged: Transitions, engine: Engine) -> Transitions:
    """The same states and actions with what the task's simulator makes of them."""
    found = one_step(task, logged.observation, logged.action, engine)
    return dataclasses.replace(
        logged,
        reward=found.reward.astype(np.float32),
        next_observation=found.next_observation.astype(np.float32),
        terminal=found.terminal.astype(np.float32),
    )
