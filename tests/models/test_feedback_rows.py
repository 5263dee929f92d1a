"""Tracking rows against the known feedback of linear dynamics."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from scipy.linalg import solve_discrete_are

from models.test_corrective import ACTION, STATE, A, S, linear_model
from tabb.errors import UsageError
from tabb.models.tracking import TrackingConfig, follows, linearised, pushed, tracking_gains, tracking_rows
from tabb.transitions import Transitions


def paths(length: int, episodes: int) -> Transitions:
    """Episodes of the linear dynamics under random actions."""
    draw = np.random.default_rng(0)
    rows: list[tuple] = []
    for episode in range(episodes):
        state = draw.normal(size=S)
        for _ in range(length):
            action = 0.3 * draw.uniform(-1, 1, A)
            following = state + STATE @ state + ACTION @ action
            rows.append((state, action, 1.0, following, 0.0, episode))
            state = following
    columns = [np.array(column, np.float32) for column in zip(*rows, strict=True)]
    return Transitions(*columns[:5], columns[5].astype(np.int32))


def test_far_from_the_end_gains_are_those_of_the_riccati_equation() -> None:
    data = paths(200, 2)
    cost, discount = 0.3, 0.95
    gains = np.asarray(tracking_gains(linear_model(), data, cost, discount))
    spread = data.observation.std(axis=0)
    # With a discount: the equation of dynamics that are √γ times as large.
    a = np.sqrt(discount) * (np.eye(S) + STATE) * spread / spread[:, None]
    b = np.sqrt(discount) * ACTION / spread[:, None]
    ahead = solve_discrete_are(a, b, np.eye(S) / S, cost * np.eye(A))
    expected = np.linalg.solve(cost * np.eye(A) + b.T @ ahead @ b, b.T @ ahead @ a) / spread
    np.testing.assert_allclose(gains[20], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(gains[220], expected, rtol=1e-3, atol=1e-4)
    assert np.abs(gains[199] - expected).max() > 1e-2  # one step before an end there is little to gain


def test_rows_follow_only_within_an_episode() -> None:
    data = paths(10, 3)
    np.testing.assert_array_equal(np.flatnonzero(np.asarray(follows(data)) == 0), [9, 19, 29])
    ended = dataclasses.replace(data, terminal=np.eye(30, dtype=np.float32)[4])
    assert np.asarray(follows(ended))[4] == 0


def test_actions_are_those_of_the_feedback_and_terminal_rows_keep_theirs() -> None:
    data = paths(50, 2)
    data = dataclasses.replace(data, terminal=np.eye(100, dtype=np.float32)[99])
    config = TrackingConfig(copies=2, noise=0.02, largest=10.0)
    made = tracking_rows(config, linear_model(), data, jax.random.key(0))
    gains = np.tile(np.asarray(tracking_gains(linear_model(), data)), (2, 1, 1))
    deviation = np.asarray(made.observation) - np.tile(data.observation, (2, 1))
    moved = np.asarray(made.action) - np.tile(data.action, (2, 1))
    expected = -np.einsum("nas,ns->na", gains, deviation)
    alive = np.tile(data.terminal, 2) == 0
    np.testing.assert_allclose(moved[alive], expected[alive], atol=1e-4)
    np.testing.assert_allclose(moved[~alive], 0.0, atol=1e-6)


def test_pushes_lead_off_the_path_and_start_anew_with_each_episode() -> None:
    data = paths(50, 2)
    linear = linearised(linear_model(), data, 0.3, 0.95)
    deviation = np.asarray(pushed(linear, 0.2, 64, jax.random.key(0)))
    assert deviation.shape == (64, 100, S)
    np.testing.assert_array_equal(deviation[:, [0, 50]], 0.0)
    assert deviation[:, 30].std() > 0.01
    one = deviation[0]
    closed = np.asarray(linear.by_state[7]) - np.asarray(linear.by_action[7]) @ np.asarray(linear.gains[7])
    left = one[8] - closed @ one[7]  # what the action's disturbance adds lies in its range
    slopes = np.asarray(linear.by_action[7])
    np.testing.assert_allclose(slopes @ np.linalg.lstsq(slopes, left, rcond=None)[0], left, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"copies": 0}, {"noise": -1.0}, {"discount": 1.5}, {"action_cost": 0.0}])
def test_settings_that_cannot_work_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        TrackingConfig(**wrong)
