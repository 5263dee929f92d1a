"""AntMaze: maps, walls, goal, rewards, files, and the constants of training."""

import dataclasses
import json
import os
from pathlib import Path

import h5py
import mujoco
import numpy as np
import pytest

from tabb.backbones import IQL, for_task
from tabb.cli import main
from tabb.data import read
from tabb.environments import make
from tabb.environments.antmaze import build_maze
from tabb.environments.mazes import MAZES, cells
from tabb.environments.tasks import MORE_TASKS
from tabb.errors import UsageError
from tabb.registry import learners_of
from tabb.rules import RULES
from tabb.training.config import Settings
from tabb.training.run import train
from tabb.transitions import Transitions

DATA = os.environ.get("TABB_DATA")


def _free(rows):
    """Cells that can be walked to from the start."""
    walls, found, queue = set(cells(rows, "1")), {(0.0, 0.0)}, [(0.0, 0.0)]
    while queue:
        x, y = queue.pop()
        for place in ((x + 4, y), (x - 4, y), (x, y + 4), (x, y - 4)):
            if place not in walls and place not in found:
                found.add(place)
                queue.append(place)
    return found


def test_every_goal_can_be_reached():
    for maps in MAZES.values():
        assert len(maps) == 7
        assert len(set(maps.values())) == 7
        for rows in maps.values():
            assert set(cells(rows, "g")) <= _free(rows)
            assert cells(rows, "r") == [(0, 0)]
    assert cells(MAZES["small"]["source"], "g") == [(0, 8)]
    assert cells(MAZES["small"]["lshape"], "g") == [(8, 8)]


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="set TABB_DATA to the folder of shifts.json")
def test_maps_equal_the_published_ones():
    published = json.loads((Path(DATA) / "shifts.json").read_text())["antmaze"]["maps"]
    assert {s: {n: list(rows) for n, rows in maps.items()} for s, maps in MAZES.items()} == published


def test_the_ant_is_d4rls():
    model = build_maze("small", "empty", "native")
    assert model.opt.timestep == 0.02
    assert set(model.actuator_gear[:, 0]) == {30}
    assert model.geom_solimp[:, :3].tolist() == model.ngeom * [[0.8, 0.8, 0.01]]
    walls = [i for i in range(model.ngeom) if model.geom(i).name.startswith("wall")]
    assert len(walls) == 16
    assert model.geom_size[walls].tolist() == 16 * [[2, 2, 1]]
    assert set(model.geom_margin) == {0.01}
    legacy = build_maze("small", "empty")
    assert set(legacy.geom_margin) == {0.005}
    assert legacy.body_mass.sum() == pytest.approx(0.87871, rel=3e-5)


def test_a_wall_stops_the_ant():
    env = make("antmaze-small").unwrapped
    env.reset(seed=0)
    state = env.init_qpos.copy()
    for x, contact in ((0.0, False), (-1.9, True)):
        state[:2] = (x, 0)
        env.set_state(state, env.init_qvel)
        names = [env.model.geom(g).name for c in env.data.contact for g in (c.geom1, c.geom2)]
        assert any(name.startswith("wall") for name in names) == contact


def test_the_goal_is_paid_once_and_ends_the_task():
    env = make("antmaze-medium-3")
    observation, info = env.reset(seed=1)
    bare = env.unwrapped
    centre = np.array(cells(MAZES["medium"]["3"], "g")[0])
    assert observation.shape == (29,)
    assert ((info["goal"] - centre >= 0) & (info["goal"] - centre <= 1.5)).all()
    assert np.linalg.norm(observation[3:7]) == pytest.approx(1)
    assert env.step(np.zeros(8))[1:4] == (0.0, False, False)
    state = bare.data.qpos.copy()
    state[:2] = bare.goal + np.array([0.3, 0])
    bare.set_state(state, 0 * bare.data.qvel)
    assert env.step(np.zeros(8))[1:4] == (1.0, True, False)
    assert env.reset(seed=2)[1]["goal"].tolist() != info["goal"].tolist()
    assert (make("antmaze-small").spec.max_episode_steps, env.spec.max_episode_steps) == (700, 1000)


