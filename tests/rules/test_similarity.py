"""Weights by similarity: distances and weights by hand, the scores of rows."""

import math

import jax.numpy as jnp
import numpy as np

from steps import step_of
from tabb.batch import Batch, Domains, make_domains
from tabb.experiments.oracle import distances
from tabb.rules import Similarity
from tabb.rules.similarity import nearest_distances
from tabb.transitions import Transitions

BATCH = Batch(
    observation=jnp.zeros((4, 1)),
    action=jnp.zeros((4, 1)),
    reward=jnp.zeros(4),
    next_observation=jnp.zeros((4, 1)),
    terminal=jnp.zeros(4),
    columns={"distance": jnp.array([3.0, 0.0, 6.0])},
    target_columns={},
    source_rows=3,
)


def rows(values, terminal):
    """Observation, action and next observation are all the value."""
    column = np.asarray(values, np.float32)[:, None]
    ends = np.asarray(terminal, np.float32)
    return Transitions(column, column, ends * 0, column, ends, np.zeros(len(ends), np.int32))


def test_weights_by_hand():
    rule = Similarity(temperature=2.0, least_weight=0.0, imitate_source=0.5)
    weights, metrics = rule.weigh(step_of(BATCH))
    # Mean distance 3, τ = 6.
    expected = np.array([math.exp(-0.5), 1, math.exp(-1), 1])
    np.testing.assert_allclose(weights.critic, expected, rtol=1e-6)
    np.testing.assert_allclose(weights.value, expected, rtol=1e-6)
    np.testing.assert_allclose(weights.policy, expected * [0.5, 0.5, 0.5, 1], rtol=1e-6)
    assert float(metrics["distance"]) == 3
    np.testing.assert_allclose(metrics["source_weight"], expected[:3].mean(), rtol=1e-6)


def test_distances_by_hand():
    domains = Domains(rows([0, 2, 9, 4], [0, 0, 1, 0]), rows([0, 2, 90], [0, 0, 1]), None)
    # Live rows: mean 1.5, mean square (20 / 3 + 4 / 2) / 2 = 13 / 3, in each of three columns; 4 lies 2 from 2.
    scale = math.sqrt(13 / 3 - 1.5**2)
    apart = math.sqrt(3) * 2 / scale
    np.testing.assert_allclose(nearest_distances(domains), [0, 0, apart / 3, apart], rtol=1e-5)
    scores = Similarity(least_weight=0.0).row_scores((), domains, lambda x: x[..., 0], 0.9)
    np.testing.assert_allclose(scores["weight"], np.exp(-np.array([0, 0, 1, 3])), rtol=1e-5)


def test_distances_are_those_of_the_oracle_figure(pair):
    domains = make_domains(*pair)
    alive = np.flatnonzero(np.asarray(pair[0].terminal) == 0)
    np.testing.assert_allclose(nearest_distances(domains)[alive], distances(domains, alive), rtol=1e-4, atol=1e-5)
