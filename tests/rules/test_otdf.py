"""OTDF: transport and autoencoder by hand and against linear programming, the rows and the loss that it changes."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from steps import step_of
from tabb.batch import make_domains
from tabb.models.cvae import CVAE, divergence, fit_cvae, log_likelihood
from tabb.models.transport import cosine_cost, deviations, transport_plan
from tabb.networks import MLP
from tabb.rules import OTDF, CVAEConfig
from tabb.rules.otdf import Transported, relative_score


def silent(what, share):
    pass


def test_cosine_cost_by_hand():
    found = cosine_cost(jnp.array([[1.0, 0.0], [3.0, 4.0]]), jnp.array([[2.0, 0.0], [0.0, -1.0]]))
    np.testing.assert_allclose(found, [[0.0, 1.0], [0.4, 1.8]], atol=1e-6)


def test_plan_of_two_rows_in_closed_form():
    """Cost [[0, 1], [1, 0]], mean 1/2: π_11 / π_12 = e^(1/ε), and a row of π sums to 1/2."""
    plan = transport_plan(jnp.array([[0.0, 1.0], [1.0, 0.0]]), 0.5, 50)
    same = 0.5 / (1 + math.exp(-1 / 0.25))
    np.testing.assert_allclose(plan, [[same, 0.5 - same], [0.5 - same, same]], rtol=1e-5)


def test_plan_has_its_marginals_and_nears_the_linear_programme():
    generator = np.random.default_rng(0)
    cost = generator.uniform(size=(6, 9))
    plan = np.asarray(transport_plan(jnp.asarray(cost, jnp.float32), 0.03, 5_000))
    np.testing.assert_allclose(plan.sum(axis=1), np.full(6, 1 / 6), rtol=1e-4)
    np.testing.assert_allclose(plan.sum(axis=0), np.full(9, 1 / 9), rtol=1e-2)
    rows = np.kron(np.eye(6), np.ones(9))
    columns = np.kron(np.ones(6), np.eye(9))
    exact = scipy.optimize.linprog(
        cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.r_[np.full(6, 1 / 6), np.full(9, 1 / 9)]
    )
    assert exact.fun <= (plan * cost).sum() + 1e-3
    assert (plan * cost).sum() == pytest.approx(exact.fun, rel=0.15)


def test_far_rows_do_not_break_the_plan():
    cost = jnp.zeros((40, 40)).at[:, 1].set(2.0)  # its column's kernel is 0 in float32 unless it is bounded
    plan = np.asarray(transport_plan(cost, 0.05, 100))
    np.testing.assert_allclose(plan.sum(axis=0), np.full(40, 1 / 40), rtol=1e-3)


def test_scores_do_not_depend_on_the_size_of_chunks():
    """A third of the source lies where the target is; whatever the chunks, it scores best, at the same level."""
    generator = np.random.default_rng(0)
    near, far = generator.normal([4, 0], 0.3, (200, 2)), generator.normal([0, 4], 0.3, (400, 2))
    source = jnp.asarray(generator.permutation(np.concatenate([near, far])), jnp.float32)
    target = jnp.asarray(generator.normal([4, 0.5], 0.3, (300, 2)), jnp.float32)
    told = []
    found = {
        chunk: np.asarray(deviations(source, target, chunk, 0.05, 100, jax.random.key(1), lambda *a: told.append(a)))
        for chunk in (600, 250, 100)
    }
    assert told[0] == ("transport", 0.0)
    assert told[-1] == ("transport", 1.0)
    is_near = np.asarray(source[:, 0] > 2)
    for score in found.values():
        assert score[is_near].min() > score[~is_near].max()
        assert score[~is_near].mean() == pytest.approx(found[600][~is_near].mean(), rel=0.05)
        assert score[is_near].mean() == pytest.approx(found[600][is_near].mean(), abs=0.05)


def test_relative_score_and_weights_by_hand(batch):
    np.testing.assert_allclose(relative_score(jnp.array([-4.0, -2.0, -3.0])), [-1.0, 0.0, -0.5])
    np.testing.assert_array_equal(relative_score(jnp.array([-2.0, -2.0])), [0.0, 0.0])
    batch = dataclasses.replace(batch, columns={"score": jnp.array([-4.0, -2.0, -3.0])})
    rule = OTDF(keep=0.7)
    kept = rule.select(step_of(batch))
    assert kept.source_rows == 2
    np.testing.assert_allclose(kept.columns["score"], [0.0, -0.5])
    np.testing.assert_array_equal(kept.reward, np.asarray(batch.reward)[[1, 2, 3, 4, 5]])
    weights, _ = rule.weigh(step_of(kept))
    np.testing.assert_allclose(weights.critic, [1.0, math.exp(-0.5), 1, 1, 1], rtol=1e-6)
    np.testing.assert_array_equal(weights.value, np.ones(5))


def test_divergence_by_hand():
    assert float(divergence(jnp.zeros((2, 2)), jnp.zeros((2, 2)))) == 0
    found = divergence(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, math.log(2)]]))
    assert float(found) == pytest.approx((0.5 + 0.5 * (4 - 1 - 2 * math.log(2))) / 2, rel=1e-6)


def test_log_likelihood_and_policy_term_by_hand(batch):
    """An encoder that always says N(0, 1) and a decoder that answers tanh(z): one action entry, two latents."""
    encoder = MLP((jnp.zeros((4, 2)),), (jnp.zeros(2),))
    decoder = MLP((jnp.array([[0.0], [0.0], [0.0], [1.0]]),), (jnp.zeros(1),))
    cvae = CVAE(encoder, decoder)
    noise, action = jnp.array([[0.0], [1.0]]), jnp.array([[0.0], [0.5]])
    found = log_likelihood(cvae, jnp.zeros((2, 3)), action, noise, 0.1)

    def density(a, mean):
        return math.exp(-((a - mean) ** 2) / 0.2) / math.sqrt(2 * math.pi * 0.1)

    wanted = [math.log(density(a, 0.0) + density(a, math.tanh(1))) for a in (0.0, 0.5)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)

    two = jax.tree.map(lambda leaf: leaf[:2], dataclasses.replace(batch, observation=jnp.zeros((6, 3)), source_rows=1))
    step = step_of(two, Transported(jnp.zeros(1), cvae, noise))
    term = OTDF(behaviour_scale=2.0).actor_term(step, action)
    assert float(term) == pytest.approx(-2.0 * np.mean(wanted), rel=1e-5)
    assert float(OTDF(behaviour_scale=0.0).actor_term(step, action)) == 0


def test_autoencoder_knows_which_actions_its_data_take(make_pair):
    data = make_domains(*make_pair(), "none").target
    data = dataclasses.replace(data, action=jnp.stack([jnp.tanh(data.observation[:, 0])] * 2, axis=1))
    config = CVAEConfig(hidden=(32, 32), updates=800, batch_size=64)
    cvae = fit_cvae(config, [(data.observation, data.action)], jax.random.key(0), silent, "autoencoder")
    noise = jax.random.normal(jax.random.key(1), (10, 4))
    usual = log_likelihood(cvae, data.observation, data.action, noise, 0.1)
    other = log_likelihood(cvae, data.observation, -data.action, noise, 0.1)
    far = np.abs(np.asarray(data.action[:, 0])) > 0.6
    assert np.mean(np.asarray(usual)[far] > np.asarray(other)[far]) > 0.9


def test_terminal_rows_are_not_transported(domains):
    rule = OTDF(iterations=5, samples=1, cvae=CVAEConfig(hidden=(4,), updates=1, batch_size=4))
    models = rule.prepare(domains, jax.random.key(0), silent)
    score = np.asarray(rule.columns(models, domains)["score"])
    ended = np.asarray(domains.source.terminal) > 0
    assert np.unique(score[ended]).size == 1
    assert score[ended][0] == pytest.approx(score[~ended].mean(), rel=1e-4)
    assert np.unique(score[~ended]).size > 1000
