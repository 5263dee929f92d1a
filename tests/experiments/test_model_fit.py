"""Errors of the model along logged paths: which rows begin a path, the errors by hand, the table."""

from __future__ import annotations

import numpy as np
import pytest

from tabb.experiments.model_fit import errors_along, starts_of, table
from tabb.models.target_model import PredictedStep
from tabb.transitions import Transitions


def rows(episodes, terminal, states):
    states = np.array(states, np.float32)[:, None]
    actions = np.ones_like(states)
    return Transitions(
        np.c_[states, np.zeros_like(states)], actions, states[:, 0], np.c_[states, np.zeros_like(states)],
        np.array(terminal, np.float32), np.array(episodes, np.int32),
    )  # fmt: skip


def test_a_path_stays_in_its_episode_and_passes_no_end():
    log = rows([0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1, 0], range(7))
    assert starts_of(log, 2, 10).tolist() == [0, 1], "of the other episode, a task that ended goes on"
    assert starts_of(log, 1, 10).tolist() == [0, 1, 2, 4]
    assert starts_of(log, 1, 2).tolist() == [0, 4]
    assert starts_of(log, 9, 10).size == 0


def test_errors_along_a_path_by_hand():
    """The log moves by 2 a step, the model by its action, 1; the other entry is still, and has no error."""

    def model(state, action):
        change = np.r_[1.0, 5.0] * action
        return PredictedStep(change, 0.0, 0.0)

    log = rows([0, 0, 0, 0], [0, 0, 0, 0], [0, 2, 4, 6])
    errors = np.asarray(errors_along(model, log, np.array([4.0, 0.0]), 2))
    assert errors == pytest.approx(np.array([[0.25, 0.25], [0.5, 0.5]]))


def test_the_table():
    fit = {"learning_rate": 1e-3, "updates": 5_000, "seconds": 14.8}
    errors = {"fitted": [0.01, 0.05, 0.2], "held": [0.02, 0.1, 0.4], "expert": [0.1, 0.5, 1.5]}
    lines = table([{"task": "hopper-morph", "fits": [fit | {"errors": errors}]}]).splitlines()
    assert lines[-1] == (
        "| hopper-morph | 0.001, 5,000 | 15 | 0.010, 0.050, 0.200 | 0.020, 0.100, 0.400 | 0.100, 0.500, 1.500 |"
    )
