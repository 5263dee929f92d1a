"""Adroit's pen, door, hammer and relocate: gymnasium-robotics' hands with the models and rewards of D4RL and ODRL.

gymnasium-robotics adds a tenth of the palm's distance in door, hammer and relocate where D4RL subtracts it, never
ends the pen, and shows the nail's force, which is 0 in the data. Rewards, ends and that entry are ours; models,
resets and the rest of the observation are its own. Lengths in metres, angles in radians; one step is 0.01 s.
"""

from __future__ import annotations

import abc
import copy
import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import EzPickle
from numpy.typing import NDArray

from tabb.environments.adroit_shifts import HandEdit, base_edits, hand_edits
from tabb.environments.engine import ENGINES, Engine, _use_larger_margin
from tabb.environments.tasks import Task
from tabb.errors import TabbError, UsageError

if importlib.util.find_spec("gymnasium_robotics") is None:
    raise UsageError('Adroit needs gymnasium-robotics: pip install "tabb-rl[adroit]"')

from gymnasium_robotics.envs.adroit_hand.adroit_door import AdroitHandDoorEnv
from gymnasium_robotics.envs.adroit_hand.adroit_hammer import AdroitHandHammerEnv
from gymnasium_robotics.envs.adroit_hand.adroit_pen import AdroitHandPenEnv
from gymnasium_robotics.envs.adroit_hand.adroit_relocate import AdroitHandRelocateEnv

_MARGIN = 0.0005  # of the hands' geoms
if TYPE_CHECKING:
    from gymnasium.envs.mujoco import MujocoEnv as _Base
else:
    _Base = object


def build_hand(hand: str, shift: str | None = None, level: str | None = None, engine: str = "legacy") -> Any:
    """The compiled `mujoco.MjModel` of a hand's task under a shift.

    Raises:
        UsageError: unknown robot, shift, level or engine.
        TabbError: gymnasium-robotics' file does not hold the values that the edits start from.
    """
    # Compiling the meshes takes as long as an episode, so models are cached. Callers get copies: resets move bodies.
    return copy.copy(_compiled(hand, shift, level, engine))


@functools.lru_cache(maxsize=8)
def _compiled(hand: str, shift: str | None, level: str | None, engine: str) -> Any:
    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}: choose one of {', '.join(ENGINES)}")
    edits = [*base_edits(hand), *hand_edits(hand, shift, level)]
    package = importlib.util.find_spec("gymnasium_robotics")
    assert package is not None
    folder = Path(str(package.origin)).parent / "envs" / "assets" / "adroit_hand"
    spec = mujoco.MjSpec.from_file(str(folder / f"adroit_{hand}.xml"))
    compiled = spec.compile()
    for edit in edits:
        _apply(spec, compiled, edit, hand)
    if engine == "legacy":
        # The rule for capsules changes nothing: these files state each mass, or derive it from cylinders and boxes.
        if hand == "hammer":
            spec.geom("board").margin = _MARGIN  # 0 in the file: a pair took the hand's, the larger
        _use_larger_margin(spec)
    return spec.compile()


def _apply(spec: Any, compiled: Any, edit: HandEdit, hand: str) -> None:
    element = getattr(spec, edit.element)(edit.name)
    number = getattr(compiled, edit.element)(edit.name) if element is not None else None
    values = None if number is None else np.array(getattr(number, edit.attribute), float).ravel()
    there = None if values is None else values if edit.index is None else values[[edit.index]]
    if there is None or not np.allclose(there, edit.base, rtol=0, atol=1e-9):
        raise TabbError(
            f"adroit_{hand}.xml of the installed gymnasium-robotics is not the file that tabb's shifts are made for: "
            f"{edit.element} {edit.name} {edit.attribute} is {None if there is None else there.tolist()}, not "
            f"{list(edit.base)}; use gymnasium-robotics 1.2 to 1.4"
        )
    assert values is not None
    assert number is not None
    if edit.index is None:
        values[:] = edit.value
    else:
        values[edit.index] = edit.value[0]
    if edit.attribute == "ipos" and not element.explicitinertial:
        element.explicitinertial = True
        element.mass, element.inertia, element.iquat = number.mass[0], number.inertia, number.iquat
    setattr(element, edit.attribute, values)


