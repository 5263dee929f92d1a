"""Fitted Q evaluation against closed forms and the equations spelled out."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tabb
from tabb.errors import DataError, UsageError
from tabb.evaluation.fqe import (
    FQE,
    block_bootstrap,
    cholesky,
    estimate,
    fitted_values,
    interval,
    make_basis,
    value_bounds,
)
from tabb.policy import Policy
from tabb.transitions import episode_starts

SMALL = FQE(discount=0.9, features=64, members=3)


def constant(action: float, size: int = 1) -> Policy:
    """π(s) = action, whatever s is."""
    zeros = np.zeros((size, 1), np.float32)
    bias = np.array([np.arctanh(action)], np.float32)
    return Policy(np.zeros(size, np.float32), np.ones(size, np.float32), (zeros,), (bias,))


def linear_log(episodes: int = 40, steps: int = 25, seed: int = 0, noise: float = 0.0) -> tabb.Transitions:
    """s' = s / 2 + a and r = s, under random actions; with noise, both miss that by its standard deviation."""
    draw = np.random.default_rng(seed)
    observation, action, reward, following = [], [], [], []
    for _ in range(episodes):
        state = draw.uniform(-1, 1)
        for _ in range(steps):
            push = draw.uniform(-1, 1)
            observation.append(state)
            action.append(push)
            missed = noise * draw.normal(size=2) if noise else np.zeros(2)
            reward.append(state + missed[0])
            state = 0.5 * state + push + missed[1]
            following.append(state)
    ends = np.arange(1, episodes * steps + 1) % steps == 0
    columns = [np.array(column)[:, None] for column in (observation, action, following)]
    return tabb.from_arrays(
        columns[0], columns[1], np.array(reward), next_observations=columns[2], timeouts=ends, name="linear"
    )


def true_value(state: np.ndarray, action: float, discount: float) -> np.ndarray:
    """Σ γ^t s_t of s_{t+1} = s_t / 2 + a: s_t = 2a + (s_0 - 2a) / 2^t."""
    return 2 * action / (1 - discount) + (state - 2 * action) / (1 - discount / 2)


@pytest.mark.parametrize("action", [-0.4, 0.0, 0.3])
def test_a_linear_system_has_its_closed_form(action: float) -> None:
    log = linear_log()
    (estimated,) = estimate([constant(action)], log, dataclasses.replace(SMALL, ridge=1e-6, remainder=1e-4))
    truth = true_value(log.observation[episode_starts(log), 0], action, 0.9).mean()
    assert estimated.value == pytest.approx(truth, abs=0.15)
    assert estimated.low <= estimated.value <= estimated.high


def test_better_policies_come_first() -> None:
    estimated = estimate([constant(action) for action in (-0.5, 0.0, 0.5)], linear_log(), SMALL)
    assert estimated[0].high < estimated[1].low
    assert estimated[1].high < estimated[2].low


def test_each_iteration_is_the_regression_written_out() -> None:
    draw = np.random.default_rng(1)
    now, *following = (draw.normal(size=(30, 4)) for _ in range(3))
    first = [draw.normal(size=(2, 4)) for _ in following]
    reward = draw.normal(size=30)
    goes_on = np.where(np.arange(30) % 7 == 0, 0.0, 0.9)
    weight = block_bootstrap(30, 5, 2, seed=3) / 30
    bounds = (-2.0, 1.5)
    expected = np.empty((2, 2, 2))
    for policy in range(2):
        for k in range(2):
            theta = np.zeros(4)
            for _ in range(6):
                backup = reward + goes_on * np.clip(following[policy] @ theta, *bounds)
                # argmin of Σ w (φ θ - backup)² + λ |θ|², by its normal equations
                matrix = (now.T * weight[:, k]) @ now + 0.01 * np.eye(4)
                theta = np.linalg.solve(matrix, now.T @ (weight[:, k] * backup))
            expected[policy, k] = np.clip(first[policy] @ theta, *bounds)
    factors = [cholesky(now, weight[:, k], 0.01) for k in range(2)]
    values = fitted_values(factors, weight, now, following, reward, goes_on, first, bounds, 6)
    np.testing.assert_allclose(values, expected, rtol=1e-10)


ILL_CONDITIONED = dataclasses.replace(SMALL, ridge=1e-6, remainder=1e-4)


@pytest.mark.slow
def test_processors_and_numbers_of_threads_agree() -> None:
    code = "import test_fqe as t; e, = t.estimate([t.constant(0.3)], t.linear_log(), t.ILL_CONDITIONED); print(*e)"
    machines = [{"OPENBLAS_NUM_THREADS": "1"}, {"OPENBLAS_NUM_THREADS": "2"}]
    if platform.machine() == "x86_64":  # the oldest of them, which all others can play
        machines.append({"OPENBLAS_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "Prescott"})
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": path} | machine,
            stdout=subprocess.PIPE,
            text=True,
        )
        for machine in machines
    ]
    one, *others = [np.array(process.communicate()[0].split(), float) for process in running]
    assert one.shape == (3,)
    for other in others:
        np.testing.assert_allclose(other, one, rtol=1e-6)


def test_a_ridge_below_rounding_is_refused() -> None:
    with pytest.raises(UsageError, match="ridge=1e-30: too small"):
        estimate([constant(0.1)], linear_log(4), dataclasses.replace(SMALL, ridge=1e-30))


