"""What rules share that fit networks before training: the normaliser, rows without dynamics, the best source rows."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from tabb.batch import make_domains
from tabb.errors import DataError
from tabb.models.fitting import outcome_scales, step_normaliser, with_next
from tabb.transitions import Transitions


def test_normaliser_counts_domains_by_half_and_no_terminal_row(rows):
    source = rows([0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 99], [0, 0, 0, 1])
    target = rows([2, 2], [0, 0], [5, 5], [0, 0])
    found = step_normaliser(make_domains(source, target, "none"))
    np.testing.assert_allclose(found.mean, [1, 0, 3])
    np.testing.assert_allclose(found.scale, [1, 1, 2])  # a constant column has scale 1


def test_data_without_dynamics_are_refused(rows):
    with pytest.raises(DataError, match="target: every row is terminal"):
        with_next(rows([1], [0], [2], [1]), "target")


def test_best_source_rows_stay_in_order_with_their_columns(batch):
    batch = dataclasses.replace(batch, columns={"number": jnp.arange(3.0), "wide": jnp.ones((3, 2, 2))})
    best = batch.best_source(jnp.array([0.5, -1.0, 2.0]), 2)
    assert (len(best), best.source_rows) == (5, 2)
    np.testing.assert_array_equal(best.columns["number"], [0, 2])
    assert best.columns["wide"].shape == (2, 2, 2)
    for name in ("observation", "action", "reward", "next_observation", "terminal"):
        np.testing.assert_array_equal(getattr(best, name), np.asarray(getattr(batch, name))[[0, 2, 3, 4, 5]])
    assert batch.best_source(jnp.zeros(3), 3) is batch


@pytest.mark.parametrize("unit", [1.0, 1e-7, 1e5])
def test_what_counts_as_constant_has_no_unit(pair, unit):
    """In micrometres or megametres: the same units of steps, and columns and rewards that never move stay alone."""

    def scaled(data, factor):
        table = np.c_[factor * np.asarray(data.observation), np.full(len(data), 7 * factor, np.float32)]
        following = np.c_[factor * np.asarray(data.next_observation), np.full(len(data), 7 * factor, np.float32)]
        rewards = np.asarray(factor * data.reward, np.float32)
        return dataclasses.replace(
            data, observation=table.astype(np.float32), next_observation=following.astype(np.float32), reward=rewards
        )

    usual, other = (make_domains(*(scaled(data, factor) for data in pair), "none") for factor in (1.0, unit))
    sizes = np.r_[np.full(3, unit), 1.0, np.ones(2), np.full(3, unit), 1.0]  # s and a constant, a, s' and a constant
    steps = [np.asarray(step_normaliser(domains).scale) for domains in (usual, other)]
    np.testing.assert_allclose(steps[1], sizes * steps[0], rtol=1e-4)
    (change, reward), (other_change, other_reward) = (outcome_scales(domains.source) for domains in (usual, other))
    np.testing.assert_allclose(other_change, sizes[:4] * np.asarray(change), rtol=1e-4)
    np.testing.assert_allclose(other_reward.scale, unit * np.asarray(reward.scale), rtol=1e-4)
    flat = dataclasses.replace(usual.source, reward=jnp.full(len(usual.source), unit))
    assert float(outcome_scales(flat)[1].scale) == 1.0


def test_units_are_those_of_the_rows_that_count():
    """Beside a source: the target's spread, a hundredth of the source's at least, the source's where nothing moves."""

    def log(sizes, reward):
        states = np.tile(np.zeros((1, len(sizes)), np.float32), (4, 1))
        change = np.outer([1.0, -1.0, 1.0, -1.0], sizes).astype(np.float32)
        return Transitions(
            states, np.zeros((4, 1), np.float32), np.asarray(reward, np.float32), states + change,
            np.zeros(4, np.float32), np.zeros(4, np.int32),
        )  # fmt: skip

    target, source = log([0.1, 1e-4, 0.0, 0.5, 0.0], [2.0] * 4), log([3.0, 3.0, 3.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0])
    change, reward = outcome_scales(target, source)
    np.testing.assert_allclose(change, [0.1, 0.03, 3.0, 0.5, 1.0], rtol=1e-6)
    assert (float(reward.mean), float(reward.scale)) == (2.0, 0.5)  # the target's reward never changes
    np.testing.assert_allclose(outcome_scales(target)[0], [0.1, 1e-4, 1.0, 0.5, 1.0], rtol=1e-6)
