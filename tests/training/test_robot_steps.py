"""Steps of what may be a robot: Ctrl-C and a kill lose none of them, and none is taken after."""

import contextlib
import os
import signal
import threading
from pathlib import Path
from typing import ClassVar

import h5py
import jax
import numpy as np
import pytest

import tabb
from cart import Cart
from tabb.backbones import TD3BC
from tabb.environments import SafeActions
from tabb.environments.running_episodes import world_of_environment
from tabb.errors import Stopped
from tabb.rules import TargetOnly
from tabb.training import Settings, train
from tabb.training.folder import RunFolder
from tabb.training.online import Online, StepPlan
from tabb.training.side import Side
from tabb.transitions import COLUMNS

STEPS = 30


class Robot(Cart):
    """A cart that keeps its own record, and at some of its steps gets a signal or loses its process."""

    record: ClassVar[list] = []
    at: ClassVar[dict[int, str]] = {}
    mine = 0

    def close(self):
        if self.mine == 1:  # the one step by which an environment is tried at the door
            self.record.pop()

    def step(self, action):
        self.mine += 1
        before = self.state.astype(np.float32)
        event = self.at.pop(len(self.record) + 1, None)
        if event == "kill":
            raise KeyboardInterrupt  # nothing is saved after it
        result = super().step(action)
        self.record.append([*before, *action, result[1], *result[0], float(result[2])])
        if event == "stop":
            os.kill(os.getpid(), signal.SIGINT)
        return result


class Still(Cart):
    """A cart without a motor, which never leaves its track."""

    def step(self, action):
        return super().step(0 * action)


def killed_at(name):
    """A `Path.unlink` that does not come back from the file of this name."""
    unlink = Path.unlink

    def until_killed(path, *arguments, **options):
        if path.name == name:
            raise KeyboardInterrupt
        unlink(path, *arguments, **options)

    return until_killed


def matrix(data):
    return np.concatenate([np.asarray(getattr(data, name)).reshape(len(data), -1) for name in COLUMNS[:-1]], axis=1)


def test_no_step_is_lost_and_none_is_taken_after_a_stop(tmp_path, capsys, monkeypatch):
    """Stopped during the first steps and in the middle of a stretch, then killed: the log is the robot's own record."""
    monkeypatch.setattr(Robot, "record", [])
    monkeypatch.setattr(Robot, "at", {5: "stop", 17: "stop", 25: "kill"})
    backbone = TD3BC(hidden=(8,), batch_size=8)
    online = Online(target_steps=STEPS, warm_up=8)
    arguments = {
        "settings": Settings(updates=200, evaluations=0, backbone=backbone, online=online),
        "env_factory": lambda: SafeActions(Robot(), low=-0.5, high=0.5, change=0.2),
        "folder": tmp_path,
        "progress": "lines",
    }
    log = tmp_path / "seed0" / "target-steps.hdf5"
    for steps, error in ((5, Stopped), (17, Stopped), (24, KeyboardInterrupt)):
        with pytest.raises(error) as caught:
            train(TargetOnly(), None, None, resume=steps > 5, **arguments)
        assert len(Robot.record) == steps
        np.testing.assert_array_equal(matrix(tabb.load(log)), np.array(Robot.record, np.float32))
        if error is Stopped:
            assert caught.value.exit_code == 130
            assert "go on with `tabb train --resume" in str(caught.value)
    (run,) = train(TargetOnly(), None, None, resume=True, **arguments)
    said = capsys.readouterr().err
    assert "7 steps in Robot since the last checkpoint are kept" in said
    assert f"{STEPS}/{STEPS} target steps" in said
    assert not log.exists()
    kept = tabb.load(tmp_path / "seed0" / "target-steps.npz")
    np.testing.assert_array_equal(matrix(kept), np.array(Robot.record, np.float32))
    assert len(kept) == STEPS
    pushes = np.asarray(kept.action)[:, 0]
    assert abs(pushes).max() <= 0.5
    inside = np.asarray(kept.episode)[1:] == np.asarray(kept.episode)[:-1]
    assert abs(np.diff(pushes))[inside].max() <= 0.2 + 1e-6
    starts = np.append(True, ~inside)
    assert abs(pushes[starts]).max() <= 0.2 + 1e-6
    assert len(RunFolder(tmp_path / "seed0").metrics()) == 100
    # Killed after the last checkpoint: what was not written of the finished run is written now, without a step.
    for file in ("target-steps.npz", "result.json"):
        (tmp_path / "seed0" / file).unlink()
    (again,) = train(TargetOnly(), None, None, resume=True, **arguments)
    np.testing.assert_array_equal(matrix(tabb.load(tmp_path / "seed0" / "target-steps.npz")), matrix(kept))
    assert len(Robot.record) == STEPS
    np.testing.assert_array_equal(again.policy.weights[0], run.policy.weights[0])


