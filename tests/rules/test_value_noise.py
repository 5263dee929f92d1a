"""TABB with errors in V: by hand, and only where it is asked for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steps import step_of
from tabb.batch import Batch
from tabb.errors import UsageError
from tabb.rules import TABB, ResidualPredictor, ValueNoise

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
        "value_noise": jnp.array([[1.0, -1.0], [0.0, 2.0], [5.0, 5.0]]),
    },
    target_columns={},
    source_rows=3,
)
ONE_HEAD = ResidualPredictor(heads=1)
# own 2, 3, 1; predicted 2, 4, 1; TBM 0, 1, 0


def mean_mismatch(rule, columns):
    batch = dataclasses.replace(BATCH, columns={name: BATCH.columns[name] for name in columns})
    return float(rule.weigh(step_of(batch, (), discount=0.5))[1]["tbm"])


def test_mismatch_by_hand():
    # V(s') of the three rows is 2, 4, 50; the last row and its prediction are terminal: no value, no error.
    error = 0.5 * 0.1 * float(np.std([2.0, 4.0, 50.0]))
    own, predicted = np.array([2 + error, 3, 1]), np.array([2 - error, 4 + 2 * error, 1])
    assert mean_mismatch(ValueNoise(noise=0.1, predictor=ONE_HEAD), BATCH.columns) == pytest.approx(
        abs(predicted - own).mean(), rel=1e-5
    )
    assert mean_mismatch(TABB(predictor=ONE_HEAD), BATCH.columns) == pytest.approx(1 / 3)


def test_scores_of_a_run_are_without_errors():
    assert mean_mismatch(
        ValueNoise(noise=0.1, predictor=ONE_HEAD), ["next", "reward_hat", "terminal_hat"]
    ) == pytest.approx(1 / 3)


def test_errors_are_drawn_once_for_each_row_and_answer(small_predictor, domains):
    predictor = small_predictor()
    models = predictor.init(domains, jax.random.key(0))
    plain = TABB(predictor=predictor).columns(models, domains)
    noisy = ValueNoise(predictor=predictor, noise=0.5).columns(models, domains)
    assert set(noisy) == set(plain) | {"value_noise"}
    assert noisy["value_noise"].shape == (len(domains.source), 3)
    assert abs(float(jnp.std(noisy["value_noise"])) - 1) < 0.05


def test_negative_noise_is_refused():
    with pytest.raises(UsageError, match=r"noise=-1.0 must be a number"):
        ValueNoise(noise=-1.0)
