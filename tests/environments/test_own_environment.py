"""Environments of the user's: checked in each step, bounded in steps, stopped inside a rollout."""

import os
import signal
import warnings
from contextlib import ExitStack

import gymnasium
import numpy as np
import pytest

import tabb
from tabb import files
from tabb.environments.own_environment import LOOKED_AT, STEP_LIMIT, check_one_step, open_environment, unresolved
from tabb.environments.registration import env_factory_of
from tabb.environments.rollout import rollout
from tabb.environments.running_episodes import RunningEpisodes, world_of_environment
from tabb.errors import MachineWarning, Stopped, UsageError
from tabb.rules import TargetOnly
from tabb.training import Settings, train
from tabb.training.checks import check_environment
from tabb.training.online import Online

Box = gymnasium.spaces.Box


class Still(gymnasium.Env):
    """Never ends; subclasses give something wrong."""

    observation_space, action_space = Box(-np.inf, np.inf, (3,)), Box(-1, 1, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3), {}

    def step(self, action):
        return np.zeros(3), 1.0, False, False, {}


class Gives(Still):
    def __init__(self, step=None, reset=None, error=None):
        self._step, self._reset, self._error = step, reset, error

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed) if self._reset is None else self._reset

    def step(self, action):
        if self._error is not None:
            raise self._error
        return self._step


class Unseeded(Still):
    def reset(self):
        return np.zeros(3), {}


def five(observation=(0.0, 0.0, 0.0), reward=1.0, terminated=False, truncated=False):
    return np.asarray(observation) if isinstance(observation, tuple) else observation, reward, terminated, truncated, {}


def rolled(make, **options):
    return rollout(lambda seen, _: np.zeros((len(seen), 2)), None, 2, env_factory=make, **options)


