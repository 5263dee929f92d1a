"""The inverse model of a domain: the action that leads from s to s'."""

from __future__ import annotations

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.errors import UsageError
from tabb.models.fitting import Report, check_widths, draw_rows, fit, with_next
from tabb.networks import MLP, Normaliser, mlp
from tabb.transitions import Transitions


@dataclasses.dataclass(frozen=True)
class InverseConfig:
    """How the inverse model is built and fitted [not published; ours]."""

    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers"""
    updates: int = 5_000
    """updates of the fit"""
    batch_size: int = 256
    """rows per update"""
    learning_rate: float = 1e-3
    """AdamW's rate, falling to 0 as a cosine"""
    weight_decay: float = 1e-4
    """AdamW's decay of all weights"""

    def __post_init__(self) -> None:
        check_widths(self.hidden)
        if self.updates < 1 or self.batch_size < 1:
            raise UsageError("inverse: updates and batch_size must be at least 1")
        for name in ("learning_rate", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"inverse {name}={getattr(self, name)}: must be a number, zero or more")


class Inverse(eqx.Module):
    """a = f⁻¹(s, s' - s), inputs standardised; not bounded, so that a step which no action can do shows as |a| > 1."""

    network: MLP
    inputs: Normaliser

    def __call__(self, observation: Float[Array, "*b s"], following: Float[Array, "*b s"]) -> Float[Array, "*b a"]:
        return self.network(self.inputs(jnp.concatenate([observation, following - observation], axis=-1)))


def init_inverse(config: InverseConfig, data: Transitions, key: PRNGKeyArray) -> Inverse:
    """A fresh model for `data`, whose rows with a next state set the scale of its inputs."""
    rows = with_next(data, "target")
    inputs = jnp.concatenate([data.observation, data.next_observation - data.observation], axis=-1)[rows]
    spread = jnp.std(inputs, axis=0)
    normaliser = Normaliser(jnp.mean(inputs, axis=0), jnp.where(spread < 1e-6, 1.0, spread))
    return Inverse(mlp(key, (2 * data.observation_size, *config.hidden, data.action_size)), normaliser)


def fit_inverse(config: InverseConfig, data: Transitions, key: PRNGKeyArray, report: Report) -> Inverse:
    """Fit the model to the rows of `data` that have a next state; mean squared error of the action."""
    init_key, fit_key = jax.random.split(key)
    fresh = init_inverse(config, data, init_key)
    optimiser = optax.adamw(
        optax.cosine_decay_schedule(config.learning_rate, config.updates), weight_decay=config.weight_decay
    )

    def loss(network: MLP, data: tuple[Transitions, Array], key: PRNGKeyArray) -> Array:
        rows, alive = data
        drawn = rows[draw_rows(alive, config.batch_size, key)]
        model = Inverse(network, fresh.inputs)
        return jnp.mean((model(drawn.observation, drawn.next_observation) - drawn.action) ** 2)

    given = (jax.tree.map(jnp.asarray, data), with_next(data, "target"))
    network = fit(loss, fresh.network, given, optimiser, config.updates, fit_key, report, "inverse model")
    return Inverse(network, fresh.inputs)
