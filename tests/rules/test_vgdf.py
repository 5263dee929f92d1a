"""VGDF: the likelihood by hand, and which source rows stay."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steps import step_of
from tabb.batch import Batch
from tabb.errors import UsageError
from tabb.models.ensemble import EnsembleConfig
from tabb.rules import VGDF
from tabb.rules.vgdf import LEAST_SPREAD, backup_likelihood, backups


def test_likelihood_by_hand():
    # Members' backups 1 and 3: mean 2, deviation 1; and all alike: the least deviation.
    found = backup_likelihood(jnp.array([2.0, 4.0, 5.0]), jnp.array([[1.0, 3.0], [1.0, 3.0], [5.0, 5.0]]))
    np.testing.assert_allclose(found, [0.0, -2.0, -np.log(5 * LEAST_SPREAD)], rtol=1e-6)


def test_backups_by_hand():
    columns = {"reward_hat": jnp.array([[1.0, 2.0]] * 2), "next": jnp.array([[[1.0], [3.0]]] * 2)}
    rows = jnp.array([0.5, 0.5]), jnp.array([0.0, 1.0]), jnp.array([[2.0], [9.0]])
    own, predicted = backups(*rows, columns, lambda x: 10 * x[..., 0], 0.9)
    np.testing.assert_allclose(own, [18.5, 0.5])
    np.testing.assert_allclose(predicted, [[10.0, 29.0], [1.0, 2.0]])


def test_the_likely_source_rows_stay():
    """Four source rows with the members' backups 9 and 11 and own backups 14, 10, 25, 9.5; two of them stay."""
    own = jnp.array([14.0, 10.0, 25.0, 9.5, 0.0, 0.0])
    zeros = jnp.zeros((6, 1))
    columns = {"reward_hat": jnp.tile(jnp.array([9.0, 11.0]), (4, 1)), "next": jnp.zeros((4, 2, 1))}
    batch = Batch(jnp.arange(6.0)[:, None], zeros, own, zeros, jnp.zeros(6), columns, {}, 4)
    step = step_of(batch, value=lambda x: 0.0 * x[..., 0])
    kept = VGDF(keep=0.5).select(step)
    np.testing.assert_array_equal(kept.observation[:, 0], [1, 3, 4, 5])
    assert kept.source_rows == 2
    weights, metrics = VGDF(keep=0.5).weigh(dataclasses.replace(step, batch=kept))
    np.testing.assert_array_equal(weights.critic, np.ones(4))
    np.testing.assert_allclose(metrics["source_score"], (0 - 0.125) / 2, atol=1e-6)
    assert VGDF(keep=1.0).select(step) is batch


def test_rows_of_the_targets_dynamics_score_best(domains):
    """Source rows, and the same with the target's outcomes, once the ensemble has learned these."""
    fit = EnsembleConfig(members=2, elites=2, updates=500, batch_size=64, hidden=(32,), learning_rate=3e-3)
    rule = VGDF(ensemble=fit)
    models = rule.prepare(domains, jax.random.key(0), lambda what, share: None)
    value = lambda x: jnp.sum(x, axis=-1)  # noqa: E731
    as_target = domains._replace(source=domains.target)
    found = [rule.row_scores(models, one, value, 0.9) for one in (domains, as_target)]
    assert set(found[0]) == {"own_backup", "predicted_backup", "score"}
    assert found[0]["predicted_backup"].shape == (len(domains.source), 2)
    errors = [jnp.abs(one["own_backup"] - jnp.mean(one["predicted_backup"], axis=-1)) for one in found]
    assert float(jnp.median(errors[1])) < 0.75 * float(jnp.median(errors[0]))
    assert float(jnp.median(found[1]["score"])) > float(jnp.median(found[0]["score"]))


def test_wrong_settings():
    with pytest.raises(UsageError, match="keep=0"):
        VGDF(keep=0.0)
