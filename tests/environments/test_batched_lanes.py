"""Robots stepped together equal the Gymnasium environment, bit for bit; and when, and on how many threads, they are."""

import os
import sys

import numpy as np
import pytest

from tabb.environments import ENGINES, TASKS, make, rollout
from tabb.environments.lanes import OneByOne
from tabb.environments.make_robot import make_robot
from tabb.environments.task_lanes import lanes_of, threads_for
from tabb.environments.tasks import ALL_TASKS, get_task

together = pytest.importorskip("tabb.environments.batched_lanes", reason="mujoco.batch came with MuJoCo 4.0")

LANES = 5
NAMES = [
    *("hopper", "hopper-gravity-0.5", "hopper-morph", "hopper-kinematic"),
    *("halfcheetah", "halfcheetah-gravity-0.5", "halfcheetah-morph-torso-hard"),
    *("walker2d", "walker2d-friction-2.0", "walker2d-morph", "walker2d-kinematic"),
    *("ant", "ant-gravity-0.5", "ant-morph"),
]


def _compare(task, engine, steps, seed, lanes, threads=2):
    """Step both ways with the same actions until all episodes ended; each episode's length, 0 where it did not end."""
    both = together.BatchedLanes(make_robot(task, engine), lanes, threads)
    alone = OneByOne(lambda: make(task, engine))
    assert both.action_space == alone.action_space
    seen = both.reset(seed, lanes)
    np.testing.assert_array_equal(seen, alone.reset(seed, lanes))
    generator = np.random.default_rng(seed)
    # Episodes of random actions end soon, those of faint ones go on: both must be there.
    strength = np.linspace(0.1, 1, lanes, dtype=np.float32)[:, None]
    alive, lengths = list(range(lanes)), np.zeros(lanes, int)
    for step in range(1, steps + 1):
        actions = strength[alive] * generator.uniform(-1, 1, (len(alive), *both.action_space.shape)).astype(np.float32)
        got, expected = both.step(alive, actions), alone.step(alive, actions)
        for name in ("observation", "reward", "terminal"):
            one, other = getattr(got, name), getattr(expected, name)
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other, err_msg=f"{task}, {engine}: {name} of step {step}")
        over = got.terminal | expected.truncated
        lengths[[k for k, end in zip(alive, over, strict=True) if end]] = step
        alive = [k for k, end in zip(alive, over, strict=True) if not end]
        if not alive:
            break
    both.close()
    alone.close()
    return lengths


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("task", NAMES)
def test_every_number_equals_the_environments(task, engine):
    lengths = _compare(task, engine, steps=120, seed=3, lanes=LANES)
    if get_task(task).robot in ("hopper", "walker2d"):
        assert len(set(lengths)) > 2  # episodes ended at different steps while others went on


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("robot", ["hopper", "halfcheetah", "walker2d", "ant"])
def test_every_number_of_whole_episodes_of_every_task(robot, engine):
    for name, task in TASKS.items():
        if task.robot == robot:
            lengths = _compare(name, engine, steps=1000, seed=11, lanes=2)
            assert (lengths > 0).all()


def test_a_second_round_begins_anew():
    """Lanes are used again when rows are collected: nothing of their earlier episodes may remain."""
    lanes = together.BatchedLanes(make_robot("ant"), 2, 1)
    action = np.full((2, 8), 0.5, np.float32)
    lanes.reset(0, 2)
    for _ in range(5):
        first = lanes.step([0, 1], action)
    fewer = lanes.reset(0, 1)
    assert fewer.shape == (1, 111)
    for _ in range(5):
        again = lanes.step([0], action[:1])
    np.testing.assert_array_equal(again.observation, first.observation[:1])
    np.testing.assert_array_equal(again.reward, first.reward[:1])


@pytest.mark.parametrize("rows", [None, 700])
def test_rollouts_are_the_same_either_way(rows):
    def noisy(observation, rng):
        return np.tanh(observation[:, :3]) + 0.3 * rng.standard_normal((len(observation), 3))

    fast = rollout(noisy, "hopper-morph", 6, seed=2, record=True, rows=rows)
    plain = rollout(
        noisy, None, 6, seed=2, record=True, rows=rows, max_steps=1000, env_factory=lambda: make_robot("hopper-morph")
    )
    np.testing.assert_array_equal(fast.returns, plain.returns)
    for name, column in vars(fast.rows).items():
        np.testing.assert_array_equal(column, getattr(plain.rows, name))


def test_one_episode_is_stepped_alone():
    lanes = lanes_of(get_task("hopper"), "legacy", 1)
    assert isinstance(lanes, OneByOne)
    lanes.close()


def test_an_older_mujoco_steps_one_by_one_with_the_same_result(monkeypatch):
    def still(observation, rng):
        return np.zeros((len(observation), 6))

    assert isinstance(lanes_of(get_task("walker2d"), "legacy", 3), together.BatchedLanes)
    fast = rollout(still, "walker2d", 3, record=True)
    monkeypatch.delitem(sys.modules, "tabb.environments.batched_lanes")
    monkeypatch.setitem(sys.modules, "mujoco.batch", None)  # as where it is missing
    assert isinstance(lanes_of(get_task("walker2d"), "legacy", 3), OneByOne)
    plain = rollout(still, "walker2d", 3, record=True)
    np.testing.assert_array_equal(fast.returns, plain.returns)
    np.testing.assert_array_equal(fast.rows.observation, plain.rows.observation)


def test_mazes_are_stepped_one_by_one():
    task = next(task for task in ALL_TASKS.values() if task.namespace == "tabb-antmaze")
    lanes = lanes_of(task, "legacy", 4)
    assert isinstance(lanes, OneByOne)
    lanes.close()


# --- Threads ---

needs_linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")


@pytest.fixture
def no_bound(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@needs_linux
def test_a_pinned_process_starts_no_thread(no_bound):
    cores = os.sched_getaffinity(0)
    assert threads_for(64) == min(32, len(cores))
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert threads_for(64) == 1
        before = len(os.listdir("/proc/self/task"))
        lanes = lanes_of(get_task("hopper"), "legacy", 64)
        lanes.reset(0, 64)
        lanes.step(list(range(64)), np.zeros((64, 3), np.float32))
        assert len(os.listdir("/proc/self/task")) == before
    finally:
        os.sched_setaffinity(0, cores)


@needs_linux
def test_threads_are_started_and_ended():
    before = len(os.listdir("/proc/self/task"))
    lanes = together.BatchedLanes(make_robot("hopper"), 8, 3)
    assert len(os.listdir("/proc/self/task")) == before + 2  # the caller steps too
    lanes.close()
    del lanes
    assert len(os.listdir("/proc/self/task")) == before


def test_few_episodes_and_runs_of_a_plan_take_one_thread(no_bound, monkeypatch):
    from tabb.running.processes import one_core_environment

    assert [threads_for(lanes) for lanes in (1, 2, 3)] == [1, 1, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", one_core_environment()["OMP_NUM_THREADS"])
    assert threads_for(64) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "a few")
    assert threads_for(2) == 1
