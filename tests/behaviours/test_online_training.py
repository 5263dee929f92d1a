"""OnlineTraining in a simulator: it learns, it repeats itself, it has room."""

import gymnasium
import numpy as np
import pytest

from tabb.batch import Sizes
from tabb.behaviours.online_training import OnlineTraining, train_online
from tabb.behaviours.soft_actor_critic import SoftActorCritic
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
    learner=SoftActorCritic(hidden=(32,), batch_size=64, learning_rate=3e-3),
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


def test_the_same_again_is_the_same():
    first, second, other = _ran(), _ran(), _ran(seed=1)
    assert [one.score for one in first] == [one.score for one in second]
    for one, two in zip(first[-1].policy.weights, second[-1].policy.weights, strict=True):
        assert np.array_equal(one, two)
    assert [one.score for one in first] != [one.score for one in other]


@pytest.mark.slow
def test_there_is_room_for_all_steps():
    """32 steps between updates and 3 for each are 10 updates: 100 stretches, after a warm-up of 17 steps per lane."""
    settings = OnlineTraining(updates=1_000, steps_per_update=3, lanes=4, stretch=8, warm_up=65)
    assert settings.updates_per_stretch == 10
    assert settings.steps == 4 * 17 + 100 * 32
    # Where steps do not divide, what is run is what there is room for: rows beyond it would be lost without a word.
    odd = OnlineTraining(
        updates=25, steps_per_update=5, lanes=4, stretch=8, warm_up=65, evaluations=1, learner=SETTINGS.learner
    )
    assert odd.steps == 4 * 17 + 5 * 32  # 6 updates per stretch
    _ran(odd)
    with pytest.raises(UsageError, match="steps_per_update=33: must be at most 32"):
        OnlineTraining(steps_per_update=33, lanes=4, stretch=8)


def test_numbers_below_one_are_refused():
    with pytest.raises(UsageError, match="lanes=0"):
        OnlineTraining(lanes=0)
