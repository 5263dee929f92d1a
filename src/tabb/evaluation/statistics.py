"""Statistics over tasks and seeds: interquartile mean, bootstrap intervals, profiles, improvement, paired tests.

Scores of a method are a mapping from task to the scores of its seeds; tasks may differ in their number of seeds.
Agarwal et al., *Deep Reinforcement Learning at the Edge of the Statistical Precipice*, NeurIPS 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from tabb.errors import UsageError

Scores = Mapping[str, Sequence[float]]
"""Scores of the seeds of each task."""
BOOTSTRAPS = 2_000
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A statistic and the interval that holds it with 95% confidence."""

    value: float
    low: float
    high: float


class PairedTest(NamedTuple):
    """Student's t-test of the differences of paired scores."""

    difference: float
    """Mean of first less second."""
    t: float
    p: float
    """Two-sided."""
    pairs: int


def interquartile_mean(scores: Scores) -> float:
    """Mean of the middle half of all scores; the lowest and the highest quarter are left out.

    Each score counts once, so a task with more seeds counts more. Of fewer than four scores none is left out.
    """
    return float(scipy.stats.trim_mean(_pooled(scores), 0.25))


def optimality_gap(scores: Scores, goal: float = 100.0) -> float:
    """Mean distance of the scores below `goal`; a score above it counts 0."""
    return float(np.mean(np.maximum(goal - _pooled(scores), 0.0)))


def performance_profile(scores: Scores, thresholds: ArrayLike) -> NDArray[np.float64]:
    """Share of runs that score above each threshold; every task has the same weight."""
    limits = np.asarray(thresholds, float)
    return np.mean(
        [np.mean(np.asarray(seeds)[:, None] > limits, axis=0) for seeds in _checked(scores).values()], axis=0
    )


def probability_of_improvement(first: Scores, second: Scores) -> float:
    """Probability that a run of `first` beats one of `second` on the same task (a tie counts half); mean over tasks."""
    wins = []
    for task in _common(first, second):
        ours, theirs = np.asarray(first[task])[:, None], np.asarray(second[task])
        wins.append(np.mean((ours > theirs) + 0.5 * (ours == theirs)))
    return float(np.mean(wins))


def share_of_tasks_won(first: Scores, second: Scores) -> float:
    """Share of common tasks on which `first` has a higher mean score than `second`; a tie counts half."""
    gaps = [np.mean(first[task]) - np.mean(second[task]) for task in _common(first, second)]
    return float(np.mean([0.5 * (1.0 + np.sign(gap)) for gap in gaps]))


def bootstrap(statistic: Callable[..., float], *methods: Scores, seed: int = 0, samples: int = BOOTSTRAPS) -> Estimate:
    """`statistic(*methods)` with its stratified bootstrap interval: seeds are resampled within every task.

    The interval is between percentiles. It covers other seeds on the same tasks, not other tasks. A task with one seed
    says nothing of other seeds and makes the interval too narrow.
    """
    generator = np.random.default_rng(seed)
    tables = [{task: np.asarray(seeds, float) for task, seeds in _checked(method).items()} for method in methods]
    drawn = [
        statistic(*({task: generator.choice(seeds, len(seeds)) for task, seeds in table.items()} for table in tables))
        for _ in range(samples)
    ]
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(statistic(*tables)), float(low), float(high))


def mean_interval(scores: Sequence[float]) -> Estimate:
    """Mean of two or more scores with Student's interval; a bootstrap's would be too narrow for few seeds."""
    values = np.asarray(scores, float)
    if len(values) < 2:
        raise UsageError(f"an interval of the mean needs at least two scores, but there are {len(values)}")
    middle, error = float(values.mean()), float(values.std(ddof=1)) / len(values) ** 0.5
    reach = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return Estimate(middle, middle - reach, middle + reach)


def paired_t_test(first: Mapping[tuple[str, int], float], second: Mapping[tuple[str, int], float]) -> PairedTest:
    """Student's t-test of the differences over the (task, seed) that both have."""
    both = sorted(set(first) & set(second))
    if len(both) < 2:
        raise UsageError(f"a paired test needs at least two common (task, seed), but there are {len(both)}")
    ours, theirs = (np.array([scores[pair] for pair in both], float) for scores in (first, second))
    if np.ptp(ours - theirs) == 0:  # without spread the test is undefined, unless there is no difference either
        gap = float(ours[0] - theirs[0])
        return PairedTest(gap, math.copysign(math.inf, gap) if gap else 0.0, 0.0 if gap else 1.0, len(both))
    test = scipy.stats.ttest_rel(ours, theirs)
    return PairedTest(float(np.mean(ours - theirs)), float(test.statistic), float(test.pvalue), len(both))


def holm(p_values: Mapping[str, float], level: float = 0.05) -> set[str]:
    """Which of several hypotheses are rejected, so that one is wrongly with a probability of at most `level`.

    Holm, *A Simple Sequentially Rejective Multiple Test Procedure*, Scandinavian Journal of Statistics, 1979.
    """
    rejected: set[str] = set()
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        if p_values[name] > level / (len(p_values) - place):
            break
        rejected.add(name)
    return rejected


def not_significantly_worse(cells: Mapping[str, Sequence[float]], level: float = 0.05) -> set[str]:
    """The method with the best mean, and those that Welch's one-sided t-test does not find worse.

    A method with a single run cannot be tested, so it is marked only if its mean is the best.
    """
    means = {name: float(np.mean(scores)) for name, scores in cells.items() if len(scores)}
    if not means:
        return set()
    best = max(means, key=lambda name: means[name])
    marked = {name for name, mean in means.items() if mean == means[best]}
    for name in means:
        ours, theirs = np.asarray(cells[name], float), np.asarray(cells[best], float)
        if name in marked or min(len(ours), len(theirs)) < 2:
            continue
        if np.ptp(ours) == 0 and np.ptp(theirs) == 0:
            worse = bool(ours[0] < theirs[0])
        else:
            moments = [part for runs in (ours, theirs) for part in (runs.mean(), runs.std(ddof=1), len(runs))]
            test = scipy.stats.ttest_ind_from_stats(*moments, equal_var=False, alternative="less")
            worse = bool(test.pvalue < level)
        if not worse:
            marked.add(name)
    return marked


def _checked(scores: Scores) -> Scores:
    if not scores:
        raise UsageError("no scores: there is no task")
    for task, seeds in scores.items():
        if not len(seeds):
            raise UsageError(f"{task}: has no scores")
        if not np.isfinite(seeds).all():
            raise UsageError(f"{task}: has a score that is not finite")
    return scores


def _pooled(scores: Scores) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(seeds, float) for seeds in _checked(scores).values()])


def _common(first: Scores, second: Scores) -> list[str]:
    tasks = sorted(set(_checked(first)) & set(_checked(second)))
    if not tasks:
        raise UsageError("the two methods have no task in common")
    return tasks
