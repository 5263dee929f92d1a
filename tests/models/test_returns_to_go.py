"""Places in episodes, returns to go, and what a policy is asked for."""

import dataclasses

import numpy as np
import pytest

from tabb.batch import make_domains
from tabb.models.returns_to_go import conditions_of, places, returns_to_go


@pytest.fixture
def log(rows):
    """Six rows: an episode of three that is cut, one of one that ends, and two rows after the terminal."""
    data = rows(range(6), range(6), range(6), [0, 0, 0, 1, 0, 0])
    episode = np.array([4, 4, 4, 7, 7, 7], np.int32)
    return dataclasses.replace(data, episode=episode, reward=np.array([1, 2, 3, 10, 5, -1], np.float32))


def test_places(log):
    assert places(log).tolist() == [0, 1, 2, 0, 0, 1]
    assert places(log[:0]).tolist() == []


def test_returns_to_go_by_hand(log):
    assert returns_to_go(log.reward, places(log)).tolist() == [6, 5, 3, 10, 4, -1]
    assert returns_to_go([], np.zeros(0, np.int32)).tolist() == []


def test_asked_is_the_best_return_of_the_target_in_the_unit_of_its_rows(log):
    source = dataclasses.replace(log, reward=100 * log.reward)
    domains = make_domains(source, log)
    conditions = conditions_of(domains, source.reward, log.reward)
    assert conditions.source.tolist() == [600, 500, 300, 1000, 400, -100]
    assert conditions.target.tolist() == [6, 5, 3, 10, 4, -1]
    assert float(conditions.aim.start) == 10
    assert float(conditions.aim.unit) == pytest.approx(np.sqrt((36 + 25 + 9 + 100 + 16 + 1) / 6))
    alone = conditions_of(domains._replace(target=domains.target[:0]), source.reward, log.reward[:0])
    assert float(alone.aim.start) == 1000


def test_rewards_of_zero_have_a_unit(log):
    domains = make_domains(log, log)
    assert float(conditions_of(domains, 0 * log.reward, 0 * log.reward).aim.unit) == 1
