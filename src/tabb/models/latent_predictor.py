"""Predictors in a latent space, as in the paper of TABB: V and the heads see encoded states.

Encoders f: s -> z_s and g: (z_s, a) -> z_sa are shared by both domains and trained by prediction alone, without a
gradient from reinforcement learning. The heads predict the slow encoding of the next state.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Domains, Sizes
from tabb.models.direct_predictor import DirectPredictor
from tabb.models.heads import Encoders, HeadPredictor, Heads, Space
from tabb.models.residual_predictor import ResidualPredictor
from tabb.models.target_predictor import check_constants
from tabb.networks import mlp, moving_average
from tabb.transitions import Transitions


@dataclasses.dataclass(frozen=True)
class LatentSpace(HeadPredictor):
    """What predictors in a latent space share: encoders, of which a slow copy follows."""

    changes_features = True

    latent_size: int = 64
    """width of z_s and z_sa"""
    slow_rate: float = 0.005
    """rate of the slow encoder, which V and the goals of prediction use"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_constants(self, ("latent_size",), ("slow_rate",))

    def space(self, domains: Domains, keys: tuple[PRNGKeyArray, PRNGKeyArray]) -> Space:
        z, wide, half = self.latent_size, (self.hidden, self.hidden), (self.hidden // 2,)
        encoders = Encoders(
            mlp(keys[0], (domains.source.observation_size, *wide, z), "elu"),
            mlp(keys[1], (z + domains.source.action_size, *wide, z), "elu"),
        )
        return Space(encoders, z, z, jnp.ones(z, jnp.float32), half, half)

    def follow(self, slow: Heads, models: Heads) -> Heads:
        return moving_average(slow, models, self.slow_rate)

    def widths(self, sizes: Sizes) -> tuple[int, int]:
        return self.latent_size, sizes.observation + sizes.action + self.latent_size

    def see_state(self, models: Heads, observation: Float[Array, "*b s"]) -> Float[Array, "*b z"]:
        """z_s"""
        return models.encode(observation)

    def see_action(
        self, models: Heads, observation: Float[Array, "*b s"], action: Float[Array, "*b a"]
    ) -> Float[Array, "*b q"]:
        """[s, a, z_sa]"""
        plain = super().see_action(models, observation, action)
        return jnp.concatenate([plain, models.trunk(models.encode(observation), action)], axis=-1)


@dataclasses.dataclass(frozen=True)
class LatentPredictor(LatentSpace, ResidualPredictor):
    """The residual predictor in a latent space: the difference of target and source head, added to z_s'."""

    name: ClassVar[str] = "latent"


@dataclasses.dataclass(frozen=True)
class LatentDirectPredictor(LatentSpace, DirectPredictor):
    """The direct predictor in a latent space, as in the paper."""

    name: ClassVar[str] = "latent-direct"

    source_head: bool = True
    """fit a head on the source too, which shapes the encoders; without it they learn from the few target rows alone"""

    def source_loss(self, models: Heads, slow: Heads, source: Transitions) -> Float[Array, ""]:
        return super().source_loss(models, slow, source) if self.source_head else jnp.zeros(())
