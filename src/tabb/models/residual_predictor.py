"""The residual predictor: target heads learn what a model of the source misses on target rows.

    source head    g(s, a)             fitted to (s' - s, r, d) of source rows
    target head    δ_k(s, a)           fitted to (s' - s, r, d) - g(s, a) of target rows
    source row     ŝ'_k = s' + δ_k,    r̂_k = r + δ_k,    d̂_k = d + σ(g + δ_k) - σ(g)

A source row already holds a next state from almost the right dynamics, and errors that g makes in both domains cancel.
[ours; measured: docs/methods/tabb.md]
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tabb.models.heads import HeadPredictor, Heads, split
from tabb.models.target_predictor import Outcome
from tabb.networks import MLP
from tabb.transitions import Transitions


@dataclasses.dataclass(frozen=True)
class ResidualPredictor(HeadPredictor):
    """Target heads correct the outcome of a source row by the learned difference of the domains."""

    name: ClassVar[str] = "residual"
    moves_own_outcome = True

    def base(self, models: Heads, trunk: Float[Array, "b u"]) -> Float[Array, "b o"]:
        """The source head's answer."""
        return models.source_head(trunk)

    def fresh_target_heads(self, heads: tuple[MLP, ...]) -> tuple[MLP, ...]:
        """With a last layer of zeros: before they have learned otherwise, the target domain equals the source."""
        return tuple(
            eqx.tree_at(lambda h: (h.weights[-1], h.biases[-1]), head, replace_fn=jnp.zeros_like) for head in heads
        )

    def outcomes(self, models: Heads, rows: Transitions) -> Outcome:
        """The row's own outcome moved by each head: x' + δ, r + δ_r, d + δ_d.

        A terminal row has no next state of its own: there the source head's answer stands in.
        """
        x, following = models.encode(rows.observation), models.encode(rows.next_observation)
        blind = self.target_outcomes(models, rows)
        trunk = models.trunk(x, rows.action)
        change, gain, logit = split(models.target_outputs(trunk))
        base_logit = split(models.source_head(trunk)[:, None])[2]
        shift = jax.nn.sigmoid(base_logit + logit) - jax.nn.sigmoid(base_logit)
        ended = rows.terminal[:, None, None] > 0
        return Outcome(
            jnp.where(ended, blind.following, following[:, None] + models.change_scale * change),
            rows.reward[:, None] + models.rewards.scale * gain,
            jnp.clip(rows.terminal[:, None] + shift, 0.0, 1.0),
        )
