"""Corrective and retargeted rows against closed forms of linear dynamics."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.errors import UsageError
from tabb.models.corrective import CorrectiveConfig, corrective_rows, retargeted_rows, solve_action
from tabb.models.target_model import TargetModel, TwoDomainNetwork
from tabb.networks import MLP, Normaliser
from tabb.transitions import Transitions

S, A, ROWS = 3, 2, 40
STATE = np.array([[-0.1, 0.2, 0.0], [0.0, -0.3, 0.1], [0.2, 0.0, -0.2]], np.float32)
ACTION = np.array([[0.5, 0.0], [0.1, 0.4], [0.0, -0.3]], np.float32)
SCALE = np.array([0.5, 1.0, 2.0], np.float32)


def linear_model(offset: np.ndarray | None = None) -> TargetModel:
    """s' - s = STATE s + ACTION a, in the target domain plus `offset` x the scale of the changes."""
    weight = np.zeros((S + A, S + 2), np.float32)
    weight[:, :S] = np.concatenate([STATE, ACTION], axis=1).T / SCALE
    base = MLP((jnp.asarray(weight),), (jnp.zeros(S + 2),), "swish")
    shift = np.zeros(S + 2, np.float32)
    if offset is not None:
        shift[:S] = offset
    one = Normaliser(jnp.zeros(S + A), jnp.ones(S + A))
    network = TwoDomainNetwork(base, (), (), jnp.asarray(shift))
    return TargetModel((network,), one, jnp.asarray(SCALE), Normaliser(jnp.zeros(()), jnp.ones(())))


def linear_rows(size: float = 0.3) -> Transitions:
    draw = np.random.default_rng(0)
    observation = draw.normal(size=(ROWS, S)).astype(np.float32)
    action = (size * draw.uniform(-1, 1, (ROWS, A))).astype(np.float32)
    following = observation + observation @ STATE.T + action @ ACTION.T
    ended = np.zeros(ROWS, np.float32)
    ended[-1] = 1
    return Transitions(observation, action, np.ones(ROWS, np.float32), following, ended, np.zeros(ROWS, np.int32))


def best_move(deviation: np.ndarray, stay: float) -> np.ndarray:
    """argmin over m of mean(((I + STATE) deviation + ACTION m)² / SCALE²) + stay |m|²."""
    slopes, wanted = ACTION / SCALE[:, None], (deviation + deviation @ STATE.T) / SCALE
    matrix = slopes.T @ slopes / S + stay * np.eye(A)
    return -np.linalg.solve(matrix, slopes.T @ wanted.T / S).T


def test_corrective_action_equals_the_closed_form() -> None:
    config = CorrectiveConfig(copies=2, noise=0.1, stay=0.02)
    rows = linear_rows()
    made = corrective_rows(config, linear_model(), rows, jax.random.key(0))
    assert len(made) == 2 * ROWS
    twice = np.tile(np.arange(ROWS), 2)
    deviation = np.asarray(made.observation) - rows.observation[twice]
    assert deviation.std(axis=0) == pytest.approx(0.1 * rows.observation.std(axis=0), rel=0.25)
    expected = np.clip(rows.action[twice] + best_move(deviation, 0.02), -1, 1)
    alive = rows.terminal[twice] == 0
    np.testing.assert_allclose(np.asarray(made.action)[alive], expected[alive], atol=1e-5)


def test_corrective_rows_keep_reward_next_state_and_episode_and_terminal_rows_their_action() -> None:
    rows = linear_rows()
    made = corrective_rows(CorrectiveConfig(copies=3), linear_model(), rows, jax.random.key(1))
    for name in ("reward", "next_observation", "terminal", "episode"):
        np.testing.assert_array_equal(np.asarray(getattr(made, name)), np.concatenate([getattr(rows, name)] * 3))
    np.testing.assert_allclose(np.asarray(made.action)[ROWS - 1 :: ROWS], np.tile(rows.action[-1], (3, 1)), atol=1e-6)


def test_corrective_actions_stay_inside_the_bounds() -> None:
    rows = linear_rows(size=1.0)
    made = corrective_rows(CorrectiveConfig(copies=1, noise=2.0), linear_model(), rows, jax.random.key(2))
    assert np.abs(np.asarray(made.action)).max() == 1.0


def test_retargeted_rows_undo_a_shift_that_actions_can_make() -> None:
    move = np.array([0.1, -0.05], np.float32)
    rows = linear_rows()
    made, gap = retargeted_rows(linear_model(ACTION @ move / SCALE), rows, stay=1e-6)
    np.testing.assert_allclose(np.asarray(made.action)[:-1], rows.action[:-1] - move, atol=1e-4)
    np.testing.assert_allclose(np.asarray(gap), 0.0, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(made.action)[-1], rows.action[-1])


def test_retargeted_rows_report_the_gap_that_actions_cannot_close() -> None:
    slopes = ACTION / SCALE[:, None]
    across = np.linalg.svd(slopes)[0][:, -1]  # no action moves the state this way
    _, gap = retargeted_rows(linear_model(0.3 * across), linear_rows(), stay=1e-6)
    np.testing.assert_allclose(np.asarray(gap)[:-1], 0.3 / np.sqrt(S), rtol=1e-3)


def test_gauss_newton_solves_a_bent_equation() -> None:
    action = solve_action(lambda a: jnp.sin(a) - jnp.sin(jnp.asarray([0.4, -0.2])), jnp.zeros(2), 1e-6, 4)
    np.testing.assert_allclose(np.asarray(action), [0.4, -0.2], atol=1e-3)


@pytest.mark.parametrize("wrong", [{"copies": 0}, {"iterations": 0}, {"noise": 0.0}, {"stay": float("nan")}])
def test_settings_that_cannot_work_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        CorrectiveConfig(**wrong)
    assert dataclasses.replace(CorrectiveConfig(), copies=2).copies == 2
