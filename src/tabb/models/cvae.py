"""Conditional variational autoencoder p(x | c): what actions a data set takes in a state (BCQ, Fujimoto et al. 2019),
or where its dynamics lead (BOSA)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.errors import UsageError
from tabb.field_types import TypedFields
from tabb.models.fitting import Report, draw_rows, fit
from tabb.networks import MLP, mlp


@dataclasses.dataclass(frozen=True)
class CVAEConfig(TypedFields):
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
    """q(z | c, x) and the decoder's x; z has twice the width of x."""

    encoder: MLP
    decoder: MLP
    bounded: bool = eqx.field(static=True, default=True)
    """whether what is decoded lies inside [-1, 1], as actions do"""

    def encode(self, condition: Float[Array, "*b c"], value: Float[Array, "*b x"]) -> tuple[Array, Array]:
        """Mean and logarithm of the deviation of q(z | c, x), shape [*b, z] each."""
        mean, log_deviation = jnp.split(self.encoder(jnp.concatenate([condition, value], axis=-1)), 2, axis=-1)
        return mean, jnp.clip(log_deviation, -4.0, 15.0)

    def decode(self, condition: Float[Array, "*b c"], latent: Float[Array, "*b z"]) -> Float[Array, "*b x"]:
        """The x of latent z under condition c."""
        value = self.decoder(jnp.concatenate([condition, latent], axis=-1))
        return jnp.tanh(value) if self.bounded else value


def divergence(mean: Float[Array, "b z"], log_deviation: Float[Array, "b z"]) -> Float[Array, ""]:
    """Kullback-Leibler divergence of q(z | c, x) from N(0, 1), mean over rows and latents."""
    return -0.5 * jnp.mean(1.0 + 2.0 * log_deviation - mean**2 - jnp.exp(2.0 * log_deviation))


def cvae_loss(
    cvae: CVAE,
    condition: Float[Array, "b c"],
    value: Float[Array, "b x"],
    noise: Float[Array, "b z"],
    divergence_weight: float,
) -> Float[Array, ""]:
    """Mean squared error of x decoded from z ~ q, and the weighted divergence."""
    mean, log_deviation = cvae.encode(condition, value)
    error = jnp.mean((cvae.decode(condition, mean + jnp.exp(log_deviation) * noise) - value) ** 2)
    return error + divergence_weight * divergence(mean, log_deviation)


def _draws(
    cvae: CVAE, condition: Float[Array, "b c"], value: Float[Array, "b x"], noise: Array, variance: float
) -> tuple[Float[Array, "m b"], Float[Array, "m b"]]:
    """Of each draw z_m ~ q(z | c, x): log N(x; decoder(c, z_m), variance), and log N(z_m; 0, 1) - log q(z_m | c, x)."""
    mean, log_deviation = cvae.encode(condition, value)
    noise = jnp.broadcast_to(noise, (len(noise), *mean.shape))
    latent = mean + jnp.exp(log_deviation) * noise
    conditions = jnp.broadcast_to(condition, (len(noise), *condition.shape))
    square = jnp.sum((value - cvae.decode(conditions, latent)) ** 2, axis=-1)
    constant = 0.5 * value.shape[-1] * math.log(2 * math.pi * variance)
    prior = jnp.sum(-0.5 * latent**2 + 0.5 * noise**2 + log_deviation, axis=-1)
    return -0.5 * square / variance - constant, prior


def log_likelihood(
    cvae: CVAE,
    condition: Float[Array, "b c"],
    value: Float[Array, "b x"],
    noise: Float[Array, "m z"],
    variance: float,
) -> Float[Array, " b"]:
    """log Σ_m N(x; decoder(c, z_m), variance) with z_m ~ q(z | c, x) from standard normal `noise` (OTDF's estimate)."""
    return jax.nn.logsumexp(_draws(cvae, condition, value, noise[:, None], variance)[0], axis=0)


def importance_log_likelihood(
    cvae: CVAE,
    condition: Float[Array, "b c"],
    value: Float[Array, "b x"],
    noise: Float[Array, "m _b z"],
    variance: float,
) -> Float[Array, " b"]:
    """log 1/M Σ_m N(x; decoder(c, z_m), variance) N(z_m; 0, 1) / q(z_m | c, x): an unbiased p(x | c) (BOSA's estimate).

    `noise` has one row of latents for every row (or one that all rows share).
    """
    decoded, prior = _draws(cvae, condition, value, noise, variance)
    return jax.nn.logsumexp(decoded + prior, axis=0) - math.log(len(noise))


def init_cvae(config: CVAEConfig, condition: int, value: int, key: PRNGKeyArray, bounded: bool = True) -> CVAE:
    """A fresh autoencoder of x of width `value` under conditions of width `condition`."""
    encoder_key, decoder_key = jax.random.split(key)
    latent = 2 * value
    return CVAE(
        mlp(encoder_key, (condition + value, *config.hidden, 2 * latent)),
        mlp(decoder_key, (condition + latent, *config.hidden, value)),
        bounded,
    )


Rows = tuple[Float[Array, "_n _c"], Float[Array, "_n _x"]]


def fit_cvae(
    config: CVAEConfig, domains: Sequence[Rows], key: PRNGKeyArray, report: Report, what: str, bounded: bool = True
) -> CVAE:
    """Fit it on (conditions, values) of one or more domains, drawn in equal shares."""
    init_key, fit_key = jax.random.split(key)
    fresh = init_cvae(config, domains[0][0].shape[-1], domains[0][1].shape[-1], init_key, bounded)
    share = max(1, config.batch_size // len(domains))

    def loss(cvae: CVAE, domains: Sequence[Rows], key: PRNGKeyArray) -> Array:
        row_key, noise_key = jax.random.split(key)
        drawn = []
        for number, (condition, value) in enumerate(domains):
            rows = draw_rows(jnp.arange(len(value)), share, jax.random.fold_in(row_key, number))
            drawn.append((condition[rows], value[rows]))
        condition, value = (jnp.concatenate(parts) for parts in zip(*drawn, strict=True))
        noise = jax.random.normal(noise_key, (len(value), 2 * value.shape[-1]))
        return cvae_loss(cvae, condition, value, noise, config.divergence)

    return fit(loss, fresh, domains, optax.adam(config.learning_rate), config.updates, fit_key, report, what)
