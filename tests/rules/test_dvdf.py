"""DVDF: formulas by hand, the rows that it keeps, what is fitted."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from steps import step_of
from tabb.batch import make_domains
from tabb.rules import DVDF, SparseQConfig
from tabb.rules.dvdf import fit_values, relative, sparse_value_loss
from tabb.transitions import Transitions


def silent(what, share):
    pass


def test_sparse_value_loss_and_its_slope_by_hand():
    q, v = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    np.testing.assert_allclose(sparse_value_loss(q, v, 0.5), [(1 + 1) ** 2 + 0, 0 + 1 / 0.5])
    # d/dV = -x / α + 1 / α: zero where x = 1, which is where Q = V
    slope = jax.grad(lambda v: jnp.sum(sparse_value_loss(q, v, 0.5)))(q)
    np.testing.assert_allclose(slope, [0.0, 0.0], atol=1e-6)


def test_score_by_hand_and_rows_kept(batch):
    np.testing.assert_allclose(relative(jnp.array([1.0, 5.0, 2.0])), [0, 1, 0.25])
    np.testing.assert_array_equal(relative(jnp.array([2.0, 2.0])), [0, 0])
    columns = {"score": jnp.array([0.9, 0.1, 0.5]), "advantage": jnp.array([-3.0, 1.0, -1.0])}
    batch = dataclasses.replace(batch, columns=columns)
    # 0.75 c + 0.25 Ã: 0.675, 0.325, 0.5; by the cosine alone 0.9, 0.1, 0.5; by the advantage alone 0, 1, 0.5
    for likeness, kept in ((0.75, [0.9, 0.5]), (1.0, [0.9, 0.5]), (0.0, [0.1, 0.5])):
        found = DVDF(keep=0.67, likeness=likeness).select(step_of(batch))
        np.testing.assert_allclose(found.columns["score"], kept)
    kept = DVDF(keep=0.67).select(step_of(batch))
    weights, _ = DVDF().weigh(step_of(kept))
    np.testing.assert_allclose(weights.critic, [math.exp(0.9), math.exp(0.5), 1, 1, 1], rtol=1e-6)


def test_source_values_find_the_better_action(make_pair):
    """Reward s_2 + a_0 / 10, made large here: the advantage must rise with a_0."""
    source, target = make_pair()
    reward = (3.0 * source.action[:, 0]).astype(np.float32)
    source = dataclasses.replace(source, reward=reward, terminal=np.ones_like(reward))
    domains = make_domains(source, target, "none")
    config = SparseQConfig(updates=600, batch_size=64, hidden=(32,), learning_rate=3e-3, sparsity=1.0, slow_rate=0.05)
    values = fit_values(config, domains.source, jax.random.key(0), silent)
    found = np.asarray(values.advantage(domains.source))
    assert np.corrcoef(found, source.action[:, 0])[0, 1] > 0.9


def test_source_values_bootstrap_on_every_row_that_is_not_terminal():
    """A chain of two states, one action each: V is the return, and what a terminal row leads to says nothing."""
    source = Transitions(
        observation=np.float32([[1, 0], [0, 1]]),
        action=np.zeros((2, 1), np.float32),
        reward=np.float32([1, 2]),
        next_observation=np.float32([[0, 1], [1, 0]]),
        terminal=np.float32([0, 1]),
        episode=np.zeros(2, np.int32),
    )
    domains = make_domains(source, source, "none")
    config = SparseQConfig(updates=2_000, batch_size=32, hidden=(16,), learning_rate=3e-3, slow_rate=0.05, discount=0.5)
    values = fit_values(config, domains.source, jax.random.key(0), silent)
    # With one action per state the loss is least where V = Q: 1 + 0.5 * 2, and 2.
    np.testing.assert_allclose(values.value(domains.source.observation)[:, 0], [2.0, 2.0], atol=0.1)
    pair = jnp.concatenate([domains.source.observation, domains.source.action], axis=-1)
    np.testing.assert_allclose(values.critic(pair), [[2.0, 2.0]] * 2, atol=0.1)
