"""Stretches of episodes, the loss by hand, and the latent that tells bodies apart."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.errors import UsageError
from tabb.models.bodies import BodiesConfig, bodies_loss, fit_bodies, init_bodies, latents, stretches

CONFIG = BodiesConfig(latent=2, width=16, hidden=(16,), decoders=2, stretch=16, updates=400, batch_size=32)


@pytest.fixture
def mixture(rows):
    """Forty episodes of 20 rows: in every other one the state moves by a, in the others by -a."""
    generator = np.random.default_rng(0)
    state, action = generator.normal(size=800), generator.uniform(-1, 1, size=800)
    gain = np.repeat(np.resize([1.0, -1.0], 40), 20)
    data = rows(state, action, state + gain * action, np.zeros(800))
    return dataclasses.replace(data, episode=np.repeat(np.arange(40, dtype=np.int32), 20)), gain


def test_stretches_by_hand(rows):
    data = rows(np.zeros(5), np.zeros(5), np.zeros(5), np.zeros(5))
    data = dataclasses.replace(data, episode=np.array([0, 0, 0, 1, 1], np.int32))
    numbers, inside = stretches(data, 2)
    np.testing.assert_array_equal(numbers, [[0, 1], [2, 2], [3, 4]])
    np.testing.assert_array_equal(inside, [[1, 1], [1, 0], [1, 1]])


def test_loss_by_hand(mixture):
    """Decoders that say 0.5, and z = N(1, 1): changes of 1 in one known row of two, and half a nat for each z."""
    bodies = init_bodies(CONFIG, mixture[0], jax.random.key(0))
    still = jax.tree.map(jnp.zeros_like, bodies)
    half = dataclasses.replace(still.decoders[0], biases=(still.decoders[0].biases[0], jnp.array([0.5])))
    head = dataclasses.replace(still.head, biases=(jnp.array([1.0, 1.0, 0.0, 0.0]),))
    bodies = dataclasses.replace(still, decoders=(half, still.decoders[1]), head=head)
    pair, change = jnp.zeros((1, 2, 2)), jnp.array([[[1.0], [9.0]]])
    loss = jax.jit(bodies_loss)(bodies, pair, change, jnp.array([[1.0, 0.0]]), jnp.zeros((1, 2)), 0.1)
    assert float(loss) == pytest.approx((0.25 + 1.0) / 2 + 0.1 * (0.5 + 0.5), rel=1e-5)


def test_the_latent_tells_bodies_apart(mixture):
    data, gain = mixture
    bodies = fit_bodies(CONFIG, data, jax.random.key(1), lambda what, share: None)
    z = np.asarray(latents(bodies, jax.tree.map(jnp.asarray, data), CONFIG.stretch))
    np.testing.assert_array_equal(z[0], z[15])  # a stretch of 16 rows, then the rest of the episode
    assert not np.array_equal(z[0], z[16])
    long = np.resize(np.repeat([True, False], [16, 4]), 800)  # stretches with enough rows to tell
    middles = [z[long & (gain == sign)].mean(axis=0) for sign in (1, -1)]
    side = (z[long] - np.mean(middles, axis=0)) @ (middles[0] - middles[1]) > 0
    assert np.mean(side == (gain[long] > 0)) > 0.95


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"latent": 0}, "latent=0"), ({"divergence": -1.0}, "divergence=-1.0"), ({"hidden": ()}, "h")],
)
def test_wrong_settings(settings, says):
    with pytest.raises(UsageError, match=says):
        BodiesConfig(**settings)
