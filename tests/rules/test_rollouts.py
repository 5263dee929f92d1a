"""MOPO, COMBO, MOBILE and MOReL: rollouts and penalties by hand, and what a batch makes of generated rows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steps import step_of
from tabb.backbones import CQL, IQL, TD3BC
from tabb.batch import Batch, ExtraRows
from tabb.errors import UsageError
from tabb.models.target_model import PredictedStep
from tabb.rules import COMBO, MOBILE, MOPO, MOReL
from tabb.rules.combo import lifted_less
from tabb.rules.mobile import inconsistency
from tabb.rules.morel import limit_of, not_yet, pairwise
from tabb.rules.rollouts import Outcome, Rollouts, disagreement, rollouts
from tabb.training import Settings, train

KEY = jax.random.key(0)


def predict(observation, action):
    """Two members that move by a and by 3 a, earn s_0, and end the task beyond 4."""
    change = jnp.stack([action, 3 * action])
    reward = jnp.broadcast_to(observation[:, 0], (2, len(observation)))
    return PredictedStep(change, reward, jnp.where(observation[None, :, 0] + change[..., 0] > 4, 0.9, 0.1))


def test_disagreement_by_hand():
    # Member 0 and 1 lie 3 and 4 units from their mean in the two entries.
    following = jnp.array([[[0.0, 0.0], [6.0, 16.0]], [[1.0, 1.0], [1.0, 1.0]]])
    np.testing.assert_allclose(disagreement(following, jnp.array([1.0, 2.0])), [5.0, 0.0])


def test_rollouts_are_chains_that_end_with_the_task():
    start = jnp.array([[0.0], [3.5]])
    states, actions, outcome, alive = rollouts(predict, jnp.ones(1), lambda s: 0 * s + 1.0, start, 3, 0.0, KEY)
    states, alive = states.reshape(3, 2), alive.reshape(3, 2)
    following = outcome.following.reshape(3, 2)
    np.testing.assert_array_equal(actions, np.ones((6, 1)))
    np.testing.assert_array_equal(states[0], start[:, 0])
    np.testing.assert_array_equal(states[1:], following[:-1])
    assert set(np.unique(following - states)) <= {1.0, 3.0}
    np.testing.assert_array_equal(outcome.reward.reshape(3, 2), states)
    # 3.5 + 1 is beyond 4 with either member: the second chain weighs nothing after its first step.
    np.testing.assert_array_equal(alive[:, 1], [1, 0, 0])
    np.testing.assert_array_equal(alive[:, 0], [1, *np.cumprod(1 - outcome.terminal.reshape(3, 2)[:-1, 0])])
    np.testing.assert_allclose(outcome.members.reshape(3, 2, 2), states[..., None] + np.array([1.0, 3.0]))
    np.testing.assert_allclose(outcome.disagreement, np.ones(6))  # each 1 from the mean 2
    noisy = rollouts(predict, jnp.ones(1), lambda s: 0 * s + 1.0, start, 3, 0.5, KEY)[1]
    assert float(jnp.max(noisy)) <= 1 and float(jnp.min(noisy)) < 1  # noqa: PT018


def outcome_of(count):
    zeros = jnp.zeros(count)
    return Outcome(zeros + 2.0, zeros[:, None], zeros, jnp.zeros((count, 2, 1)), jnp.arange(count, dtype=jnp.float32))


def test_mopo_pays_for_disagreement_and_combo_does_not():
    np.testing.assert_allclose(MOPO(penalty=0.5).made_reward(outcome_of(3)), [2.0, 1.5, 1.0])
    np.testing.assert_allclose(COMBO().made_reward(outcome_of(3)), [2.0] * 3)


@pytest.fixture
def mixed():
    """Two target rows and two generated ones, of which the first ends the task and the second came after the end."""
    zeros = jnp.zeros((4, 1))
    columns = {"alive": jnp.array([1.0, 0.0]), "next": jnp.array([[[1.0], [3.0]], [[0.0], [10.0]]])}
    terminal = jnp.array([0.0, 0.0, 1.0, 0.0])
    return Batch(zeros, zeros, jnp.zeros(4), zeros, terminal, {}, {}, 0, columns, 2)


def test_mobile_pays_for_unlike_values(mixed):
    np.testing.assert_allclose(inconsistency(jnp.array([[1.0, 3.0]] * 2), jnp.array([0.0, 1.0]), 0.5), [0.5, 0.0])
    alive = dataclasses.replace(mixed, terminal=jnp.zeros(4))
    step = step_of(alive, discount=0.5, value=lambda x: 2 * x[..., 0])
    found = MOBILE(penalty=3.0).backup(step, jnp.full(4, 100.0))
    np.testing.assert_allclose(found, [100, 100, 100 - 3 * 0.5 * 2, 100 - 3 * 0.5 * 10])
    ended = MOBILE(penalty=3.0).backup(step_of(mixed, discount=0.5, value=lambda x: 2 * x[..., 0]), jnp.full(4, 100.0))
    np.testing.assert_allclose(ended[2], 100)


def test_combo_lifts_logged_rows_alone(mixed):
    values = jnp.array([[1.0, 3.0, 10.0, 50.0], [0.0, 0.0, 4.0, 0.0]])
    weights = jnp.array([1.0, 1.0, 1.0, 0.0])
    # First critic: mean of w Q is 14 / 4, of the logged rows 2; second: 1 and 0.
    assert float(lifted_less(values, weights, 2)) == pytest.approx(3.5 - 0.75 * 2 + 1)
    # A constant on all values changes nothing: they are pushed and lifted alike.
    assert float(lifted_less(values + 10.0, weights, 2)) == pytest.approx(3.5 - 0.75 * 2 + 1)
    rule = COMBO().on(CQL(conservatism=2.0))
    assert float(rule.critic_term(step_of(mixed), values)) == pytest.approx(6.0)
    # With CQL's own lift of every row, mean of w Q, the lift is that of the logged rows.
    own = -2.0 * jnp.sum(jnp.mean(weights * values, axis=-1))
    assert float(own + rule.critic_term(step_of(mixed), values)) == pytest.approx(-2.0 * 0.75 * 2)


def test_weights_by_hand(mixed):
    weights, metrics = MOPO().on(IQL()).weigh(step_of(mixed))
    np.testing.assert_array_equal(weights.critic, [1, 1, 1, 0])
    np.testing.assert_array_equal(weights.value, [1, 1, 1, 0])
    np.testing.assert_array_equal(weights.policy, [1, 1, 0, 0])
    assert float(metrics["alive"]) == 0.5
    np.testing.assert_array_equal(MOPO().on(TD3BC()).weigh(step_of(mixed))[0].policy, [1, 1, 1, 0])


def test_a_round_takes_the_place_of_the_oldest(batch):
    class World:
        change_scale = jnp.ones(3)

        def steps(self, observation, action):
            change = jnp.stack([0 * observation + 1.0] * 2)
            return PredictedStep(change, jnp.zeros((2, len(observation))), jnp.zeros((2, len(observation))))

    rule = Rollouts(horizon=2, starts=6, rounds=2)
    old = jnp.arange(24.0)
    rows = ExtraRows(old[:, None] * jnp.ones(3), jnp.zeros((24, 2)), old, jnp.zeros((24, 3)), old, {"alive": old})
    step = step_of(batch, models=World())
    new = rule.refresh(step, rows)
    np.testing.assert_array_equal(new.reward[:12], old[12:])
    np.testing.assert_array_equal(new.observation[12:18], batch.observation)
    np.testing.assert_allclose(new.observation[18:], batch.observation + 1, rtol=1e-6)
    np.testing.assert_allclose(new.next_observation[18:], batch.observation + 2, rtol=1e-6)


class Apart:
    """Two members, as far apart as the first entry of the state is from 0; it grows by 1 in each step."""

    change_scale, limit = jnp.ones(3), jnp.asarray(1.5)

    def steps(self, observation, action):
        change = jnp.stack([0 * observation, observation[:, :1] * jnp.array([0.0, 1.0, 0.0])]).at[..., 0].set(1.0)
        return PredictedStep(change, jnp.ones(change.shape[:2]), jnp.zeros(change.shape[:2]))


def test_morel_ends_rollouts_by_hand(batch):
    # Members at 0, 3 and -1 (unit 2): the largest distance is 4, two units.
    following = jnp.array([[[0.0], [3.0], [-1.0]]])
    np.testing.assert_allclose(pairwise(following, jnp.array([2.0])), [2.0])
    np.testing.assert_array_equal(not_yet(jnp.array([[0.0], [1.0], [0.0], [1.0]]))[:, 0], [1, 1, 0, 0])

    world = Apart()
    start = jnp.zeros((len(batch), 3)).at[1, 0].set(1.0)
    step = step_of(dataclasses.replace(batch, observation=start), models=world)
    rows = MOReL(horizon=3, starts=len(batch), halt_reward=-5.0).round(step)
    by_step = {name: np.reshape(rows.columns.get(name, getattr(rows, name, None)), (3, -1))[:, :2].tolist()
               for name in ("alive", "terminal", "reward")}  # fmt: skip
    # The first chain is 0, 1, 2 apart: unknown at its third step; the second 1, 2, 3: at its second, and it ends there.
    assert by_step["alive"] == [[1, 1], [1, 1], [1, 0]]
    assert by_step["terminal"] == [[0, 0], [0, 1], [1, 1]]
    assert by_step["reward"] == [[1, 1], [1, -4], [-4, -4]]


def test_morel_limit_is_a_quantile_of_rows(domains):
    rows = domains.target
    for share in (1.0, 0.5):
        limit = limit_of(Apart().steps, Apart.change_scale, rows, share)
        assert float(jnp.mean(jnp.abs(rows.observation[:, 0]) <= limit + 1e-6)) == pytest.approx(share, abs=0.01)


def test_without_rollouts_no_source_is_read(pair):
    backbone = IQL(policies=1, hidden=(8,), batch_size=16, extraction="improvement")
    (run,) = train(MOPO(generated=0.0), None, pair[1], settings=Settings(updates=2, evaluations=0, backbone=backbone))
    assert run.policy.about["rule"] == "mopo"
    assert MOPO().reads(16) == (True, True)
    assert MOPO().shares(16) == (0, 8)
    with pytest.raises(UsageError, match="rule mopo needs source data"):
        train(MOPO(), None, pair[1], settings=Settings(updates=2, evaluations=0, backbone=backbone))


def test_combo_needs_a_conservative_backbone():
    with pytest.raises(UsageError, match="needs a backbone with a conservative term, such as cql, not iql"):
        COMBO().check_backbone(IQL())
    with pytest.raises(UsageError, match=r"conservatism=1\.0 is not the backbone's 10\.0"):
        COMBO(conservatism=1.0).check_backbone(CQL())


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        (MOPO, {"generated": 1.0}, "leaves no target rows"),
        (MOPO, {"source_starts": 1.5}, "source_starts=1.5"),
        (MOPO, {"horizon": 0}, "horizon=0"),
        (MOPO, {"noise": -0.1}, "noise=-0.1"),
        (MOPO, {"penalty": np.inf}, "penalty=inf"),
        (MOBILE, {"penalty": -1.0}, "penalty=-1.0"),
        (MOReL, {"quantile": 0.0}, "quantile=0.0"),
        (MOReL, {"halt_reward": np.nan}, "halt_reward=nan"),
    ],
)
def test_wrong_settings(kind, settings, says):
    with pytest.raises(UsageError, match=says):
        kind(**settings)
