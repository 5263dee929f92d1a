"""Distances to the k-th nearest row, and the proximity made of them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.models import nearest
from tabb.models.transport import cosine_cost
from tabb.rules.taf_dt import Kernel, least_distances


def test_kth_squares_by_hand(monkeypatch):
    rows = jnp.array([[0.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
    others = jnp.array([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    nobody = jnp.full(3, -1)
    np.testing.assert_allclose(nearest.kth_squares(rows, others, 1, nobody), [0, 4, 9], atol=1e-5)
    np.testing.assert_allclose(nearest.kth_squares(rows, others, 2, nobody), [1, 9, 25], atol=1e-5)
    # Row 0 is the second of the others: itself does not count.
    np.testing.assert_allclose(nearest.kth_squares(rows, others, 1, jnp.array([1, -1, -1])), [1, 4, 9], atol=1e-5)


def test_a_few_rows_at_a_time_are_the_same(monkeypatch):
    generator = np.random.default_rng(0)
    rows, others = (jnp.asarray(generator.normal(size=(count, 3)), jnp.float32) for count in (11, 7))
    monkeypatch.setattr(nearest, "LARGEST_MATRIX", 21)  # three rows at once
    wanted = np.sort(((rows[:, None] - others) ** 2).sum(-1), axis=1)[:, 3]
    np.testing.assert_allclose(nearest.kth_squares(rows, others, 4, jnp.full(11, -1)), wanted, rtol=1e-5)


@pytest.mark.parametrize(("count", "k"), [(1, 1), (5, 5), (16, 3), (37, 5), (200, 1), (200, 13)])
def test_the_kth_smallest_is_that_of_all_sorted(count, k):
    """Also among numbers that are there several times, and infinite ones."""
    values = np.random.default_rng(count + k).integers(0, 40, count).astype(np.float32)
    values[: count // 3] = np.inf
    assert nearest.kth_smallest(jnp.asarray(values), k) == np.sort(values)[k - 1]


def test_proximity_by_hand():
    ratio = nearest.log_ratio(jnp.array([1.0, math.e, 0.0]), jnp.array([math.e, 1.0, 1.0]))
    np.testing.assert_allclose(ratio, [-1.0, 1.0, math.log(nearest.LEAST_SQUARE)], rtol=1e-5)
    np.testing.assert_allclose(nearest.proximity(ratio[:2]), [1.0, 1.0 / 3.0], rtol=1e-6)


def of_fragments(rows, others):
    kernel = Kernel(jnp.eye(3), jnp.zeros(3))
    return least_distances(kernel, rows, jnp.arange(len(rows)), others, 2)


@pytest.mark.parametrize(
    "distances",
    [lambda rows, others: nearest.kth_squares(rows, others, 1, jnp.full(4, -1)), cosine_cost, of_fragments],
    ids=["neighbours", "cosines", "fragments"],
)
def test_products_that_nearly_cancel_keep_all_their_digits(distances):
    """A GPU multiplies in 10 bits unless told otherwise: then the distance of near rows is rounding. CPUs do not."""
    program = str(jax.make_jaxpr(distances)(jnp.ones((4, 3)), jnp.ones((5, 3))))
    assert "Precision.HIGHEST" in program
