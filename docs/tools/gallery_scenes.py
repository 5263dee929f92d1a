"""The scenes of the gallery: states in which a shift is visible, and cameras for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from tabb.environments.adroit_shifts import hand_edits
from tabb.environments.antmaze import maze_rows
from tabb.environments.make_robot import make_robot
from tabb.environments.mazes import cells
from tabb.environments.shifts import edits_of
from tabb.environments.tasks import Task
from tabb.rendering.painter import Camera, Mark, Painter, state_of
from tabb.rendering.views import above

SEED = 0
WIDTH, HEIGHT = 320, 260
"""Pixels of one robot's picture."""


@dataclass(frozen=True)
class Swing:
    """Sinusoidal actions of all joints, each a quarter of a period behind the one before it."""

    size: float
    """Largest action."""
    period: int
    """Steps of one swing."""
    steps: int
    """Steps after which the picture is taken."""

    def action(self, step: int, joints: int) -> NDArray[np.float64]:
        """The action [joints] at a step."""
        return self.size * np.sin(2 * np.pi * step / self.period - np.pi / 2 * np.arange(joints))


SWINGS = {
    "hopper": Swing(0.3, 60, 60),
    "walker2d": Swing(0.3, 60, 60),
    "halfcheetah": Swing(0.6, 10, 16),
    "ant": Swing(0.3, 20, 20),
}
"""Actions that show gravity and friction; they are mild, so that the first steps do not decide everything."""

# Legs apart and joints bent, so that no part hides another.
_BENT = {
    "walker2d": {"leg_joint": -1.0, "thigh_left_joint": -1.0, "leg_left_joint": -0.6},
    "ant": {"ankle_1": 0.9, "ankle_2": -0.9, "ankle_3": -0.9, "ankle_4": 0.9},
}
_APART = {"walker2d": {"thigh_left_joint": -0.7}, "ant": _BENT["ant"]}
_STILL = {
    "hopper": Camera((0, 0, 1.05), 3.1),
    "walker2d": Camera((0, 0, 1.05), 3.1),
    "halfcheetah": Camera((0.05, 0, 0.5), 2.4),
    "ant": Camera((0, 0, 0.3), 3.3, 100, -40),
}
_LIMITS = {"hopper": Camera((-0.2, 0, 1.1), 3.2), "walker2d": Camera((-0.2, 0, 1.1), 3.2)}
_MOVING = {
    "hopper": Camera((0, 0, 0.85), 2.7),
    "walker2d": Camera((0, 0, 0.85), 2.7),
    "halfcheetah": Camera((-0.1, 0, 0.55), 2.9),
    "ant": Camera((0, 0, 0.5), 4.5, 100, -25),
}
_PEN = (0.2, 0.45, 0.9, 0.25)  # transparent, or it would hide the fingers
_FLOOR = (0.5, 0.56, 0.58, 1.0)  # one colour, because a pattern hides small robots and does not compress


def family(task: Task) -> str:
    """The kind of a shift's picture: `motion` (after the same actions), `limits` of joints, `shape` or `maze`."""
    if task.namespace == "tabb-antmaze":
        return "maze"
    shift = task.shift or ""
    if shift.startswith(("kinematic", "broken")):
        return "limits"
    return "motion" if shift in ("gravity", "friction") else "shape"


def tile(task: Task, shift: Task) -> NDArray[np.uint8]:
    """The picture [HEIGHT, WIDTH, 3] of a task in the scene of `shift`, beside which the unshifted task is shown."""
    env = make_robot(task)
    try:
        env.reset(seed=SEED)
        floor = env.model.geom("floor") if task.namespace != "tabb-adroit" else None
        if floor is not None:
            floor.matid, floor.rgba = -1, _FLOOR
        if task.robot == "halfcheetah":
            env.model.light_castshadow[:] = 0  # its low light would draw bars of shadow on the floor
        state, ghosts, camera, marks = _SCENES[family(shift), task.namespace](env, shift)
        with Painter(env.model, WIDTH, HEIGHT) as painter:
            return painter.paint(state, camera, marks, ghosts)
    finally:
        env.close()


Scene = tuple[NDArray[np.float64], list[NDArray[np.float64]], Camera, list[Mark]]


# --- Hopper, halfcheetah, walker2d, ant ---


def _shape(env: Any, shift: Task) -> Scene:
    """Standing on the floor."""
    robot = env.task.robot
    (state,) = _posed(env, [_BENT.get(robot, {})])
    return state, [], _STILL[robot], []


