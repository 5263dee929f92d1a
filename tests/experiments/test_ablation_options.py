"""Options of TABB that exist for ablations: by hand, and without effect where they are neutral."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steps import step_of
from tabb.batch import Batch, Domains, make_domains
from tabb.errors import UsageError
from tabb.experiments.oracle import distances
from tabb.models.fitting import nearest_distances
from tabb.models.predictor import Predictor, PredictorConfig, fit_predictor, init_predictor
from tabb.networks import MLP, Normaliser
from tabb.rules.rule import Features
from tabb.rules.tabb import TABB, row_backups
from tabb.transitions import Transitions

# V(x) = x_0, discount 0.5, one head; three source rows, the last one terminal, and a target row.
BATCH = Batch(
    observation=jnp.zeros((4, 1)),
    action=jnp.zeros((4, 1)),
    reward=jnp.array([1.0, 1.0, 1.0, 0.0]),
    next_observation=jnp.array([[2.0], [4.0], [50.0], [0.0]]),
    terminal=jnp.array([0.0, 0.0, 1.0, 0.0]),
    columns={
        "next": jnp.array([[[2.0]], [[4.0]], [[0.0]]]),
        "reward_hat": jnp.array([[1.0], [2.0], [1.0]]),
        "terminal_hat": jnp.array([[0.0], [0.0], [1.0]]),
        "distance": jnp.array([3.0, 0.0, 6.0]),
        "value_noise": jnp.array([[1.0, -1.0], [0.0, 2.0], [5.0, 5.0]]),
    },
    target_columns={},
    source_rows=3,
)
# own 2, 3, 1; predicted 2, 4, 1; TBM 0, 1, 0


def weigh(rule):
    features = Features(BATCH.observation, BATCH.next_observation, BATCH.observation)
    nothing = Predictor(None, MLP((), ()), (), jnp.ones(1), Normaliser(jnp.zeros(()), jnp.ones(())), "direct")
    return rule.weigh(step_of(BATCH, nothing, discount=0.5, features=features))


def test_weights_by_similarity_by_hand():
    weights, metrics = weigh(TABB(weigh_by="similarity", temperature=2.0, least_weight=0.0))
    # Mean distance 3, τ = 6; TBM is still told.
    np.testing.assert_allclose(weights.critic, [math.exp(-0.5), 1, math.exp(-1), 1], rtol=1e-6)
    assert float(metrics["tbm"]) == pytest.approx(1 / 3)


def test_noise_on_values_by_hand():
    # V(s') of the three rows is 2, 4, 50; the last row and its prediction are terminal: no value, no noise.
    spread = float(np.std([2.0, 4.0, 50.0]))
    own, predicted = row_backups(
        BATCH.reward[:3], BATCH.terminal[:3], BATCH.next_observation[:3], BATCH.columns, lambda x: x[..., 0], 0.5, 0.1
    )
    noise = 0.5 * 0.1 * spread
    np.testing.assert_allclose(own, [2 + noise, 3, 1], rtol=1e-5)
    np.testing.assert_allclose(predicted[:, 0], [2 - noise, 4 + 2 * noise, 1], rtol=1e-5)
    _, metrics = weigh(TABB(value_noise=0.1))
    assert float(metrics["tbm"]) == pytest.approx((2 * noise + 1 + 2 * noise + 0) / 3, rel=1e-5)
    _, metrics = weigh(TABB())
    assert float(metrics["tbm"]) == pytest.approx(1 / 3)


def rows(values, terminal):
    """Observation, action and next observation are all the value."""
    column = np.asarray(values, np.float32)[:, None]
    ends = np.asarray(terminal, np.float32)
    return Transitions(column, column, ends * 0, column, ends, np.zeros(len(ends), np.int32))


def test_distances_by_hand():
    domains = Domains(rows([0, 2, 9, 4], [0, 0, 1, 0]), rows([0, 2, 90], [0, 0, 1]), None)
    found = np.asarray(nearest_distances(domains))
    # Live rows: mean 1.5, mean square (20 / 3 + 4 / 2) / 2 = 13 / 3, in each of three columns; 4 lies 2 from 2.
    scale = math.sqrt(13 / 3 - 1.5**2)
    apart = math.sqrt(3) * 2 / scale
    np.testing.assert_allclose(found, [0, 0, apart / 3, apart], rtol=1e-5)


def test_distances_are_those_of_the_oracle_figure(pair):
    domains = make_domains(*pair)
    alive = np.flatnonzero(np.asarray(pair[0].terminal) == 0)
    np.testing.assert_allclose(nearest_distances(domains)[alive], distances(domains, alive), rtol=1e-4, atol=1e-5)


def test_columns_are_there_only_where_they_are_asked_for(predictor_config, domains):
    config = predictor_config()
    models = init_predictor(config, domains, jax.random.key(0))
    plain = set(TABB(predictor=config).columns(models, domains))
    assert set(TABB(predictor=config, weigh_by="similarity").columns(models, domains)) == plain | {"distance"}
    noisy = TABB(predictor=config, value_noise=0.5).columns(models, domains)
    assert set(noisy) == plain | {"value_noise"}
    assert noisy["value_noise"].shape == (len(domains.source), 3)
    assert abs(float(jnp.std(noisy["value_noise"])) - 1) < 0.05


def test_without_a_source_head_the_source_teaches_nothing(domains):
    config = PredictorConfig(
        "latent", "direct", source_head=False, heads=1, updates=10, batch_size=16, hidden=8, latent_size=4
    )
    source = domains.source
    other = domains._replace(source=dataclasses.replace(source, reward=source.reward[::-1], action=-source.action))

    def fitted(config, domains):
        return fit_predictor(config, domains, jax.random.key(1), lambda what, share: None)

    def heads(predictor):
        return np.concatenate(
            [np.ravel(leaf) for leaf in jax.tree.leaves((predictor.encoders, predictor.target_heads))]
        )

    np.testing.assert_array_equal(heads(fitted(config, domains)), heads(fitted(config, other)))
    both = dataclasses.replace(config, source_head=True)
    assert not np.array_equal(heads(fitted(both, domains)), heads(fitted(both, other)))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: TABB(weigh_by="similarity", scale="target"), "weigh_by=similarity needs scale=source"),
        (lambda: TABB(value_noise=-1.0), "value_noise=-1.0 must be a number"),
        (lambda: PredictorConfig(source_head=False), "form residual builds on the source head"),
    ],
)
def test_what_cannot_work(make, says):
    with pytest.raises(UsageError, match=says):
        make()
