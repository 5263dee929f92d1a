"""Single steps against the published data: the shifted physics, rewards and ends are those of the files."""

import json
import os
from pathlib import Path

import h5py
import mujoco
import numpy as np
import pytest

from tabb.environments import make, one_step
from tabb.environments.make_robot import make_robot
from tabb.errors import DataError, UsageError

DATA = os.environ.get("TABB_DATA")


def needs_data(test):
    """Mark a test that reads the published files."""
    reason = "set TABB_DATA to the folder with source/, target/ and otdf_datasets.json"
    return pytest.mark.data(pytest.mark.skipif(DATA is None, reason=reason)(test))


ROBOTS = ("hopper", "halfcheetah", "walker2d", "ant")
FILES = [
    (robot, shift, quality)
    for robot in ROBOTS
    for shift in ("gravity_0.5", "kinematic", "morph")
    for quality in ("medium", "medium_expert", "expert")
]
POSITIONS = {"hopper": 5, "halfcheetah": 8, "walker2d": 8, "ant": 13}


def _read(path):
    with h5py.File(path) as file:
        return {key: np.asarray(file[key]) for key in file if isinstance(file[key], h5py.Dataset)}


def _sample(robot, file, facts, count):
    """Rows of fully known states and true next observations: some at random, and terminal ones."""
    usable = np.ones(len(file["observations"]), bool)
    usable[facts["wrong_next_observation_rows"]] = False
    if robot in ("hopper", "walker2d"):
        velocities = [file[key][:, POSITIONS[robot] :] for key in ("observations", "next_observations")]
        usable &= np.abs(velocities).max(axis=(0, 2)) < 10
    rows = np.random.default_rng(0).choice(np.flatnonzero(usable), count, replace=False)
    terminal = file["terminals"].ravel().astype(bool)
    return np.union1d(rows, np.flatnonzero(terminal & usable)[:5])


@pytest.mark.parametrize(("robot", "shift", "quality"), FILES)
@needs_data
def test_target_files_follow_our_physics(robot, shift, quality):
    name = f"{robot}_{shift}_{quality}"
    facts = json.loads((Path(DATA) / "otdf_datasets.json").read_text())["files"][name]
    file = _read(Path(DATA) / "target" / f"{name}.hdf5")
    rows = _sample(robot, file, facts, 200)
    task = f"{robot}-{shift.replace('_', '-')}"
    steps = one_step(task, file["observations"][rows], file["actions"][rows])

    error = np.abs(steps.next_observation - file["next_observations"][rows]).max(axis=1)
    assert np.median(error) <= (2e-4 if robot == "ant" else 1e-6)
    assert np.array_equal(steps.terminal, file["terminals"].ravel()[rows].astype(bool))
    if robot != "ant":  # whose reward needs the step before, see below
        assert np.median(np.abs(steps.reward - file["rewards"].ravel()[rows])) <= 1e-6
        assert np.quantile(np.abs(steps.reward - file["rewards"].ravel()[rows]), 0.95) <= 1e-5


@pytest.mark.parametrize("name", ["ant_gravity_0.5_medium", "ant_kinematic_expert", "ant_morph_medium"])
@needs_data
def test_ant_rewards_follow_the_body(name):
    """The reward counts from where the torso's body lagged after the step before."""
    file = _read(Path(DATA) / "target" / f"{name}.hdf5")
    chained = (file["next_observations"][:-1] == file["observations"][1:]).all(axis=1)
    rows = np.random.default_rng(0).choice(np.flatnonzero(chained), 200, replace=False) + 1
    env = make_robot("-".join(name.split("_")[:-1]))
    lag = np.empty(len(rows))
    for k, row in enumerate(rows - 1):
        env.restore(file["observations"][row])
        env.step(file["actions"][row])
        lag[k] = env.data.body("torso").xpos[0] - env.data.qpos[0]
    steps = one_step(env.task, file["observations"][rows], file["actions"][rows])
    published = file["rewards"].ravel()[rows]
    assert np.median(np.abs(steps.reward - lag / 0.05 - published)) <= 1e-5
    assert np.median(np.abs(steps.reward - published)) > 1e-5  # the lag is what makes the difference


