"""Random search over a policy's last layer: its step by hand, its episodes, that it learns and repeats itself."""

import dataclasses

import gymnasium
import numpy as np
import pytest

from tabb.behaviours.cloned import blank, clone
from tabb.behaviours.random_search import RandomSearch, ascent, episodes, last_layer, search, with_last_layer
from tabb.environments.lanes import OneByOne, lanes_of
from tabb.environments.rollout import rollout
from tabb.environments.tasks import get_task
from tabb.errors import UsageError

SMALL = RandomSearch(steps=6_000, directions=6, best=3, penalty=0.0)


class Hold(gymnasium.Env):
    """1 for each step that the action stays within 0.5 of s, at most 20 of them; `offset` is the shift."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, offset=0.0):
        self.offset = offset

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._see(), {}

    def _see(self):
        self.s = self.np_random.uniform(-0.3, 0.3)
        return np.array([self.s, 1.0], np.float32)

    def step(self, action):
        error = abs(float(action[0]) - self.s - self.offset)
        return self._see(), 1.0 - error, error > 0.5, False, {}


def _returns(policy, offset):
    found = rollout(lambda seen, _: policy.act(seen), None, 5, 0, max_steps=20, env_factory=lambda: Hold(offset))
    return float(found.returns.mean())


def _ran(settings=SMALL, seed=0, offset=0.4, shares=None):
    def lanes_at(share):
        if shares is not None:
            shares.append(share)
        return OneByOne(lambda: Hold(offset * share))

    return search(settings, lanes_at, 20, blank(2, 1), lambda policy: _returns(policy, offset), seed=seed)


def test_a_step_by_hand():
    """Of three directions the best two, by the better of their ends, count: numbers 1 and 2."""
    objective = np.array([[1.0, 4.0, 0.0], [2.0, 0.0, 6.0]])
    noise = np.array([[[1.0]], [[2.0]], [[-1.0]]], np.float32)
    spread = np.std([4.0, 0.0, 0.0, 6.0])
    step = ascent(objective, noise, 2)
    assert step.dtype == np.float32
    assert step[0, 0] == pytest.approx(((4 - 0) * 2 + (0 - 6) * -1) / (2 * spread), rel=1e-6)
    assert np.array_equal(ascent(np.ones((2, 3)), noise, 2), np.zeros((1, 1)))  # no difference, no step


def test_episodes_are_those_of_the_policies():
    """Each last layer's episode is that of the policy with it; the halves begin alike."""
    task = get_task("hopper-gravity-0.5")
    start = blank(task.observation_size, task.action_size)
    generator = np.random.default_rng(0)
    one, two = generator.standard_normal((2, *last_layer(start).shape), np.float32)
    lanes = lanes_of(task, "legacy", 4)
    returns, lengths = episodes(lanes, 1_000, start, np.stack([one, two, one, -one]), 50)
    lanes.close()
    assert returns[0] == returns[2]  # seed 50 both
    for theta, k, seed in ((one, 0, 50), (two, 1, 51), (-one, 3, 51)):
        policy = with_last_layer(start, theta)
        alone = rollout(lambda seen, _, policy=policy: policy.act(seen), task, 1, seed)
        assert alone.lengths[0] == lengths[k]
        # A batch of one is another product of matrices: the last bit differs, and falls take few steps.
        assert alone.returns[0] == pytest.approx(returns[k], rel=1e-3)


def test_it_learns():
    before = _returns(blank(2, 1), 0.4)
    kept = _ran()
    assert kept[-1].score > before + 3
    assert kept[-1].after >= SMALL.steps
    assert [one.after for one in kept] == sorted(one.after for one in kept)


def test_the_same_again_is_the_same():
    first, second, other = _ran(), _ran(), _ran(seed=1)
    assert [one[:2] for one in first] == [one[:2] for one in second]
    assert np.array_equal(last_layer(first[-1].policy), last_layer(second[-1].policy))
    assert [one[:2] for one in first] != [one[:2] for one in other]


def test_a_shift_grows_as_the_policy_recovers():
    shares = []
    kept = _ran(dataclasses.replace(SMALL, first_share=0.0, more=0.25), shares=shares)
    assert shares == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert kept[-1].score > _returns(blank(2, 1), 0.4) + 3
    # One that never recovers is made to go on: the share grows after three rounds all the same.
    shares.clear()
    _ran(dataclasses.replace(SMALL, first_share=0.0, more=0.5, recovered=1e9, patience=3, steps=1_500), shares=shares)
    assert shares[:2] == [0.0, 0.5]


def test_the_penalty_is_for_steps():
    """With more than a step's reward taken for each, short episodes are sought."""
    keen, tired = (_ran(dataclasses.replace(SMALL, penalty=p))[-1] for p in (0.0, 3.0))
    assert tired.score < keen.score - 3


@pytest.mark.parametrize(
    ("wrong", "words"), [({"steps": 0}, "search steps=0"), ({"best": 40}, "search best=40: at most the 32 directions")]
)
def test_wrong_settings(wrong, words):
    with pytest.raises(UsageError, match=words):
        RandomSearch(**wrong)


def test_a_clone_does_as_the_log_did(monkeypatch):
    generator = np.random.default_rng(0)
    seen = (5.0 + 3.0 * generator.standard_normal((4_000, 3))).astype(np.float32)
    action = np.tanh(seen[:, :2] - seen[:, 2:]).astype(np.float32)
    policy = clone(seen, action)
    new = (5.0 + 3.0 * generator.standard_normal((200, 3))).astype(np.float32)
    assert np.abs(policy.act(new) - np.tanh(new[:, :2] - new[:, 2:])).mean() < 0.05
    assert policy.about["clone_error"] < 0.01
    assert np.array_equal(policy.act(new), clone(seen, action).act(new))
