"""Conditional variational autoencoder: what actions a data set takes in a state (BCQ, Fujimoto et al. 2019)."""

from __future__ import annotations

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Sizes
from tabb.errors import UsageError
from tabb.networks import MLP, mlp
from tabb.rules.fitting import Report, draw_rows, fit
from tabb.transitions import Transitions


@dataclasses.dataclass(frozen=True)
class CVAEConfig:
    """How the autoencoder is built and fitted [all as OTDF]."""

    hidden: tuple[int, ...] = (750, 750)
    """widths of the hidden layers of encoder and decoder"""
    updates: int = 10_000
    """updates of the fit"""
    batch_size: int = 128
    """rows per update"""
    learning_rate: float = 1e-3
    """Adam's rate"""
    divergence: float = 0.5
    """weight of the Kullback-Leibler term against the reconstruction's mean squared error"""

    def __post_init__(self) -> None:
        if self.updates < 1 or self.batch_size < 1 or not self.hidden or min(self.hidden) < 1:
            raise UsageError("cvae: updates, batch_size and the widths of hidden layers must be at least 1")
        for name in ("learning_rate", "divergence"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"cvae {name}={getattr(self, name)}: must be a number, zero or more")


class CVAE(eqx.Module):
    """q(z | s, a) and the decoder's action; z has twice the action's width."""

    encoder: MLP
    decoder: MLP

    def encode(self, observation: Float[Array, "b s"], action: Float[Array, "b a"]) -> tuple[Array, Array]:
        """Mean and logarithm of the deviation of q(z | s, a), shape [b, z] each."""
        mean, log_deviation = jnp.split(self.encoder(jnp.concatenate([observation, action], axis=-1)), 2, axis=-1)
        return mean, jnp.clip(log_deviation, -4.0, 15.0)

    def decode(self, observation: Float[Array, "*b s"], latent: Float[Array, "*b z"]) -> Float[Array, "*b a"]:
        """The action of latent z in state s, inside [-1, 1]."""
        return jnp.tanh(self.decoder(jnp.concatenate([observation, latent], axis=-1)))


def divergence(mean: Float[Array, "b z"], log_deviation: Float[Array, "b z"]) -> Float[Array, ""]:
    """Kullback-Leibler divergence of q(z | s, a) from N(0, 1), mean over rows and latents."""
    return -0.5 * jnp.mean(1.0 + 2.0 * log_deviation - mean**2 - jnp.exp(2.0 * log_deviation))


def log_likelihood(
    cvae: CVAE,
    observation: Float[Array, "b s"],
    action: Float[Array, "b a"],
    noise: Float[Array, "m z"],
    variance: float,
) -> Float[Array, " b"]:
    """log Σ_m N(a; decoder(s, z_m), variance) with z_m ~ q(z | s, a) from standard normal `noise` (OTDF's estimate)."""
    mean, log_deviation = cvae.encode(observation, action)
    latent = mean + jnp.exp(log_deviation) * noise[:, None]
    states = jnp.broadcast_to(observation, (len(noise), *observation.shape))
    square = jnp.sum((action - cvae.decode(states, latent)) ** 2, axis=-1)
    constant = 0.5 * action.shape[-1] * math.log(2 * math.pi * variance)
    return jax.nn.logsumexp(-0.5 * square / variance - constant, axis=0)


def init_cvae(config: CVAEConfig, sizes: Sizes, key: PRNGKeyArray) -> CVAE:
    """A fresh autoencoder."""
    encoder_key, decoder_key = jax.random.split(key)
    latent = 2 * sizes.action
    return CVAE(
        mlp(encoder_key, (sizes.observation + sizes.action, *config.hidden, 2 * latent)),
        mlp(decoder_key, (sizes.observation + latent, *config.hidden, sizes.action)),
    )


def fit_cvae(config: CVAEConfig, data: Transitions, key: PRNGKeyArray, report: Report) -> CVAE:
    """Fit it on the states and actions of `data`."""
    init_key, fit_key = jax.random.split(key)
    fresh = init_cvae(config, Sizes(data.observation_size, data.action_size), init_key)

    def loss(cvae: CVAE, data: tuple[Array, Array], key: PRNGKeyArray) -> Array:
        row_key, noise_key = jax.random.split(key)
        rows = draw_rows(jnp.arange(len(data[0])), config.batch_size, row_key)
        observation, action = data[0][rows], data[1][rows]
        mean, log_deviation = cvae.encode(observation, action)
        latent = mean + jnp.exp(log_deviation) * jax.random.normal(noise_key, mean.shape)
        error = jnp.mean((cvae.decode(observation, latent) - action) ** 2)
        return error + config.divergence * divergence(mean, log_deviation)

    return fit(
        loss,
        fresh,
        (data.observation, data.action),
        optax.adam(config.learning_rate),
        config.updates,
        fit_key,
        report,
        "cvae",
    )
