"""Lanes of one robot that are stepped together: physics in MuJoCo's batch on several threads, the rest in NumPy.

Every number equals that of Gymnasium's environment to the last bit: `mujoco.batch` runs `mj_step` on each copy's
whole state, the solver's warm start included (which `mujoco.rollout` does not return), and the formulas below do
the arithmetic of Gymnasium's v5 classes in the same order. Their constants are read from the environment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
from mujoco.batch import Batch
from numpy.typing import NDArray

from tabb.environments.lanes import LaneSteps

Floats = NDArray[np.float64]


class BatchedLanes:
    """Lanes (see `lanes.Lanes`) that are rows of one batch."""

    def __init__(self, robot: Any, count: int, threads: int) -> None:
        """`robot`, one of `robots.ROBOTS`, draws the first states of `count` copies."""
        self.action_space = robot.action_space
        self._robot = robot
        self._healthy = _HEALTHY[robot.task.robot]
        self._alive_reward = float(getattr(robot, "_healthy_reward", 0.0))  # halfcheetah has none
        self._step_time = robot.dt
        self._batch = batch = Batch(robot.model, count, nthread=threads)
        self._positions, self._velocities, self._controls = batch.bind("qpos"), batch.bind("qvel"), batch.bind("ctrl")
        if robot.task.robot == "ant":  # its velocity is that of the torso's body, see `robots`
            self._x_after_step = batch.bind("xpos")[
                :, mujoco.mj_name2id(robot.model, mujoco.mjtObj.mjOBJ_BODY, "torso"), 0
            ]
        else:
            self._x_after_step = self._positions[:, 0]
        self._x = np.zeros(count)
        """Position of each lane in metres from which the next step's velocity is computed."""

    def reset(self, seed: int, count: int) -> NDArray[np.float32]:
        return np.stack([self.restart(k, seed + k) for k in range(count)])

    def restart(self, lane: int, seed: int) -> NDArray[np.float32]:
        observation = self._robot.reset(seed=seed)[0]
        model, data = self._robot.model, self._robot.data
        mujoco.mj_getState(model, data, self._batch.state[lane], mujoco.mjtState.mjSTATE_INTEGRATION)
        self._x[lane] = data.qpos[0]  # also the position of the torso's body before the first step
        return observation.astype(np.float32)

    def step(self, lanes: list[int], actions: NDArray[np.float32]) -> LaneSteps:
        self._controls[lanes] = actions
        self._batch.step(np.array(lanes), self._robot.frame_skip)
        positions, velocities = self._positions[lanes], self._velocities[lanes]
        x, before = self._x_after_step[lanes], self._x[lanes]
        self._x[lanes] = x
        return LaneSteps(
            self._observe(positions, velocities),
            self._reward((x - before) / self._step_time, actions),
            ~self._healthy(self._robot, positions, velocities),
            np.zeros(len(lanes), bool),
        )

    def _observe(self, positions: Floats, velocities: Floats) -> NDArray[np.float32]:
        """Observations [B, S]; entries beyond the state (the ant's contact forces) are zero."""
        seen, bound = positions[:, self._robot._hidden_positions :], self._robot._velocity_clip
        observation = np.zeros((len(seen), self._robot.task.observation_size), np.float32)
        width = seen.shape[1]
        observation[:, :width] = seen
        observation[:, width : width + velocities.shape[1]] = np.clip(velocities, -bound, bound)
        return observation

    def _reward(self, velocity: Floats, actions: NDArray[np.float32]) -> Floats:
        """Shape [B], from forward velocities in m/s."""
        actions = actions.astype(np.float64)
        cost = self._robot._ctrl_cost_weight * np.vecdot(actions, actions)
        return self._robot._forward_reward_weight * velocity + self._alive_reward - cost

    def close(self) -> None:
        """Close the environment; the threads end with this object."""
        self._robot.close()


# --- When a robot is healthy: of positions [B, nq] and velocities [B, nv]; shape [B] ---


def _inside(values: Floats, bounds: tuple[float, float]) -> NDArray[np.bool_]:
    return (bounds[0] < values) & (values < bounds[1])


def _hopper(robot: Any, positions: Floats, velocities: Floats) -> NDArray[np.bool_]:
    upright = _inside(positions[:, 1], robot._healthy_z_range) & _inside(positions[:, 2], robot._healthy_angle_range)
    state = np.concatenate([positions[:, 2:], velocities], axis=1)
    return upright & _inside(state, robot._healthy_state_range).all(axis=1)


def _halfcheetah(robot: Any, positions: Floats, velocities: Floats) -> NDArray[np.bool_]:
    return np.ones(len(positions), bool)


def _walker2d(robot: Any, positions: Floats, velocities: Floats) -> NDArray[np.bool_]:
    return _inside(positions[:, 1], robot._healthy_z_range) & _inside(positions[:, 2], robot._healthy_angle_range)


def _ant(robot: Any, positions: Floats, velocities: Floats) -> NDArray[np.bool_]:
    low, high = robot._healthy_z_range
    finite = np.isfinite(positions).all(axis=1) & np.isfinite(velocities).all(axis=1)
    return finite & (low <= positions[:, 2]) & (positions[:, 2] <= high)


_HEALTHY: dict[str, Callable[[Any, Floats, Floats], NDArray[np.bool_]]] = {
    "hopper": _hopper,
    "halfcheetah": _halfcheetah,
    "walker2d": _walker2d,
    "ant": _ant,
}
