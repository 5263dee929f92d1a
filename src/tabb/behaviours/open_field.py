"""The training environment of the mazes' ant: an open field in which it learns to walk in a given direction.

The policy learns to walk along +x. Its observation is rotated by the direction to walk in, so that one policy walks in
all directions. Directions are in radians from +x towards +y.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from tabb.environments.antmaze import AntMaze, build_ant_among
from tabb.environments.engine import Engine
from tabb.environments.tasks import ALL_TASKS

OBSERVATION_SIZE = 27
ACTION_SIZE = 8
EPISODE_STEPS = 300
_HEALTHY = (0.25, 1.0)
"""Least and largest height of the torso in metres; outside, the ant has fallen."""


def rotated(observation: NDArray[Any], direction: NDArray[Any] | float) -> NDArray[np.float32]:
    """The walker's observation [..., 27] from the maze's [..., 29], for walking in `direction` [...].

    The position is left out; orientation and linear velocity are rotated by -`direction`. The angular velocity is
    in the torso's own axes (MuJoCo's convention) and does not change.
    """
    observation, direction = np.asarray(observation, np.float64), np.asarray(direction, np.float64)
    cos, sin = np.cos(-direction / 2), np.sin(-direction / 2)
    w, x, y, z = np.moveaxis(observation[..., 3:7], -1, 0)
    quaternion = np.stack([cos * w - sin * z, cos * x - sin * y, cos * y + sin * x, cos * z + sin * w], axis=-1)
    quaternion *= np.where(quaternion[..., :1] < 0, -1.0, 1.0)  # q and -q are the same orientation
    vx, vy = observation[..., 15], observation[..., 16]
    cos, sin = np.cos(direction), np.sin(direction)
    velocity = np.stack([cos * vx + sin * vy, cos * vy - sin * vx], axis=-1)
    parts = (observation[..., 2:3], quaternion, observation[..., 7:15], velocity, observation[..., 17:])
    return np.concatenate(parts, axis=-1).astype(np.float32)


class OpenField(AntMaze):
    """The ant of the mazes in an open field, with a direction to walk in that changes.

    The observation [27] is that of `rotated`. The reward is the speed in that direction (m/s), less half the speed
    sideways, less effort, plus a little for being upright. A fall is terminal.
    """

    def __init__(self, engine: Engine = "legacy") -> None:
        super().__init__(ALL_TASKS["antmaze-small"], engine)
        self.observation_space = Box(-np.inf, np.inf, (OBSERVATION_SIZE,), np.float32)

    def _initialize_simulation(self) -> tuple[Any, Any]:
        model = build_ant_among(("r",), self.engine)
        return model, mujoco.MjData(model)

    def _turn(self) -> None:
        self._direction = self.np_random.uniform(-np.pi, np.pi)
        self._until = self._age + self.np_random.integers(30, 90)

    def _get_obs(self) -> NDArray[np.float32]:  # type: ignore[override]
        return rotated(super()._get_obs(), getattr(self, "_direction", 0.0))

    def reset_model(self) -> NDArray[np.float32]:  # type: ignore[override]
        self._age = 0
        self._turn()
        super().reset_model()
        yaw = self.np_random.uniform(-np.pi, np.pi)
        position = self.data.qpos.copy()
        position[3:7] = (np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))
        self.set_state(position, self.data.qvel.copy())
        return self._get_obs()

    def step(self, action: Any) -> Any:
        before = self.data.qpos[:2].copy()
        self.do_simulation(action, self.frame_skip)
        moved = (self.data.qpos[:2] - before) / self.dt
        cos, sin = np.cos(self._direction), np.sin(self._direction)
        speed, aside = float(cos * moved[0] + sin * moved[1]), float(abs(cos * moved[1] - sin * moved[0]))
        fallen = not _HEALTHY[0] <= self.data.qpos[2] <= _HEALTHY[1]
        reward = speed - 0.5 * aside - 0.02 * float(np.square(action).sum()) + 0.2
        self._age += 1
        if self._age >= self._until:
            self._turn()
        return self._get_obs(), reward, fallen, False, {"speed": speed}
