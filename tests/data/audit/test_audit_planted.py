"""Faults planted into one log are found with place and remedy; what is no fault raises no alarm."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from audited_logs import (
    ahead,
    behind,
    bounds,
    codes,
    early,
    flat,
    late,
    limits,
    put,
    repeated,
    robot,
    saturated,
    still,
    stored,
    stuck,
    twice,
)
from tabb.data import inspect_arrays
from tabb.data.audit import audit
from tabb.data.audit.episodes import check_timing


@pytest.fixture(scope="module")
def clean():
    return robot()


PLANTED = {
    "nan": (put("rewards", [4, 17], np.nan), "error", "rewards: 2 rows hold NaN (row 4, 17)", "log them again"),
    "inf": (put("observations", 7, np.inf), "error", "observations: 1 row holds infinity (row 7)", "log them again"),
    "action-range": (bounds, "error", "outside [-1, 1]; column 0 spans [-2.", "action_low and action_high"),
    "constant": (still, "note", "observations: columns 1 are the same", "none needed"),
    "constant ": (stuck, "warning", "actions: columns 1 are the same", "check the log"),
    "constant  ": (flat, "warning", "rewards: is 1 in every row", "reward of each step"),
    "duplicated-column": (twice, "warning", "columns 0 and 3 are equal", "sensor"),
    "duplicated-rows": (repeated, "warning", "100 rows are copies of earlier ones (3.3%) (row 1000", "second copies"),
    "action-bound": (saturated, "note", "30% of the rows have an action at its bound", "saturates"),
    "reward-timing": (late, "warning", "explains the reward of the row after better", "towards the beginning"),
    "reward-timing ": (early, "warning", "explains the reward of the row before better", "towards the end"),
    "action-timing": (behind, "warning", "from the action of the next row", "towards the beginning"),
    "action-timing ": (ahead, "warning", "from the action of the row before", "towards the end"),
    "doubt": (limits, "warning", "come after 100 steps exactly", "mark them as timeouts"),
}


@pytest.mark.parametrize("code", PLANTED)
def test_a_planted_fault_is_found(code, clean, tmp_path):
    plant, level, says, fix = PLANTED[code]
    columns = {key: column.copy() for key, column in clean.items()}
    plant(columns)
    found = codes(audit(stored(tmp_path / "file.hdf5", columns)))[code.strip()]
    assert found.level == level
    assert says in str(found)
    assert fix in found.fix
    assert found.where.startswith(str(tmp_path / "file.hdf5"))


@pytest.mark.parametrize("plant", [ahead, behind])
def test_actions_in_another_row_are_no_fault_of_the_rewards(plant, clean, tmp_path):
    columns = {key: column.copy() for key, column in clean.items()}
    plant(columns)
    assert set(codes(audit(stored(tmp_path / "file.hdf5", columns)))) == {"action-timing", "dropped"}


def test_a_robot_that_obeys_late_is_told_as_such(tmp_path):
    columns = robot(lag=1)
    assert set(codes(audit(stored(tmp_path / "file.hdf5", columns)))) == {"action-timing", "dropped"}


def switch(columns):
    columns["observations"] = np.c_[0.3 * columns["observations"], np.arange(3_000) % 100 > 60].astype(np.float32)


def contact(columns):
    touching = columns["observations"][:, :1] > 0
    columns["observations"] = np.c_[0.3 * columns["observations"], touching].astype(np.float32)


def phase(columns):
    columns["observations"] = np.c_[columns["observations"], np.arange(3_000) // 10 % 7].astype(np.float32)


def goal(columns):
    goals = np.repeat(9 * np.random.default_rng(0).normal(size=30), 100)
    columns["observations"] = np.c_[columns["observations"], goals].astype(np.float32)


@pytest.mark.parametrize("plant", [switch, contact, phase, goal])
def test_switches_and_goals_are_neither_jumps_nor_clipped(plant, clean, tmp_path):
    columns = {key: column.copy() for key, column in clean.items()}
    plant(columns)
    assert set(codes(audit(stored(tmp_path / "file.hdf5", columns)))) == {"dropped"}


def test_a_sensor_that_ends_at_a_limit_is_clipped(clean, tmp_path):
    columns = dict(clean, observations=np.clip(clean["observations"], -0.4, 0.4))
    share = (np.abs(clean["observations"]) >= 0.4).any(axis=1).mean()
    said = codes(audit(stored(tmp_path / "file.hdf5", columns)))["clipped"].what
    assert said == f"{share:.0%} of the rows have an entry clipped at 0.4"


def test_jumps_are_found_beside_a_switch(clean):
    columns = {key: column.copy() for key, column in clean.items()}
    switch(columns)
    columns["timeouts"][1_999] = False
    columns["observations"][2_000:2_100, :4] += 50
    (doubt,) = inspect_arrays(**columns).report.doubts
    assert doubt.startswith("after 1 row (row 1999) the step jumps")


def gymnasium_log(name, rows):
    """A log of actions that go on, in an environment of Gymnasium's, where most physics are without noise."""
    env, generator = gymnasium.make(name), np.random.default_rng(1)
    space, action, columns = env.action_space, np.zeros(env.action_space.shape), []
    observation, _ = env.reset(seed=1)
    for _ in range(rows):
        action = np.clip(0.9 * action + 0.4 * generator.uniform(-1, 1, action.shape), -1, 1)
        scaled = (space.low + space.high + (space.high - space.low) * action) / 2
        following, reward, ended, cut, _ = env.step(scaled.astype(np.float32))
        columns.append((observation, action, reward, ended, cut and not ended))
        observation = following
        if ended or cut:
            (observation, _), action = env.reset(), np.zeros(action.shape)
    keys = ("observations", "actions", "rewards", "terminals", "timeouts")
    return {key: np.array(column) for key, column in zip(keys, zip(*columns, strict=True), strict=True)}


@pytest.mark.parametrize("name", ["MountainCarContinuous-v0", "InvertedPendulum-v5"])
def test_a_bump_is_no_end_and_a_reward_for_being_alive_is_not_late(name):
    """Without noise a bump into a wall is as surprising as a reset, and a fall is foreseen by the step before it."""
    inspected = inspect_arrays(**gymnasium_log(name, 6_000))
    assert inspected.report.doubts == ()
    assert list(check_timing("log", inspected.transitions)) == []


def test_a_row_that_stands_alone_is_no_end_of_an_episode(clean):
    columns = {key: column.copy() for key, column in clean.items()}
    columns["observations"][7] = 500.0
    (doubt,) = inspect_arrays(**columns).report.doubts
    assert doubt.startswith("the steps to and from 1 row (row 7) both jump, as where a number is wrong: leave out")
