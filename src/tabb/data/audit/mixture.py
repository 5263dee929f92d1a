"""How much of the source log looks like the target: PUORL's estimate of a share, by a classifier of steps."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from tabb.data.audit.finding import Finding
from tabb.data.audit.mends import sample
from tabb.float32 import is_constant
from tabb.models.mixture import MixtureConfig, fit_mixture
from tabb.shown import percent
from tabb.transitions import Transitions

FEWEST = 50
"""rows of either domain below which a share means nothing"""
QUICK = MixtureConfig(hidden=(64, 64), warm_updates=600, rounds=4, round_updates=300)
"""a classifier for some thousand rows, fitted in seconds"""


def target_share(source: Transitions, target: Transitions, config: MixtureConfig = QUICK) -> float:
    """The share of the source's steps [s, a, s' - s] that no classifier tells from the target's; at most 5,000 of each.

    Steps differ by dynamics and by behaviour: the same robot driven otherwise looks unlike the target as well.
    """
    steps = [np.c_[rows.observation, rows.action, rows.change] for rows in (sample(source), sample(target))]
    middle = np.mean([part.mean(axis=0) for part in steps], axis=0)
    spread = np.sqrt(np.mean([((part - middle) ** 2).mean(axis=0) for part in steps], axis=0))
    scale = np.where(is_constant(middle, spread), 1.0, spread)
    unlabelled, positive = (jnp.asarray((part - middle) / scale, jnp.float32) for part in steps)
    return float(fit_mixture(config, positive, unlabelled, jax.random.key(0), lambda what, share: None).share)


def check_mixture(names: str, source: Transitions, target: Transitions) -> Iterator[Finding]:
    """Which share of the source's steps look like the target's."""
    if min(int(np.sum(np.asarray(data.terminal) == 0)) for data in (source, target)) < FEWEST:
        return
    share = target_share(source, target)
    fix = "if the source log mixes domains, rule `pu` learns from these steps alone" if share >= 0.01 else "none needed"
    yield Finding("note", "mixture", names, f"{percent(share)} of the source's steps look like the target's", fix)
