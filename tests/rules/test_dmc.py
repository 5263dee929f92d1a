"""DmC: rows of the table, which rows of a batch stay, their weights, and the parts that must be fitted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steps import step_of
from tabb.batch import Batch
from tabb.errors import UsageError
from tabb.models.cvae import CVAEConfig, log_likelihood
from tabb.rules import DmC
from tabb.rules.dmc import best_of_both, rows_of, table, table_normaliser


def silent(what, share):
    pass


def test_rows_of_the_table_by_hand(rows):
    data = jax.tree.map(jnp.asarray, rows([1.0, 2.0], [0.5, -0.5], [4.0, 9.0], [0.0, 1.0]))
    values, known = table(data)
    np.testing.assert_array_equal(values, [[1, 3, 0.5, 0, 0], [2, 0, -0.5, 0, 1]])
    np.testing.assert_array_equal(known, [[1, 1, 1, 1, 1], [1, 0, 1, 1, 1]])
    normaliser = table_normaliser(values, known)
    np.testing.assert_allclose(normaliser.mean, [1.5, 3, 0, 0, 0])
    np.testing.assert_allclose(normaliser.scale, [0.5, 1, 0.5, 1, 1])
    back = rows_of(values.at[0, 2].set(1.5).at[0, 4].set(0.4), (1, 1), jnp.array([0.7, 0.2]))
    np.testing.assert_array_equal(back.observation[:, 0], [1, 2])
    np.testing.assert_array_equal(back.next_observation[:, 0], [4, 2])
    np.testing.assert_array_equal(back.action[:, 0], [1, -0.5])
    np.testing.assert_array_equal(back.terminal, [0, 1])
    np.testing.assert_allclose(back.columns["score"], [0.7, 0.2])


@pytest.fixture
def mixed():
    """Two source rows (0, 1), two target rows (2, 3) and two generated ones (4, 5)."""
    numbers = jnp.arange(6.0)
    columns, extra = {"score": jnp.array([0.1, 0.9])}, {"score": jnp.array([0.5, 0.3])}
    place = numbers[:, None]
    return Batch(place, place, numbers, place, 0 * numbers, columns, {}, 2, extra, 2)


def test_the_best_of_source_and_generated_rows_stay(mixed):
    kept = best_of_both(mixed, 2)
    np.testing.assert_array_equal(kept.reward, [1, 4, 2, 3])
    np.testing.assert_allclose(kept.columns["score"], [0.9, 0.5])
    assert (kept.source_rows, kept.target_rows, kept.extra_rows) == (2, 2, 0)
    selected = DmC(keep=0.5).select(step_of(mixed))
    np.testing.assert_array_equal(selected.reward, kept.reward)
    weights, metrics = DmC().weigh(step_of(selected))
    np.testing.assert_allclose(weights.critic, [0.9, 0.5, 1, 1])
    np.testing.assert_array_equal(weights.policy, np.ones(4))
    assert float(metrics["source_weight"]) == pytest.approx(0.7)


def test_shares():
    assert DmC().shares(256) == (64, 128)
    assert DmC().extra_share(256) == 64
    assert DmC(generated=0.0).shares(256) == (128, 128)


def test_what_is_near_the_target_scores_more(domains):
    """Source rows that move as the target does (s_0 < 0, see `pair`) are nearer to it than the others."""
    score = DmC(reference_rows=400).scores(domains, jax.random.key(0), silent)
    moves, alive = domains.source.observation[:, 0] > 0, domains.source.terminal == 0
    assert float(jnp.mean(score[alive & ~moves])) > 1.05 * float(jnp.mean(score[alive & moves]))
    np.testing.assert_allclose(score[~alive], jnp.mean(score[alive]), rtol=1e-4)


@pytest.mark.slow
def test_the_autoencoder_is_fitted(domains):
    cvae = CVAEConfig(hidden=(16,), updates=300, batch_size=64)
    rule = DmC(generated=0.0, reference_rows=400, samples=4, cvae=cvae)
    models = rule.prepare(domains, jax.random.key(0), silent)
    fresh, target = rule.template(domains, jax.random.key(0)).cvae, domains.target

    def likelihood(cvae):
        return float(jnp.mean(log_likelihood(cvae, target.observation, target.action, models.noise, 0.1)))

    assert likelihood(models.cvae) > likelihood(fresh)


@pytest.mark.slow
def test_generated_rows_are_near_the_target_too(domains):
    """They are rows of the source, where these are like the target: they move as it does."""
    rule = DmC(**(DmC.small | {"made": 500, "percentile": 70.0, "reference_rows": 400}))
    diffusion = dataclasses.replace(
        rule.diffusion, hidden=64, updates=3_000, batch_size=128, learning_rate=1e-3, steps=32, averaging=0.01
    )
    rows = dataclasses.replace(rule, diffusion=diffusion).prepare(domains, jax.random.key(0), silent).rows
    expected = 0.9 * rows.observation[:, 2]  # by the dynamics of `pair`, less noise; in normalised units nearly so
    error = jnp.std(rows.next_observation[:, 2] - expected)
    assert float(error) < 0.3 * float(jnp.std(rows.next_observation[:, 2]))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"generated": 1.0}, "generated=1.0"),
        ({"percentile": 101.0}, "percentile=101.0"),
        ({"reference_rows": 5}, "reference_rows=5"),
        ({"keep": 0.0}, "keep=0.0"),
        ({"variance": 0.0}, "variance=0.0"),
    ],
)
def test_wrong_settings(settings, says):
    with pytest.raises(UsageError, match=says):
        DmC(**settings)
