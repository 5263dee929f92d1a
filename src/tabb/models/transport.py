"""Entropic optimal transport of source rows to target rows (Cuturi 2013), in chunks of the source.

Our own few lines and not ott-jax: that library brings an optimisation package whose development has ended, and iterates
on logarithms, an exponential for each of 5e7 entries twice per iteration; the kernel form below needs two products.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.models.fitting import Report

LARGEST_EXPONENT = 60.0
"""costs beyond this many ε above the least of their row count as that: e^-60 is nearly nothing, and float32 holds it"""

LARGEST_MATRIX = 50_000_000
"""entries of one matrix: 200 MB"""


def cosine_cost(source: Float[Array, "n w"], target: Float[Array, "m w"]) -> Float[Array, "n m"]:
    """1 - cos of the angle between rows."""

    def unit(rows: Array) -> Array:
        return rows / jnp.maximum(jnp.linalg.norm(rows, axis=-1, keepdims=True), 1e-8)

    # In full precision: GPUs would multiply in 10 bits (TF32), which near rows are nearer than.
    return 1.0 - jnp.matmul(unit(source), unit(target).T, precision=jax.lax.Precision.HIGHEST)


def transport_plan(cost: Float[Array, "n m"], regularisation: float, iterations: int) -> Float[Array, "n m"]:
    """Sinkhorn's plan π between uniform marginals, with ε = regularisation · mean cost; rows sum to 1 / n."""
    rows, columns = cost.shape
    epsilon = regularisation * jnp.maximum(jnp.mean(cost), 1e-8)
    # Shifting a row's costs changes its scaling alone, never the plan.
    exponent = (cost - jnp.min(cost, axis=1, keepdims=True)) / epsilon
    kernel = jnp.exp(-jnp.minimum(exponent, LARGEST_EXPONENT))

    def body(_: Array, scaling: Float[Array, " m"]) -> Float[Array, " m"]:
        row_scaling = 1.0 / (rows * (kernel @ scaling))
        return 1.0 / (columns * (row_scaling @ kernel))

    scaling = jax.lax.fori_loop(0, iterations, body, jnp.full(columns, 1.0 / columns))
    row_scaling = 1.0 / (rows * (kernel @ scaling))
    return row_scaling[:, None] * kernel * scaling


@functools.partial(jax.jit, static_argnums=(2, 3))
def _deviation(
    source: Float[Array, "n w"], target: Float[Array, "m w"], regularisation: float, iterations: int
) -> Float[Array, " n"]:
    cost = cosine_cost(source, target)
    return -len(source) * jnp.sum(transport_plan(cost, regularisation, iterations) * cost, axis=1)


def deviations(
    source: Float[Array, "n w"],
    target: Float[Array, "m w"],
    chunk: int,
    regularisation: float,
    iterations: int,
    key: PRNGKeyArray,
    report: Report,
) -> Float[Array, " n"]:
    """Minus the expected cost of transporting each source row: nearer to 0 is more target-like.

    The source is cut into chunks of nearly equal size, drawn at random so that each is a fair sample of it; a row's
    share of its chunk's cost is divided by its share of the mass, so that scores do not depend on a chunk's size.
    Memory: a few matrices of chunk x target rows, the chunk made smaller where those would pass `LARGEST_MATRIX`.
    """
    chunk = max(1, min(chunk, LARGEST_MATRIX // len(target)))
    order = np.asarray(jax.random.permutation(key, len(source)))
    deviation = np.empty(len(source), np.float32)
    pieces = np.array_split(order, -(-len(source) // chunk))
    for number, piece in enumerate(pieces):
        report("transport", number / len(pieces))
        deviation[piece] = np.asarray(_deviation(source[piece], target, regularisation, iterations))
    report("transport", 1.0)
    return jnp.asarray(deviation)
