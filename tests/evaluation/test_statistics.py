"""Statistics against hand-computed cases."""

import numpy as np
import pytest
import scipy.stats

from tabb.errors import UsageError
from tabb.evaluation.statistics import (
    bootstrap,
    interquartile_mean,
    mean_interval,
    not_significantly_worse,
    optimality_gap,
    paired_t_test,
    performance_profile,
    probability_of_improvement,
    share_of_tasks_won,
)


def test_interquartile_mean_by_hand():
    # Of -50, 1, 2, 3, 4, 5, 6, 100 two go at each end.
    assert interquartile_mean({"a": [1, 2, 3, 100], "b": [4, 5, 6, -50]}) == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert interquartile_mean({"a": [7.0]}) == 7.0


def test_optimality_gap_by_hand():
    assert optimality_gap({"a": [90, 120], "b": [60]}) == pytest.approx((10 + 0 + 40) / 3)


def test_performance_profile_by_hand_counts_tasks_alike():
    # a: 1 of 2 above 50; b: 0 of 1. Above 10: all of a, all of b. A score at the threshold is not above it.
    assert performance_profile({"a": [80, 20], "b": [50]}, [10, 50, 90]).tolist() == [1.0, 0.25, 0.0]


def test_probability_of_improvement_by_hand():
    first, second = {"a": [1, 3], "b": [5]}, {"a": [2, 3], "b": [4]}
    # a: of (1,2) (1,3) (3,2) (3,3) one win and a tie of four; b: won.
    assert probability_of_improvement(first, second) == pytest.approx(((1 + 0.5) / 4 + 1) / 2)
    assert probability_of_improvement(first, first) == 0.5
    u = scipy.stats.mannwhitneyu(first["a"], second["a"]).statistic
    assert probability_of_improvement({"a": first["a"]}, {"a": second["a"]}) == u / 4


def test_tasks_of_one_method_alone_do_not_count():
    assert probability_of_improvement({"a": [2], "b": [0]}, {"a": [1], "c": [9]}) == 1.0
    assert share_of_tasks_won({"a": [2, 4], "b": [1], "c": [1]}, {"a": [1, 3], "b": [1]}) == 0.75


def test_bootstrap_covers_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(1)

    def mean(scores):
        return float(np.mean(np.concatenate(list(scores.values()))))

    inside = 0
    for trial in range(100):
        found = bootstrap(
            mean, {"a": generator.normal(0, 1, 20), "b": generator.normal(10, 1, 20)}, seed=trial, samples=300
        )
        assert found.low <= found.value <= found.high
        inside += found.low <= 5 <= found.high
    assert 86 <= inside <= 100


def test_bootstrap_draws_within_tasks():
    # Tasks far apart, seeds alike: were tasks drawn too, the mean would spread.
    found = bootstrap(interquartile_mean, {"a": [0, 0, 0, 0], "b": [100, 100, 100, 100]})
    assert found == (50, 50, 50)
    assert bootstrap(interquartile_mean, {"a": [1, 2, 3, 9]}, seed=3) == bootstrap(
        interquartile_mean, {"a": [1, 2, 3, 9]}, seed=3
    )


def test_bootstrap_of_a_comparison():
    found = bootstrap(probability_of_improvement, {"a": [5, 6, 7]}, {"a": [1, 2, 6]})
    assert found.value == pytest.approx((2 + 2.5 + 3) / 9)
    assert found.low < found.value < found.high <= 1


def test_paired_t_test_by_hand():
    first = {("a", 0): 3.0, ("a", 1): 5.0, ("b", 0): 4.0, ("b", 1): 1.0}
    second = {("a", 0): 1.0, ("a", 1): 4.0, ("b", 0): 1.0, ("c", 0): 100.0}
    found = paired_t_test(first, second)
    # Differences 2, 1, 3: mean 2, deviation 1, t = 2 / (1 / sqrt(3)); p from the t distribution of 2 degrees.
    assert found.pairs == 3
    assert found.difference == pytest.approx(2)
    assert found.t == pytest.approx(2 * np.sqrt(3))
    # With two degrees of freedom P(|T| > t) = 1 - t / sqrt(2 + t²).
    assert found.p == pytest.approx(1 - 2 * np.sqrt(3) / np.sqrt(14))


def test_paired_t_test_without_spread():
    assert paired_t_test({("a", 0): 1, ("a", 1): 2}, {("a", 0): 1, ("a", 1): 2})[:3] == (0, 0, 1)
    assert paired_t_test({("a", 0): 2, ("a", 1): 3}, {("a", 0): 1, ("a", 1): 2})[:3] == (1, np.inf, 0)
    assert paired_t_test({("a", 0): 1, ("a", 1): 2}, {("a", 0): 2, ("a", 1): 3})[:3] == (-1, -np.inf, 0)


def test_who_is_marked():
    cells = {"best": [10.0, 11.0, 12.0], "near": [9.0, 11.0, 10.5], "far": [1.0, 2.0, 1.5]}
    assert not_significantly_worse(cells) == {"best", "near"}
    # A single run: nothing is known of its spread.
    assert not_significantly_worse(cells | {"one": [10.9]}) == {"best", "near"}
    assert not_significantly_worse(cells | {"one": [11.9]}) == {"one"}
    assert not_significantly_worse({"a": [3.0, 3.0], "b": [2.0, 2.0], "c": [3.0, 3.0]}) == {"a", "c"}
    assert not_significantly_worse({"a": []}) == set()
    # Whichever comes first, a mean that is the best is marked.
    assert not_significantly_worse({"one": [3.0], "two": [2.0, 4.0]}) == {"one", "two"}
    assert not_significantly_worse({"two": [2.0, 4.0], "one": [3.0]}) == {"one", "two"}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: interquartile_mean({}), "there is no task"),
        (lambda: interquartile_mean({"a": []}), "a: has no scores"),
        (lambda: interquartile_mean({"a": [1.0, np.nan]}), "not finite"),
        (lambda: probability_of_improvement({"a": [1]}, {"b": [1]}), "no task in common"),
        (lambda: paired_t_test({("a", 0): 1.0}, {("a", 0): 2.0}), "two common"),
    ],
)
def test_wrong_scores(call, says):
    with pytest.raises(UsageError, match=says):
        call()


def test_mean_interval_is_students():
    scores = [61.0, 70.5, 66.2, 58.9]
    found = mean_interval(scores)
    low, high = scipy.stats.ttest_1samp(scores, 0.0).confidence_interval(0.95)
    assert found == pytest.approx((np.mean(scores), low, high))
    assert mean_interval([20.0, 30.0]).high == pytest.approx(25 + 12.7062 * 5, abs=1e-3)
    with pytest.raises(UsageError, match="at least two scores, but there are 1"):
        mean_interval([1.0])
