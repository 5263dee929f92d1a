"""BOSA and DVDF: formulas by hand, the rows that they change, what is fitted."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steps import step_of
from tabb.backbones import TD3BC
from tabb.batch import make_domains
from tabb.models.cvae import CVAE, fit_cvae, importance_log_likelihood, log_likelihood
from tabb.networks import MLP, Normaliser
from tabb.rules import BOSA, DVDF, CVAEConfig, SparseQConfig
from tabb.rules.bosa import Support
from tabb.rules.dvdf import fit_values, relative, sparse_value_loss
from tabb.training.loop import Program
from tabb.transitions import Transitions


def silent(what, share):
    pass


def gaussian(x, mean, variance):
    return math.exp(-((x - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)


def constant(values, inputs):
    """A network that answers `values` whatever it sees."""
    return MLP((jnp.zeros((inputs, len(values))),), (jnp.asarray(values, jnp.float32),))


# --- the likelihood ---


def test_importance_likelihood_by_hand():
    """q = N(1, 2²) of a latent of two entries; the decoder answers the first of them."""
    encoder = constant([1.0, 0.0, math.log(2), 0.0], 4)
    decoder = MLP((jnp.zeros((5, 1)).at[3].set(1.0),), (jnp.zeros(1),))
    cvae = CVAE(encoder, decoder, bounded=False)
    noise = np.array([[0.5, -1.0], [-1.0, 0.0]])
    found = importance_log_likelihood(
        cvae, jnp.zeros((1, 3)), jnp.array([[0.7]]), jnp.asarray(noise, jnp.float32)[:, None], 0.25
    )
    total = 0.0
    for e in noise:
        z = np.array([1 + 2 * e[0], e[1]])
        q = gaussian(z[0], 1, 4) * gaussian(z[1], 0, 1)
        total += gaussian(0.7, z[0], 0.25) * gaussian(z[0], 0, 1) * gaussian(z[1], 0, 1) / q
    assert float(found[0]) == pytest.approx(math.log(total / 2), rel=1e-5)


def test_many_draws_give_the_true_likelihood():
    """x = z + noise with z ~ N(0, 1): p(x) = N(x; 0, 1 + variance), whatever q is."""
    decoder = MLP((jnp.zeros((3, 1)).at[1].set(1.0),), (jnp.zeros(1),))
    cvae = CVAE(constant([0.3, 0.0, 0.0, 0.0], 2), decoder, bounded=False)
    noise = jax.random.normal(jax.random.key(0), (20_000, 1, 2))
    x = jnp.array([[0.0], [1.0], [-2.0]])
    found = importance_log_likelihood(cvae, jnp.zeros((3, 1)), x, noise, 0.5)
    wanted = [math.log(gaussian(value, 0, 1.5)) for value in (0.0, 1.0, -2.0)]
    np.testing.assert_allclose(found, wanted, atol=0.03)


def test_an_autoencoder_of_two_domains_draws_from_both():
    first, second = (jnp.full((50, 1), value) for value in (-0.5, 0.5))
    config = CVAEConfig(hidden=(16,), updates=600, batch_size=32)
    both = fit_cvae(config, [(jnp.zeros((50, 1)), first), (jnp.ones((50, 1)), second)], jax.random.key(0), silent, "x")
    noise = jnp.zeros((1, 2))
    for condition, value in ((0.0, -0.5), (1.0, 0.5)):
        where = jnp.full((1, 1), condition)
        own = log_likelihood(both, where, jnp.full((1, 1), value), noise, 0.1)
        other = log_likelihood(both, where, jnp.full((1, 1), -value), noise, 0.1)
        assert float(own[0]) > float(other[0])


# --- BOSA ---


def support():
    """Every action is 0, and its latent says nothing."""
    cvae = CVAE(constant([0.0] * 8, 5), constant([0.0, 0.0], 7))
    return Support(cvae, (), Normaliser(jnp.zeros(8), jnp.ones(8)), jnp.zeros((1, 4)), jnp.zeros((1, 6)))


def with_likelihoods(batch):
    source, target = jnp.array([-9.0, jnp.inf, 1.0]), jnp.array([0.0, -9.0, 3.0])
    return dataclasses.replace(batch, columns={"log_likelihood": source}, target_columns={"log_likelihood": target})


def test_bosa_leaves_unlikely_rows_of_both_domains_out(batch):
    rule, batch = BOSA(least_likelihood=0.01), with_likelihoods(batch)
    weights, metrics = rule.weigh(step_of(batch))
    np.testing.assert_array_equal(weights.critic, [0, 1, 1, 1, 0, 1])
    np.testing.assert_array_equal(weights.policy, np.ones(6))
    assert float(metrics["source_kept"]) == pytest.approx(2 / 3)
    everything, _ = dataclasses.replace(rule, least_likelihood=0.0).weigh(step_of(batch))
    np.testing.assert_array_equal(everything.critic, np.ones(6))


def test_bosa_pushes_source_values_alone(batch):
    slope = jax.grad(lambda values: BOSA(conservatism=0.1).critic_term(step_of(batch), values))(jnp.ones((2, 6)))
    np.testing.assert_allclose(slope, np.tile([0.2 / 3] * 3 + [0] * 3, (2, 1)), rtol=1e-6)
    assert float(BOSA(conservatism=0.0).critic_term(step_of(batch), jnp.ones((2, 6)))) == 0


def test_bosa_bootstraps_on_every_row_that_is_not_terminal(batch, sizes):
    """The public code's defect: it took "not terminal" for "terminal". Rows 1 and 4 end."""
    backbone = TD3BC(hidden=(16,), batch_size=16, noise=0.0)
    models = support()
    batch = with_likelihoods(batch)
    moved = []
    for row in range(6):
        backups = []
        for shift in (0.0, 3.0):
            # Only the next state of this row changes; what changes with it is the mean of the backups.
            changed = dataclasses.replace(batch, next_observation=batch.next_observation.at[row].add(shift))
            learner = Program(backbone, BOSA(policy_scale=0.0), 4)
            state = learner.init(sizes, jax.random.key(0))
            _, metrics = learner.update(models, state, changed, jax.random.key(1), jnp.asarray(0))
            backups.append(float(metrics["mean_backup"]))
        moved.append(abs(backups[1] - backups[0]) > 1e-4)
    assert moved == [True, False, True, True, False, True]


