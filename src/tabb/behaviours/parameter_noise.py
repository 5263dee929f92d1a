"""Worse policies out of a good one, for tasks in which a search passed no policy of medium quality.

A search that begins well has no bad policies to offer. Noise on the parameters gives some: with θ the last layer, u the
spread of its entries and ε ~ N(0, I), the policies of θ + σ u ε for growing σ, each with an ε of its own. Unlike noise
on actions it acts alike in all steps of an episode, as a policy does that has learned less (Plappert et al. 2018).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tabb.behaviours.random_search import last_layer, with_last_layer
from tabb.behaviours.scored_policies import ScoredPolicy
from tabb.policy import Policy

DEVIATIONS = tuple(float(one) for one in np.geomspace(0.05, 1.6, 12).round(3))
"""σ, from hardly any change to nothing that is left of the policy."""
DRAWS = 3
"""ε of each σ."""


def worsened(best: ScoredPolicy, evaluate: Callable[[Policy], float], seed: int = 0) -> list[ScoredPolicy]:
    """`DRAWS` worse policies for each of `DEVIATIONS`, scored by `evaluate`; `about` tells their σ as `worsened_by`."""
    generator = np.random.default_rng(seed)
    theta = last_layer(best.policy)
    found = []
    for deviation in DEVIATIONS:
        for _ in range(DRAWS):
            noise = generator.standard_normal(theta.shape, np.float32)
            policy = with_last_layer(best.policy, theta + deviation * theta.std() * noise)
            policy = dataclasses.replace(policy, about={**policy.about, "worsened_by": deviation})
            found.append(ScoredPolicy(best.after, evaluate(policy), policy))
    return found
