"""Tasks: each robot, unshifted and under every shift, with the returns that normalise scores.

`TASKS` holds 92 of them: the four unshifted robots (suite `d4rl`), the 80 shifts of ODRL and the 8 of OTDF
that are not among ODRL's. `MORE_TASKS` holds those of Adroit and AntMaze.
OTDF's gravity shift is ODRL's gravity 0.5, reference returns included, so that
one task belongs to both suites. Nothing here imports MuJoCo.

Sources of the reference returns: D4RL (Fu et al., 2020) for the unshifted robots, ODRL (Lyu et al., 2024)
and OTDF (Lyu et al., 2025) for the others, as published. Expert returns are shared between the levels of
most shifts and copied between some: they scale scores but are not upper bounds.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tabb.environments import adroit_shifts
from tabb.environments.mazes import MAZES
from tabb.environments.shifts import SHIFTS
from tabb.errors import UsageError


@dataclass(frozen=True, slots=True)
class Task:
    """A robot, a shift of its physics and the reference returns of both."""

    name: str
    """robot[-shift[-level]], such as `hopper-gravity-0.5`."""
    robot: str
    """`hopper`, `halfcheetah`, `walker2d`, `ant`, a hand (`pen`, `door`, `hammer`, `relocate`) or `antmaze-<size>`."""
    shift: str | None
    """A name of `tabb.environments.shifts.SHIFTS[robot]`, of `adroit_shifts.SHIFTS` or of a map of `mazes.MAZES`;
    None for the unshifted robot."""
    level: str | None
    """`easy`, `medium`, `hard` or a factor (`0.1` to `5.0`); None where a shift has one strength."""
    suites: tuple[str, ...]
    """Benchmarks the task belongs to, of `d4rl`, `odrl`, `otdf`, `adroit` and `antmaze`."""
    random_return: float
    """Mean undiscounted return of random actions: score 0."""
    expert_return: float
    """Mean undiscounted return of an expert: score 100."""
    observation_size: int
    action_size: int
    max_episode_steps: int = 1000
    """Steps after which an episode is cut: a truncation, never a terminal."""
    namespace: str = "tabb"
    """The part of the Gymnasium id before the slash: `tabb`, `tabb-adroit` or `tabb-antmaze`."""
    reward_offset: float = 0.0
    """Added to both domains' rewards for training, as IQL does for AntMaze (-1); not part of returns and scores."""

    @property
    def env_id(self) -> str:
        """The Gymnasium id."""
        return f"{self.namespace}/{self.name}-v0"

    @property
    def same_physics(self) -> tuple[str, ...]:
        """Other tasks whose physics are this one's, bit for bit."""
        return tuple(name for names, _ in SAME_PHYSICS for name in names if self.name in names and name != self.name)

    def normalised_score(self, returns: ArrayLike) -> Any:
        """100 (J - random) / (expert - random) of undiscounted returns J, in any shape, as float64."""
        return 100 * (np.asarray(returns) - self.random_return) / (self.expert_return - self.random_return)


SAME_PHYSICS = (
    (
        ("hopper-friction-0.1", "hopper-friction-0.5"),
        "MuJoCo takes the larger friction of two geoms that touch, and the floor keeps 1.0",
    ),
)
"""ODRL's tasks that are the same physics under two names, and why; both names are kept as published."""


@dataclass(frozen=True, slots=True)
class _Robot:
    observation_size: int
    action_size: int
    d4rl: tuple[float, float]
    """Random and expert return of the unshifted robot."""
    random: float
    """Random return of all shifted tasks."""
    expert: float
    """Expert return of ODRL's kinematic and morph tasks."""
    friction: tuple[float, ...]
    """Expert returns at levels 0.1, 0.5, 2.0, 5.0."""
    gravity: tuple[float, ...]
    """Expert returns at levels 0.1, 0.5, 2.0, 5.0."""
    otdf: Mapping[str, float]
    """Expert return of OTDF's kinematic and morph tasks."""

    def expert_return(self, shift: str, level: str | None) -> float:
        if level is None:
            return self.otdf[shift]
        if shift in ("friction", "gravity"):
            levels = list(map(str, SHIFTS["hopper"][shift].levels))
            return getattr(self, shift)[levels.index(level)]
        return self.expert


_ROBOTS = {
    "hopper": _Robot(
        observation_size=11,
        action_size=3,
        d4rl=(-20.272305, 3234.3),
        random=-26.3360015397715,
        expert=3234.3,
        friction=(3234.3, 3234.3, 3234.3, 3234.3),
        gravity=(3234.3, 3234.3, 3234.3, 3234.3),
        otdf={"kinematic": 2842.73, "morph": 3152.75},
    ),
    "halfcheetah": _Robot(
        observation_size=17,
        action_size=6,
        d4rl=(-280.178953, 12135.0),
        random=-280.178953,
        expert=12135.0,
        friction=(41696.546875, 7357.0712890625, 11255.9677734375, 10199.3271484375),
        gravity=(2466.85, 9509.15, 9509.15, 3756.24),
        otdf={"kinematic": 7065.03, "morph": 9713.59},
    ),
    "walker2d": _Robot(
        observation_size=17,
        action_size=6,
        d4rl=(1.629008, 4592.3),
        random=10.079455055289959,
        expert=4592.3,
        friction=(3360.181, 4229.348, 5180.044, 4988.835),
        gravity=(2074.904, 5194.713, 5056.445, 3665.385),
        otdf={"kinematic": 3257.51, "morph": 4398.43},
    ),
    "ant": _Robot(
        observation_size=111,
        action_size=8,
        d4rl=(-325.6, 3879.7),
        random=-325.6,
        expert=5139.832,
        friction=(7938.962, 8301.338, 5167.376, 4545.021),
        gravity=(2782.098, 4317.065, 6705.12, 6226.89),
        otdf={"kinematic": 5122.57, "morph": 5722.01},
    ),
}