def test_falling_over_is_no_end():
    env = make("antmaze-large").unwrapped
    env.reset(seed=0)
    state = env.init_qpos.copy()
    state[3:7] = (0, 1, 0, 0)
    env.set_state(state, env.init_qvel)
    assert not any(env.step(np.zeros(8))[2] for _ in range(5))
    assert env.data.body("torso").xmat[8] < 0


def test_a_copy_restores_a_state():
    env = make("antmaze-small").unwrapped
    env.reset(seed=0)
    seen = env.step(np.ones(8) * 0.2)[0]
    env.restore(seen)
    np.testing.assert_array_equal(env._get_obs(), seen)
    assert isinstance(env.model, mujoco.MjModel)


def test_wrong_names():
    with pytest.raises(UsageError, match="unknown maze size 'huge'"):
        build_maze("huge")
    with pytest.raises(UsageError, match="unknown map '9' of antmaze-medium: choose one of source, 1"):
        build_maze("medium", "9")
    with pytest.raises(UsageError, match="unknown engine"):
        build_maze("small", engine="old")


# --- Training ---


def test_suites_bring_iqls_constants():
    pooled = RULES["pooled"]
    assert for_task(pooled, IQL(), ("adroit",)) == IQL(temperature=0.5)
    assert for_task(pooled, IQL(), ("antmaze",)) == IQL(expectile=0.9, temperature=10.0)
    assert for_task(pooled, IQL(), ("odrl",)) == IQL()
    (learner,) = learners_of(["tabb"], None, ("antmaze",))
    assert (learner.backbone.expectile, learner.backbone.temperature) == (0.9, 10.0)


