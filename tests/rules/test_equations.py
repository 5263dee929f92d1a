"""Each equation against numbers worked out by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.backbones.iql import advantage_weight, expectile_loss
from tabb.batch import fit_normaliser, make_domains
from tabb.bellman import bellman_backup
from tabb.errors import UsageError
from tabb.models.residual_predictor import ResidualPredictor
from tabb.networks import MLP, avg_l1_norm, mlp, moving_average, twin
from tabb.rules.soft_weights import soft_weight
from tabb.rules.tabb import TABB, Backups, target_bellman_mismatch
from tabb.training.config import normalisation_of
from tabb.transitions import Transitions


def close(actual, wanted, rtol=1e-6):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(wanted), rtol=rtol, atol=1e-7)


# --- IQL ---


def test_expectile_loss_leans_to_positive_errors():
    errors = jnp.array([-2.0, -1.0, 0.0, 1.0, 3.0])
    close(expectile_loss(errors, 0.7), [0.3 * 4, 0.3, 0, 0.7, 0.7 * 9])
    close(expectile_loss(errors, 0.5), 0.5 * errors**2)


def test_expectile_loss_is_least_at_the_expectile():
    # Of {0, 1} the λ-expectile is λ itself: λ (1 - m) = (1 - λ) m.
    def loss(m):
        return jnp.mean(expectile_loss(jnp.array([0.0, 1.0]) - m, 0.7))

    close(jax.grad(loss)(0.7), 0.0)
    assert jax.grad(loss)(0.6) < 0 < jax.grad(loss)(0.8)


def test_advantage_weight_and_its_clip():
    advantage = jnp.array([-1.0, 0.0, 0.5, math.log(100) / 3, 2.0])
    close(advantage_weight(advantage, 3.0, 100.0), [math.exp(-3), 1, math.exp(1.5), 100, 100], rtol=1e-5)


def test_huge_advantages_give_neither_inf_nor_nan():
    weight = advantage_weight(jnp.array([1e6, 1e38, jnp.inf, -1e38, -jnp.inf]), 3.0, 100.0)
    close(weight, [100, 100, 100, 0, 0], rtol=1e-5)


def test_backup_holds_the_next_value_unless_terminal():
    backup = bellman_backup(jnp.array([1.0, 1.0, -2.0]), jnp.array([0.0, 1.0, 0.0]), jnp.array([10.0, 10.0, -4.0]), 0.9)
    close(backup, [10.0, 1.0, -5.6])


def test_backup_with_a_probability_of_terminal():
    close(bellman_backup(jnp.array([1.0]), jnp.array([0.25]), jnp.array([8.0]), 0.5), [1 + 0.5 * 0.75 * 8])


# --- TABB ---

PREDICTED = jnp.array([[3.0, 5.0], [0.0, 2.0], [7.0, 7.0]])
OWN = jnp.array([1.0, 4.0, 7.0])


def judged(predicted, own, uncertainty):
    """TBM⁺ with a predictor whose doubt is the spread of its heads."""
    return TABB(uncertainty=uncertainty, predictor=ResidualPredictor()).judge(Backups(own, predicted), None)["tbm_plus"]


def test_mismatch_is_the_distance_of_the_mean_backup():
    close(target_bellman_mismatch(jnp.mean(PREDICTED, axis=-1), OWN), [3.0, 3.0, 0.0])
    close(judged(PREDICTED, OWN, 0.0), [3.0, 3.0, 0.0])


def test_uncertainty_adds_the_spread_of_the_heads():
    close(judged(PREDICTED, OWN, 2.0), [3.0 + 2 * 1, 3.0 + 2 * 1, 0.0])


def test_mismatch_of_one_head_has_no_spread():
    close(judged(jnp.array([[3.0], [1.0]]), jnp.array([1.0, 1.0]), 5.0), [2.0, 0.0])


def test_soft_weight_by_hand():
    # mean TBM 2: τ = c · 2.
    mismatch = jnp.array([0.0, 2.0, 4.0])
    close(soft_weight(mismatch, 1.0, jnp.mean(mismatch)), [1, math.exp(-1), math.exp(-2)])
    close(soft_weight(mismatch, 0.5, jnp.mean(mismatch)), [1, math.exp(-2), math.exp(-4)])


def test_soft_weight_has_a_floor():
    mismatch = jnp.array([0.0, 2.0, 400.0])
    close(soft_weight(mismatch, 1.0, jnp.array(2.0), 0.2), [1, 0.2 + 0.8 * math.exp(-1), 0.2])
    assert np.asarray(soft_weight(mismatch, math.inf, jnp.array(2.0), 0.2)).tolist() == [1.0, 1.0, 1.0]


def test_soft_weight_does_not_depend_on_the_scale_of_values():
    mismatch = jnp.array([0.1, 0.7, 2.0])
    close(soft_weight(1000 * mismatch, 1.0, jnp.array(1000.0)), soft_weight(mismatch, 1.0, jnp.array(1.0)), rtol=1e-5)


def test_soft_weight_falls_with_the_mismatch():
    weight = np.asarray(soft_weight(jnp.linspace(0, 5, 20), 1.0, jnp.array(1.0)))
    assert (np.diff(weight) < 0).all()
    assert weight.max() == 1.0
    assert weight.min() > 0


@pytest.mark.parametrize("mismatch", [[0.0, 1.0, 1e20], [0.0, 1e-12, 3.0], [5.0, 5.0, 5.0]])
def test_infinite_temperature_gives_exactly_one(mismatch):
    assert np.asarray(soft_weight(jnp.array(mismatch), math.inf, jnp.mean(jnp.array(mismatch)))).tolist() == [
        1.0,
        1.0,
        1.0,
    ]


@pytest.mark.parametrize("temperature", [0.1, 1.0, math.inf])
def test_no_mismatch_anywhere_gives_exactly_one(temperature):
    assert np.asarray(soft_weight(jnp.zeros(3), temperature, jnp.zeros(()))).tolist() == [1.0, 1.0, 1.0]


# --- networks ---


def test_mlp_by_hand():
    network = MLP(
        (jnp.array([[1.0, -1.0], [2.0, 0.0]]), jnp.array([[3.0], [5.0]])),
        (jnp.array([0.5, 0.0]), jnp.array([-1.0])),
    )
    # hidden: relu([1 + 4 + 0.5, -1]) = [5.5, 0]
    close(network(jnp.array([1.0, 2.0])), [3 * 5.5 - 1])
    close(network(jnp.array([[[1.0, 2.0]], [[-1.0, 0.0]]])), [[[15.5]], [[5 * 1 - 1]]])


def test_elu_network_lets_negative_values_through():
    network = MLP((jnp.eye(1), jnp.eye(1)), (jnp.zeros(1), jnp.zeros(1)), "elu")
    close(network(jnp.array([-1.0])), [math.exp(-1) - 1])


def test_normed_network_by_hand():
    network = MLP((jnp.eye(2), jnp.array([[2.0], [5.0]])), (jnp.zeros(2), jnp.array([0.5])), "normed-relu")
    # (3, 1) has mean 2 and variance 1, so (1, -1) and then (1, 0); so has ten times that, but for the 1e-5.
    close(network(jnp.array([[3.0, 1.0], [1.0, 3.0]])), [[2.5], [5.5]], rtol=1e-5)
    close(network(jnp.array([30.0, 10.0])), [2.5])
    close(network(jnp.array([4.0, 4.0])), [0.5])  # no variance is no division by zero


def test_fresh_networks_have_the_usual_range():
    network = mlp(jax.random.key(0), (16, 400, 1))
    for leaf, n_in in zip((*network.weights, *network.biases), (16, 400, 16, 400), strict=True):
        assert float(jnp.max(jnp.abs(leaf))) <= 1 / math.sqrt(n_in)
    assert float(jnp.std(network.weights[0])) == pytest.approx(1 / math.sqrt(3 * 16), rel=0.03)


def test_twin_critics_have_weights_of_their_own():
    critic = twin(jax.random.key(0), (5, 8, 1))
    x = jnp.ones((4, 5))
    assert critic(x).shape == (2, 4)
    close(critic(x)[0], critic.first(x)[:, 0])
    close(critic(x)[1], critic.second(x)[:, 0])
    assert not np.allclose(critic(x)[0], critic(x)[1])


def test_avg_l1_norm():
    close(avg_l1_norm(jnp.array([[1.0, -3.0], [10.0, 0.0]])), [[0.5, -1.5], [2.0, 0.0]])
    close(avg_l1_norm(jnp.zeros((1, 4))), [[0, 0, 0, 0]])


def test_moving_average():
    slow, fast = ({"a": jnp.array([1.0, 2.0])}, {"a": jnp.array([3.0, -2.0])})
    slow, fast = (MLP((t["a"][:, None],), (jnp.zeros(1),)) for t in (slow, fast))
    close(moving_average(slow, fast, 0.25).weights[0][:, 0], [1.5, 1.0])
    close(moving_average(slow, fast, 0.0).weights[0], slow.weights[0])
    close(moving_average(slow, fast, 1.0).weights[0], fast.weights[0])


# --- normaliser ---


def data(observation):
    observation = np.asarray(observation, np.float32)
    rows = len(observation)
    zeros = np.zeros(rows, np.float32)
    return Transitions(
        observation, np.zeros((rows, 1), np.float32), zeros, observation + 1, zeros, np.zeros(rows, np.int32)
    )


def test_each_domain_counts_half_in_the_normaliser():
    source, target = data([[0.0, 5.0]] * 6), data([[4.0, 5.0], [8.0, 5.0]])
    normaliser = fit_normaliser(source, target, "pooled")
    # Column 0: means 0 and 6 give 3; variances about 3: 9 and (1 + 25) / 2 give 11. Column 1 is constant.
    close(normaliser.mean, [3.0, 5.0])
    close(normaliser.scale, [math.sqrt(11) + 1e-3, 1.0])


@pytest.mark.parametrize("unit", [1.0, 1e-2, 1e-3, 1e-4, 1e-6, 1e-9, 1e4])
def test_what_is_learned_does_not_depend_on_the_unit(unit):
    rows = np.random.default_rng(0).normal(2.0, [1.0, 0.3, 0.05], (1000, 3)) * unit
    rows[:, 2] = rows[0, 2]
    normaliser = fit_normaliser(data(rows), data(rows), "pooled")
    spread = np.std((np.float32(rows) - np.asarray(normaliser.mean)) / np.asarray(normaliser.scale), axis=0)
    close(spread[:2], [1.0, 1.0], rtol=0.03)
    assert normaliser.scale[2] == 1.0  # constant: centred alone


def test_one_small_column_beside_large_ones_counts_as_much():
    rows = np.random.default_rng(0).normal(0.0, [1.0, 2.0, 1e-6], (1000, 3))
    normaliser = fit_normaliser(data(rows), data(rows), "pooled")
    close(np.std(np.float32(rows) / np.asarray(normaliser.scale), axis=0), [1.0, 1.0, 1.0], rtol=0.01)


def test_ordinary_spreads_keep_the_old_scale_bit_for_bit():
    rows = np.random.default_rng(0).normal(0.0, [3.0, 0.2, 0.003, 0.5], (1000, 4))
    old, new = (fit_normaliser(data(rows), data(rows), kind) for kind in ("pooled-absolute", "pooled"))
    assert np.array_equal(old.mean, new.mean)
    assert np.array_equal(old.scale, new.scale)
    small = data(rows * 1e-4)
    old = fit_normaliser(small, small, "pooled-absolute")
    close(old.scale, np.where(np.std(small.observation, axis=0) < 1e-6, 1.0, np.std(small.observation, axis=0) + 1e-3))


def test_a_run_keeps_the_normaliser_that_it_was_begun_with():
    assert normalisation_of({"settings": {"normalise": "pooled"}}) == "pooled-absolute"  # from before
    assert normalisation_of({"settings": {"normalise": "none"}}) == "none"
    assert normalisation_of({"settings": {"normalise": "pooled"}, "normaliser": "pooled"}) == "pooled"


def test_domains_are_normalised_and_keep_the_rest():
    source, target = data([[0.0, 5.0], [2.0, 5.0]]), data([[4.0, 5.0], [8.0, 5.0]])
    domains = make_domains(source, target)
    for before, after in ((source, domains.source), (target, domains.target)):
        close(after.observation, (before.observation - domains.normaliser.mean) / domains.normaliser.scale)
        close(
            after.next_observation,
            (before.next_observation - domains.normaliser.mean) / domains.normaliser.scale,
        )
        assert np.isfinite(after.next_observation).all()
        close(after.reward, before.reward)
        assert after.episode.dtype == jnp.int32
    assert source.observation[1, 0] == 2.0  # the caller's arrays stay


def test_no_normalisation_is_the_identity():
    source, target = data([[0.0, 5.0], [2.0, 5.0]]), data([[4.0, 5.0]])
    domains = make_domains(source, target, "none")
    assert np.array_equal(domains.source.observation, source.observation)


def test_unknown_normalisation():
    with pytest.raises(UsageError, match="use one of none, pooled"):
        fit_normaliser(data([[0.0]]), data([[1.0]]), "source")
