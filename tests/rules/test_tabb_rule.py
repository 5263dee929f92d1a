"""TABB as a rule: weights of rows, the neutral knob, terminal rows."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steps import step_of
from tabb.batch import Batch, make_domains
from tabb.errors import UsageError
from tabb.models.agreed_shift import AgreedShift
from tabb.models.residual_predictor import ResidualPredictor
from tabb.rules.baselines import Pooled
from tabb.rules.rule import Features, Weights
from tabb.rules.tabb import TABB
from tabb.training.drawing import pack_data
from tabb.training.loop import Program, compiled_updates

PREDICTORS = [
    "residual",
    "latent",
    pytest.param("latent-direct", marks=pytest.mark.slow),
    pytest.param("direct", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def run(domains, sizes, backbone):
    """`run(rule, models)`: state and metrics after 12 updates."""

    def run(rule, models, domains=domains):
        learner = Program(backbone, rule, 12)
        data = pack_data(domains, rule.columns(models, domains), rule.target_columns(models, domains))
        state = learner.init(sizes, jax.random.key(1))
        return compiled_updates(learner, models, data, jax.random.key(2), state, 0, 12)

    return run


# --- weights, by hand: V(x) = x_0, discount 0.5, two heads ---

BATCH = Batch(
    observation=jnp.zeros((5, 2)),
    action=jnp.zeros((5, 1)),
    reward=jnp.array([1.0, 1.0, 1.0, 7.0, 8.0]),
    next_observation=jnp.array([[2.0, 9.0], [2.0, 9.0], [50.0, 9.0], [3.0, 9.0], [4.0, 9.0]]),
    terminal=jnp.array([0.0, 0.0, 1.0, 0.0, 1.0]),
    columns={
        "next": jnp.array([[[2.0, 0], [2.0, 0]], [[4.0, 0], [8.0, 0]], [[0.0, 0], [4.0, 0]]]),
        "reward_hat": jnp.array([[1.0, 1.0], [1.0, 1.0], [2.0, 2.0]]),
        "terminal_hat": jnp.array([[0.0, 0.0], [0.0, 1.0], [0.5, 0.5]]),
    },
    target_columns={
        "next": jnp.array([[[5.0, 0]], [[5.0, 0]]]),
        "reward_hat": jnp.array([[7.0], [7.0]]),
        "terminal_hat": jnp.array([[0.0], [1.0]]),
    },
    source_rows=3,
)
# own:       2, 2, 1
# predicted: (2, 2), (3, 1), (2, 3)
# |mean - own|: 0, 0, 1.5      std: 0, 1, 0.5
# target rows: own 8.5 and 8, predicted 9.5 and 7: mean error 1


SPREAD = ResidualPredictor()
"""b̂ is the mean of the predictions, and their spread the doubt"""


def weigh(rule, batch=BATCH):
    features = Features(batch.observation, batch.next_observation, batch.observation)
    return rule.weigh(step_of(batch, (), discount=0.5, features=features))


def test_weights_by_hand_without_uncertainty():
    weights, metrics = weigh(TABB(uncertainty=0.0, least_weight=0.0, predictor=SPREAD))
    assert float(metrics["tbm"]) == pytest.approx(0.5)
    np.testing.assert_allclose(weights.critic, [1, 1, math.exp(-3), 1, 1], rtol=1e-5)
    assert float(metrics["source_weight"]) == pytest.approx((2 + math.exp(-3)) / 3)


def test_weights_by_hand_with_uncertainty():
    weights, metrics = weigh(TABB(uncertainty=2.0, temperature=2.0, least_weight=0.0, predictor=SPREAD))
    # TBM+: 0, 2, 2.5; mean 1.5; τ = 3
    assert float(metrics["tbm"]) == pytest.approx(1.5)
    np.testing.assert_allclose(weights.critic, [1, math.exp(-2 / 3), math.exp(-2.5 / 3), 1, 1], rtol=1e-5)


@pytest.mark.parametrize("uncertainty", [0.0, 2.0])
def test_the_error_on_target_rows_as_unit(uncertainty):
    rule = TABB(scale="target", temperature=2.0, uncertainty=uncertainty, least_weight=0.0, predictor=SPREAD)
    weights, metrics = weigh(rule)
    assert float(metrics["target_error"]) == pytest.approx(1.0), "the heads' spread is no part of the unit"
    mismatch = np.array([0, 0, 1.5]) + uncertainty * np.array([0, 1, 0.5])
    np.testing.assert_allclose(weights.critic, [*np.exp(-mismatch / 2.0), 1, 1], rtol=1e-5)


@pytest.mark.parametrize("temperature", [1e-3, 1.0, math.inf])
def test_target_rows_weigh_exactly_one(temperature):
    weights, _ = weigh(TABB(temperature=temperature))
    for weight in weights:
        assert np.asarray(weight)[3:].tolist() == [1.0, 1.0]
        assert ((np.asarray(weight) >= 0) & (np.asarray(weight) <= 1)).all()


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("policy", [True, False])
def test_switches_of_value_and_policy_weights(value, policy):
    weights, _ = weigh(TABB(weigh_value=value, weigh_policy=policy, imitate_source=1.0))
    assert float(weights.critic[2]) < 0.5
    for weight, on in ((weights.value, value), (weights.policy, policy)):
        assert np.array_equal(weight, weights.critic if on else np.ones(5))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_source_rows_are_imitated_by_the_factor_given(share):
    weights, _ = weigh(TABB(imitate_source=share))
    np.testing.assert_allclose(weights.policy[:3], share * weights.critic[:3], rtol=1e-6)
    np.testing.assert_array_equal(weights.policy[3:], [1, 1])
    np.testing.assert_array_equal(weights.value, weights.critic)


def test_doubt_counts_as_suits_the_predictor_where_nothing_is_said():
    for predictor, usual in ((AgreedShift(), 0.2), (ResidualPredictor(), 1.0)):
        rule = TABB(predictor=predictor)
        assert rule.doubt_factor == usual
        assert float(weigh(rule)[1]["tbm"]) == float(weigh(dataclasses.replace(rule, uncertainty=usual))[1]["tbm"])
    assert TABB(uncertainty=0.0).doubt_factor == 0.0


def test_no_source_row_weighs_less_than_the_least_weight():
    weights, metrics = weigh(TABB(uncertainty=0.0, least_weight=0.25, predictor=SPREAD))
    np.testing.assert_allclose(weights.critic, [1, 1, 0.25 + 0.75 * math.exp(-3), 1, 1], rtol=1e-5)
    assert float(metrics["source_weight"]) == pytest.approx((2.25 + 0.75 * math.exp(-3)) / 3)
    weights, _ = weigh(TABB(temperature=1e-3, uncertainty=0.0, predictor=SPREAD))
    np.testing.assert_allclose(weights.critic, [1, 1, 0.1, 1, 1], rtol=1e-6)


class NoOutcomes(AgreedShift):
    """A predictor of the shift alone."""

    name = "no-outcomes"
    gives_target_outcomes = False


def test_the_target_as_unit_needs_outcomes_of_target_rows():
    with pytest.raises(UsageError, match="scale=target needs outcomes of target rows, which predictor no-outcomes"):
        TABB(scale="target", predictor=NoOutcomes())


WRONG_FACTORS = [
    {"uncertainty": -1.0},
    {"uncertainty": math.inf},
    {"imitate_source": -0.1},
    {"least_weight": 1.1},
    {"least_weight": math.nan},
]


@pytest.mark.parametrize("options", WRONG_FACTORS)
def test_factors_must_not_be_negative(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        TABB(**options)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(UsageError, match=r"must be positive|give a number"):
        TABB(temperature=temperature)


# --- whole updates ---


@dataclasses.dataclass(frozen=True)
class Unweighted(TABB):
    """TABB's critic inputs, no weights."""

    def weigh(self, step):
        ones = jax.lax.optimization_barrier(jnp.ones(len(step.batch), jnp.float32))
        return Weights(ones, ones, ones), {}


