"""Policies that are kept on the way of practice or a search, and the choice among them by quality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from tabb.policy import Policy

EPISODES = 5
"""Of each evaluation on the way, reset with seeds 0, 1, ..."""
LAST_EPISODES = 20
"""Of the evaluations that choose, reset with seeds 1000, 1001, ..."""
FINALISTS = 4

Say = Callable[[str], None]


class ScoredPolicy(NamedTuple):
    """A policy on the way."""

    after: int
    """Updates of practice, or simulator steps of a search, that went before."""
    score: float
    """What `evaluate` said of it."""
    policy: Policy


class BehaviourPolicy(NamedTuple):
    """A behaviour policy, and how it came about."""

    policy: Policy
    about: dict[str, Any]


def best_of(kept: Sequence[ScoredPolicy], again: Callable[[Policy], float]) -> ScoredPolicy:
    """The best policy, quality `expert`.

    Scores on the way come from few episodes, and the best of many noisy ones is luck: the `FINALISTS` are scored once
    more by `again`, and that score decides and is returned.
    """
    finalists = sorted(kept, key=lambda one: -one.score)[:FINALISTS]
    return max((one._replace(score=again(one.policy)) for one in finalists), key=lambda one: one.score)


def half_as_good(
    kept: Sequence[ScoredPolicy],
    best: ScoredPolicy,
    again: Callable[[Policy], float],
    moves: Callable[[Policy], bool] = lambda policy: True,
) -> ScoredPolicy:
    """The policy whose score is nearest to half that of the best (0: a random policy's), quality `medium`.

    Of those that `moves` accepts, which must be one at least, the `FINALISTS` that come nearest are scored once more,
    as in `best_of`.
    """
    wanted = best.score / 2
    nearest = sorted(kept, key=lambda one: abs(one.score - wanted))
    finalists = islice((one for one in nearest if moves(one.policy)), FINALISTS)
    rescored = [one._replace(score=again(one.policy)) for one in finalists]
    return min(rescored, key=lambda one: abs(one.score - wanted))