WRONG = {
    "NaN reward": (lambda: Gives(five(reward=float("nan"))), "reward nan; give a finite number"),
    "infinite reward": (lambda: Gives(five(reward=np.float32("inf"))), "reward inf"),
    "reward of shape (1,)": (lambda: Gives(five(reward=np.array([1.0]))), r"reward of shape \(1,\); give one number"),
    "reward None": (lambda: Gives(five(reward=None)), "reward of type object"),
    "text reward": (lambda: Gives(five(reward="1")), "reward of type <U1"),
    "old API": (lambda: Gives((np.zeros(3), 1.0, False, {})), "must give .observation, reward, terminated"),
    "no tuple": (lambda: Gives(np.zeros(3)), "must give .observation, reward, terminated"),
    "old API below a wrapper": (
        lambda: gymnasium.wrappers.TimeLimit(Gives((np.zeros(3), 1.0, False, {})), 20),
        "must give .observation, reward, terminated",
    ),
    "exception": (lambda: Gives(error=RuntimeError("the simulator\ndiverged")), "RuntimeError: the simulator diverged"),
    "key error": (lambda: Gives(error=KeyError("joint")), "step.. raised KeyError"),
    "exit": (lambda: Gives(error=SystemExit(3)), "step.. raised SystemExit: 3"),
    "type error": (lambda: Gives(error=TypeError("seed of dice")), "step.. raised TypeError"),
    "observation of another size": (lambda: Gives(five(np.zeros(4))), r"observation of shape \(4,\)"),
    "column": (lambda: Gives(five(np.zeros((3, 1)))), r"observation of shape \(3, 1\)"),
    "ragged": (lambda: Gives(five([[0.0], [0.0, 1.0], 2.0])), "observation of type object"),
    "NaN observation": (lambda: Gives(five((0.0, np.nan, 0.0))), "observation with NaN"),
    "observation beyond float32": (lambda: Gives(five((0.0, 1e39, 0.0))), "observation beyond what float32 holds"),
    "reward beyond float32": (lambda: Gives(five(reward=-1e39)), "the reward -1e.39, which is beyond float32"),
    "reset beyond float32": (lambda: Gives(reset=(np.full(3, 1e39), {})), "reset.. gives an observation beyond what"),
    "dictionary": (lambda: Gives(five({"a": 1})), "observation of type object"),
    "ends as array": (lambda: Gives(five(terminated=np.array([False, False]))), r"terminated of shape \(2,\)"),
    "ends as None": (lambda: Gives(five(truncated=None)), "truncated of type object"),
    "reset without info": (lambda: Gives(reset=np.zeros(3)), r"reset.. must give .observation, info"),
    "reset with NaN": (lambda: Gives(reset=(np.full(3, np.nan), {})), r"reset.. gives an observation with NaN"),
    "reset without seed": (Unseeded, "takes no seed"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line_at_the_door_and_in_a_rollout(name):
    make, says = WRONG[name]
    for use in (lambda: check_one_step(open_environment(make)), lambda: rolled(make)):
        with pytest.raises(UsageError, match=says) as caught:
            use()
        assert "environment " in str(caught.value)
        assert "\n" not in str(caught.value)


class Gone(Still):
    """Its connection is lost at the first step, or as it is closed."""

    closed = 0

    def __init__(self, step=True, close=True):
        self.lost = {"step": step, "close": close}

    def step(self, action):
        if self.lost["step"]:
            raise ConnectionError("lost")
        return super().step(action)

    def close(self):
        Gone.closed += 1
        if self.lost["close"]:
            raise ConnectionError("no answer")


def test_the_first_fault_is_told_and_every_environment_closed(monkeypatch):
    monkeypatch.setattr(Gone, "closed", 0)
    with pytest.raises(UsageError, match=r"step.. raised ConnectionError: lost"):
        rolled(Gone)
    assert Gone.closed == 2
    with pytest.raises(UsageError, match=r"close.. raised ConnectionError: no answer"):
        rolled(lambda: Gone(step=False), max_steps=2)
    assert Gone.closed == 4
    episodes = RunningEpisodes(world_of_environment(lambda: Gone(close=False)), 2, 0)
    episodes.observe()
    for lane in episodes._lanes._envs:
        lane._env.lost["close"] = True

    def step_and_close():
        with ExitStack() as closing:
            closing.callback(episodes.close)
            episodes.step(np.zeros((2, 2), np.float32))

    with pytest.raises(UsageError, match="raised ConnectionError: lost"):
        step_and_close()


class FixedEntry(Still):
    action_space = Box(np.array([-1.0, 0.5], np.float32), np.array([1.0, 0.5], np.float32))


class Strict(Still):
    """Takes nothing but actions of its space, whose bounds float32 does not know."""

    action_space = Box(-0.1, 0.1, (2,), np.float64)

    def step(self, action):
        assert self.action_space.contains(action), action
        return super().step(action)


def test_an_action_that_can_only_be_one_number_is_refused_in_one_line():
    with pytest.raises(UsageError, match=r"entry 1 of .* can be nothing but 0\.5"):
        rolled(FixedEntry)
    with pytest.raises(UsageError, match="entry 1"):
        world_of_environment(FixedEntry)


def test_an_action_at_a_bound_is_one_of_the_space():
    """0.1 in float32 is above 0.1."""
    episodes = RunningEpisodes(world_of_environment(Strict), 1, 0)
    assert episodes.step(np.ones((1, 2), np.float32)).action.tolist() == [[1.0, 1.0]]
    rollout(lambda seen, _: np.ones((len(seen), 2)), None, 1, env_factory=Strict, max_steps=2)


@pytest.mark.parametrize("wrapped", [False, True])
def test_episodes_at_once_need_an_environment_each(wrapped, pair):
    """One robot that is handed out again and again would be in two episodes at once, or evaluated amid one."""
    robot = Still()

    def make():
        return gymnasium.wrappers.TimeLimit(robot, 5) if wrapped else robot

    says = "made the same environment again"
    with pytest.raises(UsageError, match=says):
        rolled(make)
    with pytest.raises(UsageError, match=says):
        RunningEpisodes(world_of_environment(make), 2, 0).observe()
    assert rollout(lambda seen, _: np.zeros((1, 2)), None, 1, env_factory=make, max_steps=4).lengths.tolist() == [4]
    online = Online(target_steps=8, warm_up=8)
    for settings in ({"evaluations": 1, "episodes": 2}, {"evaluations": 1, "episodes": 1, "online": online}):
        with pytest.raises(UsageError, match=says):
            train(TargetOnly(), None, pair[1], settings=Settings(updates=2, **settings), env_factory=make)
    check_environment(make, pair[1])


class Scales(Still):
    """Scales the action that it is given in place, as careless code does, and gives one array for all observations."""

    def reset(self, *, seed=None, options=None):
        self.state = np.zeros(3)
        return self.state, {}

    def step(self, action):
        action *= 100
        self.state += 1
        return self.state, 1.0, False, False, {}


def test_what_is_recorded_is_what_was_done_and_seen():
    def act(seen, _):
        return np.full((len(seen), 2), 0.5)

    made = rollout(act, None, 1, env_factory=lambda: gymnasium.wrappers.TimeLimit(Scales(), 5), rows=5)
    np.testing.assert_array_equal(made.rows.action, np.full((5, 2), 0.5))
    np.testing.assert_array_equal(made.rows.observation[:, 0], range(5))
    np.testing.assert_array_equal(made.rows.next_observation[:, 0], range(1, 6))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: None, "made NoneType, which has no observation_space"),
        (lambda: 1 / 0, "env_factory raised ZeroDivisionError"),
    ],
)
def test_factories_that_make_no_environment(make, says):
    with pytest.raises(UsageError, match=says):
        rolled(make)


