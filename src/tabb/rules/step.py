"""What one update knows, and the types that pass between a rule and a backbone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tabb.batch import Batch

Models = Any  # pytree of arrays: what `prepare` fitted
Learned = Any  # pytree of arrays: what the rule goes on learning, update by update
Metrics = dict[str, Array]  # scalars

Value = Callable[[Float[Array, "*rows v"]], Float[Array, "*rows"]]
"""V of what `see_state` makes of observations"""
Acting = Callable[[Float[Array, "*rows s"]], Float[Array, "*rows a"]]
"""the action of a policy at (normalised) observations"""


class Features(NamedTuple):
    """What V and Q see: V at s, V at s', Q at (s, a). Plain rules: s, s' and [s, a]."""

    now: Float[Array, "b v"]
    following: Float[Array, "b v"]
    critic: Float[Array, "b q"]


class Weights(NamedTuple):
    """Weight of each row in the three losses, shape [B] each."""

    critic: Float[Array, " b"]
    value: Float[Array, " b"]
    policy: Float[Array, " b"]


@dataclasses.dataclass(frozen=True)
class Step:
    """What one update knows at the point where it calls a seam."""

    models: Models
    """what the rule fitted before training"""
    learned: Learned
    """what the rule learns along the way; from `weigh` on as `observe` left it"""
    batch: Batch
    """the rows of the update; after `select` those that stay"""
    value: Value
    """V as it stands: from before the update, and with a value network (IQL) the new V from `next_value` on. Without
    a value network it is always min_i Q_i at the policy's action from before the update"""
    policy: Acting
    """the policy from before the update, as it would be deployed"""
    discount: float
    """γ of the backbone"""
    key: PRNGKeyArray
    """a random key of this update for the rule alone; fold in a number of your own for each use"""
    number: Int[Array, ""]
    """the number of the update, from 0"""
    updates: int
    """the updates of the whole run"""
    represented: Features | None = None
    action_value: Value | None = None
    """min_i Q_i of what `see_action` makes of (s, a), from before the update; None where there are no critics"""

    def is_past(self, share: float) -> Array:
        """Whether this share of the run's updates is over."""
        return self.number >= round(share * self.updates)

    @property
    def features(self) -> Features:
        """What V and Q see of each row; raises `AttributeError` in `select` and `represent`, which come before."""
        if self.represented is None:
            raise AttributeError("a step has features from `observe` on: `select` and `represent` come before them")
        return self.represented


def on_extra(batch: Batch, values: Float[Array, " e"], elsewhere: float) -> Float[Array, " b"]:
    """`values` for the extra rows of the batch, and the number `elsewhere` for all other rows."""
    return jnp.concatenate([jnp.full(len(batch) - batch.extra_rows, elsewhere, values.dtype), values])


def on_source(batch: Batch, values: Float[Array, " s"], elsewhere: float) -> Float[Array, " b"]:
    """`values` for the source rows of the batch, and the number `elsewhere` for all other rows."""
    return jnp.concatenate([values, jnp.full(len(batch) - batch.source_rows, elsewhere, values.dtype)])
