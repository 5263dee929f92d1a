"""SRPO: valuable states and the bonus by hand, and what its discriminator learns along the way."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from steps import step_of
from tabb.rules import (
    SRPO,
)
from tabb.rules.srpo import state_bonus, valuable


def test_valuable_states_and_bonus_by_hand():
    np.testing.assert_array_equal(valuable(jnp.array([3.0, 1.0, 2.0, 5.0, 0.0]), 0.5), [1, 0, 0, 1, 0])
    logit = jnp.array([-5.0, -1.0, 0.05, 2.0, 20.0])
    largest = math.log(10)
    np.testing.assert_allclose(state_bonus(logit, "ratio"), [-largest, -1.0, 0.05, 2.0, largest], rtol=1e-6)
    published = [-largest, -largest, -largest, math.log(2), largest]
    np.testing.assert_allclose(state_bonus(logit, "published"), published, rtol=1e-6)


def test_srpo_edits_rewards_of_both_domains_with_what_it_just_learned(batch, sizes):
    rule = SRPO(bonus_scale=0.5, hidden=(8,), learning_rate=0.1)
    learned = rule.init_learned(sizes, jax.random.key(0))
    for _ in range(200):
        learned, metrics = rule.observe(step_of(batch, learned=learned))
    best = np.argsort(np.asarray(batch.observation[:, 0]))[3:]
    bonus = np.asarray(rule.reward(step_of(batch, learned=learned)) - batch.reward)
    assert float(metrics["discriminator_loss"]) < 0.1
    np.testing.assert_array_equal(np.flatnonzero(bonus > 0), np.sort(best))
    assert np.abs(bonus).max() <= 0.5 * math.log(10) + 1e-6
