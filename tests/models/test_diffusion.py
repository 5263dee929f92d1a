"""The denoiser's preconditioning and loss by hand, the sampler where the answer is known, and the condition."""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.errors import UsageError
from tabb.models.diffusion import (
    DiffusionConfig,
    churned,
    denoising_loss,
    fit_denoiser,
    init_denoiser,
    noise_levels,
    sample,
)

CONFIG = DiffusionConfig(hidden=32, blocks=1, updates=400, batch_size=128, learning_rate=3e-3, steps=16, averaging=0.02)


def silent(what, share):
    pass


def ideal(width):
    """The best denoiser of standard normal rows, x / (σ² + 1): a network whose last layer is 0."""
    fresh = init_denoiser(CONFIG, width, jax.random.key(0))
    return eqx.tree_at(lambda d: d.last, fresh, jax.tree.map(jnp.zeros_like, fresh.last))


def test_preconditioning_and_loss_by_hand():
    x, ones = jnp.array([[2.0, -4.0]]), jnp.ones(1)
    np.testing.assert_allclose(ideal(2)(x, 3.0 * ones, ones, ones), x / 10.0, rtol=1e-6)
    # Noise 1 with σ = 1 on the row (1, 3): (2, 4) / 2 - (1, 3) = (0, -1); the weight is 2, the mean over two entries.
    row, noise, known = jnp.array([[1.0, 3.0]]), jnp.ones((1, 2)), jnp.ones((1, 2))
    assert float(denoising_loss(ideal(2), row, known, ones, ones, ones, noise)) == pytest.approx(1.0, rel=1e-6)
    known = jnp.array([[1.0, 0.0]])
    assert float(denoising_loss(ideal(2), row, known, ones, ones, ones, noise)) == pytest.approx(0.0, abs=1e-6)


def test_noise_levels():
    levels = noise_levels(5)
    np.testing.assert_allclose(levels[jnp.array([0, -1])], [80.0, 0.002], rtol=1e-4)
    assert np.all(np.diff(levels) < 0)
    assert float(churned(jnp.asarray(60.0), 80.0, 32)) == 60.0  # beyond the range
    assert float(churned(jnp.asarray(1.0), 80.0, 1000)) == pytest.approx(1.08)
    assert float(churned(jnp.asarray(1.0), 80.0, 32)) == pytest.approx(2**0.5)


def spread_of_samples(steps, churn):
    """The deviation that Heun's method gives standard normal rows under the ideal denoiser: each step is a factor."""
    levels = [*np.asarray(noise_levels(steps), np.float64), 0.0]
    variance = levels[0] ** 2
    for sigma, following in itertools.pairwise(levels):
        raised = float(churned(jnp.asarray(sigma), churn, steps))
        variance += 1.003**2 * (raised**2 - sigma**2)
        length, slope = following - raised, raised / (raised**2 + 1)
        ahead = (1 + length * slope) * following / (following**2 + 1) if following else slope
        variance *= (1 + length * 0.5 * (slope + ahead)) ** 2
    return variance**0.5


def test_the_sampler_draws_what_the_ideal_denoiser_knows():
    assert spread_of_samples(32, 0.0) == pytest.approx(1.0, abs=0.02)
    config = dataclasses.replace(CONFIG, churn=80.0)
    rows = sample(config, ideal(2), jnp.zeros(3000), jax.random.key(1), silent)
    assert float(jnp.mean(rows)) == pytest.approx(0.0, abs=0.05)
    assert float(jnp.std(rows)) == pytest.approx(spread_of_samples(16, 80.0), abs=0.03)


def test_the_condition_changes_what_is_generated():
    """Rows lie at 1 where the condition is 1 and at -1 where it is -1; a second entry that is never known stays out."""
    generator = np.random.default_rng(0)
    side = np.where(generator.random(600) < 0.5, 1.0, -1.0)
    rows = jnp.asarray(np.stack([side + 0.1 * generator.normal(size=600), np.full(600, 1e6)], axis=-1), jnp.float32)
    known = jnp.tile(jnp.array([1.0, 0.0]), (600, 1))
    denoiser = fit_denoiser(CONFIG, rows, known, jnp.asarray(side, jnp.float32), jax.random.key(2), silent)
    asked = jnp.repeat(jnp.array([1.0, -1.0]), 100)
    made = sample(CONFIG, denoiser, asked, jax.random.key(3), silent)[:, 0]
    assert float(jnp.mean(jnp.sign(made) == asked)) > 0.9
    np.testing.assert_array_equal(made, sample(CONFIG, denoiser, asked, jax.random.key(3), silent)[:, 0])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"steps": 1}, "steps=1"),
        ({"guidance": -1.0}, "guidance=-1.0"),
        ({"left_out": 1.0}, "left_out=1.0"),
        ({"averaging": 0.0}, "averaging=0.0"),
    ],
)
def test_wrong_settings(settings, says):
    with pytest.raises(UsageError, match=says):
        DiffusionConfig(**settings)