@pytest.mark.parametrize(
    "step", [five([0.0, 0.0, 0.0]), five(reward=1), five(reward=np.float32(1), terminated=np.False_)]
)
def test_lists_and_numbers_of_all_kinds_are_taken(step):
    assert rolled(lambda: Gives(step), max_steps=4).returns.tolist() == [4.0, 4.0]


def test_training_takes_a_trial_step(pair):
    with pytest.raises(UsageError, match="give a finite number"):
        check_environment(WRONG["NaN reward"][0], pair[1])
    check_environment(Still, pair[1])


# --- Steps ---


@pytest.fixture(autouse=True)
def not_warned_yet(monkeypatch):
    monkeypatch.setattr(files, "_WARNED", set())


def test_an_environment_without_a_limit_is_cut_with_a_warning():
    with pytest.warns(MachineWarning, match="Still: states no step limit, so 2 of 2 episodes were cut after 1,000"):
        found = rolled(Still)
    assert found.lengths.tolist() == [STEP_LIMIT] * 2
    assert found.truncated.all()


def test_a_stated_limit_counts():
    name = "tabb-tests/Still-v0"
    if name not in gymnasium.registry:
        gymnasium.register(name, entry_point=lambda: Still(), max_episode_steps=30)
    assert rolled(env_factory_of(name)).lengths.tolist() == [30, 30]
    assert rolled(Still, max_steps=7).lengths.tolist() == [7, 7]


def test_the_limit_of_a_wrapper_counts_as_stated():
    """Gymnasium knows of no limit where the environment was not made by its id."""
    limited = gymnasium.wrappers.TimeLimit(Still(), STEP_LIMIT + 200)
    assert open_environment(lambda: gymnasium.wrappers.RescaleAction(limited, -1, 1)).step_limit == STEP_LIMIT + 200
    assert rolled(lambda: gymnasium.wrappers.TimeLimit(Still(), 1_001)).lengths.tolist() == [1_001] * 2


def test_an_environment_that_ends_by_itself_needs_no_limit():
    assert rolled(lambda: Gives(five(terminated=True))).lengths.tolist() == [1, 1]


