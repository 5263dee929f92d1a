"""DROCO: penalty and losses by hand, the rows they change, and the ensemble that they rest on."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steps import step_of
from tabb.batch import make_domains
from tabb.models.ensemble import LOG_VARIANCE, fit_ensemble, gaussian, negative_log_likelihood
from tabb.models.fitting import with_next
from tabb.rules import DROCO, EnsembleConfig
from tabb.rules.droco import huber, robust_penalty


def silent(what, share):
    pass


def test_robust_penalty_and_huber_by_hand():
    predicted = jnp.array([[4.0, 1.0], [4.0, 9.0], [6.0, 7.0]])
    np.testing.assert_allclose(robust_penalty(jnp.array([3.0, 5.0, 5.0]), predicted, 0.5), [1.0, 0.5, 0.0])
    error = jnp.array([-1.0, 2.0, 3.0, -5.0])
    np.testing.assert_allclose(huber(error, 2.0), [1, 4, 8, 16])
    slope = jax.grad(lambda e: jnp.sum(huber(e, 2.0)))(error)
    np.testing.assert_allclose(slope, [-2, 4, 4, -4])
    np.testing.assert_array_equal(huber(error, math.inf), error**2)
    assert np.isfinite(jax.grad(lambda e: jnp.sum(huber(e, math.inf)))(jnp.array([0.0, 1e3]))).all()


def test_droco_lowers_source_backups_alone(batch):
    # V(x) = x_0: 0, 2 | 4, 6 | 8, 10 at what the ensemble predicts, 4 at each row's own next state. A backbone's own
    # next value, here 5, may differ from that.
    states = jnp.zeros((3, 2, 3)).at[..., 0].set(jnp.arange(0.0, 12.0, 2.0).reshape(3, 2))
    following = batch.next_observation.at[:, 0].set(4.0)
    batch = dataclasses.replace(batch, next_observation=following, columns={"next": states})
    own = jnp.full(6, 5.0)
    found = DROCO(penalty_scale=1.0).next_value(step_of(batch), own)
    np.testing.assert_allclose(found, [5.0 - 4.0, 5.0 - 0.0, 5.0, 5.0, 5.0, 5.0])
    loss = DROCO(huber_threshold=1.0).critic_loss(step_of(batch), jnp.full((2, 6), 3.0))
    np.testing.assert_allclose(loss, [[5.0] * 3 + [9.0] * 3] * 2)


def test_likelihood_by_hand():
    low, high = LOG_VARIANCE
    output = jnp.array([[1.0, -3.0]])  # mean, raw log-variance: well inside the soft bounds
    mean, log_variance = gaussian(output)
    assert float(log_variance[0, 0]) == pytest.approx(-3.0, abs=0.05)
    wanted = 0.5 * (4.0 * math.exp(-float(log_variance[0, 0])) + float(log_variance[0, 0]))
    assert float(negative_log_likelihood(output, mean + 2.0)) == pytest.approx(wanted, rel=1e-5)
    bounded = gaussian(jnp.array([[0.0, -1e3], [0.0, 1e3]]))[1][:, 0]
    np.testing.assert_allclose(bounded, [low, high], atol=1e-3)


def test_the_ensemble_sees_the_target_in_its_own_units(make_pair):
    """A joint that the target moves a hundredth as far as the source is next to nothing in the run's units."""
    config = EnsembleConfig(members=1, elites=1, updates=600, batch_size=64, hidden=(32, 32), learning_rate=3e-3)

    def narrowed(data):
        parts = {name: getattr(data, name) / 100 for name in ("observation", "next_observation")}
        return dataclasses.replace(data, **parts)

    target, fresh = (narrowed(make_domains(*make_pair(seed=seed), "none").target) for seed in (0, 1))
    ensemble = fit_ensemble(config, target, jax.random.key(0), silent)
    predicted = ensemble.following(fresh.observation, fresh.action)[:, 0]
    changes = np.asarray(fresh.next_observation - fresh.observation)
    error = np.asarray(predicted) - np.asarray(fresh.next_observation)
    assert (error**2).mean() < 0.2 * (changes**2).mean()


def test_ensemble_learns_the_target_dynamics_and_keeps_the_best(make_pair):
    domains = make_domains(*make_pair(), "none")
    config = EnsembleConfig(members=3, elites=2, updates=600, batch_size=64, hidden=(32, 32), learning_rate=3e-3)
    ensemble = fit_ensemble(config, domains.target, jax.random.key(0), silent)
    assert len(ensemble.members) == 2
    fresh = make_domains(*make_pair(seed=1), "none").target
    predicted = ensemble.following(fresh.observation, fresh.action)
    assert predicted.shape == (len(fresh), 2, 3)
    changes = np.asarray(fresh.next_observation - fresh.observation)
    error = np.asarray(predicted) - np.asarray(fresh.next_observation)[:, None]
    assert (error**2).mean() < 0.2 * (changes**2).mean()
    everyone = fit_ensemble(dataclasses.replace(config, elites=3), domains.target, jax.random.key(0), silent)

    order = jax.random.permutation(jax.random.split(jax.random.key(0), 3)[1], with_next(domains.target, "target"))
    held = domains.target[order[: int(config.held_out * len(order))]]

    def error_of(member):
        alone = dataclasses.replace(ensemble, members=(member,)).following(held.observation, held.action)[:, 0]
        return float(jnp.mean(((alone - held.next_observation) / ensemble.scale) ** 2))

    kept = {np.asarray(member.weights[0]).tobytes() for member in ensemble.members}
    errors = [error_of(member) for member in everyone.members]
    left_out = [np.asarray(member.weights[0]).tobytes() not in kept for member in everyone.members]
    assert sum(left_out) == 1
    assert np.argmax(errors) == np.argmax(left_out), "the worst on the rows set aside is left out"
