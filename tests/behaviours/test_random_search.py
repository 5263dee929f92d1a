"""Random search over a policy's last layer: its step by hand, its episodes, that it learns and repeats itself."""

import dataclasses

import gymnasium
import numpy as np
import pytest

from tabb.behaviours.behaviour_cloning import blank, clone
from tabb.behaviours.random_search import RandomSearch, ascent, episodes, last_layer, search, with_last_layer
from tabb.environments.lanes import OneByOne
from tabb.environments.rollout import rollout
from tabb.environments.task_lanes import lanes_of
from tabb.environments.tasks import get_task
from tabb.errors import RunError, UsageError

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


def test_the_same_again_is_the_same():
    first, second, other = _ran(), _ran(), _ran(seed=1)
    assert [one[:2] for one in first] == [one[:2] for one in second]
    assert np.array_equal(last_layer(first[-1].policy), last_layer(second[-1].policy))
    assert [one[:2] for one in first] != [one[:2] for one in other]


def test_a_shift_grows_as_the_policy_recovers():
    shares = []
    kept = _ran(dataclasses.replace(SMALL, levels=10), shares=shares)
    assert shares == [k / 10 for k in range(11)]  # 1 exactly, at last
    assert kept[-1].score > _returns(blank(2, 1), 0.4) + 3


def test_a_shift_grows_in_time_without_that():
    """A policy that never recovers sees each level for as long, and the last one for the rest."""
    counted = []

    def lanes_at(share):
        counted.append([share, 0])
        lanes = OneByOne(lambda: Hold(0.0))  # 20 steps an episode, always
        step = lanes.step

        def worse_and_worse(which, actions):
            counted[-1][1] += len(which)
            return step(which, actions)._replace(reward=np.full(len(which), -float(sum(n for _, n in counted))))

        lanes.step = worse_and_worse
        return lanes

    settings = RandomSearch(steps=2_000, directions=1, best=1, levels=4, recovered=1.0, grown_by=0.8, penalty=0.0)
    search(settings, lanes_at, 20, blank(2, 1), lambda policy: 0.0)
    # The first round is as good as itself, which is a level; the others take 400 steps each, in rounds of 40.
    assert counted == [[0, 40], [0.25, 760], [0.5, 400], [0.75, 400], [1, 400]]


def test_both_halves_get_the_same_noise():
    task = get_task("hopper")
    start = blank(task.observation_size, task.action_size)
    theta = np.stack([last_layer(start)] * 4)
    lanes = lanes_of(task, "legacy", 4)
    found = {noise: episodes(lanes, 1_000, start, theta, 50, noise)[0] for noise in (0.0, 0.3)}
    lanes.close()
    for returns in found.values():
        assert returns[:2].tolist() == returns[2:].tolist()  # seeds 50 and 51 twice
    assert (found[0.0] != found[0.3]).all()


def test_a_return_that_is_not_a_number_ends_it():
    class Broken(Hold):
        def step(self, action):
            return self._see(), float("nan"), False, True, {}

    with pytest.raises(RunError, match="the search diverged after 0 steps"):
        search(SMALL, lambda share: OneByOne(Broken), 20, blank(2, 1), lambda policy: 0.0)


def test_the_penalty_is_for_steps():
    """With more than a step's reward taken for each, short episodes are sought."""
    keen, tired = (_ran(dataclasses.replace(SMALL, penalty=p))[-1] for p in (0.0, 3.0))
    assert tired.score < keen.score - 3


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"steps": 0}, "search steps=0"),
        ({"best": 40}, "search best=40: at most the 32 directions"),
        ({"rate": 0.0}, "search rate=0.0: must lie in"),
        ({"levels": -1}, "levels=-1: must not be negative"),
    ],
)
def test_wrong_settings(wrong, words):
    with pytest.raises(UsageError, match=words):
        RandomSearch(**wrong)


@pytest.mark.slow
def test_a_clone_does_as_the_log_did():
    generator = np.random.default_rng(0)
    seen = (5.0 + 3.0 * generator.standard_normal((4_000, 3))).astype(np.float32)
    action = np.tanh(seen[:, :2] - seen[:, 2:]).astype(np.float32)
    policy = clone(seen, action, 10_000)
    new = (5.0 + 3.0 * generator.standard_normal((200, 3))).astype(np.float32)
    assert np.abs(policy.act(new) - np.tanh(new[:, :2] - new[:, 2:])).mean() < 0.05
    assert policy.about["clone_error"] < 0.01
    assert np.array_equal(policy.act(new), clone(seen, action, 10_000).act(new))