def _logged(seed):
    """300 rows of six walks, with rewards about 0."""
    generator = np.random.default_rng(seed)
    observations = generator.normal(size=(2, 300, 29)).astype(np.float32)
    return Transitions(
        observations[0],
        generator.uniform(-1, 1, (300, 8)).astype(np.float32),
        generator.normal(0, 0.1, 300).astype(np.float32),
        observations[1],
        (np.arange(300) % 50 == generator.integers(45, 50)).astype(np.float32),
        (np.arange(300) // 50).astype(np.int32),
    )


def test_training_takes_one_off_the_rewards():
    """The same as training without a task on rewards less 1, with the suite's constants."""
    source, target = _logged(0), _logged(1)
    less = [dataclasses.replace(data, reward=data.reward - 1) for data in (source, target)]
    settings = Settings(updates=40, evaluations=0)
    constants = Settings(updates=40, evaluations=0, backbone=IQL(expectile=0.9, temperature=10.0))
    seen = source.observation[:5]
    (run,) = train(RULES["pooled"](), source, target, task="antmaze-small-empty", settings=settings)
    (same,) = train(RULES["pooled"](), *less, settings=constants)
    (other,) = train(RULES["pooled"](), source, target, settings=constants)
    np.testing.assert_array_equal(run.policy.act(seen), same.policy.act(seen))
    assert np.abs(run.policy.act(seen) - other.policy.act(seen)).max() > 0


def test_the_catalogue_lists_them(capsys):
    assert main(["tasks", "adroit"]) == 0
    assert "28 tasks" in (told := capsys.readouterr().out)
    assert "tabb-adroit/<task>-v0" in told
    assert main(["tasks", "antmaze", "medium"]) == 0
    assert "7 tasks" in capsys.readouterr().out
    assert len(MORE_TASKS) == 49


# --- Files ---


def _maze_file(path, columns=29, goal=True):
    """Three walks of 10 rows; the first two ends are stated a row late, the ant is put back without a flag."""
    generator = np.random.default_rng(0)
    rows = 30
    observations = generator.normal(0, 0.01, (rows, columns)).astype(np.float32)
    observations[:, 0] += np.tile(np.arange(10), 3) * 0.5
    timeouts = np.zeros(rows, bool)
    timeouts[[10, 20]] = True
    with h5py.File(path, "w") as file:
        file["observations"] = observations
        file["actions"] = generator.uniform(-1, 1, (rows, 8)).astype(np.float32)
        file["rewards"] = np.zeros(rows, np.float32)
        file["terminals"] = np.zeros(rows, bool)
        file["timeouts"] = timeouts
        for key, size in {"goal": 2, "qpos": 15, "qvel": 14}.items():
            if goal or key != "goal":
                file[f"infos/{key}"] = np.zeros((rows, size))


def test_ends_that_an_antmaze_file_misses_are_found(tmp_path):
    _maze_file(tmp_path / "maze.hdf5")
    loaded = read(tmp_path / "maze.hdf5")
    assert {9, 19} <= set(loaded.report.episode_ends)
    assert loaded.report.provenance["unstated_ends"] == 2
    steps = loaded.transitions.next_observation[:, 0] - loaded.transitions.observation[:, 0]
    assert np.abs(steps).max() < 1


def test_ends_that_an_antmaze_file_states_are_not_counted_as_missed(tmp_path):
    """Row 9 is at the goal and times out, at row 5 the ant walks on; only the jump after 19 is missed."""
    _maze_file(tmp_path / "maze.hdf5")
    with h5py.File(tmp_path / "maze.hdf5", "a") as file:
        file["timeouts"][...] = np.arange(30) == 9
        file["terminals"][...] = np.isin(np.arange(30), (5, 9))
    transitions, report = read(tmp_path / "maze.hdf5")
    assert report.provenance["unstated_ends"] == 1
    assert report.episode_ends == (5, 9, 19, 29)
    assert "1 rows are marked both terminal and timeout; they count as terminal" in report.notes
    assert (report.terminals, report.kept) == (2, 28)
    assert np.flatnonzero(transitions.terminal).tolist() == [5, 9]
    with h5py.File(tmp_path / "maze.hdf5", "a") as file:
        file["timeouts"][...] = np.isin(np.arange(30), (9, 19))
    assert "unstated_ends" not in read(tmp_path / "maze.hdf5").report.provenance


def test_other_files_are_left_alone(tmp_path):
    _maze_file(tmp_path / "other.hdf5", goal=False)
    loaded = read(tmp_path / "other.hdf5")
    assert set(loaded.report.episode_ends) == {10, 20, 29}
    assert "unstated_ends" not in loaded.report.provenance


def test_an_adroit_file_of_d4rl(tmp_path):
    generator = np.random.default_rng(0)
    with h5py.File(tmp_path / "pen.hdf5", "w") as file:
        file["observations"] = generator.normal(size=(20, 45)).astype(np.float32)
        file["actions"] = generator.uniform(-1, 1, (20, 24)).astype(np.float32)
        file["rewards"] = np.ones(20, np.float32)
        file["terminals"] = np.arange(20) == 4
        file["timeouts"] = np.arange(20) == 14
        file["infos/qpos"], file["infos/qvel"] = np.zeros((20, 30)), np.zeros((20, 30))
        file["infos/desired_orien"] = np.zeros((20, 4))
    report = read(tmp_path / "pen.hdf5").report
    assert report.episode_ends == (4, 14, 19)
    assert (report.kept, report.terminals) == (18, 1)


def test_source_files_of_a_maze_are_those_of_its_size(tmp_path, monkeypatch):
    from tabb.data import find

    monkeypatch.setenv("TABB_DATA", str(tmp_path))
    for domain, name in (("source", "antmaze_medium_play"), ("target", "antmaze_medium_3_medium")):
        (tmp_path / domain).mkdir()
        _maze_file(tmp_path / domain / f"{name}.hdf5")
    assert find("antmaze-medium-3", "play", "source")[0].name == "antmaze_medium_play.hdf5"
    assert find("antmaze-medium-3", "medium", "target")[0].name == "antmaze_medium_3_medium.hdf5"
