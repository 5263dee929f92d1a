"""Optimised actions by hand: choice, climbing, best iterates; and IQL's policy that imitates them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.backbones import IQL, own_backbone
from tabb.backbones.optimised_actions import OptimisedActions
from tabb.errors import UsageError
from tabb.rules import PARL, Pooled
from tabb.training.loop import Program


def hill(peak):
    """Q(s, a) = -(a - peak)²: its gradient is 2 (peak - a)."""
    return lambda actions: -jnp.sum((actions - peak) ** 2, axis=-1)


def test_the_best_candidate_is_chosen():
    """Policy 0 with noise +-5 (of deviation 0.1), logged 0.3; the peak at 0.45 is nearest to 0.5."""
    config = OptimisedActions(candidates=3, kept=2, steps=0)
    noise = jnp.array([[[5.0], [-5.0]]])
    found = config.best(hill(0.45), jnp.zeros((1, 1)), jnp.array([[0.3]]), noise)
    np.testing.assert_allclose(found, [[0.5]])
    near = config.best(hill(0.25), jnp.zeros((1, 1)), jnp.array([[0.3]]), noise)
    np.testing.assert_allclose(near, [[0.3]])  # the logged action


def test_it_climbs_by_hand_and_stays_inside():
    config = OptimisedActions(candidates=1, kept=1, steps=2, rate=0.25)
    none = jnp.zeros((1, 0, 1))
    # 0 -> 0.25 · 2 · 0.8 = 0.4 -> 0.4 + 0.25 · 2 · 0.4 = 0.6
    np.testing.assert_allclose(config.best(hill(0.8), jnp.zeros((1, 1)), jnp.zeros((1, 1)), none), [[0.6]], rtol=1e-6)
    assert config.best(hill(30.0), jnp.zeros((1, 1)), jnp.zeros((1, 1)), none).tolist() == [[1.0]]


def test_an_iterate_that_is_worse_is_forgotten():
    """A rate of 1.2 leaps from 0 over the peak at 0.3 to 0.72, which is lower: 0 stays."""
    config = OptimisedActions(candidates=1, kept=1, steps=1, rate=1.2)
    none = jnp.zeros((1, 0, 1))
    assert config.best(hill(0.3), jnp.zeros((1, 1)), jnp.zeros((1, 1)), none).tolist() == [[0.0]]


@pytest.mark.slow
def test_the_policy_imitates_better_actions_than_the_logged_ones(batch, sizes):
    """Its target is at least as high on the critics as what was logged, and its gradient goes there."""
    learner = Program(IQL(hidden=(8,), policies=1, extraction="optimised"), Pooled(), 10)
    state = learner.init(sizes, jax.random.key(0))
    backbone = learner.backbone
    optimise = jax.jit(
        lambda state: backbone._optimised(
            learner.rule, (), state.critic, state.policy, batch.observation, batch.action, jax.random.key(1)
        )
    )
    wanted = optimise(state)

    def q(action):
        return jnp.mean(state.critic(jnp.concatenate([batch.observation, action], axis=-1)), axis=0)

    assert (q(wanted) >= q(batch.action) - 1e-6).all()
    assert (q(wanted) > q(batch.action) + 1e-4).any()
    assert own_backbone(PARL) == IQL(extraction="optimised")
    assert PARL().shares(8) == (4, 4)


@pytest.mark.parametrize(("wrong", "says"), [({"kept": 40}, "kept=40"), ({"rate": -1.0}, "rate=-1.0")])
def test_wrong_constants_of_optimised_actions(wrong, says):
    with pytest.raises(UsageError, match=says):
        OptimisedActions(**wrong)
