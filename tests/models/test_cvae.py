"""Conditional variational autoencoders: their likelihoods by hand, and what they are fitted to."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.models.cvae import CVAE, fit_cvae, importance_log_likelihood, log_likelihood
from tabb.networks import MLP
from tabb.rules import CVAEConfig


def silent(what, share):
    pass


def gaussian(x, mean, variance):
    return math.exp(-((x - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)


def constant(values, inputs):
    """A network that answers `values` whatever it sees."""
    return MLP((jnp.zeros((inputs, len(values))),), (jnp.asarray(values, jnp.float32),))


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
