"""The matrix products of a function, and the best rate of this machine for each.

The limit of an update is the time of its products alone, each in the form that is fastest on this machine.
"""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

SCREENING = 5
"""timings of each form to choose the fastest"""
SECONDS = 0.02
"""least length of a timing in seconds, at the rate of the first"""


class Product(NamedTuple):
    """`batch` products [m, k] x [k, n]; m <= n, because a product and its transpose are the same arithmetic."""

    batch: int
    m: int
    k: int
    n: int

    @property
    def flops(self) -> int:
        return 2 * self.batch * self.m * self.k * self.n


def products(function: Callable[..., Any], *arguments: Any) -> collections.Counter[Product]:
    """Number of times that `function` computes each matrix product; the body of a scan counts once per pass."""
    counts: collections.Counter[Product] = collections.Counter()
    for equation, passes in _equations(jax.make_jaxpr(function)(*arguments).jaxpr, 1):
        if equation.primitive.name == "dot_general":
            counts[_product(equation)] += passes
    return counts


def flops(counts: collections.Counter[Product]) -> int:
    """Floating-point operations of all products (a multiplication and an addition are two)."""
    return sum(product.flops * count for product, count in counts.items())


def _equations(jaxpr: Any, passes: int) -> Iterator[tuple[Any, int]]:
    for equation in jaxpr.eqns:
        yield equation, passes
        inner = passes * equation.params.get("length", 1) if equation.primitive.name == "scan" else passes
        for parameter in jax.tree.leaves(equation.params, is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            parameter = getattr(parameter, "jaxpr", parameter)
            if hasattr(parameter, "eqns"):
                yield from _equations(parameter, inner)


def _product(equation: Any) -> Product:
    left, right = (variable.aval.shape for variable in equation.invars)
    (left_contracted, right_contracted), (left_batch, right_batch) = equation.params["dimension_numbers"]

    def free(shape: tuple[int, ...], used: tuple[int, ...]) -> int:
        return math.prod(size for axis, size in enumerate(shape) if axis not in used)

    m = free(left, (*left_contracted, *left_batch))
    n = free(right, (*right_contracted, *right_batch))
    batch = math.prod(left[axis] for axis in left_batch)
    return Product(batch, min(m, n), math.prod(left[axis] for axis in left_contracted), max(m, n))


def fastest_form(product: Product, clock: Callable[[Callable[[], Any]], float]) -> Callable[[], float]:
    """A timer of `product` in its fastest form; each call returns seconds per product.

    A form is the storage order of each operand and of the result. XLA may choose the order of the result, and does so
    in gradients: the same product can be several times slower in an order that the update never uses.
    """
    timers = [_timer(product, form, clock) for form in itertools.product((False, True), repeat=3)]
    best = [min(timer() for _ in range(SCREENING)) for timer in timers]
    return timers[best.index(min(best))]


def _timer(
    product: Product, form: tuple[bool, bool, bool], clock: Callable[[Callable[[], Any]], float]
) -> Callable[[], float]:
    """Seconds per product in one form, measured in a compiled loop."""
    left_turned, right_turned, result_turned = form
    batch, m, k, n = product

    def operand(rows: int, columns: int, turned: bool) -> jax.Array:
        return jnp.full((batch, columns, rows) if turned else (batch, rows, columns), 0.01)

    left, right = operand(m, k, left_turned), operand(k, n, right_turned)
    contracted = (1 if left_turned else 2, 2 if right_turned else 1)
    if batch == 1:  # a plain product, which XLA treats differently from a batched one
        left, right = left[0], right[0]
        contracted = (contracted[0] - 1, contracted[1] - 1)
    axes = ((), ()) if batch == 1 else ((0,), (0,))

    def multiply(a: jax.Array, b: jax.Array) -> jax.Array:
        if result_turned:
            a, b = b, a
        order = contracted[::-1] if result_turned else contracted
        return jax.lax.dot_general(a, b, (((order[0],), (order[1],)), axes))

    @jax.jit
    def loop(times: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
        def body(_: jax.Array, a: jax.Array) -> jax.Array:
            # An entry of the result goes back into an operand, so that no pass can be skipped or moved out of the loop.
            result = jax.lax.optimization_barrier(multiply(a, b))
            return a.at[(0,) * a.ndim].set(result[(0,) * result.ndim])

        return jax.lax.fori_loop(0, times, body, a)

    loop(1, left, right).block_until_ready()
    once = clock(lambda: loop(10, left, right)) / 10
    times = max(10, round(SECONDS / once))
    return lambda: clock(lambda: loop(times, left, right)) / times
