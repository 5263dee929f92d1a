"""Worse policies made from a good one, for tasks in which the search saved no policy of medium quality.

A search that starts from a good policy saves no bad ones. Noise on the parameters makes some: with θ the last layer, u
the standard deviation of its entries and ε ~ N(0, I), the policies have θ + σ u ε for growing σ, each with its own ε.
Noise on parameters acts consistently over an episode, like less training, where noise on actions does not (Plappert et
al. 2018).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tabb.behaviours.random_search import last_layer, with_last_layer
from tabb.behaviours.scored_policies import ScoredPolicy
from tabb.policy import Policy

DEVIATIONS = tuple(float(one) for one in np.geomspace(0.05, 1.6, 12).round(3))
"""Values of σ, from hardly any change to a useless policy."""
DRAWS = 3
"""Policies of each σ."""


def worse_policies(best: ScoredPolicy, evaluate: Callable[[Policy], float], seed: int = 0) -> list[ScoredPolicy]:
    """`DRAWS` worse policies for each of `DEVIATIONS`, scored by `evaluate`; `about` has their σ as `worsened_by`."""
    generator = np.random.default_rng(seed)
    theta = last_layer(best.policy)
    policies = []
    for deviation in DEVIATIONS:
        for _ in range(DRAWS):
            noise = generator.standard_normal(theta.shape, np.float32)
            policy = with_last_layer(best.policy, theta + deviation * theta.std() * noise)
            policy = dataclasses.replace(policy, about={**policy.about, "worsened_by": deviation})
            policies.append(ScoredPolicy(best.after, evaluate(policy), policy))
    return policies