@pytest.mark.parametrize("place", ["before the steps are kept", "after they are kept", "after the log is gone"])
def test_a_kill_at_the_end_of_a_run_loses_no_end_of_an_episode(place, tmp_path, monkeypatch):
    """Episodes of 20 steps, which the environment alone knows of: of 50 steps the last ten are cut, and no others."""
    online = Online(target_steps=50, warm_up=50)
    arguments = {
        "settings": Settings(updates=4, evaluations=0, backbone=TD3BC(hidden=(8,), batch_size=8), online=online),
        "env_factory": Still,
        "folder": tmp_path,
    }

    def killed(*_, **__):
        raise KeyboardInterrupt

    name, dies = {
        "before the steps are kept": ("tabb.training.interaction.save_npz", killed),
        "after they are kept": ("pathlib.Path.unlink", killed_at("target-steps.hdf5")),
        "after the log is gone": ("tabb.training.run.write_results", killed),
    }[place]
    with monkeypatch.context() as patch:
        patch.setattr(name, dies)
        with pytest.raises(KeyboardInterrupt):
            train(TargetOnly(), None, None, **arguments)
    assert not (tmp_path / "seed0" / "result.json").exists()
    train(TargetOnly(), None, None, resume=True, **arguments)
    report = tabb.data.read([tmp_path / "seed0" / "target-steps.npz"]).report
    assert (report.episodes, report.cut) == (3, (2,))
    assert not (tmp_path / "seed0" / "target-steps.hdf5").exists()


@pytest.mark.parametrize("seed", [0, 4293, 12345, 10**9])
def test_an_environment_is_reset_with_seeds_that_any_generator_takes(seed):
    seeds = []

    class Seeded(Cart):
        def reset(self, *, seed=None, options=None):
            np.random.default_rng(seed)
            seeds.append(seed)
            return super().reset(seed=seed)

    plan = StepPlan(50, 50, np.zeros(1, np.int64), np.full(1, 50))
    for domain in ("source", "target"):
        side = Side(domain, world_of_environment(Seeded), plan, 1, seed, jax.random.key(0), threading.Event())
        side.take(50, None, None, None, at_random=True)
    assert max(seeds) < 2**32
    assert len(set(seeds)) == len(seeds)
    if seed == 0:
        assert seeds[0] == 1_500_000
        assert 1_000_000 in seeds


@pytest.mark.parametrize("lanes", [1, 2])
def test_episodes_that_ended_since_the_last_checkpoint_are_told_after_a_kill(lanes, tmp_path):
    """Nothing but a state of 50 steps and the log of 200 is left of a process."""
    file, plan = tmp_path / "steps.hdf5", StepPlan(200, 200, np.zeros(1, np.int64), np.full(1, 200))

    def side():
        return Side("target", world_of_environment(Cart), plan, lanes, 0, jax.random.key(0), threading.Event())

    killed = side()
    killed.logged_in(file)
    killed.take(50, None, None, None, at_random=True)
    before, state = killed.finished(), killed.state()
    report = tabb.data.read([file]).report  # what still goes on does not count in it
    assert len(killed.cut()) == len(report.unfinished) == report.episodes - len(before) == lanes
    mean = np.average([one.total for one in before], weights=[one.length for one in before])
    assert report.mean_return == pytest.approx(mean)
    killed.take(200, None, None, None, at_random=True)
    wanted = killed.finished()
    assert before
    assert state.episodes.age.all(), "episodes go over the checkpoint"
    again = side()
    again.restore(state)
    again.logged_in(file)
    assert again.taken == 200
    told = again.finished()
    assert [(one.length, one.steps) for one in told] == [(one.length, one.steps) for one in wanted]
    if lanes == 1:
        assert [one.steps for one in before + wanted] == np.cumsum([one.length for one in before + wanted]).tolist()
    assert 50 < wanted[0].steps < wanted[-1].steps <= 200
    np.testing.assert_allclose([one.total for one in told], [one.total for one in wanted], rtol=1e-6)
    assert len(again.cut()) == len(np.unique(again.log().episode)) - len(before + wanted)
    # A log of an earlier version does not say where episodes ended.
    with h5py.File(file, "r+") as content:
        del content["last"]
    older = side()
    older.restore(state)
    older.logged_in(file)
    assert (older.taken, older.finished()) == (200, [])


@pytest.mark.parametrize("event", ["kill", "stop"])
def test_a_robot_on_its_way_back_has_lost_no_step_and_takes_none_after_a_stop(event, tmp_path):
    """The second episode does not come to be: its reset is cut off, or Ctrl-C comes meanwhile."""
    stop, begun = threading.Event(), []

    class Returning(Cart):
        def reset(self, **options):
            begun.append(event)
            if len(begun) == 2:
                if event == "kill":
                    raise KeyboardInterrupt
                stop.set()
            return super().reset(**options)

    plan = StepPlan(200, 200, np.zeros(1, np.int64), np.full(1, 200))
    side = Side("target", world_of_environment(Returning), plan, 1, 0, jax.random.key(0), stop)
    side.logged_in(tmp_path / "steps.hdf5")
    with contextlib.suppress(KeyboardInterrupt):
        side.take(200, None, None, None, at_random=True)
    (ended,) = side.finished()
    assert side.taken == ended.length == len(tabb.load(tmp_path / "steps.hdf5"))
    assert side.stopped == (event == "stop")