class Far(Still):
    """Moves by 0.1 m a step at a place that UTM has 5.4 million metres from its origin."""

    def __init__(self, origin=5.4e6):
        self.origin = origin

    def reset(self, *, seed=None, options=None):
        self.place = 0.0
        return np.array([self.origin, 0.0, 0.0]), {}

    def step(self, action):
        self.place += 0.1
        return np.array([self.origin + self.place, self.place, 0.0]), 1.0, False, False, {}


def test_steps_that_float32_does_not_resolve_are_told():
    with pytest.warns(MachineWarning, match=r"Far: entry 0 of its observations moves by about 0\.1 a step.* 0\.5 only"):
        rolled(Far, max_steps=LOOKED_AT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rolled(Far, max_steps=LOOKED_AT)  # once
        rolled(lambda: Far(0.0), max_steps=LOOKED_AT)


def test_what_float32_resolves_by_hand():
    """Near 5.4 million its numbers are 0.5 apart, near 1 6e-8 and more."""
    noise = np.random.default_rng(0).normal(0, 1e-9, 100)
    moves = np.arange(100.0)
    columns = {
        "goes by 0.1": 5.4e6 + 0.1 * moves,
        "goes by 5": 5.4e6 + 5 * moves,
        "jitters": 1 + noise,
        "comes to rest": np.where(moves < 30, moves / 30, 1.0) + noise,
        "never moves": np.full(100, 5.4e6),
    }
    rows, starts = np.stack(list(columns.values()), axis=1), moves == 0
    assert unresolved(rows, starts) == [(0, pytest.approx(0.1), 0.5)]
    assert unresolved(rows, np.ones(100, bool)) == []  # each an episode of its own


# --- Stops ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_heard_inside_a_rollout(pair, tmp_path, number):
    steps = []

    class Signals(Still):
        def step(self, action):
            steps.append(1)
            if len(steps) == 5:  # the first is that of the door
                os.kill(os.getpid(), number)
            return super().step(action)

    settings = tabb.Settings(
        updates=4, evaluations=2, episodes=1, backbone=tabb.IQL(policies=1, hidden=(8,), batch_size=8)
    )
    options = {"settings": settings, "folder": tmp_path, "env_factory": Signals}
    with pytest.raises(Stopped, match="stopped during an evaluation; go on from the last checkpoint"):
        tabb.train(tabb.TargetOnly(), None, pair[1], **options)
    assert len(steps) < 10

    class Short(Still):
        def step(self, action):
            return np.zeros(3), 1.0, True, False, {}

    (resumed,) = tabb.train(tabb.TargetOnly(), None, pair[1], resume=True, **(options | {"env_factory": Short}))
    (whole,) = tabb.train(tabb.TargetOnly(), None, pair[1], settings=settings, env_factory=Short)
    for one, other in zip(resumed.policy.weights, whole.policy.weights, strict=True):
        assert one.tobytes() == other.tobytes()
    assert resumed.evaluations == whole.evaluations


def test_evaluate_and_watch_know_the_environment_of_a_run(pair, tmp_path, monkeypatch, capsys):
    from tabb.cli import main

    name = "tabb-tests/Short-v0"
    if name not in gymnasium.registry:
        gymnasium.register(name, entry_point=lambda: Still(), max_episode_steps=9)
    settings = tabb.Settings(
        updates=2, evaluations=1, episodes=1, backbone=tabb.IQL(policies=1, hidden=(8,), batch_size=8)
    )
    options = {"settings": settings, "folder": tmp_path, "env_factory": name, "origin": {"env": name}}
    tabb.train(tabb.TargetOnly(), None, pair[1], **options)
    for policy in ("seed0", "seed0/policy.npz"):
        assert main(["evaluate", str(tmp_path / policy), "--episodes", "2"]) == 0
        assert f"{name}: return 9.0, length 9 (2 episodes" in capsys.readouterr().out
    assert main(["watch", str(tmp_path / "seed0")]) == 2
    assert f"environment {name!r} cannot be made to draw pictures" in capsys.readouterr().err
