"""BOSA: formulas by hand, the rows that they change, what is fitted."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steps import step_of
from tabb.backbones import TD3BC
from tabb.batch import make_domains
from tabb.models.cvae import CVAE
from tabb.networks import MLP, Normaliser
from tabb.rules import BOSA, CVAEConfig
from tabb.rules.bosa import Support
from tabb.training.loop import Program


def silent(what, share):
    pass


def gaussian(x, mean, variance):
    return math.exp(-((x - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)


def constant(values, inputs):
    """A network that answers `values` whatever it sees."""
    return MLP((jnp.zeros((inputs, len(values))),), (jnp.asarray(values, jnp.float32),))


def support():
    """Every action is 0, and its latent says nothing."""
    cvae = CVAE(constant([0.0] * 8, 5), constant([0.0, 0.0], 7))
    return Support(cvae, (), Normaliser(jnp.zeros(8), jnp.ones(8)), jnp.zeros((1, 6)))


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


def test_bosa_judges_actions_with_new_latents_in_every_update(batch):
    """With one latent that stays, the policy would climb the estimate's error in its direction."""
    follows = MLP((jnp.zeros((7, 2)).at[3, 0].set(1.0),), (jnp.zeros(2),))  # the first entry decodes the first latent
    models = eqx.tree_at(lambda made: made.actions.decoder, support(), follows)
    action = jnp.zeros((6, 2))
    terms = [
        float(BOSA().actor_term(dataclasses.replace(step_of(batch, models), key=jax.random.key(seed)), action))
        for seed in (0, 0, 1)
    ]
    assert terms[0] == terms[1] != terms[2]


@pytest.mark.parametrize("both", [False, True])
def test_bosa_judges_steps_in_the_units_of_the_data_of_its_dynamics(make_pair, both):
    domains = make_domains(*make_pair(600, 300), "none")
    rule = BOSA(dynamics_from="both" if both else "target", members=1, cvae=CVAEConfig(hidden=(4,), updates=1))
    far = dataclasses.replace(
        domains.source,
        next_observation=domains.source.observation
        + 30 * (domains.source.next_observation - domains.source.observation),
    )
    change = domains.target.next_observation - domains.target.observation
    alive = np.asarray(domains.target.terminal) == 0
    spread = np.sqrt(np.mean(np.asarray(change)[alive] ** 2, axis=0))
    scale = rule.template(domains._replace(source=far), jax.random.key(0)).normaliser.scale[-len(spread) :]
    assert np.allclose(scale, spread, rtol=1e-4) != both
    assert np.all(np.asarray(scale) > 5 * spread) == both


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