def test_bosa_policy_term_by_hand(batch):
    models = support()
    action = jnp.zeros((6, 2)).at[0, 0].set(0.5)
    term = BOSA(policy_scale=2.0, variance=0.1).actor_term(step_of(batch, models), action)
    at_zero = 2 * math.log(gaussian(0.0, 0.0, 0.1))
    assert float(term) == pytest.approx(-2.0 * (at_zero - 0.25 / 0.2 / 6), rel=1e-5)


def test_bosa_finds_target_steps_likelier_than_the_sources_where_they_differ(make_pair):
    """Source and target differ where s_0 > 0. On rows that no autoencoder has seen."""
    domains = make_domains(*make_pair(1500, 3000, shift=3.0), "none")
    rule = BOSA(members=2, samples=4, cvae=CVAEConfig(hidden=(64, 64), updates=1_500, batch_size=64))
    models = rule.prepare(domains, jax.random.key(0), silent)
    fresh = make_domains(*make_pair(1000, 1000, shift=3.0, seed=1), "none")
    source = np.asarray(rule.columns(models, fresh)["log_likelihood"])
    target = np.asarray(rule.target_columns(models, fresh)["log_likelihood"])
    for data, found in ((fresh.source, source), (fresh.target, target)):
        assert np.isinf(found[np.asarray(data.terminal) > 0]).all()  # nothing to judge: kept
    there = [
        found[(np.asarray(data.observation)[:, 0] > 0) & (np.asarray(data.terminal) == 0)][:300]
        for data, found in ((fresh.source, source), (fresh.target, target))
    ]
    assert np.mean(there[1][:, None] > there[0][None]) > 0.7


# --- DVDF ---


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