def test_infinite_temperature_is_pooled_bit_for_bit(run, fitted, small_predictor, same_bits):
    predictor = small_predictor()
    state, metrics = run(TABB(temperature=math.inf, imitate_source=1.0, predictor=predictor), fitted(predictor))
    assert same_bits(state, run(Pooled(), ())[0])
    assert float(metrics["source_weight"]) == 1.0
    assert float(metrics["tbm"]) > 0


def test_infinite_temperature_in_latent_space_is_unweighted_bit_for_bit(run, fitted, small_predictor, same_bits):
    predictor = small_predictor("latent")
    state, _ = run(TABB(temperature=math.inf, imitate_source=1.0, predictor=predictor), fitted(predictor))
    assert same_bits(state, run(Unweighted(predictor=predictor), fitted(predictor))[0])


@pytest.mark.parametrize("name", PREDICTORS)
def test_columns_and_updates_are_finite(run, fitted, small_predictor, domains, name):
    predictor = small_predictor(name)
    rule, models = TABB(predictor=predictor), fitted(predictor)
    columns = rule.columns(models, domains)
    width = 8 if name.startswith("latent") else 3
    shapes = {"next": (1500, 2, width), "reward_hat": (1500, 2), "terminal_hat": (1500, 2)}
    assert {name: column.shape for name, column in columns.items()} == shapes
    assert all(np.isfinite(column).all() for column in columns.values())
    assert ((columns["terminal_hat"] >= 0) & (columns["terminal_hat"] <= 1)).all()
    state, metrics = run(rule, models)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, metrics)))
    assert 0 < float(metrics["source_weight"]) < 1


