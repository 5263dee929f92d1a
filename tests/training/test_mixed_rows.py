"""Rows in another order than that of the log: episodes that are not adjacent."""

import numpy as np
import pytest

import tabb
from cart import cart
from tabb.errors import DataError
from tabb.evaluation.replayed_returns import can_replay
from tabb.training.row_limit import kept_rows
from tabb.transitions import episode_starts


@pytest.fixture(scope="module")
def log():
    return tabb.from_arrays(**cart(900))


@pytest.fixture(scope="module")
def mixed(log):
    return log[np.random.default_rng(0).permutation(len(log))]


@pytest.mark.parametrize("rows", [1, 7, 100, 300, 600, 899])
def test_as_many_rows_as_asked_for_whatever_their_order(log, mixed, rows):
    assert len(kept_rows(log, rows, 0)) == len(kept_rows(mixed, rows, 0)) == rows
    ordered, other = (np.unique(data.episode[kept_rows(data, rows, 0)], return_counts=True) for data in (log, mixed))
    for one, two in zip(ordered, other, strict=True):
        assert np.array_equal(one, two)  # the same episodes, and as much of each


def test_rows_in_order_are_those_taken_before(log):
    """The first rows of each episode, by hand."""
    rows = kept_rows(log, 100, 3)
    for number in np.unique(log.episode[rows]):
        first = np.flatnonzero(log.episode == number)
        taken = rows[log.episode[rows] == number]
        assert taken.tolist() == first[: len(taken)].tolist()


def test_first_rows_are_not_guessed(log, mixed):
    assert np.array_equal(episode_starts(log), np.unique(log.episode, return_index=True)[1])
    assert episode_starts(log[:0]).size == 0
    for use in (episode_starts, lambda data: can_replay(data, 2)):
        with pytest.raises(DataError, match="rows of an episode are not adjacent"):
            use(mixed)


def test_training_that_values_policies_says_so_at_the_door(log, mixed):
    settings = tabb.Settings(updates=2, evaluations=1, backbone=tabb.IQL(policies=1, hidden=(8,), batch_size=8))
    with pytest.raises(DataError, match="give the rows in the order in which they were logged"):
        tabb.train(tabb.TargetOnly(), None, mixed, settings=settings)
