"""Robots between the unshifted one and a shift."""

import mujoco
import numpy as np
import pytest

from tabb.environments.between import robot_between
from tabb.environments.robots import make_robot
from tabb.environments.tasks import get_task


def _numbers(robot):
    parts = robot.model, robot.model.opt
    return {
        f"{type(part).__name__}.{name}": np.array(getattr(part, name))
        for part in parts
        for name in dir(part)
        if not name.startswith("_")
        and isinstance(getattr(part, name), np.ndarray)
        and getattr(part, name).dtype.kind == "f"
    }


@pytest.mark.parametrize(
    "name", ["hopper-friction-2.0", "walker2d-morph", "halfcheetah-morph-torso-hard", "ant-kinematic"]
)
def test_the_ends_are_the_robots_themselves(name):
    task = get_task(name)
    for share, own in ((0.0, get_task(task.robot)), (1.0, task)):
        found, wanted = _numbers(robot_between(task, "legacy", share)), _numbers(make_robot(own))
        assert found.keys() == wanted.keys()
        for key in wanted:
            assert found[key] == pytest.approx(wanted[key], abs=0.0 if share else 1e-12, rel=0.0), key


def test_half_way_is_half_way():
    heavy = robot_between(get_task("hopper-gravity-2.0"), "legacy", 0.5)
    assert heavy.model.opt.gravity[2] == pytest.approx(-9.81 * 1.5)
    rough = robot_between(get_task("hopper-friction-2.0"), "legacy", 0.5)
    foot = rough.model.geom("foot_geom").friction[0]
    assert foot == pytest.approx(3.0)  # 2 in the unshifted robot, 4 in the shift
    heavy.reset(seed=0)
    for _ in range(20):
        observation = heavy.step(np.zeros(3))[0]
    assert np.isfinite(observation).all()


def test_rotations_stay_rotations():
    model = robot_between(get_task("walker2d-morph"), "legacy", 0.3).model
    for name in ("body_iquat", "geom_quat", "body_quat"):
        assert np.linalg.norm(getattr(model, name), axis=-1) == pytest.approx(1.0)
    assert isinstance(model, mujoco.MjModel)