@pytest.mark.parametrize("name", ["residual", "latent"])
def test_features_in_each_space(fitted, small_predictor, sizes, batch, name):
    predictor = small_predictor(name)
    rule, models = TABB(predictor=predictor), fitted(predictor)
    features = rule.represent(step_of(batch, models))
    assert (features.now.shape[1], features.critic.shape[1]) == rule.widths(sizes)
    assert features.following.shape == features.now.shape
    if name == "residual":
        assert features.now is batch.observation
        assert features.following is batch.next_observation
    else:
        np.testing.assert_allclose(jnp.mean(jnp.abs(features.now), axis=1), 1, rtol=1e-5)
        np.testing.assert_array_equal(features.critic[:, :5], jnp.c_[batch.observation, batch.action])
        np.testing.assert_allclose(features.following, models.encode(batch.next_observation))
        # Q sees z_sa, and z_sa depends on the action
        other = rule.represent(step_of(dataclasses.replace(batch, action=-batch.action), models))
        assert np.array_equal(other.now, features.now)
        assert (np.abs(other.critic[:, 5:] - features.critic[:, 5:]).max(axis=1) > 0).all()


def test_a_single_head_gives_no_nan(small_predictor, domains, batch):
    predictor = small_predictor("direct", heads=1)
    models = predictor.init(domains, jax.random.key(0))
    rule = TABB(predictor=predictor, uncertainty=3.0)
    columns, target_columns = rule.columns(models, domains), rule.target_columns(models, domains)
    batch = dataclasses.replace(
        batch,
        columns={name: column[:3] for name, column in columns.items()},
        target_columns={name: column[: len(batch) - 3] for name, column in target_columns.items()},
    )
    weights, _ = weigh(rule, batch)
    plain, _ = weigh(dataclasses.replace(rule, uncertainty=0.0), batch)
    assert np.isfinite(weights.critic).all()
    assert np.array_equal(weights.critic, plain.critic)
    assert len(set(np.asarray(weights.critic[:3]).tolist())) == 3


@pytest.mark.parametrize("name", ["residual", "latent"])
def test_nothing_is_learned_from_the_next_observation_of_terminal_rows(
    run, fitted, small_predictor, pair, domains, same_bits, name
):
    def poison(data):
        ended = data.terminal[:, None] > 0
        assert 0 < ended.sum() < len(data)
        huge = np.where(ended, np.float32(1e6), data.next_observation)
        return dataclasses.replace(data, next_observation=huge)

    poisoned = make_domains(*map(poison, pair))
    predictor = small_predictor(name)
    rule, models = TABB(predictor=predictor), fitted(predictor)
    others = predictor.fit(poisoned, jax.random.key(7), lambda what, share: None)
    assert same_bits(models, others)
    assert same_bits(rule.columns(models, domains), rule.columns(models, poisoned))
    assert same_bits(run(rule, models), run(rule, models, poisoned))
