"""Squashed Gaussians: the policies of soft actor-critic and of CQL, a = tanh(μ + σ ε)."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tabb.networks import MLP

LEAST_LOG_DEVIATION, LARGEST_LOG_DEVIATION = -20.0, 2.0


def squashed_sample(
    policy: MLP, observation: Float[Array, "*b s"], noise: Float[Array, "*b a"]
) -> tuple[Float[Array, "*b a"], Float[Array, "*b"]]:
    """a = tanh(μ + σ ε) and ln π(a | s), from standard normal ε."""
    mean, log_deviation = jnp.split(policy(observation), 2, axis=-1)
    log_deviation = jnp.clip(log_deviation, LEAST_LOG_DEVIATION, LARGEST_LOG_DEVIATION)
    before = mean + jnp.exp(log_deviation) * noise
    normal = -0.5 * noise**2 - log_deviation - 0.5 * math.log(2 * math.pi)
    # ln(1 - tanh² x) in a form that does not cancel for large |x|.
    squash = 2.0 * (math.log(2.0) - before - jax.nn.softplus(-2.0 * before))
    return jnp.tanh(before), jnp.sum(normal - squash, axis=-1)
