"""The oracle Bellman error on hand-made numbers, and on the simulator."""

import numpy as np
import pytest

import tabb
from tabb.environments.tasks import get_task
from tabb.errors import DataError
from tabb.evaluation.oracle import (
    Truth,
    ask_target,
    kept_error,
    nearest_distance,
    oracle_error,
    rank_correlation,
    usable_rows,
)
from tabb.transitions import Transitions


def transitions(observation, reward=0.0, terminal=0.0, following=None):
    observation = np.asarray(observation, np.float32)
    rows = len(observation)
    return Transitions(
        observation,
        np.zeros((rows, 3), np.float32),
        np.full(rows, reward, np.float32),
        observation if following is None else np.asarray(following, np.float32),
        np.broadcast_to(np.asarray(terminal, np.float32), (rows,)).copy(),
        np.zeros(rows, np.int32),
    )


def test_oracle_error_by_hand():
    rows = transitions(np.zeros((3, 2)), reward=1.0, following=[[1, 0], [2, 0], [3, 0]])
    truth = Truth(
        np.array([[2, 0], [9, 9], [3, 0]], np.float32), np.array([1, 0, 1], np.float32), np.array([0, 1, 0], np.float32)
    )
    # V(s) = 10 s_0, γ = 0.9. Row 1 ends in the target domain: its backup there is the reward alone.
    found = oracle_error(lambda states: 10 * states[:, 0], rows, truth, 0.9)
    np.testing.assert_allclose(found, [9.0, 1 + 18.0, 0.0])


def test_kept_error_by_hand():
    error = [4.0, 1.0, 3.0, 2.0]
    np.testing.assert_allclose(kept_error([1, 2, 3, 4], error, [0.25, 0.5, 1.0]), [4.0, 2.5, 2.5])
    np.testing.assert_allclose(kept_error(error, error, [0.25, 0.5, 1.0]), [1.0, 1.5, 2.5])
    assert kept_error([5, 5, 5, 5], error, [0.25])[0] == 4.0


def test_rank_correlation():
    assert rank_correlation([1, 2, 3, 4], [10, 20, 30, 99]) == pytest.approx(1.0)
    # d = (0, 1, -1, 0): 1 - 6 * 2 / (4 * 15)
    assert rank_correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) == 0.0
    assert rank_correlation([-np.inf, -np.inf, -np.inf], [1, 2, 3]) == 0.0  # no policy has a TD error


def test_nearest_distance_by_hand():
    found = nearest_distance(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 1.0], [10.0, 0.0]]))
    np.testing.assert_allclose(found, [1.0, np.sqrt(18)])


def test_rows_that_cannot_be_simulated_are_left_out():
    observation = np.zeros((6, 11))
    observation[1, 7] = 10.0  # a velocity at the bound
    observation[2, 2] = 12.0  # an angle may be large
    rows = transitions(observation, terminal=[0, 0, 0, 1, 0, 0])
    assert usable_rows(get_task("hopper-morph"), rows, 99).tolist() == [0, 2, 4, 5]
    assert len(usable_rows(get_task("hopper-morph"), rows, 2)) == 2
    assert usable_rows(get_task("halfcheetah-morph"), rows, 99).tolist() == [0, 1, 2, 4, 5]  # it clips nothing
    with pytest.raises(DataError, match="no row's state"):
        usable_rows(get_task("hopper-morph"), transitions(observation, terminal=1.0), 9)


def test_an_unshifted_target_has_no_error_and_a_shifted_one_has():
    source = tabb.load(tabb.data.catalogue.find("hopper", "bundled", "source")[0])
    errors = {}
    for name in ("hopper", "hopper-gravity-0.5"):
        task = get_task(name)
        rows = source[usable_rows(task, source, 300)]
        # V is the torso's vertical velocity.
        errors[name] = oracle_error(lambda states: states[:, 6], rows, ask_target(task, rows), 0.99)
    assert np.median(errors["hopper"]) < 1e-5
    # In free fall half of gravity is missing for a step of 8 ms.
    falling = np.isclose(errors["hopper-gravity-0.5"], 0.99 * 0.5 * 9.81 * 0.008, rtol=0.02)
    assert 0.1 < falling.mean() < 1.0