@needs_data
def test_another_shift_or_engine_does_not_fit():
    file = _read(Path(DATA) / "target" / "walker2d_gravity_0.5_medium.hdf5")
    rows = slice(0, 200)

    def error(task, engine):
        steps = one_step(task, file["observations"][rows], file["actions"][rows], engine)
        return np.median(np.abs(steps.next_observation - file["next_observations"][rows]).max(axis=1))

    assert error("walker2d-gravity-0.5", "legacy") < 1e-4
    assert error("walker2d-gravity-0.5", "native") > 1e-2
    assert error("walker2d", "legacy") > 1e-2


@pytest.mark.parametrize("robot", ROBOTS)
@needs_data
def test_a_source_episode_replays_from_its_seed(robot):
    path = Path(DATA) / "source" / f"{robot}_medium.hdf5"
    file = _read(path)
    with h5py.File(path) as raw:
        seed, version = int(raw.attrs["reset_seed0"]), raw.attrs["mujoco_version"]
    if mujoco.__version__ != version:
        pytest.skip(f"collected with MuJoCo {version}: rollouts are chaotic, another one drifts away")
    ends = np.flatnonzero(file["terminals"] | file["timeouts"])
    episode = 2
    first, last = ends[episode - 1] + 1, ends[episode]

    env = make(robot)
    observation, _ = env.reset(seed=seed + episode)
    for row in range(first, last + 1):
        stored = file["observations"][row]
        np.testing.assert_allclose(observation, stored, rtol=8e-6, atol=1e-12, err_msg=f"row {row}")
        observation, reward, terminal, truncated, _ = env.step(file["actions"][row])
        assert reward == pytest.approx(file["rewards"][row], rel=1e-6, abs=1e-6)
        assert terminal == file["terminals"][row]
        assert (truncated and not terminal) == file["timeouts"][row]
    env.close()


def test_hopper_friction_01_and_05_are_the_same_physics():
    env = make_robot("hopper")
    rng = np.random.default_rng(0)
    seen, actions = [], []
    for _ in range(20):
        observation, _ = env.reset(seed=len(seen))
        for _ in range(10):
            seen.append(observation)
            actions.append(rng.uniform(-1, 1, 3))
            observation = env.step(actions[-1])[0]
    low, mid, high = (one_step(f"hopper-friction-{level}", seen, actions) for level in ("0.1", "0.5", "5.0"))
    np.testing.assert_array_equal(low.next_observation, mid.next_observation)
    assert np.abs(low.next_observation - high.next_observation).max() > 1e-3  # feet touch the ground


def test_rows_do_not_influence_each_other():
    observations = np.stack([make_robot("ant").reset(seed=k)[0] for k in range(6)])
    actions = np.random.default_rng(0).uniform(-1, 1, (6, 8))
    together = one_step("ant-morph", observations, actions)
    backwards = one_step("ant-morph", observations[::-1], actions[::-1])
    np.testing.assert_array_equal(together.next_observation, backwards.next_observation[::-1])
    np.testing.assert_array_equal(together.reward, backwards.reward[::-1])


def test_wrong_rows_are_refused():
    good, action = np.zeros((2, 11)), np.zeros((2, 3))
    with pytest.raises(UsageError, match=r"^observations have shape \(2, 17\): expected \[N, 11\]$"):
        one_step("hopper", np.zeros((2, 17)), action)
    with pytest.raises(UsageError, match=r"^actions have shape \(3,\): expected \[N, 3\]$"):
        one_step("hopper", good, action[0])
    with pytest.raises(UsageError, match=r"^2 observations but 1 actions"):
        one_step("hopper", good, action[:1])
    good[1, 4] = np.nan
    with pytest.raises(DataError, match=r"^observations hold a value that is not finite in row 1$"):
        one_step("hopper", good, action)
