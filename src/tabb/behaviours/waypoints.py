"""The behaviour policy of the mazes: a walker that follows the shortest route from cell to cell.

It knows the map and the goal, which the observation does not hold; a learner has to find the way from the logged rows.
Half of the episodes start at the maze's start and walk to its goal, as D4RL's do. The others start in a random free
cell and walk to one random goal after another ("diverse").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tabb.behaviours.episodes import Episode, LoggedRows, Step, first_rows
from tabb.behaviours.open_field import rotated
from tabb.environments.antmaze import AntMaze, maze_rows
from tabb.environments.engine import Engine
from tabb.environments.mazes import CELL, cells
from tabb.environments.rollout import one_blas_thread
from tabb.environments.tasks import Task
from tabb.policy import Policy

Place = tuple[float, float]
"""Metres, x and y."""

PASSED = 1.0
"""Metres from a cell's centre at which the walker turns to the next cell."""
ON_ITS_BACK = 50
"""Steps with the torso upside down after which the episode is cut."""
LANES = 16
"""Ants at the same time, each in its own maze."""


def free_cells(rows: tuple[str, ...]) -> list[Place]:
    """Centres of the cells that can be reached from the start, in the map's order."""
    return [cell for cell in _open(rows) if cell == (0.0, 0.0) or route(rows, (0.0, 0.0), cell)]


def route(rows: tuple[str, ...], start: Place, goal: Place) -> list[Place]:
    """Centres of the cells on a shortest way from `start` (left out) to `goal`; empty if there is none."""
    allowed = set(_open(rows))
    came: dict[Place, Place | None] = {start: None}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for dx, dy in ((CELL, 0), (-CELL, 0), (0, CELL), (0, -CELL)):
            there = (here[0] + dx, here[1] + dy)
            if there in allowed and there not in came:
                came[there] = here
                queue.append(there)
    way: list[Place] = []
    at: Place | None = goal if goal in came else None
    while at is not None and at != start:
        way.append(at)
        at = came[at]
    return way[::-1]


def _open(rows: tuple[str, ...]) -> list[Place]:
    return [*cells(rows, "0"), *cells(rows, "r"), *cells(rows, "g")]


def _nearest(places: list[Place], position: NDArray[np.float64]) -> Place:
    return min(places, key=lambda place: float(np.hypot(*(position - place))))


class _Lane:
    """One ant and the way that it has to go."""

    def __init__(self, env: AntMaze, maze: tuple[str, ...], generator: np.random.Generator) -> None:
        self.env, self._maze, self._free, self._generator = env, maze, free_cells(maze), generator

    def begin(self, number: int, seed: int) -> None:
        """Start episode `number`; every second episode goes to random goals."""
        self.number, self._roams, self._on_its_back = number, number % 2 == 1, 0
        self._steps: list[Step] = []
        self.env.reset(seed=seed)
        if self._roams:
            position = self.env.data.qpos.copy()
            position[:2] += self._anywhere()
            self.env.set_state(position, self.env.data.qvel.copy())
        self.now = self.env._get_obs().astype(np.float32)
        self._set_out(self._anywhere() if self._roams else self.env.goal)

    def _anywhere(self) -> NDArray[np.float64]:
        return np.array(self._free[self._generator.integers(len(self._free))])

    def _set_out(self, goal: NDArray[np.float64]) -> None:
        here, there = (_nearest(self._free, place) for place in (self.env.data.qpos[:2], goal))
        self._way = [*map(np.array, route(self._maze, here, there)[:-1]), goal]

    def direction(self) -> float:
        """Direction in radians from the ant to its next waypoint."""
        position = self.env.data.qpos[:2]
        while len(self._way) > 1 and np.hypot(*(self._way[0] - position)) < PASSED:
            self._way.pop(0)
        if self._roams and np.hypot(*(self._way[0] - position)) < PASSED:
            self._set_out(self._anywhere())
        ahead = self._way[0] - position
        return float(np.arctan2(ahead[1], ahead[0]))

    def step(self, action: NDArray[np.float32]) -> Episode | None:
        """Make one step; returns the episode if it ended or was cut."""
        observed, reward, terminal, _, _ = self.env.step(action)
        following = observed.astype(np.float32)
        self._on_its_back = self._on_its_back + 1 if _upside_down(following) else 0
        timeout = len(self._steps) + 1 >= self.env.task.max_episode_steps or self._on_its_back >= ON_ITS_BACK
        self._steps.append(Step(self.now, action, reward, following, terminal, timeout and not terminal))
        self.now = following
        return Episode(self._steps, not self._roams) if terminal or timeout else None


def walk_the_maze(
    walker: Policy, task: Task, rows: int, *, engine: Engine = "legacy", noise: float = 0.2, seed: int = 0
) -> LoggedRows:
    """`rows` transitions of `task`, in the order in which their episodes started.

    Gaussian noise of standard deviation `noise` is added to the walker's actions, which are then clipped to [-1, 1].
    An episode is cut at the time limit, after `ON_ITS_BACK` steps on the ant's back, and at the last row.
    """
    maze, generator = maze_rows(task.robot.removeprefix("antmaze-"), task.shift), np.random.default_rng(seed)
    lanes = [_Lane(AntMaze(task, engine), maze, generator) for _ in range(LANES)]
    begun: list[_Lane | Episode] = []  # the lane stands for an episode that still goes on
    for lane in lanes:
        lane.begin(len(begun), seed + len(begun))
        begun.append(lane)
    with one_blas_thread():
        while sum(len(one.steps) for one in _whole(begun)) < rows:
            directions = np.array([lane.direction() for lane in lanes])
            action = walker.act(rotated(np.stack([lane.now for lane in lanes]), directions))
            action = np.clip(action + noise * generator.standard_normal(action.shape, np.float32), -1, 1)
            for lane, one in zip(lanes, action, strict=True):
                if (episode := lane.step(one)) is not None:
                    begun[lane.number] = episode
                    lane.begin(len(begun), seed + len(begun))
                    begun.append(lane)
    for lane in lanes:
        lane.env.close()
    return first_rows(_whole(begun), rows)


def _whole(begun: Sequence[_Lane | Episode]) -> list[Episode]:
    """The episodes before the first that still goes on; to take later ones would favour short episodes."""
    whole = []
    for one in begun:
        if not isinstance(one, Episode):
            break
        whole.append(one)
    return whole


def _upside_down(observation: NDArray[np.float32]) -> bool:
    """Whether the torso's upward axis points down: 1 - 2 (x² + y²) of its quaternion is negative."""
    return bool(1 - 2 * (observation[4] ** 2 + observation[5] ** 2) < 0)