COVERAGE_LOGS = 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "ridge", "covered", "bias"),
    [(0.0, 1e-3, 0, 0.56), (0.3, 1e-3, 69, 0.48), (0.3, 1e-5, 92, -0.03), (1.0, 1e-3, 89, 0.32), (1.0, 1e-5, 90, 0.11)],
)
def test_how_often_the_interval_holds_the_true_value(noise: float, ridge: float, covered: int, bias: float) -> None:
    """The numbers of docs/selection.md; `pytest -m slow -s -k true_value tests/evaluation/test_fqe.py` prints them."""
    config = FQE(discount=0.9, ridge=ridge, features=64)
    held, errors, halves = 0, [], []
    for seed in range(COVERAGE_LOGS):
        log = linear_log(seed=seed, noise=noise)
        (estimated,) = estimate([constant(0.3)], log, config)
        truth = true_value(log.observation[episode_starts(log), 0], 0.3, 0.9).mean()
        held += estimated.low <= truth <= estimated.high
        errors.append(estimated.value - truth)
        halves.append((estimated.high - estimated.low) / 2)
    print(
        f"\nnoise {noise}, ridge {ridge:g}: {held} of {COVERAGE_LOGS} hold the value, error {np.mean(errors):+.3f} "
        f"in the mean with a deviation of {np.std(errors):.3f}, half width {np.mean(halves):.3f}"
    )
    assert held == pytest.approx(covered, abs=1)
    assert np.mean(errors) == pytest.approx(bias, abs=0.01)


def test_nothing_follows_a_terminal() -> None:
    log = linear_log(episodes=10)
    ended = dataclasses.replace(log, terminal=np.ones_like(log.terminal), reward=np.full_like(log.reward, 3.0))
    (estimated,) = estimate([constant(0.2)], ended, dataclasses.replace(SMALL, ridge=1e-6))
    assert estimated.value == pytest.approx(3.0, abs=0.05)


def test_no_value_beyond_what_rewards_allow() -> None:
    assert value_bounds(np.array([-1.0, 2.0], np.float32), 0.9) == pytest.approx((-10.0, 20.0))
    assert value_bounds(np.array([1.0, 2.0], np.float32), 0.9) == pytest.approx((0.0, 20.0))
    assert value_bounds(np.array([-1.0, -0.5], np.float32), 0.5) == pytest.approx((-2.0, 0.0))


def test_blocks_are_drawn_whole_and_as_often_as_there_are_rows() -> None:
    counts = block_bootstrap(100, 10, 4, seed=0)
    assert counts.shape == (100, 4)
    np.testing.assert_array_equal(counts.reshape(10, 10, 4), np.repeat(counts[::10, None], 10, axis=1))
    np.testing.assert_array_equal(counts.sum(axis=0), 100)
    assert (counts == 0).any()
    assert (counts > 1).any()


def test_a_log_shorter_than_a_block_has_draws_that_differ() -> None:
    """A single block would give every member the same rows, and the interval no width."""
    counts = block_bootstrap(30, 50, 8, seed=0)
    np.testing.assert_array_equal(counts.reshape(10, 3, 8), np.repeat(counts[::3, None], 3, axis=1))
    np.testing.assert_array_equal(counts.sum(axis=0), 30)
    assert len(np.unique(counts.T, axis=0)) > 1
    assert block_bootstrap(3, 50, 2, seed=0).shape == (3, 2)


def test_fewer_rows_give_a_wider_interval() -> None:
    few, many = (estimate([constant(0.1)], linear_log(episodes), SMALL)[0] for episodes in (4, 80))
    assert few.high - few.low > 1.5 * (many.high - many.low)


def test_interval_is_students() -> None:
    # three members: t of 97.5% with 2 degrees of freedom is 4.3027; the deviation of 1, 2, 3 is 1
    assert interval(np.array([1.0, 2.0, 3.0])) == pytest.approx((2.0, 2.0 - 4.3027, 2.0 + 4.3027), abs=1e-3)


def test_the_same_seed_gives_the_same_estimate_and_policies_do_not_matter_to_each_other() -> None:
    log, config = linear_log(10), SMALL
    both = estimate([constant(0.1), constant(-0.3)], log, config)
    np.testing.assert_allclose(estimate([constant(-0.3)], log, config), [both[1]], rtol=1e-9)
    assert estimate([constant(-0.3)], log, dataclasses.replace(config, seed=1)) != [both[1]]


def test_constant_columns_do_not_divide_by_zero() -> None:
    log = linear_log(10)
    wide = np.concatenate([log.observation, np.full_like(log.observation, 7.0)], axis=1)
    wide_next = np.concatenate([log.next_observation, np.full_like(log.observation, 7.0)], axis=1)
    basis = make_basis(SMALL, wide, log.action)
    assert np.isfinite(basis(wide, log.action)).all()
    flat = dataclasses.replace(log, observation=wide, next_observation=wide_next)
    (estimated,) = estimate([constant(0.2, 2)], flat, dataclasses.replace(SMALL, ridge=1e-6))
    truth = true_value(log.observation[episode_starts(log), 0], 0.2, 0.9).mean()
    assert estimated.value == pytest.approx(truth, abs=0.3)


def test_progress_is_told() -> None:
    shares: list[float] = []
    estimate([constant(0.1)] * 2, linear_log(4), SMALL, lambda what, share: shares.append(share))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1], len(shares)) == (0.0, 1.0, SMALL.iterations + 1)


@pytest.mark.parametrize(
    "wrong", [{"discount": 1.0}, {"remainder": 0.0}, {"features": 0}, {"members": 1}, {"ridge": -1.0}, {"block": 0}]
)
def test_wrong_constants_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        FQE(**wrong)  # type: ignore[arg-type]


def test_data_that_do_not_fit_are_refused() -> None:
    log = linear_log(4)
    with pytest.raises(DataError, match="no rows"):
        estimate([constant(0.1)], log[:0], SMALL)
    with pytest.raises(DataError, match="observation_size is 2 in the policy and 1"):
        estimate([constant(0.1, 2)], log, SMALL)
