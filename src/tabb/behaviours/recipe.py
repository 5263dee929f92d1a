"""What collected data depend on besides the task."""

from __future__ import annotations

import dataclasses
from typing import Any

from tabb.environments.engine import Engine
from tabb.environments.tasks import ALL_TASKS, Task
from tabb.field_types import TypedFields

WALKER = "walker"
"""name of the training that all mazes share: an ant in an open field"""


@dataclasses.dataclass(frozen=True)
class Recipe(TypedFields):
    """What the data depend on besides the task."""

    first_steps: int = 300_000
    """simulator steps of the search in the unshifted robot; halfcheetah, which no fall stops early, gets twice as many,
    here and in its shifts"""
    shifted_steps: int = 300_000
    """simulator steps of the search in each shift, from the best policy of the unshifted robot; if no policy reaches a
    score of 50, a second search is twice as long and lets the shift grow"""
    noise: float = 0.1
    """standard deviation of the Gaussian noise on actions in collection and search; they are then clipped to [-1, 1]"""
    seed: int = 0
    """seed of training, search and collection"""
    engine: Engine = "legacy"
    """physics: MuJoCo 2.1's, as in D4RL, ODRL and OTDF data, or today's"""

    def of(self, task: Task) -> dict[str, Any]:
        """The fields that data of this task depend on: hands and mazes need no search."""
        fields = dataclasses.asdict(self)
        return fields if task.namespace == "tabb" else {k: v for k, v in fields.items() if not k.endswith("_steps")}


def base_of(task: Task) -> Task | None:
    """The unshifted robot whose search comes first, or None if `task` is unshifted."""
    return None if task.shift is None else ALL_TASKS[task.robot]
