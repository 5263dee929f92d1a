"""SRPO (Xue et al., NeurIPS 2023), on IQL: reward states that are valuable, whatever the dynamics that led there.

    labels    the best share ρ of a batch's states by V are 1, the others 0
    D(s)      logit of "valuable", one cross-entropy step on each batch
    r <- r + λ clip(D(s), ±ln 10)          for rows of both domains

The theory asks for ln(p / (1 - p)) of the classifier's probability p, which is its logit D. Public code takes
ln(clip(D, 0.1, 10)) instead, the logarithm of a logit: `bonus="published"`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Sizes
from tabb.errors import UsageError
from tabb.models.fitting import check_widths
from tabb.networks import MLP, mlp
from tabb.rules.rule import Metrics, Rule, Step

LARGEST = 10.0
"""clip of the ratio p / (1 - p) to [1/10, 10]"""


class Discriminator(NamedTuple):
    """D and its optimiser's state."""

    network: MLP
    optimiser: optax.OptState


def valuable(values: Float[Array, " b"], share: float) -> Float[Array, " b"]:
    """1 for the ⌊share · b⌋ rows of the largest value, 0 for the others."""
    _, best = jax.lax.top_k(values, math.floor(share * len(values)))
    return jnp.zeros_like(values).at[best].set(1.0)


def state_bonus(logit: Float[Array, " b"], form: str) -> Float[Array, " b"]:
    """The clipped log-ratio, or the published form."""
    if form == "published":
        return jnp.log(jnp.clip(logit, 1.0 / LARGEST, LARGEST))
    return jnp.clip(logit, -math.log(LARGEST), math.log(LARGEST))


@dataclasses.dataclass(frozen=True)
class SRPO(Rule):
    """Add to the rewards of both domains how valuable a state looks to a discriminator."""

    name: ClassVar[str] = "srpo"
    neutral: ClassVar[dict[str, Any] | None] = {"bonus_scale": 0.0}
    small: ClassVar[dict[str, Any]] = {"hidden": (16,)}
    presets: ClassVar[dict[str, dict[str, Any]]] = {"published": {"bonus": "published"}}

    bonus_scale: float = 0.1
    """λ, the weight of the bonus; 0 leaves rewards alone [paper: 0.1 or 0.3]"""
    valuable_share: float = 0.5
    """ρ, share of a batch's states that count as valuable [paper: 0.5 or 0.2]"""
    bonus: Literal["ratio", "published"] = "ratio"
    """the discriminator's log-ratio, or the logarithm of its clipped logit as public code has it"""
    learning_rate: float = 1e-3
    """Adam's rate of the discriminator [public code: 1e-3]"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the discriminator's hidden layers [public code: 256, 256]"""

    def __post_init__(self) -> None:
        for name in ("bonus_scale", "learning_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name}={getattr(self, name)} must be a number, zero or more")
        if not 0 < self.valuable_share < 1:
            raise UsageError(f"valuable_share={self.valuable_share} must lie between 0 and 1")
        check_widths(self.hidden)

    def init_learned(self, sizes: Sizes, key: PRNGKeyArray) -> Discriminator:
        network = mlp(key, (sizes.observation, *self.hidden, 1))
        return Discriminator(network, optax.adam(self.learning_rate).init(network))

    def observe(self, step: Step) -> tuple[Discriminator, Metrics]:
        learned: Discriminator = step.learned
        labels = valuable(step.value(step.features.now), self.valuable_share)

        def loss(network: MLP) -> Array:
            return jnp.mean(optax.sigmoid_binary_cross_entropy(network(step.batch.observation)[..., 0], labels))

        amount, gradient = jax.value_and_grad(loss)(learned.network)
        change, optimiser = optax.adam(self.learning_rate).update(gradient, learned.optimiser)
        return Discriminator(optax.apply_updates(learned.network, change), optimiser), {"discriminator_loss": amount}

    def reward(self, step: Step) -> Float[Array, " b"]:
        if self.bonus_scale == 0:  # 0 times a network still changes how the compiler rounds what follows
            return super().reward(step)
        logit = step.learned.network(step.batch.observation)[..., 0]
        return step.batch.reward + self.bonus_scale * state_bonus(logit, self.bonus)
