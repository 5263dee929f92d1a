"""Evaluation: deterministic, in the robot that fits, and the score of a run is no maximum."""

import dataclasses

import gymnasium
import numpy as np
import pytest

from tabb.action_bounds import ActionBounds
from tabb.environments.tasks import get_task
from tabb.errors import UsageError
from tabb.evaluation.scores import EVALUATION_SEED, Evaluation, averaged, evaluate, final_score
from tabb.policy import Policy

TASK = "hopper-gravity-0.5"


def linear_policy(observation_size, action_size, seed=0):
    generator = np.random.default_rng(seed)
    return Policy(
        np.zeros(observation_size, np.float32),
        np.ones(observation_size, np.float32),
        (generator.normal(size=(observation_size, action_size)).astype(np.float32),),
        (np.zeros(action_size, np.float32),),
    )


class Count(gymnasium.Env):
    """Observation: the seed and the step; reward: the seed's last digit; ends after so many steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.seed, self.step_number = seed % 10, 0
        return np.array([self.seed, 0], np.float32), {}

    def step(self, action):
        self.step_number += 1
        observation = np.array([self.seed, self.step_number], np.float32)
        return observation, float(self.seed), self.step_number > self.seed, False, {}


def test_final_score_is_the_mean_of_the_last_three():
    assert final_score([90.0, 10.0, 20.0, 60.0]) == pytest.approx(30.0)
    assert final_score([4.0, 6.0]) == pytest.approx(5.0)
    assert final_score([7.0]) == 7.0
    assert final_score([]) is None


def test_mean_and_spread_are_of_scores_or_else_of_returns():
    scored = Evaluation((100.0, 300.0), (5, 5), (1.0, 4.0), 0)
    assert (scored.mean, scored.spread) == (2.5, pytest.approx(1.5 * 2**0.5))
    plain = Evaluation((100.0, 200.0, 300.0), (5, 5, 5), None, 0)
    assert (plain.mean, plain.spread) == (200.0, 100.0)  # of -100, 0 and 100, by n - 1
    assert Evaluation((100.0,), (5,), None, 0).spread == 0.0


def test_a_score_says_how_many_evaluations_it_is_over():
    assert [averaged(count) for count in (1, 2, 3, 10)] == [
        *("only evaluation", "two evaluations", "last three evaluations", "last three evaluations")
    ]


def test_returns_lengths_and_seeds_outside_the_catalogue():
    result = evaluate(linear_policy(2, 1), None, 3, 11, env_factory=Count)
    assert result == Evaluation((1.0 * 2, 2.0 * 3, 3.0 * 4), (2, 3, 4), None, 11)


def test_evaluation_is_deterministic_and_has_its_own_seed():
    policy, state = linear_policy(11, 3), np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(0)  # noqa: NPY002
        first = evaluate(policy, TASK, 3)
        np.random.seed(12345)  # noqa: NPY002
        np.random.random(17)  # noqa: NPY002
        assert evaluate(policy, TASK, 3) == first
    finally:
        np.random.set_state(state)  # noqa: NPY002
    assert first.first_seed == EVALUATION_SEED
    assert len(set(first.returns)) == 3  # each episode starts elsewhere
    task = get_task(TASK)
    wanted = 100 * (np.array(first.returns) - task.random_return) / (task.expert_return - task.random_return)
    np.testing.assert_allclose(first.scores, wanted)
    other = evaluate(policy, TASK, 2, EVALUATION_SEED + 1)
    assert other.returns == first.returns[1:]
    assert other.lengths == first.lengths[1:]


def test_a_policy_is_evaluated_in_the_engine_it_was_trained_for():
    legacy = linear_policy(11, 3)
    native = dataclasses.replace(legacy, about={"engine": "native"})
    given = {engine: evaluate(legacy, TASK, 2, engine=engine).returns for engine in ("legacy", "native")}
    assert given["legacy"] != given["native"]
    assert evaluate(native, TASK, 2).returns == given["native"]
    assert evaluate(legacy, TASK, 2).returns == given["legacy"]
    assert evaluate(native, TASK, 2, engine="legacy").returns == given["legacy"]


@pytest.mark.parametrize(("sizes", "name"), [((17, 3), "observation_size"), ((11, 6), "action_size")])
def test_policy_of_another_robot(sizes, name):
    with pytest.raises(UsageError, match=f"do not fit: {name} is .* evaluate in a task of the same robot"):
        evaluate(linear_policy(*sizes), TASK, 1)


def test_policy_of_another_environment():
    with pytest.raises(UsageError, match="policy takes"):
        evaluate(linear_policy(3, 1), None, 1, env_factory=Count)


def test_unknown_task():
    with pytest.raises(UsageError):
        evaluate(linear_policy(11, 3), "hopper-on-ice", 1)


def test_an_environment_of_other_action_bounds_is_refused():
    """A policy acts in [-1, 1]: sent as it is to a motor of ±2, it would be scored at half its strength."""

    class Strong(Count):
        action_space = gymnasium.spaces.Box(-2, 2, (1,))

    words = r"^the environment's actions lie in \[-2, 2\], but .*\[-1, 1\].*action_low.*RescaleAction"
    with pytest.raises(UsageError, match=words):
        evaluate(linear_policy(2, 1), None, 1, env_factory=Strong)
    wrapped = evaluate(
        linear_policy(2, 1), None, 1, env_factory=lambda: gymnasium.wrappers.RescaleAction(Strong(), -1, 1)
    )
    assert len(wrapped.returns) == 1
    strong = dataclasses.replace(linear_policy(2, 1), action_bounds=ActionBounds((-2.0,), (2.0,)))
    assert evaluate(strong, None, 1, env_factory=Strong) == wrapped
    with pytest.raises(UsageError, match=r"actions lie in \[-1, 1\], but those of the policy in \[-2, 2\]"):
        evaluate(strong, None, 1, env_factory=Count)
