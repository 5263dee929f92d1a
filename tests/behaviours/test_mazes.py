"""The behaviour policy of the mazes: what the walker sees, which way it is told to go, what is logged."""

import mujoco
import numpy as np
import pytest

from tabb.behaviours.open_field import ACTION_SIZE, OBSERVATION_SIZE, OpenField, rotated
from tabb.behaviours.waypoints import ON_ITS_BACK, free_cells, route, walk_the_maze
from tabb.environments.mazes import MAZES
from tabb.environments.tasks import get_task
from tabb.policy import Policy


def _observation(seed=0):
    found = np.random.default_rng(seed).standard_normal(29)
    found[3:7] *= np.sign(found[3]) / np.linalg.norm(found[3:7])
    return found


@pytest.mark.parametrize("angle", [0.7, -2.5, np.pi / 2])
def test_who_is_turned_and_told_to_go_elsewhere_sees_the_same(angle):
    world, moved = _observation(), _observation()
    turn, quaternion = np.array([np.cos(angle / 2), 0, 0, np.sin(angle / 2)]), np.zeros(4)
    mujoco.mju_mulQuat(quaternion, turn, world[3:7])
    velocity = np.zeros(3)
    mujoco.mju_rotVecQuat(velocity, world[15:18], turn)
    moved[:2], moved[3:7], moved[15:18] = (50, -3), quaternion, velocity
    assert rotated(moved, angle) == pytest.approx(rotated(world, 0.0), abs=1e-6)
    assert rotated(world, 0.0) == pytest.approx(world[2:])


def test_turned_takes_many_at_once():
    both = np.stack([_observation(1), _observation(2)])
    found = rotated(both, np.array([0.3, -1.0]))
    assert found.shape == (2, OBSERVATION_SIZE)
    assert np.array_equal(found[1], rotated(both[1], -1.0))


def test_practice_pays_for_going_where_it_is_told():
    field = OpenField()
    first, _ = field.reset(seed=0)
    assert first.shape == (OBSERVATION_SIZE,)
    assert field.model.ngeom == 14  # the ant and the floor: no walls
    field._direction, field._until = np.pi / 2, 10**9
    velocity = field.data.qvel.copy()
    velocity[:2] = (0.0, 3.0)
    field.set_state(field.data.qpos.copy(), velocity)
    *_, info = field.step(np.zeros(ACTION_SIZE))
    assert info["speed"] > 1
    field._direction = -np.pi / 2
    field.set_state(field.data.qpos.copy(), velocity)
    assert field.step(np.zeros(ACTION_SIZE))[1] < -1


def test_routes():
    source = MAZES["small"]["source"]  # start, two cells right, down and back to the goal below the start
    assert route(source, (0.0, 0.0), (0.0, 8.0)) == [(4, 0), (8, 0), (8, 4), (8, 8), (4, 8), (0, 8)]
    assert route(source, (8.0, 8.0), (8.0, 8.0)) == []
    assert len(free_cells(source)) == 7
    walled = ("11111", "1r101", "111g1", "11111")
    assert route(walled, (0.0, 0.0), (8.0, 4.0)) == []
    assert free_cells(walled) == [(0, 0)]
    for maps in MAZES.values():
        for rows in maps.values():
            assert free_cells(rows)[0]


def _still():
    """A walker that does not move."""
    return Policy(
        np.zeros(27, np.float32), np.ones(27, np.float32), (np.zeros((27, 8), np.float32),), (np.zeros(8, np.float32),)
    )


@pytest.mark.slow
def test_what_is_logged():
    task = get_task("antmaze-small-empty")
    walk = walk_the_maze(_still(), task, 1_500, noise=0.3, seed=5)
    rows = walk.rows
    assert rows.observation.shape == (1_500, 29)
    assert rows.action.shape == (1_500, 8)
    ends = np.flatnonzero(rows.terminal + rows.timeout)
    assert ends[-1] == 1_499
    starts = np.append(0, ends[:-1] + 1)
    assert (np.diff(np.append(starts, 1_500)) <= task.max_episode_steps).all()
    inside = np.setdiff1d(np.arange(1_499), ends)
    assert np.array_equal(rows.next_observation[inside], rows.observation[inside + 1])
    assert np.abs(rows.observation[starts[0], :2]).max() < 0.2  # at the start, for the goal
    assert np.abs(rows.observation[starts[1], :2]).max() > 1  # anywhere
    assert set(walk.returns) <= {0.0, 1.0}
    again = walk_the_maze(_still(), task, 1_500, noise=0.3, seed=5)
    assert np.array_equal(again.rows.observation, rows.observation)


def test_an_ant_on_its_back_is_cut():
    task = get_task("antmaze-small")
    rows = walk_the_maze(_still(), task, 400, noise=1.0, seed=1).rows
    down = 1 - 2 * (rows.next_observation[:, 4] ** 2 + rows.next_observation[:, 5] ** 2) < 0
    run = longest = 0
    for flag, end in zip(down, rows.terminal + rows.timeout, strict=True):
        run = run + 1 if flag else 0
        longest = max(longest, run)
        if end:
            run = 0
    assert longest <= ON_ITS_BACK
