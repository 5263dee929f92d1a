"""Policies saved during training or a search with their scores, and the choice among them by quality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from tabb.policy import Policy

EPISODES = 5
"""Episodes of each evaluation during training or a search, reset with seeds 0, 1, ..."""
LAST_EPISODES = 20
"""Episodes of the evaluations that choose a policy, reset with seeds 1000, 1001, ..."""
FINALISTS = 4
"""Policies that are evaluated again before one is chosen."""

Say = Callable[[str], None]


class ScoredPolicy(NamedTuple):
    """A policy that was saved during training or a search."""

    after: int
    """Updates of the training, or simulator steps of the search, before it was saved."""
    score: float
    """Its score in the evaluation."""
    policy: Policy


class BehaviourPolicy(NamedTuple):
    """The policy that collects a data set, and how it was made."""

    policy: Policy
    about: dict[str, Any]


def best_of(policies: Sequence[ScoredPolicy], again: Callable[[Policy], float]) -> ScoredPolicy:
    """The best policy, quality `expert`.

    The first scores come from few episodes, and the best of many noisy scores is luck. So `again` scores the best
    `FINALISTS` once more; this score decides and is returned.
    """
    finalists = sorted(policies, key=lambda one: -one.score)[:FINALISTS]
    return max((one._replace(score=again(one.policy)) for one in finalists), key=lambda one: one.score)


def half_as_good(
    policies: Sequence[ScoredPolicy],
    best: ScoredPolicy,
    again: Callable[[Policy], float],
    moves: Callable[[Policy], bool] = lambda policy: True,
) -> ScoredPolicy:
    """The policy whose score is nearest to half the best score (0 is a random policy's), quality `medium`.

    `moves` must accept at least one policy. Of those that it accepts, the `FINALISTS` nearest to half the best score
    are scored once more by `again`, as in `best_of`.
    """
    half = best.score / 2
    nearest = sorted(policies, key=lambda one: abs(one.score - half))
    finalists = islice((one for one in nearest if moves(one.policy)), FINALISTS)
    rescored = [one._replace(score=again(one.policy)) for one in finalists]
    return min(rescored, key=lambda one: abs(one.score - half))