def _all_tasks() -> dict[str, Task]:
    tasks: list[Task] = []
    for robot, facts in _ROBOTS.items():
        sizes = (facts.observation_size, facts.action_size)
        tasks.append(Task(robot, robot, None, None, ("d4rl",), *facts.d4rl, *sizes))
        for shift, definition in SHIFTS[robot].items():
            for level in definition.levels:
                name = "-".join(part for part in (robot, shift, level) if part)
                suites = ("odrl", "otdf") if (shift, level) == ("gravity", "0.5") else definition.suites
                returns = (facts.random, facts.expert_return(shift, level))
                tasks.append(Task(name, robot, shift, level, suites, *returns, *sizes))
    return {task.name: task for task in tasks}


TASKS: Mapping[str, Task] = MappingProxyType(_all_tasks())
"""Every task by name, robot by robot, the unshifted one first."""

# Sizes of observation and action; returns of D4RL's unshifted task; random return of ODRL's; expert return of ODRL's.
_HANDS = {
    # D4RL's pen-v1 has other returns (96.26, 3076.83): its episodes last 100 steps, ODRL's and these 200.
    "pen": (45, 24, (-12.172796387517222, 6408.3837890625), -12.172796387517222, 6408.3837890625),
    "door": (39, 28, (-56.512833, 2880.5693087298737), -52.33817104624433, 2880.5693087298737),
    "hammer": (46, 26, (-274.856578, 12794.134825156867), -240.92803745715037, 12794.134825156867),
    "relocate": (39, 30, (-6.425911, 4233.877797728884), -4.439599892829203, 4233.877797728884),
}


def _hand_tasks() -> dict[str, Task]:
    tasks: list[Task] = []
    for hand, (seen, acted, d4rl, random, expert) in _HANDS.items():
        tasks.append(Task(hand, hand, None, None, ("adroit",), *d4rl, seen, acted, 200, "tabb-adroit"))
        for shift in adroit_shifts.SHIFTS:
            for level in adroit_shifts.LEVELS:
                name = f"{hand}-{shift}-{level}"
                tasks.append(
                    Task(name, hand, shift, level, ("adroit",), random, expert, seen, acted, 200, "tabb-adroit")
                )
    return {task.name: task for task in tasks}


def _maze_tasks() -> dict[str, Task]:
    tasks: list[Task] = []
    for size, maps in MAZES.items():
        robot, limit = f"antmaze-{size}", 700 if size == "small" else 1000
        for place in maps:
            shift = None if place == "source" else place
            name = f"{robot}-{place}" if shift else robot
            facts = (0.0, 1.0, 29, 8, limit, "tabb-antmaze", -1.0)
            tasks.append(Task(name, robot, shift, None, ("antmaze",), *facts))
    return {task.name: task for task in tasks}


MORE_TASKS: Mapping[str, Task] = MappingProxyType(_hand_tasks() | _maze_tasks())
"""Adroit's 28 tasks (they need the extra `adroit`) and AntMaze's 21, unshifted ones included."""

ALL_TASKS: Mapping[str, Task] = MappingProxyType({**TASKS, **MORE_TASKS})
"""Every task by name."""

_ALIASES = {f"{robot}-gravity": f"{robot}-gravity-0.5" for robot in _ROBOTS}  # OTDF's name


def get_task(name: str | Task) -> Task:
    """The task of that name; OTDF's name `hopper-gravity` is `hopper-gravity-0.5`.

    >>> task = tabb.get_task("hopper-gravity-0.5")
    >>> task.robot, task.max_episode_steps
    ('hopper', 1000)
    >>> tabb.get_task("hopper-gravty-0.5")
    Traceback (most recent call last):
    ...
    tabb.errors.UsageError: unknown task 'hopper-gravty-0.5': did you mean hopper-gravity-0.5? ...

    Raises:
        UsageError: there is no such task; the message offers the closest names.
    """
    if isinstance(name, Task):
        return name
    if not isinstance(name, str):
        raise UsageError(f"task is {type(name).__name__}: give the name of one, see `tabb tasks`")
    name = _ALIASES.get(name, name)
    if name not in ALL_TASKS:
        close = difflib.get_close_matches(name, ALL_TASKS, n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise UsageError(f"unknown task {name!r}: {hint}see `tabb tasks`")
    return ALL_TASKS[name]
