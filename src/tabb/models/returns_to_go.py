"""What a policy that remembers its episode is conditioned on: for each row the return that is still to come.

    g_t = Σ_{t' >= t} r_{t'}          to the end of the episode, undiscounted (Decision Transformer)

An episode that the log cuts short has the return of what is there.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike, NDArray

from tabb.batch import Domains
from tabb.networks import MLP
from tabb.transitions import Transitions


class Aim(NamedTuple):
    """What the policy is asked for as it acts. Its network sees conditions in the unit `unit`."""

    start: Float[Array, ""]
    """the condition of an episode's first step; each reward is taken off that of the next one"""
    unit: Float[Array, ""]
    command: MLP | None = None
    """where the condition is not what is left of `start`: the condition of each (normalised) observation"""


class Conditions(NamedTuple):
    """The condition of each row of both domains, and what to ask for."""

    source: Float[Array, " n"]
    target: Float[Array, " m"]
    aim: Aim


def places(rows: Transitions) -> NDArray[np.int32]:
    """The place of each row in its episode, from 0, shape [N]. After a terminal row another episode begins."""
    episode, terminal = np.asarray(rows.episode), np.asarray(rows.terminal) > 0
    number = np.arange(len(episode))
    begins = np.ones(len(episode), bool)
    begins[1:] = (episode[1:] != episode[:-1]) | terminal[:-1]
    return (number - np.maximum.accumulate(np.where(begins, number, 0))).astype(np.int32)


def returns_to_go(reward: ArrayLike, place: NDArray[np.int32]) -> NDArray[np.float32]:
    """g of each row, from the rewards [N] and the rows' places in their episodes."""
    to_end = np.cumsum(np.asarray(reward, np.float64)[::-1])[::-1]  # of the log
    starts = np.flatnonzero(place == 0)
    after = np.append(to_end, 0.0)[np.append(starts[1:], len(place))]
    episode = np.cumsum(place == 0) - 1
    return (to_end - after[episode]).astype(np.float32)


def best_aim(domains: Domains, source: ArrayLike, target: ArrayLike) -> Aim:
    """Ask for the best return among the logged episodes of the target, or of the source where there is no target row.

    `source` and `target` are the returns to go of their rows. The unit is their root mean square in that domain.
    """
    rows, returns = (
        (domains.target, np.asarray(target)) if len(domains.target) else (domains.source, np.asarray(source))
    )
    square = float(np.mean(returns.astype(np.float64) ** 2))
    best = returns[places(rows) == 0].max()
    return Aim(jnp.asarray(best, jnp.float32), jnp.asarray(np.sqrt(square) or 1.0, jnp.float32))


def conditions_of(domains: Domains, source_reward: ArrayLike, target_reward: ArrayLike) -> Conditions:
    """Each row's return to go by these rewards, [N] and [M], and `best_aim`."""
    source, target = (
        returns_to_go(reward, places(rows))
        for reward, rows in ((source_reward, domains.source), (target_reward, domains.target))
    )
    return Conditions(jnp.asarray(source), jnp.asarray(target), best_aim(domains, source, target))
