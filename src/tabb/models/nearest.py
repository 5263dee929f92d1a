"""How near rows lie to those of another set: squared distances to the k-th nearest row, a few rows at a time."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

LARGEST_MATRIX = 4_000_000
"""distances held at once: 16 MB"""

GROUP = 16
"""numbers of which the smallest is found first, where the k-th smallest of many is asked for"""

LEAST_SQUARE = 1e-6
"""squared distances of standardised rows below which float32 tells nothing; logarithms start here"""


def kth_smallest(values: Float[Array, " m"], k: int) -> Float[Array, ""]:
    """The k-th smallest of some numbers, without sorting all of them as `top_k` does on a CPU.

    It lies in one of the k groups whose own smallest numbers are the smallest: in those there are k that are no larger
    than anything elsewhere.
    """
    size = max(1, min(GROUP, len(values) // k))
    groups = jnp.pad(values, (0, -len(values) % size), constant_values=jnp.inf).reshape(-1, size)
    _, first = jax.lax.top_k(-jnp.min(groups, axis=1), k)
    smallest, _ = jax.lax.top_k(-groups[first].reshape(-1), k)
    return -smallest[-1]


@functools.partial(jax.jit, static_argnums=2)
def kth_squares(
    rows: Float[Array, "n w"], others: Float[Array, "m w"], neighbour: int, own: Int[Array, " n"]
) -> Float[Array, " n"]:
    """Squared distance of each row to its k-th nearest among `others`, of which `own[i]` is row i itself (-1: none)."""
    sizes = jnp.sum(others**2, axis=-1)
    numbers = jnp.arange(len(others))

    def of_row(row: tuple[Array, Array]) -> Array:
        place, itself = row
        # In full precision: GPUs would multiply in 10 bits (TF32), and the distance of near rows would be rounding.
        products = jnp.matmul(others, place, precision=jax.lax.Precision.HIGHEST)
        squares = jnp.sum(place**2) + sizes - 2.0 * products
        return jnp.maximum(kth_smallest(jnp.where(numbers == itself, jnp.inf, squares), neighbour), 0.0)

    found: Array = jax.lax.map(of_row, (rows, own), batch_size=max(1, LARGEST_MATRIX // len(others)))
    return found


def log_ratio(to_target: Float[Array, " n"], to_source: Float[Array, " n"]) -> Float[Array, " n"]:
    """ρ = ln D_T - ln D_S of squared distances; the smaller, the nearer to the target for how dense the source is."""
    return jnp.log(jnp.maximum(to_target, LEAST_SQUARE)) - jnp.log(jnp.maximum(to_source, LEAST_SQUARE))


def proximity(ratio: Float[Array, " n"]) -> Float[Array, " n"]:
    """1 / (1 + ρ - min ρ) in (0, 1]: 1 for the row that is most like the target."""
    return 1.0 / (1.0 + ratio - jnp.min(ratio))
