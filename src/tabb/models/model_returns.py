"""What a policy earns in a model of the target domain: whole episodes from the starts of the log.

    s_0: where an episode of the log begins          s_{k+1} = s_k + f(s_k, π(s_k))
    J = mean over starts of Σ_k r(s_k, π(s_k)), until the model says that the task ends, or for K steps

An episode is lost where a state leaves the range of the data by more than three of their spreads: what the model says
there means nothing. From then on each step earns zero, or what the log's worst episode earned in a step if that is
less: a policy that the model cannot follow has a low return, never a high one, of rewards and of costs alike. [ours]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.models.target_model import TargetModel
from tabb.transitions import Transitions

FARTHEST = 3.0
"""spreads beyond the range of the data at which an episode in the model ends"""
STILL = 1e-3
"""of an entry whose spread in the target is smaller than this, normalised, none is known"""
NOISE = 0.01
"""standard deviation of the noise on starts, in spreads of the target's observations"""


class Range(NamedTuple):
    """Where the model can be believed: entry by entry, a little beyond the data."""

    low: Float[Array, " s"]
    high: Float[Array, " s"]


class ModelReturn(NamedTuple):
    """What a policy earns in the model."""

    mean: Float[Array, ""]
    """mean return, in units of reward"""
    steps: Float[Array, ""]
    """mean length of an episode; K where none ended"""
    lost: Float[Array, ""]
    """share of the episodes that the model could not follow"""


def range_of(target: Transitions, source: Transitions | None = None) -> Range:
    """The range of both domains' observations (normalised alike), `FARTHEST` spreads of the target's wider.

    An entry that hardly changes in the target (in less than a `STILL` of its normalised spread) has no spread there:
    a whole one is taken. A model predicts a constant almost, not exactly, and no policy is to be lost by that.
    """
    parts = [np.asarray(part.observation) for part in (target, source) if part is not None and len(part)]
    spread = parts[0].std(axis=0)
    margin = FARTHEST * np.where(spread < STILL, np.float32(1.0), spread)
    low, high = np.min([p.min(axis=0) for p in parts], axis=0), np.max([p.max(axis=0) for p in parts], axis=0)
    return Range(jnp.asarray(low - margin), jnp.asarray(high + margin))


def episode_starts(target: Transitions, count: int, key: PRNGKeyArray) -> Float[Array, "c s"]:
    """`count` first observations of the log's episodes, in turn, with a little noise."""
    observation = np.asarray(target.observation)
    number = np.asarray(target.episode)
    first = np.flatnonzero(np.r_[True, number[1:] != number[:-1]])
    chosen = jnp.asarray(observation[np.resize(first, count)])
    return chosen + NOISE * jnp.asarray(observation.std(axis=0)) * jax.random.normal(key, chosen.shape)


def reward_when_lost(target: Transitions) -> float:
    """What a step earns after the model has lost the policy: the smaller of 0 and the worst episode's mean reward."""
    number = np.asarray(target.episode) - int(np.min(target.episode))
    sums, counts = np.bincount(number, np.asarray(target.reward, np.float64)), np.bincount(number)
    return min(0.0, float(np.min(sums[counts > 0] / counts[counts > 0])))


def model_return(
    model: TargetModel,
    acts: Callable[[Float[Array, "c s"]], Float[Array, "c a"]],
    starts: Float[Array, "c s"],
    within: Range,
    steps: int,
    when_lost: float | Float[Array, ""] = 0.0,
) -> ModelReturn:
    """Mean return and length of episodes of at most `steps` steps from `starts` [c, s].

    `when_lost` is what each step earns after the model has lost the policy (`reward_when_lost`).
    """
    Carry = tuple[Array, Array, Array, Array, Array]

    def step(carry: Carry, _: None) -> tuple[Carry, None]:
        state, alive, lost, total, length = carry
        predicted = model(state, acts(state))
        following = state + predicted.change
        leaves = jnp.any((following < within.low) | (following > within.high), axis=-1)
        goes_on = alive * (predicted.terminal < 0.5)
        total, length = total + alive * predicted.reward + lost * when_lost, length + alive
        lost, alive = lost + goes_on * leaves, goes_on * ~leaves
        # An episode that has ended stays where it was: what follows must not grow without bound.
        return (jnp.where(alive[:, None] > 0, following, state), alive, lost, total, length), None

    zeros = jnp.zeros(len(starts))
    carry = (starts, zeros + 1.0, zeros, zeros, zeros)
    (_, _, lost, total, length), _ = jax.lax.scan(step, carry, None, length=steps)
    return ModelReturn(jnp.mean(total), jnp.mean(length), jnp.mean(lost))