def _limits(env: Any, shift: Task) -> Scene:
    """The limited joints at their upper limits, and as a ghost at their lower ones."""
    robot = env.task.robot
    names = [str(edit.name) for edit in edits_of(robot, shift.shift, shift.level)]
    ranges = {name: env.model.joint(name).range for name in names}
    # The ankles of an ant are mirrored: outwards is the upper limit of one and the lower limit of the next.
    inner = {name: min(ends, key=abs) if name.startswith("ankle") else ends[1] for name, ends in ranges.items()}
    outer = {name: max(ends, key=abs) if name.startswith("ankle") else ends[0] for name, ends in ranges.items()}
    pose = _APART.get(robot, {})
    solid, ghost = _posed(env, [pose | inner, pose | outer])
    return solid, [ghost], _LIMITS.get(robot, _STILL[robot]), []


def _posed(env: Any, poses: list[dict[str, float]]) -> list[NDArray[np.float64]]:
    """States with these joint angles (rad); the torso is so high that the lowest pose touches the floor."""
    model, data = env.model, env.data
    root = 2 if env.task.robot == "ant" else int(model.joint("rootz").qposadr[0])
    places = []
    for pose in poses:
        mujoco.mj_resetData(model, data)
        for name, angle in pose.items():
            data.qpos[model.joint(name).qposadr[0]] = angle
        mujoco.mj_kinematics(model, data)
        places.append((data.qpos.copy(), _lowest(model, data)))
    lift = -min(low for _, low in places)
    states = []
    for position, _ in places:
        position[root] += lift
        env.set_state(position, np.zeros(model.nv))
        states.append(state_of(model, data))
    return states


def _lowest(model: Any, data: Any) -> float:
    """Height in metres of the robot's lowest point."""
    lows = []
    for number in range(model.ngeom):
        if model.geom_bodyid[number] == 0:
            continue
        radius, half = model.geom_size[number][:2]
        upright = abs(data.geom_xmat[number][8])  # of the capsule's axis; a sphere has none
        reach = half * upright if model.geom_type[number] == mujoco.mjtGeom.mjGEOM_CAPSULE else 0.0
        lows.append(data.geom_xpos[number][2] - reach - radius)
    return float(min(lows))


def _motion(env: Any, shift: Task) -> Scene:
    """The state after the same actions, with the start as ghost."""
    robot = env.task.robot
    start = state_of(env.model, env.data)
    for step in range(SWINGS[robot].steps):
        env.step(SWINGS[robot].action(step, env.model.nu))
    return state_of(env.model, env.data), [start], _MOVING[robot], []


# --- Hands ---


def _hand_shape(env: Any, shift: Task) -> Scene:
    return state_of(env.model, env.data), [], _hand_camera(env), []


def _hand_limits(env: Any, shift: Task) -> Scene:
    """The narrowed joints at their upper limits, and as a ghost at their lower ones."""
    position = env.data.qpos.copy()
    states = []
    for end in (1, 0):
        for edit in hand_edits(env.task.robot, shift.shift, shift.level):
            joint = env.model.joint(edit.name)
            position[joint.qposadr[0]] = joint.range[end]
        env.set_state(position, np.zeros(env.model.nv))
        states.append(state_of(env.model, env.data))
    return states[0], [states[1]], _hand_camera(env), []


_HAND_VIEWS = {"pen": (0.42, 60, -55), "door": (0.42, 60, -45), "hammer": (0.42, 20, -35), "relocate": (0.42, 60, -45)}


def _hand_camera(env: Any) -> Camera:
    """Above the hand, the fingers pointing away."""
    if env.task.robot == "pen":
        model = env.model
        for geom in np.flatnonzero(model.geom_bodyid == model.body("Object").id):
            model.geom_matid[geom], model.geom_rgba[geom] = -1, _PEN
    x, y, z = env.data.site("S_grasp").xpos
    return Camera((float(x), float(y), float(z)), *_HAND_VIEWS[env.task.robot])


# --- Mazes ---


def _maze(env: Any, shift: Task) -> Scene:
    """From above, the ant at its start and the goal in the middle of its cell."""
    rows = maze_rows(env.task.robot.removeprefix("antmaze-"), env.task.shift)
    ((x, y),) = cells(rows, "g")
    return state_of(env.model, env.data), [], above(rows, WIDTH / HEIGHT), [Mark((x, y, 1.0), 1.0)]


_SCENES = {
    ("shape", "tabb"): _shape,
    ("limits", "tabb"): _limits,
    ("motion", "tabb"): _motion,
    ("shape", "tabb-adroit"): _hand_shape,
    ("limits", "tabb-adroit"): _hand_limits,
    ("maze", "tabb-antmaze"): _maze,
}
