"""PAR (Lyu et al., ICML 2024): a representation of target steps, and a penalty on source steps that depart from it.

    z = f(s),  ẑ' = g(z, a)                fitted to target rows: ‖ẑ' - f(s')‖², the goal without gradient
    r <- r - β mean_j (ẑ'_j - f(s')_j)²    for source rows, by slow copies of f and g

Encoders are scaled to a mean absolute entry of 1 (SALE, Fujimoto et al. 2023). They learn along the way.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Sizes
from tabb.errors import UsageError
from tabb.models.fitting import check_widths
from tabb.networks import MLP, avg_l1_norm, mlp, moving_average
from tabb.rules.rule import Metrics, Rule, Step, on_source


class Representation(eqx.Module):
    """f and g."""

    encoder: MLP
    dynamics: MLP

    def encode(self, observation: Float[Array, "*b s"]) -> Float[Array, "*b z"]:
        """z of a state."""
        return avg_l1_norm(self.encoder(observation))

    def following(self, observation: Float[Array, "*b s"], action: Float[Array, "*b a"]) -> Float[Array, "*b z"]:
        """ẑ' of a state and an action."""
        return self.dynamics(jnp.concatenate([self.encode(observation), action], axis=-1))


class Fitted(NamedTuple):
    """What learns along the way."""

    fast: Representation
    slow: Representation
    optimiser: optax.OptState


def departure(predicted: Float[Array, "b z"], encoded: Float[Array, "b z"], terminal: Float[Array, " b"]) -> Array:
    """mean_j (ẑ'_j - f(s')_j)² of each row; 0 where a terminal row has no next state."""
    return (1.0 - terminal) * jnp.mean((predicted - encoded) ** 2, axis=-1)


@dataclasses.dataclass(frozen=True)
class PAR(Rule):
    """Lower source rewards by how far a step differs from a representation of target steps."""

    name: ClassVar[str] = "par"
    backbone: ClassVar[str] = "sac"
    neutral: ClassVar[dict[str, Any] | None] = {"penalty": 0.0}
    small: ClassVar[dict[str, Any]] = {"latent_size": 8, "hidden": (16,), "penalty": 5.0}

    penalty: float = 0.1
    """β, the weight of the departure in source rewards; 0 leaves them [ODRL: 0.1; authors: 0.01 to 5 by robot]"""
    latent_size: int = 256
    """entries of z [authors: 256]"""
    slow_rate: float = 0.005
    """rate of the slow copies [authors: 0.005]"""
    learning_rate: float = 3e-4
    """Adam's rate of f and g [authors: 3e-4]"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of f and g [authors: 256, 256]"""

    def __post_init__(self) -> None:
        for name in ("penalty", "learning_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name}={getattr(self, name)} must be a number, zero or more")
        if not 0 < self.slow_rate <= 1:
            raise UsageError(f"slow_rate={self.slow_rate} must lie in (0, 1]")
        if self.latent_size < 1:
            raise UsageError(f"latent_size={self.latent_size} must be at least 1")
        check_widths(self.hidden)

    def init_learned(self, sizes: Sizes, key: PRNGKeyArray) -> Fitted:
        encoder_key, dynamics_key = jax.random.split(key)
        fresh = Representation(
            mlp(encoder_key, (sizes.observation, *self.hidden, self.latent_size), "elu"),
            mlp(dynamics_key, (self.latent_size + sizes.action, *self.hidden, self.latent_size), "elu"),
        )
        return Fitted(fresh, jax.tree.map(jnp.copy, fresh), optax.adam(self.learning_rate).init(fresh))

    def observe(self, step: Step) -> tuple[Fitted, Metrics]:
        batch, learned = step.batch, step.learned
        rows = slice(batch.source_rows, batch.source_rows + batch.target_rows)
        observation, action, following, terminal = (
            column[rows] for column in (batch.observation, batch.action, batch.next_observation, batch.terminal)
        )

        def loss(fast: Representation) -> Array:
            goal = jax.lax.stop_gradient(fast.encode(following))
            return jnp.mean(departure(fast.following(observation, action), goal, terminal))

        amount, gradient = jax.value_and_grad(loss)(learned.fast)
        change, optimiser = optax.adam(self.learning_rate).update(gradient, learned.optimiser)
        fast = optax.apply_updates(learned.fast, change)
        return Fitted(fast, moving_average(learned.slow, fast, self.slow_rate), optimiser), {
            "representation_loss": amount
        }

    def reward(self, step: Step) -> Float[Array, " b"]:
        if not self.penalty:
            return super().reward(step)
        batch, slow = step.batch, step.learned.slow
        count = batch.source_rows
        away = departure(
            slow.following(batch.observation[:count], batch.action[:count]),
            slow.encode(batch.next_observation[:count]),
            batch.terminal[:count],
        )
        return batch.reward - on_source(batch, self.penalty * away, 0.0)
