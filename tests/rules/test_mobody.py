"""MOBODY: weights of cloning, penalties of rewards and generated rows by hand."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steps import step_of
from tabb.backbones import TD3BC
from tabb.batch import Batch, Domains
from tabb.errors import UsageError
from tabb.models.target_model import PredictedStep, TargetModelConfig, init_target_model
from tabb.networks import Normaliser
from tabb.rules import MOBODY
from tabb.rules.mobody import cloning_weight, mismatches
from tabb.rules.rollouts import Outcome
from tabb.transitions import Transitions


class World:
    """A target in which every entry of the state grows by the first action; a second member says by none."""

    change_scale = 2.0 * jnp.ones(3)

    def steps(self, observation, action):
        change = jnp.stack([0 * observation + action[..., :1], 0 * observation])
        return PredictedStep(change, jnp.zeros(change.shape[:-1]), jnp.zeros(change.shape[:-1]))


def test_cloning_weight_by_hand():
    # mean|Q| is 2: exp(3 · 1 / 2), exp(-3 / 2), and exp(6) cut.
    np.testing.assert_allclose(
        cloning_weight(jnp.array([1.0, -1.0, 4.0]), 3.0, 100.0), [math.exp(1.5), math.exp(-1.5), 100.0], rtol=1e-5
    )
    assert np.all(np.isfinite(cloning_weight(jnp.array([1e30, 0.0, 0.0]), 300.0, 100.0)))


def test_the_policy_clones_what_q_prefers():
    """Two logged rows and a generated one: a distance of 1 where Q is 1, of 4 where it is -1, and nothing elsewhere."""
    zeros = jnp.zeros((3, 1))
    batch = Batch(zeros, zeros, jnp.zeros(3), zeros, jnp.zeros(3), {}, {}, 1, {"alive": jnp.ones(1)}, 1)
    step = dataclasses.replace(step_of(batch), action_value=lambda seen: jnp.array([1.0, -1.0, 77.0]))
    rule = MOBODY(cloning=2.0, cloning_temperature=1.0)
    found = rule.actor_term(step, jnp.array([[1.0], [2.0], [9.0]]))
    assert float(found) == pytest.approx(2.0 * (math.e * 1 + math.exp(-1) * 4) / 2, rel=1e-5)
    assert float(dataclasses.replace(rule, cloning=0.0).actor_term(step, zeros)) == 0


def test_source_rewards_pay_for_what_the_target_would_not_do(batch):
    batch = dataclasses.replace(batch, columns={"mismatch": jnp.array([1.0, 0.0, 2.0])})
    paid = batch.reward - MOBODY(mismatch_penalty=0.5).reward(step_of(batch))
    np.testing.assert_allclose(paid, [0.5, 0, 1, 0, 0, 0], atol=1e-6)


def test_mismatch_by_hand():
    """The target moves every entry by a_0 / 2 = 0.5, in units of 2."""
    zeros = np.zeros((3, 3), np.float32)
    moved = np.array([[0.5, 0.5, 0.5], [4.5, 4.5, 0.5], [99, 99, 99]], np.float32)
    ended = np.array([0, 0, 1], np.float32)
    data = Transitions(zeros, np.ones((3, 2), np.float32), ended, moved, ended, np.arange(3, dtype=np.int32))
    np.testing.assert_allclose(
        mismatches(World().steps, World.change_scale, jax.tree.map(jnp.asarray, data)), [0, 8 / 3, 4 / 3], rtol=1e-5
    )


def test_source_rows_are_judged_in_units_of_the_sources_changes():
    """Source rows move by 1 and 7, the target by a hundredth of that; a fresh model's answer is next to nothing."""
    zeros, ones = np.zeros((2, 3), np.float32), np.ones((2, 2), np.float32)
    moved = np.array([[1.0] * 3, [7.0] * 3], np.float32)
    alive, episode = np.zeros(2, np.float32), np.arange(2, dtype=np.int32)
    source, target = (Transitions(zeros, ones, alive, part, alive, episode) for part in (moved, moved / 100))
    domains = Domains(
        *(jax.tree.map(jnp.asarray, part) for part in (source, target)), Normaliser(jnp.zeros(3), jnp.ones(3))
    )
    model = init_target_model(TargetModelConfig(hidden=(4,)), domains.source, domains.target, jax.random.key(0))
    found = MOBODY().mismatches(model, domains)
    np.testing.assert_allclose(found, [(1 / 5) ** 2, (7 / 5) ** 2], rtol=0.2)  # 5: the root of the mean of 1 and 49


def test_rows_of_a_round(batch):
    """Rollouts from all rows of the batch, then its three source rows with their own actions; unsure rows are dead."""
    rule = MOBODY(starts=6, source_starts=0.5, penalty=0.5, largest_disagreement=0.6)
    assert rule.refresh_shares() == (3, 3)
    action = batch.action.at[:3, 0].set(jnp.array([1.0, 0.0, 0.5]))
    rows = rule.round(step_of(dataclasses.replace(batch, action=action), models=World()))
    assert len(rows) == rule.round_rows == 9
    np.testing.assert_array_equal(rows.action[:6], jnp.zeros((6, 2)))  # the policy of these steps does nothing
    np.testing.assert_array_equal(rows.action[6:], action[:3])
    np.testing.assert_array_equal(rows.observation[6:], batch.observation[:3])
    # Members are a_0 / 2 from their mean in each of three entries, in units of 2: |a_0| √3 / 4.
    apart = np.array([1.0, 0.0, 0.5]) * math.sqrt(3) / 4
    np.testing.assert_allclose(rows.reward[6:], -0.5 * apart, atol=1e-6)
    np.testing.assert_array_equal(rows.columns["alive"], np.ones(9))
    strict = dataclasses.replace(rule, largest_disagreement=0.3)
    dead = strict.round(step_of(dataclasses.replace(batch, action=action), models=World())).columns["alive"]
    np.testing.assert_array_equal(dead[6:], [0, 1, 1])


def test_the_control_keeps_all_but_the_rollouts():
    control = MOBODY(generated=0.0).on(TD3BC())
    assert control.shares(16) == (8, 8)
    assert control.reads(16) == (True, True)
    assert control.extra_share(16) == 0
    assert control.has_model
    assert not MOBODY(**MOBODY.neutral).has_model
    assert MOBODY().shares(320) == (128, 128)


def test_outcomes_pay_for_disagreement():
    zeros = jnp.zeros(2)
    outcome = Outcome(zeros + 1.0, zeros[:, None], zeros, jnp.zeros((2, 2, 1)), jnp.array([0.0, 4.0]))
    np.testing.assert_allclose(MOBODY(penalty=0.25).made_reward(outcome), [1.0, 0.0])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"penalty": -1.0}, "penalty=-1.0"),
        ({"mismatch_penalty": math.nan}, "mismatch_penalty=nan"),
        ({"largest_disagreement": 0.0}, "largest_disagreement=0.0"),
    ],
)
def test_wrong_settings(settings, says):
    with pytest.raises(UsageError, match=says):
        MOBODY(**settings)
