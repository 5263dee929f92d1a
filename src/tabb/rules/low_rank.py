"""Changes of low rank (LoRA, Hu et al. 2022, as PSEC uses it): a network is tuned by few numbers and starts as it is.

    W = W_0 + c A B        A: [in, r], normal with variance 1 / in at first; B: [r, out], zero at first
    ∂L/∂A = c G Bᵀ,  ∂L/∂B = c Aᵀ G        G = ∂L/∂W

Written as an optimiser that turns the gradient of W into a change of W, so that the network itself needs no other form.
Biases stay.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

FIRST = 8_191
"""the seed of the first A: the same in every run, so that a state of zeros is the beginning"""


class Factors(NamedTuple):
    """What has been learned of A beyond its beginning, and B."""

    down: Float[Array, "i r"]
    up: Float[Array, "r o"]


class LowRankState(NamedTuple):
    """Factors of each weight matrix, the optimiser's state for them, and its state for whole weights."""

    factors: tuple[Factors, ...]
    of_factors: Any
    of_weights: Any


def first_down(number: int, size: int, rank: int) -> Float[Array, "i r"]:
    """A of matrix `number` before anything is learned."""
    key = jax.random.fold_in(jax.random.key(FIRST), number)
    return jax.random.normal(key, (size, rank)) / jnp.sqrt(size)


def matrices(tree: Any) -> list[Float[Array, "i o"]]:
    """The weight matrices among the leaves."""
    return [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim == 2]


def low_rank(
    plain: optax.GradientTransformation, rank: int, scale: float, tuning: bool
) -> optax.GradientTransformation:
    """`plain` where not `tuning`; there it changes A and B. The state has one form, so that a run can go from one to
    the other; in a state of zeros nothing has been tuned."""

    def init(parameters: Any) -> LowRankState:
        factors = tuple(
            Factors(jnp.zeros((matrix.shape[0], rank)), jnp.zeros((rank, matrix.shape[1])))
            for matrix in matrices(parameters)
        )
        return LowRankState(factors, plain.init(factors), plain.init(parameters))

    def update(gradient: Any, state: LowRankState, parameters: Any = None) -> tuple[Any, LowRankState]:
        if not tuning:
            change, of_weights = plain.update(gradient, state.of_weights, parameters)
            return change, state._replace(of_weights=of_weights)
        downs = [first_down(i, len(f.down), rank) + f.down for i, f in enumerate(state.factors)]
        slopes = tuple(
            Factors(scale * g @ f.up.T, scale * down.T @ g)
            for g, f, down in zip(matrices(gradient), state.factors, downs, strict=True)
        )
        steps, of_factors = plain.update(slopes, state.of_factors, state.factors)
        factors: tuple[Factors, ...] = optax.apply_updates(state.factors, steps)
        changes = iter(
            scale * ((down + step.down) @ after.up - down @ before.up)
            for down, step, after, before in zip(downs, steps, factors, state.factors, strict=True)
        )
        leaves, form = jax.tree.flatten(gradient)
        change = [next(changes) if leaf.ndim == 2 else jnp.zeros_like(leaf) for leaf in leaves]
        return jax.tree.unflatten(form, change), LowRankState(factors, of_factors, state.of_weights)

    return optax.GradientTransformation(init, update)
