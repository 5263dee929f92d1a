"""Worse policies out of a good one."""

import numpy as np
import pytest

from tabb.behaviours.parameter_noise import DEVIATIONS, DRAWS, worse_policies
from tabb.behaviours.random_search import last_layer
from tabb.behaviours.scored_policies import ScoredPolicy
from tabb.policy import Policy


@pytest.fixture
def best():
    generator = np.random.default_rng(0)
    layers = [(4, 64), (64, 2)]
    weights = tuple(generator.normal(size=size).astype(np.float32) for size in layers)
    biases = tuple(generator.normal(size=size[1]).astype(np.float32) for size in layers)
    zeros, ones = np.zeros(4, np.float32), np.ones(4, np.float32)
    return ScoredPolicy(7, 90.0, Policy(zeros, ones, weights, biases, {"searched_in": "hopper"}))


def test_they_differ_by_as_much_as_they_say(best):
    theta = last_layer(best.policy)
    found = worse_policies(best, lambda policy: float(np.abs(last_layer(policy) - theta).max()))
    assert len(found) == len(DEVIATIONS) * DRAWS
    for k, one in enumerate(found):
        away = last_layer(one.policy) - theta
        assert one.policy.about == {"searched_in": "hopper", "worsened_by": DEVIATIONS[k // DRAWS]}
        assert away.std() == pytest.approx(DEVIATIONS[k // DRAWS] * theta.std(), rel=0.35)
        assert one.score == pytest.approx(np.abs(away).max())
        assert one.after == 7
        assert np.array_equal(one.policy.weights[0], best.policy.weights[0])
    assert "worsened_by" not in best.policy.about


def test_the_seed_decides(best):
    def score(policy):
        return float(last_layer(policy).sum())

    first, again, other = (worse_policies(best, score, seed) for seed in (0, 0, 1))
    assert [one.score for one in first] == [one.score for one in again]
    assert [one.score for one in first] != [one.score for one in other]
    assert len({one.score for one in first}) == len(first)  # each has noise of its own
