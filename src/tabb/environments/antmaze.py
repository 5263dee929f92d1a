"""AntMaze: D4RL's ant in the mazes of `tabb.environments.mazes`, as ODRL runs it.

Reward 1 within 0.5 m of the goal, which is terminal, else 0; falling over is neither. The goal is drawn anew at
each reset and is not observed. Built on Gymnasium's ant with D4RL's gear and time step; one step is 0.1 s.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.spaces import Box
from gymnasium.utils import EzPickle
from numpy.typing import NDArray

from tabb.environments.engine import (
    ASSETS,
    ENGINES,
    Engine,
    _compile_with_cylinders,
    _load,
    _set_inertials,
    _use_larger_margin,
)
from tabb.environments.mazes import CELL, MAZES, WALL_HALF_HEIGHT, cells
from tabb.environments.robots import _Robot
from tabb.environments.tasks import Task
from tabb.errors import UsageError

REACHED = 0.5
"""Metres from the goal."""


def build_maze(size: str, place: str | None = None, engine: str = "legacy") -> Any:
    """The compiled `mujoco.MjModel` of the ant in a maze; `place` None is the source map.

    Raises:
        UsageError: the size, map or engine is unknown.
    """
    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}: choose one of {', '.join(ENGINES)}")
    return build_ant_among(maze_rows(size, place), engine)


def build_ant_among(rows: tuple[str, ...], engine: str = "legacy") -> Any:
    """The model of the ant in any map, with rows as in `tabb.environments.mazes`; `("r",)` is an open field."""
    spec, _ = _load("ant")
    spec.option.timestep = 0.02
    for actuator in spec.actuators:
        actuator.gear = [30, 0, 0, 0, 0, 0]
    for geom in spec.geoms:
        geom.solimp = [0.8, 0.8, 0.01, *geom.solimp[3:]]
    floor = spec.geom("floor")
    floor.size = [80, 80, 80]
    for number, (x, y) in enumerate(cells(rows, "1")):
        spec.worldbody.add_geom(
            name=f"wall{number}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[x, y, WALL_HALF_HEIGHT],
            size=[CELL / 2, CELL / 2, WALL_HALF_HEIGHT],
            contype=1,
            conaffinity=1,
            condim=3,
            friction=floor.friction,
            margin=floor.margin,
            solimp=floor.solimp,
            rgba=[0.4, 0.4, 0.4, 1],
        )
    if engine == "legacy":
        _set_inertials(spec, _compile_with_cylinders(spec), None)
        _use_larger_margin(spec)
    return spec.compile()


def maze_rows(size: str, place: str | None) -> tuple[str, ...]:
    """The rows of a map. Raises `UsageError` for unknown names."""
    if size not in MAZES:
        raise UsageError(f"unknown maze size {size!r}: choose one of {', '.join(MAZES)}")
    if (place or "source") not in MAZES[size]:
        raise UsageError(f"unknown map {place!r} of antmaze-{size}: choose one of {', '.join(MAZES[size])}")
    return MAZES[size][place or "source"]


class AntMaze(_Robot, AntEnv):
    """Observation [29]: x, y, z, quaternion (w first), 8 joints; 6 root and 8 joint velocities. Action [8]."""

    _hidden_positions = 0

    def __init__(self, task: Task, engine: Engine = "legacy", render_mode: str | None = None, **options: Any) -> None:
        self.task, self.engine = task, engine
        AntEnv.__init__(
            self, xml_file=ASSETS["ant"], include_cfrc_ext_in_observation=False, render_mode=render_mode, **options
        )
        EzPickle.__init__(self, task, engine, render_mode, **options)
        self.observation_space: Box = self._bounds()
        self._place_goal()

    @property
    def _size(self) -> str:
        return self.task.robot.removeprefix("antmaze-")

    def _initialize_simulation(self) -> tuple[Any, Any]:
        model = build_maze(self._size, self.task.shift, self.engine)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, self.width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, self.height)
        return model, mujoco.MjData(model)

    def _place_goal(self) -> None:
        (centre,) = cells(maze_rows(self._size, self.task.shift), "g")
        noise = self.np_random.uniform(0, 1, 2) + self.np_random.uniform(0, 0.5, 2)
        self.goal = np.maximum(np.array(centre) + noise, 0)

    def _get_obs(self) -> NDArray[np.float64]:
        return np.concatenate([self.data.qpos, self.data.qvel])

    def step(self, action: Any) -> Any:
        """One step of 0.1 s; `info` says whether the goal was reached."""
        self.do_simulation(action, self.frame_skip)
        if self.render_mode == "human":
            self.render()
        reached = bool(np.linalg.norm(self.data.qpos[:2] - self.goal) <= REACHED)
        return self._get_obs(), float(reached), reached, False, {"success": reached}

    def reset_model(self) -> NDArray[np.float64]:
        self._place_goal()
        super().reset_model()
        position = self.data.qpos.copy()
        position[3:7] /= np.linalg.norm(position[3:7])
        self.set_state(position, self.data.qvel.copy())
        return self._get_obs()

    def _get_reset_info(self) -> dict[str, Any]:
        return {"goal": self.goal.copy()}
