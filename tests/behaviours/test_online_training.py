"""OnlineTraining in a simulator: it learns, it repeats itself, it takes its steps."""

import dataclasses

import gymnasium
import numpy as np
import pytest

from tabb.backbones import SAC
from tabb.batch import Sizes
from tabb.behaviours.online_training import OnlineTraining, train_online
from tabb.environments.lanes import OneByOne
from tabb.errors import UsageError


class Aim(gymnasium.Env):
    """Reward 1 - |a - 0.6 sign(s)|; each step shows another s."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._see(), {}

    def _see(self):
        self.s = self.np_random.choice([-1.0, 1.0])
        return np.array([self.s, 7.0], np.float32)

    def step(self, action):
        reward = 1 - abs(float(action[0]) - 0.6 * self.s)
        return self._see(), reward, False, False, {}


SETTINGS = OnlineTraining(
    updates=400,
    lanes=4,
    warm_up=64,
    evaluations=4,
    learner=SAC(hidden=(32,), batch_size=64, learning_rate=3e-3),
)


def _regret(policy):
    return -float(np.abs(policy.act([[1, 7], [-1, 7]])[:, 0] - [0.6, -0.6]).mean())


def _ran(settings=SETTINGS, seed=0):
    return train_online(settings, OneByOne(Aim), 20, Sizes(2, 1), _regret, seed=seed)


@pytest.mark.slow
def test_it_learns():
    kept = _ran()
    assert kept[0].after == 0
    assert kept[-1].after == 400
    assert len(kept) == 5
    assert kept[-1].score > -0.15
    assert kept[0].score < -0.4


@pytest.mark.slow
def test_the_same_again_is_the_same():
    first, second, other = _ran(), _ran(), _ran(seed=1)
    assert [one.score for one in first] == [one.score for one in second]
    for one, two in zip(first[-1].policy.weights, second[-1].policy.weights, strict=True):
        assert np.array_equal(one, two)
    assert [one.score for one in first] != [one.score for one in other]


def test_fewer_updates_than_evaluations_are_no_divergence():
    """Four evaluations are due after 0, 0, 1 and 2 updates; there is one at the start anyway."""
    few = dataclasses.replace(SETTINGS, updates=2, learner=SAC(hidden=(4,), batch_size=8))
    assert [one.after for one in _ran(few)] == [0, 1, 2]


def test_its_steps_are_as_many_as_it_says():
    class Counted(OneByOne):
        count = 0

        def step(self, lanes, actions):
            Counted.count += len(lanes)
            return super().step(lanes, actions)

    settings = dataclasses.replace(SETTINGS, updates=25, steps_per_update=3, warm_up=65, evaluations=2)
    train_online(settings, Counted(Aim), 20, Sizes(2, 1), _regret)
    assert Counted.count == settings.steps == 65 + 3 * 25


def test_numbers_below_one_are_refused():
    with pytest.raises(UsageError, match="lanes=0"):
        OnlineTraining(lanes=0)