class _Hand(_Base, metaclass=abc.ABCMeta):
    """What the four hands share; it comes before gymnasium-robotics' class among the bases."""

    act_mean: NDArray[np.float64]
    act_rng: NDArray[np.float64]

    def __init__(self, task: Task, engine: Engine = "legacy", render_mode: str | None = None, **options: Any) -> None:
        self.task, self.engine = task, engine
        super().__init__(render_mode=render_mode, **options)
        EzPickle.__init__(self, task, engine, render_mode, **options)  # type: ignore[arg-type]
        bound = float(mujoco.mjMAXVAL)
        self.observation_space = Box(-bound, bound, (task.observation_size,), np.float64)

    def _initialize_simulation(self) -> tuple[Any, Any]:
        model = build_hand(self.task.robot, self.task.shift, self.task.level, self.engine)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, self.width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, self.height)
        return model, mujoco.MjData(model)

    def step(self, action: Any) -> Any:
        """Actions in [-1, 1] span each actuator's control range."""
        control = self.act_mean + np.clip(action, -1.0, 1.0) * self.act_rng
        self.do_simulation(control, self.frame_skip)
        reward, success = self._reward()
        if self.render_mode == "human":
            self.render()
        return self._get_obs(), float(reward), self._ended(), False, {"success": bool(success)}  # type: ignore[attr-defined]

    @abc.abstractmethod
    def _reward(self) -> tuple[float, bool]:
        """The reward of the step, and whether the task is done."""

    def _ended(self) -> bool:
        return False

    def _site(self, name: str) -> NDArray[np.float64]:
        return self.data.site(name).xpos

    def _object(self) -> NDArray[np.float64]:
        return self.data.body("Object").xpos


def _distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(a - b))


class Pen(_Hand, AdroitHandPenEnv):
    """Turn a pen in the hand. Observation [45], action [24]; terminal when the pen drops below 0.075 m."""

    def _reward(self) -> tuple[float, bool]:
        away = _distance(self._object(), self._site("eps_ball"))
        pen = (self._site("object_top") - self._site("object_bottom")) / self.pen_length
        wanted = (self._site("target_top") - self._site("target_bottom")) / self.tar_length
        alike = float(pen @ wanted)
        near = away < 0.075
        bonus = 10 * (near and alike > 0.9) + 50 * (near and alike > 0.95)
        return alike - away + bonus - 5 * self._ended(), near and alike > 0.95

    def _ended(self) -> bool:
        return bool(self._object()[2] < 0.075)


class Door(_Hand, AdroitHandDoorEnv):
    """Undo a latch and open a door. Observation [39], action [28]; no terminal."""

    def _reward(self) -> tuple[float, bool]:
        hinge = float(self.data.joint("door_hinge").qpos[0])
        reward = -0.1 * _distance(self._site("S_grasp"), self._site("S_handle"))
        reward -= 0.1 * (hinge - 1.57) ** 2 + 1e-5 * float(np.sum(self.data.qvel**2))
        reward += 2 * (hinge > 0.2) + 8 * (hinge > 1.0) + 10 * (hinge > 1.35)
        return reward, hinge >= 1.35


class Hammer(_Hand, AdroitHandHammerEnv):
    """Drive a nail into a board. Observation [46], the last 0; action [26]; no terminal."""

    def _reward(self) -> tuple[float, bool]:
        head, nail = self._site("tool"), self._site("S_target")
        away = _distance(nail, self._site("nail_goal"))
        reward = -0.1 * _distance(self._site("S_grasp"), self._object()) - _distance(head, nail) - 10 * away
        reward -= 1e-2 * float(np.linalg.norm(self.data.qvel))
        reward += 2 * (self._object()[2] > 0.04 and head[2] > 0.04) + 25 * (away < 0.02) + 75 * (away < 0.01)
        return reward, away < 0.01

    def _get_obs(self) -> NDArray[np.float64]:
        observation = super()._get_obs()
        observation[-1] = 0.0
        return observation


class Relocate(_Hand, AdroitHandRelocateEnv):
    """Carry a ball to a place in the air. Observation [39], action [30]; no terminal."""

    def _reward(self) -> tuple[float, bool]:
        ball, palm, goal = self._object(), self._site("S_grasp"), self._site("target")
        away = _distance(ball, goal)
        reward = -0.1 * _distance(palm, ball)
        if ball[2] > 0.04:
            reward += 1 - 0.5 * _distance(palm, goal) - 0.5 * away
        return reward + 10 * (away < 0.1) + 20 * (away < 0.05), away < 0.1


HAND_ENVS: dict[str, Any] = {"pen": Pen, "door": Door, "hammer": Hammer, "relocate": Relocate}
