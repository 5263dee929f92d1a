"""IGDF: score and loss by hand, the rows it keeps and weighs, domains told apart on rows it has not seen."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steps import step_of
from tabb.batch import make_domains
from tabb.rules import (
    IGDF,
)
from tabb.rules.igdf import contrastive_loss, cosine


def silent(what, share):
    pass


def test_contrastive_score_and_loss_by_hand():
    first, second = jnp.array([[3.0, 4.0], [1.0, 0.0]]), jnp.array([[4.0, 3.0], [0.0, 2.0]])
    np.testing.assert_allclose(cosine(first, second), [24 / 25, 0.0], atol=1e-6)

    def softplus(x):
        return math.log1p(math.exp(x))

    # positives: logits 24 and 0; negatives, the other state (1, 1): logits 7 and 1
    wanted = (softplus(-24) + softplus(0) + softplus(7) + softplus(1)) / 4
    assert float(contrastive_loss(first, second, jnp.ones((1, 2)))) == pytest.approx(wanted, rel=1e-5)


def test_igdf_keeps_the_best_rows_and_weighs_the_critic_alone(batch):
    rule = IGDF(keep=0.7, weight_scale=2.0)
    batch = dataclasses.replace(batch, columns={"score": jnp.array([0.1, -0.5, 0.3])})
    kept = rule.select(step_of(batch))
    assert (kept.source_rows, len(kept)) == (2, 5)
    np.testing.assert_allclose(kept.columns["score"], [0.1, 0.3])
    weights, metrics = rule.weigh(step_of(kept))
    np.testing.assert_allclose(weights.critic, [math.exp(0.2), math.exp(0.6), 1, 1, 1], rtol=1e-6)
    np.testing.assert_array_equal(weights.value, np.ones(5))
    np.testing.assert_array_equal(weights.policy, np.ones(5))
    assert float(metrics["source_score"]) == pytest.approx(0.2)


def test_igdf_separates_the_domains_on_rows_it_has_not_seen(make_pair):
    """Source and target differ where s_0 > 0: there, and only there, its score must tell which is which."""
    domains = make_domains(*make_pair(3000, 3000), "none")
    rule = IGDF(updates=1_500, batch_size=64, latent_size=8, hidden=(64,), learning_rate=1e-3)
    models = rule.prepare(domains, jax.random.key(0), silent)
    fresh = make_domains(*make_pair(1500, 1500, seed=1), "none")
    found = {}
    for name, data in (("source", fresh.source), ("target", fresh.target)):
        score = np.asarray(rule.columns(models, fresh._replace(source=data))["score"])
        alive = np.asarray(data.terminal) == 0
        assert np.unique(score[~alive]).size == 1  # of a terminal row nothing is known: the mean of the others
        assert score[~alive][0] == pytest.approx(score[alive].mean(), abs=1e-5)
        for shifted in (False, True):
            found[name, shifted] = score[alive & ((np.asarray(data.observation)[:, 0] > 0) == shifted)]
    better = np.mean(found["target", True][:500, None] > found["source", True][None, :500])
    assert better > 0.7, "where the dynamics differ, target rows must score above source rows"
    same = np.mean(found["target", False][:500, None] > found["source", False][None, :500])
    assert 0.4 < same < 0.6, "where they do not differ, there is nothing to tell"
