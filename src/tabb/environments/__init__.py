"""Robots under dynamics shifts: tasks with reference returns, environments on two engines, rollouts.

The import registers every task with Gymnasium as `tabb/<task>-v0`. MuJoCo is imported with the first environment.
"""

from tabb.environments.engine import ENGINES, Engine
from tabb.environments.registration import make, register
from tabb.environments.rollout import Act, Episodes, Rows, rollout
from tabb.environments.safe_actions import SafeActions
from tabb.environments.simulate import Steps, one_step
from tabb.environments.tasks import TASKS, Task, get_task

__all__ = [
    "ENGINES",
    "TASKS",
    "Act",
    "Engine",
    "Episodes",
    "Rows",
    "SafeActions",
    "Steps",
    "Task",
    "get_task",
    "make",
    "one_step",
    "register",
    "rollout",
]

register()
