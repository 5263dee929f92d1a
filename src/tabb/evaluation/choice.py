"""The source's policy, or the target's? Both act in the model of both domains, from the starts of the target's log.

    J(π): return in the model (`tabb.models.model_returns`)      J_log: what the log has (`tabb.data.report.log_return`)
    the target's policy fails   if   J(π_tar) < J_log - 0.4 |J_log|, and the model follows it in half of its episodes
    the source's is taken       if   the target's fails, J(π_src) > J(π_tar) + 0.2 |J_log|,
                                and  the model loses none of its episodes

An episode in the model lasts as long as the task allows, or where there is no task as the log's longest one. Such long
rollouts are no scores. A policy of few target rows stays near them, where the model is good, and what the log earned is
known: so the model is asked whether that policy does what its log did. If it does, it is kept, whatever a source's
policy promises: far from target rows nothing is known of what the domain changes, and the model takes it to be as in
the source. [ours; measured: docs/selection.md]
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tabb.batch import Domains
from tabb.models.model_returns import (
    ModelReturn,
    Range,
    episode_starts,
    model_return,
    range_of,
    reward_when_lost,
)
from tabb.models.target_model import TargetModel
from tabb.networks import MLP, Committee, Normaliser
from tabb.policy import Policy
from tabb.transitions import Transitions

STARTS = 16
"""episodes in the model"""
KEEPS = 0.6
"""share of its log's return that a policy keeps in the model if it does about what the log does"""
AHEAD = 0.2
"""share of the log's return by which the source's policy must be ahead in the model: long rollouts err by so much"""
LOST = 0.0
"""largest share of its episodes that the model may lose of a source's policy that is taken: of one that it loses in
part the return is not known"""
FOLLOWED = 0.5
"""largest share of its episodes that the model may lose of a target's policy whose shortfall counts"""


class InModel(NamedTuple):
    """What a policy does in the model."""

    value: float
    """mean return of an episode, in units of reward"""
    steps: float
    """mean length of an episode"""
    lost: float
    """share of the episodes that the model could not follow"""
    seen: float
    """mean return of an episode that is lost where it leaves the range of the target's own rows: for the user's eyes"""


def falls_short(logged: float, target: float) -> bool:
    """Whether the target's policy has far less in the model than its own log."""
    return target < logged - (1 - KEEPS) * abs(logged)


def fails(logged: float, target: float, lost: float) -> bool:
    """Whether the target's policy has far less than its own log in a model that follows it."""
    return falls_short(logged, target) and lost <= FOLLOWED


def choose(logged: float, target: InModel, source: InModel) -> str:
    """`source` or `target`, from the log's return and what both policies do in the model."""
    ahead = source.value > target.value + AHEAD * abs(logged) and source.lost <= LOST
    return "source" if ahead and fails(logged, target.value, target.lost) else "target"


def close_call(logged: float, target: InModel, source: InModel) -> bool:
    """Whether a tenth of the log's return more or less in the model would have changed the choice."""
    off = 0.1 * abs(logged)
    moves = [(i * off, j * off) for i in (-1, 0, 1) for j in (-1, 0, 1)]

    def moved(policy: InModel, by: float) -> InModel:
        return policy._replace(value=policy.value + by)

    return len({choose(logged, moved(target, i), moved(source, j)) for i, j in moves}) > 1


def longest_episode(log: Transitions) -> int:
    """Rows of the longest episode of a log."""
    return int(np.bincount(np.asarray(log.episode) - int(np.min(log.episode))).max())


@partial(jax.jit, static_argnums=4)
def _return_of(
    model: TargetModel,
    network: MLP | Committee,
    own: Normaliser,
    places: tuple[Normaliser, jax.Array, Range, jax.Array],
    steps: int,
) -> ModelReturn:
    """A policy's return; states are normalised by `places`' normaliser, the policy has its own."""
    normaliser, starts, within, when_lost = places

    def acts(state: jax.Array) -> jax.Array:
        return jnp.tanh(network(own(state * normaliser.scale + normaliser.mean)))

    return model_return(model, acts, starts, within, steps, when_lost)


def in_model(policy: Policy, model: TargetModel, domains: Domains, steps: int) -> InModel:
    """What a policy of relu networks does in episodes of `steps` steps in the model of these (normalised) domains."""
    starts = episode_starts(domains.target, STARTS, jax.random.key(1))
    lost = jnp.float32(reward_when_lost(domains.target))
    network = policy.as_network()
    own = Normaliser(jnp.asarray(policy.mean), jnp.asarray(policy.scale))

    def within(everywhere: Range) -> ModelReturn:
        return _return_of(model, network, own, (domains.normaliser, starts, everywhere, lost), steps)

    found, seen = within(range_of(domains.target, domains.source)), within(range_of(domains.target))
    return InModel(float(found.mean), float(found.steps), float(found.lost), float(seen.mean))
