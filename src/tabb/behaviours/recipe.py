"""What collected data depend on, besides the task."""

from __future__ import annotations

import dataclasses
from typing import Any

from tabb.environments.engine import Engine
from tabb.environments.tasks import ALL_TASKS, Task

WALKER = "walker"
"""name of the practice that all mazes share: an ant in an open field"""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the data depend on, besides the task."""

    first_steps: int = 300_000
    """simulator steps of the search for a policy of the unshifted robot; halfcheetah, whose episodes no fall ends, gets
    twice as many, here and in its shifts"""
    shifted_steps: int = 300_000
    """simulator steps of the search in each shift, from the best policy of the unshifted robot; where none that it
    finds has a score of 50, it is done once more, twice as long, and the shift grows meanwhile"""
    noise: float = 0.1
    """standard deviation of the Gaussian noise on collected actions, which are then clipped to [-1, 1]; searches act
    with it too"""
    seed: int = 0
    """of practice and collection"""
    engine: Engine = "legacy"
    """physics: MuJoCo 2.1's, as in D4RL, ODRL and OTDF data, or today's"""

    def of(self, task: Task) -> dict[str, Any]:
        """The part of it that data of this task depend on: hands and mazes need no search."""
        fields = dataclasses.asdict(self)
        return fields if task.namespace == "tabb" else {k: v for k, v in fields.items() if not k.endswith("_steps")}


def base_of(task: Task) -> Task | None:
    """The unshifted robot whose search comes first; None for the robot itself."""
    return None if task.shift is None else ALL_TASKS[task.robot]
