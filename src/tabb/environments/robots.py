"""The four robots: Gymnasium's v5 classes with the model of a task and the rules of the benchmark data.

Observations, rewards and ends are those of the `-v2` environments behind D4RL, ODRL and OTDF:

- The reward of +1 for being alive counts in every step, also in a terminal one (unlike v5).
- Ant has 111 observations, of which the last 84 (contact forces) are zero, and no contact cost. Its root
  quaternion is normalised at reset. Its velocity comes from the torso's body position, which trails the
  state by one Runge-Kutta stage, as it did in the data.

Times are in seconds, lengths in metres, angles in radians. The classes import MuJoCo, so `registration`
names them by string.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv
from gymnasium.spaces import Box
from gymnasium.utils import EzPickle
from numpy.typing import NDArray

from tabb.environments.engine import ASSETS, Engine, build_model
from tabb.environments.tasks import Task, get_task

_CONTACT_FORCES = 84  # of 14 bodies; MuJoCo 2 did not compute them

if TYPE_CHECKING:
    from gymnasium.envs.mujoco import MujocoEnv as _Base
else:
    _Base = object


class _Robot(_Base):
    """What the four robots share; it comes before Gymnasium's class among the bases."""

    _healthy_reward: float
    _ctrl_cost_weight: float
    _hidden_positions = 1
    """Root positions left out of the observation: x, for the ant also y."""
    _velocity_clip = float(mujoco.mjMAXVAL)
    """Bound to which the observation clips velocities."""

    def __init__(
        self,
        task: str | Task,
        engine: Engine = "legacy",
        render_mode: str | None = None,
        share: float = 1.0,
        **options: Any,
    ) -> None:
        """`share` (0 to 1) is how much of the task's shift the robot has."""
        self.task = get_task(task)
        self.engine = engine
        self.share = share
        super().__init__(xml_file=ASSETS[self.task.robot], render_mode=render_mode, **options)  # type: ignore[call-arg]
        # Copies and unpickled environments are built from our arguments, not from those of the base class.
        EzPickle.__init__(self, task, engine, render_mode, share, **options)  # type: ignore[arg-type]
        self.observation_space = self._bounds()

    def _initialize_simulation(self) -> tuple[Any, Any]:
        model = build_model(self.task.robot, self.task.shift, self.task.level, self.engine, self.share)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, self.width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, self.height)
        return model, mujoco.MjData(model)

    def _bounds(self) -> Box:
        """The observation space. MuJoCo itself resets a state with an entry beyond mjMAXVAL."""
        positions = self.model.nq - self._hidden_positions
        high = np.full(positions + self.model.nv, float(mujoco.mjMAXVAL))
        high[positions:] = self._velocity_clip
        return Box(-high, high, dtype=np.float64)

    @property
    def healthy_reward(self) -> float:
        """The reward for being alive, in every step as in v2 and v3."""
        return self._healthy_reward

    def control_cost(self, action: Any) -> float:
        """Weight x squared length of the action, in float64 also for float32 actions."""
        action = np.asarray(action, np.float64)
        return float(self._ctrl_cost_weight * action.dot(action))

    def _step_mujoco_simulation(self, ctrl: Any, n_frames: int) -> None:
        # The base class would also compute contact forces, which are not used.
        self.data.ctrl[:] = ctrl
        mujoco.mj_step(self.model, self.data, nstep=n_frames)

    def restore(self, observation: NDArray[np.floating]) -> None:
        """Set the simulator to the state that `observation` [S] encodes, at x = 0 (and y = 0).

        Nothing of earlier steps remains; a clipped velocity stays clipped.
        """
        state = np.zeros(self.model.nq + self.model.nv)
        state[self._hidden_positions :] = observation[: len(state) - self._hidden_positions]
        mujoco.mj_resetData(self.model, self.data)
        self.set_state(state[: self.model.nq], state[self.model.nq :])


class Hopper(_Robot, HopperEnv):
    """Observation [11]: z, pitch, thigh, leg, foot; velocities of x, z, pitch, thigh, leg, foot.
    Action [3]: torques of thigh, leg, foot."""

    _velocity_clip = 10.0


class HalfCheetah(_Robot, HalfCheetahEnv):
    """Observation [17]: z, pitch, bthigh, bshin, bfoot, fthigh, fshin, ffoot; velocities, x first.
    Action [6]: torques in the order of the joints."""


class Walker2d(_Robot, Walker2dEnv):
    """Observation [17]: z, pitch, right thigh, leg, foot, the same left; velocities, x first.
    Action [6]: torques in the order of the joints."""

    _velocity_clip = 10.0


class Ant(_Robot, AntEnv):
    """Observation [111]: z, quaternion (w first), hip and ankle of legs 1 to 4; 6 root and 8 joint
    velocities; 84 zeros. Action [8]: torques of hip 4, ankle 4, hip 1, ankle 1, ... ankle 3."""

    _hidden_positions = 2

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._include_cfrc_ext_in_observation = False
        self._contact_cost_weight = 0.0

    def _bounds(self) -> Box:
        state = super()._bounds()
        forces = np.ones(_CONTACT_FORCES)
        return Box(np.append(state.low, -forces), np.append(state.high, forces), dtype=np.float64)

    def _get_obs(self) -> NDArray[np.float64]:
        return np.concatenate([self.data.qpos[2:], self.data.qvel, np.zeros(_CONTACT_FORCES)])

    @property
    def contact_cost(self) -> float:
        return 0.0

    def reset_model(self) -> NDArray[np.float64]:
        super().reset_model()
        position = self.data.qpos.copy()
        position[3:7] /= np.linalg.norm(position[3:7])
        self.set_state(position, self.data.qvel.copy())
        return self._get_obs()


ROBOTS: dict[str, type[_Robot]] = {
    "hopper": Hopper,
    "halfcheetah": HalfCheetah,
    "walker2d": Walker2d,
    "ant": Ant,
}
