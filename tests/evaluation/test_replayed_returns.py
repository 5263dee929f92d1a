"""Returns of logged actions: which rows have one, by hand and against the simulator that logged them."""

import dataclasses

import numpy as np
import pytest

import tabb
from tabb.environments.tasks import get_task
from tabb.errors import UsageError
from tabb.evaluation.oracle import known_state
from tabb.evaluation.replayed_returns import can_replay, replay
from tabb.transitions import Transitions


def episodes(lengths):
    rows = sum(lengths)
    wide = np.zeros((rows, 2), np.float32)
    column = np.zeros(rows, np.float32)
    return Transitions(wide, wide, column, wide, column, np.repeat(np.arange(len(lengths)), lengths).astype(np.int32))


def test_rows_that_are_followed_long_enough():
    source = episodes([3, 1, 2])
    assert can_replay(source, 1).all()
    assert can_replay(source, 2).tolist() == [True, True, False, False, True, False]
    assert can_replay(source, 3).tolist() == [True, False, False, False, False, False]
    assert not can_replay(source, 9).any()


@pytest.fixture(scope="module")
def source():
    return tabb.load(tabb.data.catalogue.find("hopper", "bundled", "source")[0])


@pytest.fixture(scope="module")
def rows(source):
    usable = (np.asarray(source.terminal) == 0) & known_state(get_task("hopper"), source) & can_replay(source, 10)
    return np.flatnonzero(usable)[::500][:40]


def test_the_source_domain_itself_returns_what_was_logged(source, rows):
    found = replay(get_task("hopper"), source, rows, 10, 0.9)
    row = rows[3]
    by_hand = sum(0.9**k * float(source.reward[row + k]) for k in range(10))
    assert found.logged[3] == pytest.approx(by_hand)
    # Velocities that the observation clips along the way are no part of the first state.
    np.testing.assert_allclose(found.replayed, found.logged, rtol=1e-3)
    assert found.logged.std() > 0.5


def test_another_domain_returns_something_else_and_ends_where_its_task_does(source, rows):
    shifted = replay(get_task("hopper-gravity-0.5"), source, rows, 10, 0.9)
    assert np.median(np.abs(shifted.replayed - shifted.logged)) > 0.01
    # A hopper that lies on the ground is unhealthy at once: one reward is all there is.
    fallen = dataclasses.replace(source, observation=np.where(np.arange(11) == 0, 0.1, source.observation))
    short = replay(get_task("hopper"), fallen, rows, 10, 0.9)
    one = replay(get_task("hopper"), fallen, rows, 1, 0.9)
    np.testing.assert_array_equal(short.replayed, one.replayed)


def test_rows_that_cannot_be_replayed_are_refused(source):
    last = np.array([len(source) - 1])
    with pytest.raises(UsageError, match="ends before 2 steps"):
        replay(get_task("hopper"), source, last, 2, 0.9)
    with pytest.raises(UsageError, match="do not hold the whole state"):
        replay(get_task("pen"), source, last, 1, 0.9)
