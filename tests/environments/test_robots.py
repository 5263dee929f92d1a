"""Environments: Gymnasium's own checks, rewards, ends, resets, rendering."""

import copy
import os
import pickle
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from tabb.environments import ENGINES, TASKS, make, one_step, register
from tabb.environments.make_robot import make_robot
from tabb.errors import UsageError

ROBOTS = ("hopper", "halfcheetah", "walker2d", "ant")


@pytest.mark.parametrize("engine", ENGINES)
def test_gymnasium_finds_no_fault_with_any_task(engine):
    for name, task in TASKS.items():
        env = make(name, engine)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(env.unwrapped, skip_render_check=True)
        assert env.observation_space.shape == (task.observation_size,)
        assert env.action_space == gymnasium.spaces.Box(-1, 1, (task.action_size,), np.float32)
        assert env.spec.max_episode_steps == 1000
        env.close()


def test_the_check_would_have_warned():
    """Gymnasium's own space, unbounded, is what its checker complains about."""
    env = make("hopper").unwrapped
    env.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (11,), np.float64)
    with pytest.raises(UserWarning, match=r"infinity"):
        check_env(env, skip_render_check=True)


def test_tasks_are_registered_once_with_gymnasium():
    register()
    ids = [name for name in gymnasium.registry if name.startswith("tabb/")]
    assert len(ids) == 92
    env = gymnasium.make("tabb/hopper-gravity-0.5-v0", engine="native")
    assert env.unwrapped.engine == "native"
    assert env.unwrapped.model.opt.gravity[2] == -4.905
    vector = gymnasium.make_vec("tabb/ant-morph-v0", num_envs=2, vectorization_mode="sync")
    assert vector.reset(seed=0)[0].shape == (2, 111)
    env.close()
    vector.close()


def test_gymnasium_can_import_the_module_by_itself():
    make = "gymnasium.make('tabb.environments:tabb/hopper-morph-v0')"
    code = f"import gymnasium; print({make}.unwrapped.task.name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "hopper-morph"


def test_the_time_limit_truncates():
    env = make("halfcheetah")
    env.reset(seed=0)
    flags = [env.step(np.zeros(6))[2:4] for _ in range(1000)]
    assert not any(terminated for terminated, _ in flags)
    assert [truncated for _, truncated in flags] == 999 * [False] + [True]


def test_copies_and_pickles_are_the_same_task():
    env = make_robot("walker2d-morph", "native")
    for twin in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        assert (twin.task.name, twin.engine) == ("walker2d-morph", "native")
        np.testing.assert_array_equal(twin.model.body_mass, env.model.body_mass)


@pytest.mark.parametrize(("robot", "cost"), [("hopper", 1e-3), ("halfcheetah", 0.1), ("walker2d", 1e-3)])
def test_reward_is_velocity_plus_life_minus_effort(robot, cost):
    env = make_robot(robot)
    env.reset(seed=3)
    action = np.full(env.action_space.shape, 0.5, np.float32)
    before = env.data.qpos[0]
    _, reward, _, _, _ = env.step(action)
    seconds = 0.05 if robot == "halfcheetah" else 0.008
    alive = 0 if robot == "halfcheetah" else 1
    velocity = (env.data.qpos[0] - before) / seconds
    assert reward == pytest.approx(velocity + alive - cost * 0.25 * len(action), abs=1e-12)


def test_ant_takes_its_velocity_from_the_body():
    env = make_robot("ant")
    env.reset(seed=3)
    action = np.full(8, 0.5)
    env.step(action)
    before = env.data.body("torso").xpos[0]
    assert before != env.data.qpos[0]
    _, reward, _, _, _ = env.step(action)
    assert reward == pytest.approx((env.data.body("torso").xpos[0] - before) / 0.05 + 1 - 0.5 * 2, abs=1e-12)


@pytest.mark.parametrize(
    ("robot", "entry", "value"),
    [("hopper", 1, 0.25), ("walker2d", 0, 0.7), ("walker2d", 1, 1.1), ("ant", 0, 1.2)],
)
def test_life_is_paid_on_the_terminal_step(robot, entry, value):
    env = make_robot(robot)
    observation, _ = env.reset(seed=0)
    action = np.zeros(env.action_space.shape)
    alive = one_step(robot, [observation], [action])
    observation[entry] = value
    fallen = one_step(robot, [observation], [action])
    assert (alive.terminal[0], fallen.terminal[0]) == (False, True)
    assert fallen.reward[0] == pytest.approx(1, abs=0.5)


def test_halfcheetah_never_ends():
    observation = np.zeros((1, 17))
    observation[0, 1] = np.pi  # on its back
    assert not one_step("halfcheetah", observation, np.zeros((1, 6))).terminal[0]


@pytest.mark.parametrize("robot", ["hopper", "walker2d"])
def test_velocities_are_clipped(robot):
    env = make_robot(robot)
    observation, _ = env.reset(seed=0)
    observation[-1] = 10
    after = one_step(robot, [observation], [np.full(env.action_space.shape, -1.0)]).next_observation
    assert np.abs(after).max() <= 10
    assert np.abs(env.observation_space.high[-1]) == 10


def test_ant_resets_to_a_unit_quaternion_and_feels_no_contact():
    env = make_robot("ant", "native")
    for seed in range(5):
        observation, _ = env.reset(seed=seed)
        assert np.linalg.norm(observation[1:5]) == pytest.approx(1, abs=1e-12)
        assert np.linalg.norm(env.init_qpos[3:7] - observation[1:5]) > 1e-3
    for _ in range(30):  # it falls on its feet
        observation, _, _, _, _ = env.step(np.zeros(8))
    assert env.data.ncon > 0
    assert not observation[27:].any()


def test_options_are_for_rendering_only():
    with pytest.raises(UsageError, match=r"^unknown option 'reset_noise_scale' of task hopper"):
        make("hopper", reset_noise_scale=0.0)
    with pytest.raises(UsageError, match=r"^unknown engine 'new'"):
        make("hopper", engine="new")
    with pytest.raises(UsageError, match=r"^unknown task 'hoper'"):
        make("hoper")


def test_rendering_shows_the_edited_robot(monkeypatch):
    if not (os.environ.get("MUJOCO_GL") or os.environ.get("DISPLAY")):
        pytest.skip("no GL: set MUJOCO_GL=egl or osmesa to render")
    frames = {}
    for task in ("hopper", "hopper-morph-torso-hard"):
        env = make(task, render_mode="rgb_array", width=96, height=64)
        env.reset(seed=0)
        frames[task] = env.render()
        env.close()
    assert frames["hopper"].shape == (64, 96, 3)
    assert (frames["hopper"] != frames["hopper-morph-torso-hard"]).mean() > 0.01
