"""The transfer figure's numbers by hand."""

import numpy as np
import pytest

from tabb.environments.tasks import get_task
from tabb.errors import DataError
from tabb.experiments.transfer import by_tenths, measured, replayable_rows, tables
from tabb.transitions import Transitions


def test_tenths_by_hand():
    order = np.arange(20)[::-1]  # the last row comes first
    found = by_tenths(order, np.arange(20.0))
    assert len(found) == 10
    assert found[0] == pytest.approx([18.1, 18.25, 18.5, 18.75, 18.9])  # of 18 and 19
    assert found[9] == pytest.approx([0.1, 0.25, 0.5, 0.75, 0.9])


def test_what_a_cell_holds_by_hand():
    logged = np.arange(10.0)
    replayed = logged + np.array([5, 4, 3, 2, 1, -1, -2, -3, -4, -6.0])  # gaps: 5 4 3 2 1 1 2 3 4 6
    error = np.arange(10.0, 0.0, -1.0)
    found = measured({"nearest": np.arange(10.0), "tbm+": error**2}, error, logged, replayed)
    assert found["mean"] == pytest.approx({"gap": 3.1, "oracle_error": 5.5, "logged": 4.5, "replayed": 4.4})
    assert found["rank_correlation"]["nearest"]["oracle_error"] == pytest.approx(-1.0)
    assert found["rank_correlation"]["tbm+"]["oracle_error"] == pytest.approx(1.0)
    # One row is a tenth: the most alike has a gap of 5, that of the least mismatch one of 6.
    assert found["first_tenth"]["nearest"] == pytest.approx({"gap": 5 / 3.1, "oracle_error": 10 / 5.5})
    assert found["first_tenth"]["tbm+"] == pytest.approx({"gap": 6 / 3.1, "oracle_error": 1 / 5.5})
    assert found["tenths"]["tbm+"]["gap"][0] == [6.0] * 5


def test_tables_are_means_over_seeds_and_tasks():
    def cell(task, seed, number):
        both = {"gap": number, "oracle_error": 2 * number}
        numbers = {"nearest": both, "tbm+": {name: -value for name, value in both.items()}}
        return {"task": task, "seed": seed, "rank_correlation": numbers, "first_tenth": numbers}

    text = "\n".join(tables([cell("a", 0, 0.1), cell("a", 1, 0.3), cell("b", 0, 0.4)], 2))
    assert "| nearest | return gap | 0.20 | 0.40 | 0.30 |" in text
    assert "| tbm+ | oracle Bellman error | -0.40 | -0.80 | -0.60 |" in text


def test_rows_of_the_figure():
    observation = np.zeros((30, 11), np.float32)
    observation[2, 7] = 10.0  # a velocity at the bound
    column = np.zeros(30, np.float32)
    column[5] = 1.0  # terminal
    episode = np.repeat([0, 1], [20, 10]).astype(np.int32)
    rows = Transitions(observation, observation[:, :3], column, observation, column, episode)
    task = get_task("hopper-morph")
    assert replayable_rows(task, rows, 5, 99, 0).tolist() == [0, 1, 3, 4, *range(6, 16), *range(20, 26)]
    first = replayable_rows(task, rows, 5, 12, 0)
    assert len(first) == 12
    assert (
        first.tolist()
        == replayable_rows(task, rows, 5, 12, 0).tolist()
        != replayable_rows(task, rows, 5, 12, 1).tolist()
    )
    with pytest.raises(DataError, match="1 rows have a fully known state and 20 steps"):
        replayable_rows(task, rows, 20, 12, 0)
