"""Runs that are stopped, killed or disturbed at odd moments: nothing is lost, and nothing is silently wrong."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import threading
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import numpy as np
import pytest

import tabb
from tabb import files
from tabb.cli import main
from tabb.errors import HeldOutWarning, MachineWarning, RunError, Stopped, UsageError
from tabb.training.folder import RunFolder, Saved
from tabb.training.lanes import Lanes
from tabb.training.observers import Showing, stoppable
from tabb.training.progress import Lines
from tabb.training.stretches import Stretch, stretches

TINY = tabb.IQL(policies=1, hidden=(8,), batch_size=8)
OFF_THE_SCALE = 1e30


def log(rows: int = 200, seed: int = 1) -> tabb.Transitions:
    generator = np.random.default_rng(seed)
    observation = 0.1 * np.cumsum(generator.normal(size=(rows, 3)), 0)
    action = generator.uniform(-1, 1, (rows, 2))
    return tabb.from_arrays(observation, action, -np.abs(observation).sum(1), timeouts=np.arange(1, rows + 1) % 50 == 0)


@pytest.fixture(scope="module")
def target() -> tabb.Transitions:
    return log()


def settings(**changes: Any) -> tabb.Settings:
    return tabb.Settings(**{"updates": 20, "evaluations": 2, "held_out": 0.0, "backbone": TINY, **changes})


def train(target: tabb.Transitions, folder: Path | None, **options: Any) -> list[tabb.training.Run]:
    return tabb.train(tabb.TargetOnly(), None, target, **{"settings": settings(), "folder": folder, **options})


@pytest.mark.usefixtures("hang_up_is_heard")
def test_a_terminal_that_is_closed_stops_a_run_and_takes_nothing_more(target, tmp_path, monkeypatch):
    mine, its = os.openpty()

    def leave(line: Any) -> None:
        if line["update"] == 7:
            os.close(mine)
            with pytest.raises(OSError, match="Input/output"):
                os.write(its, b"a line")
            os.kill(os.getpid(), signal.SIGHUP)

    terminal = open(its, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    monkeypatch.setattr("sys.stderr", terminal)
    with pytest.raises(Stopped, match=r"stopped and saved after 7 updates.*--resume"):
        train(target, tmp_path, progress="bar", track=lambda run: Telling(leave))
    assert main(["no-command"]) == 2, "its last words are lost, and no error of their own"
    with contextlib.suppress(OSError):
        terminal.close()
    assert RunFolder(tmp_path / "seed0").saved_update() == 7


class Telling:
    """A sink that hands each line on to a function."""

    def __init__(self, function: Any) -> None:
        self.log = function

    def close(self) -> None: ...


class Interrupting:
    """A sink that stands for a user who presses Ctrl-C while the last metrics of seed 0 are written."""

    def __init__(self, run: Any) -> None:
        self.seed = run.config["seed"]

    def log(self, line: Any) -> None:
        if self.seed == 0 and line["update"] == 20:
            os.kill(os.getpid(), signal.SIGINT)

    def close(self) -> None: ...


def test_a_stop_in_the_last_updates_of_a_seed_begins_no_other(target, tmp_path):
    with pytest.raises(Stopped, match=r"^stopped and saved after 0 updates of seed 1; go on with .*--resume"):
        train(target, tmp_path, seeds=[0, 1], track=Interrupting)
    assert RunFolder(tmp_path / "seed0").finished
    assert not (tmp_path / "seed1").exists()


def test_a_stop_before_a_resumed_seed_trains_tells_what_is_saved(target, tmp_path):
    with pytest.raises(Stopped, match="saved after 7 updates of seed 1"):
        train(target, tmp_path, seeds=[1], track=lambda run: Stopping())
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped, match="saved after 7 updates of seed 1"):
        stoppable(lambda *_: None, Lanes([1], tmp_path), stop)("predictor", 0.5)
    with pytest.raises(Stopped, match="saved after 7 updates of seed 1"):
        train(target, tmp_path, seeds=[0, 1], resume=True, track=Interrupting)


def test_who_comes_second_changes_nothing(target, tmp_path):
    """Of two processes that begin a run in one folder at once, the second has passed the first look at it."""
    folder = RunFolder(tmp_path / "seed0")
    folder.path.mkdir()
    with folder.locked(), pytest.raises(RunError, match="another process trains here"):
        train(target, tmp_path)
    assert not folder.config_file.exists()


def test_half_written_files_of_a_killed_process_go(target, tmp_path):
    train(target, tmp_path)
    folder = tmp_path / "seed0"
    (folder / "policies").mkdir()
    parts = [folder / ".checkpoint.npz.x1.part", folder / "policies" / ".10.npz.x2.part"]
    others = [folder / ".report.html.x3.part", folder / ".mine.part"]
    for file in (*parts, *others):
        file.write_bytes(b"half")
    train(target, tmp_path, resume=True)
    assert not any(file.exists() for file in parts)
    assert all(file.exists() for file in others)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def damaged(content: bytes) -> bytes:
    """Zeros in the middle, as a power cut leaves them."""
    return content[:100] + bytes(50) + content[150:]


@pytest.mark.parametrize("change", [cut, damaged, lambda content: None])
def test_metrics_that_a_checkpoint_counts_on_must_be_there(target, tmp_path, change):
    train(target, tmp_path)
    metrics = tmp_path / "seed0" / "metrics.jsonl"
    content = change(metrics.read_bytes())
    metrics.unlink() if content is None else metrics.write_bytes(content)
    with pytest.raises(RunError, match=r"metrics\.jsonl: lacks lines from before the checkpoint"):
        train(target, tmp_path, resume=True)


def test_lines_after_the_checkpoint_are_written_again(target, tmp_path):
    train(target, tmp_path)
    metrics = tmp_path / "seed0" / "metrics.jsonl"
    before = metrics.read_bytes()
    metrics.write_bytes(before + b'{"kind": "training", "upd')
    train(target, tmp_path, resume=True)
    assert metrics.read_bytes() == before


# --- One seed that fails ---


@pytest.fixture
def seed_1_diverges(monkeypatch):
    """The first weights of seed 1 are beyond what float32 can square."""
    from tabb.training import opening

    init = opening.Program.init

    def broken(self, sizes, key, *more):
        state = init(self, sizes, key, *more)
        bad = np.array_equal(jax.random.key_data(key), jax.random.key_data(jax.random.split(jax.random.key(1), 3)[0]))
        return state._replace(critic=jax.tree.map(lambda x: x * OFF_THE_SCALE, state.critic)) if bad else state

    monkeypatch.setattr(opening.Program, "init", broken)


@pytest.mark.parametrize("together", [False, True])
def test_a_seed_that_diverges_leaves_the_others_alone(target, tmp_path, monkeypatch, seed_1_diverges, together):
    told: dict[int, list[Any]] = {0: [], 1: [], 2: []}
    if together:
        monkeypatch.setattr(jax, "default_backend", lambda: "seeds")
    with pytest.raises(RunError, match=r"^seed 1 diverged: critic_loss is"):
        train(target, tmp_path, seeds=[0, 1, 2], track=lambda run: Telling(told[run.config["seed"]].append))
    assert [RunFolder(tmp_path / f"seed{seed}").finished for seed in (0, 1, 2)] == [True, False, True]
    lines = RunFolder(tmp_path / "seed2").metrics()
    assert [line["update"] for line in lines] == list(range(1, 21)), "each stretch once"
    assert [[line["update"] for line in of_seed] for of_seed in told.values()] == [[*range(1, 21)], [], [*range(1, 21)]]
    with pytest.raises(RunError, match="seed 1 diverged"):
        train(target, None, seeds=[0, 1, 2])


def test_seeds_that_stopped_after_different_updates_go_on(target, tmp_path, monkeypatch):
    """As a kill between two checkpoints leaves seeds that train together."""
    train(target, tmp_path / "whole", seeds=[0, 1])
    monkeypatch.setattr(jax, "default_backend", lambda: "seeds")
    train(target, tmp_path / "cut", seeds=[0])
    with pytest.raises(Stopped):
        train(target, tmp_path / "cut", seeds=[1], track=lambda run: Stopping())
    runs = train(target, tmp_path / "cut", seeds=[1, 0], resume=True)
    assert [run.seed for run in runs] == [1, 0]
    for seed in (0, 1):
        policies = [tabb.Policy.load(tmp_path / name / f"seed{seed}") for name in ("whole", "cut")]
        np.testing.assert_array_equal(*[policy.act(target.observation) for policy in policies])


class Stopping:
    def log(self, line: Any) -> None:
        if line["update"] == 7:
            os.kill(os.getpid(), signal.SIGINT)

    def close(self) -> None: ...


def test_other_versions_are_told_of(target, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_WARNED", set())
    with pytest.raises(Stopped):
        train(target, tmp_path, track=lambda run: Stopping())
    folder = RunFolder(tmp_path / "seed0")
    config = folder.config()
    config["environment"]["versions"]["jax"] = "0.4.1"
    config["environment"] |= {"device": "gpu: one", "cores": 999}
    files.write_json(folder.config_file, config)
    with pytest.warns(
        MachineWarning, match=r"was begun with jax 0\.4\.1, now .*; device gpu: one, now cpu: cpu; cores 999, now \d+: "
    ):
        train(target, tmp_path, resume=True)
    monkeypatch.setattr(files, "_WARNED", set())
    train(target, tmp_path, resume=True)  # finished: nothing is learned any more


def test_a_finished_run_keeps_its_result(target, tmp_path):
    (first,) = train(target, tmp_path)
    before = (tmp_path / "seed0" / "result.json").read_bytes()
    (again,) = train(target, tmp_path, resume=True)
    np.testing.assert_array_equal(*[run.predict(target.observation) for run in (first, again)])
    assert (tmp_path / "seed0" / "result.json").read_bytes() == before


def test_an_environment_by_name_is_kept_and_no_other_goes_on(target, tmp_path):
    gym.register("Odd-v0", entry_point=Odd, max_episode_steps=3)
    gym.register("Even-v0", entry_point=Odd, max_episode_steps=4)
    options = {"settings": settings(updates=2, evaluations=1, episodes=1)}
    train(target, tmp_path, env_factory="Odd-v0", **options)
    assert RunFolder(tmp_path / "seed0").config()["origin"] == {"env": "Odd-v0"}
    with pytest.raises(RunError, match="was evaluated in Odd-v0, not in Even-v0"):
        train(target, tmp_path, env_factory="Even-v0", resume=True, **options)
    with pytest.raises(RunError, match="differs in env"):
        train(target, tmp_path, env_factory="Even-v0", seeds=[1], **options)


class Odd(gym.Env):
    observation_space, action_space = gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Box(-1, 1, (2,))

    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), {}

    def step(self, action):
        return np.ones(3, np.float32), 1.0, False, False, {}


# --- What is shown ---


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_no_run_ends_for_a_line_that_nobody_reads(target, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stderr", Closed())
    train(target, tmp_path, progress="lines")
    assert RunFolder(tmp_path / "seed0").finished


def test_time_left_of_seeds_that_train_together(target, tmp_path, monkeypatch, capsys):
    """Both do 10 updates a second, so the 80 that are left take 8 s."""
    lanes = Lanes([0, 1])
    lines = Lines("two", 100)
    stretch = Stretch(20, None, {"critic_loss": np.array([1.0, 3.0])}, 10.0, 2.0)
    Showing(lines, lanes, lambda: None).after(stretch)
    assert capsys.readouterr().err == "two: 20/100 updates, 10 updates/s, 8 s left, loss 2\n"


def test_a_clock_that_stands_still(monkeypatch):
    monkeypatch.setattr("tabb.training.stretches.time.monotonic", lambda: 5.0)
    program = lambda models, rows, key, state, first, last: (state, {})  # noqa: E731
    (stretch,) = stretches(program, None, None, None, Saved(np.zeros(1), 0, {}), 4, [])
    assert (stretch.update, stretch.seconds) == (4, 0.0)


# --- Values ---


@pytest.mark.parametrize("seed", [2**32, 2**70, -1])
def test_seeds_that_would_be_those_of_another_run(target, seed):
    with pytest.raises(UsageError, match=r"from 0 to 4,294,967,295$"):
        train(target, None, seeds=[seed])


@pytest.mark.parametrize(
    ("name", "value", "says"), [("evaluation_seed", -1, "at least 0"), ("updates", 2**31, "at most 2,147,483,647")]
)
def test_settings_out_of_range(name, value, says):
    with pytest.raises(UsageError, match=rf"^{name}={value}: must be {says}"):
        settings(**{name: value})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"resume": True}, "resume=True without folder"),
        ({"start_parts": ("policy",)}, "name that run as start"),
        ({"backbone": "iql"}, "and settings.backbone=IQL.* give one of them"),
        ({"backbone": tabb.IQL()}, "and settings.backbone=IQL.* give one of them"),
    ],
)
def test_options_that_would_be_ignored(target, options, says):
    with pytest.raises(UsageError, match=says):
        train(target, None, **options)


def test_rows_held_out_for_no_evaluation(target):
    with pytest.warns(HeldOutWarning, match=r"held_out=0\.5 with evaluations=0: nothing is learned"):
        train(target, None, settings=settings(held_out=0.5, evaluations=0), backbone=TINY)


@pytest.mark.parametrize("rule", [tabb.TargetOnly(), tabb.Pooled()])
def test_a_target_without_rows(target, rule):
    with pytest.raises(UsageError, match="target has no rows"):
        tabb.train(rule, target, target[:0], settings=settings())


def test_where_data_come_from_is_json(target, tmp_path):
    origin = {"target": Path("robot.hdf5"), "rows": np.int64(3)}
    train(target, tmp_path, origin=origin)
    assert RunFolder(tmp_path / "seed0").config()["origin"] == {"target": "robot.hdf5", "rows": 3}
    train(target, tmp_path, origin={"target": {"path": "robot.hdf5"}}, resume=True)
    for wrong, says in (("robot.hdf5", "origin is str"), ({"target": object()}, "what JSON cannot")):
        with pytest.raises(UsageError, match=says):
            train(target, None, origin=wrong)
