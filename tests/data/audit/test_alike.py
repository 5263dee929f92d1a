"""What columns of two domains mean: a mend of a column itself comes before an exchange; shifts are left alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tabb.data import inspect_arrays
from tabb.data.audit.alike import check_columns_alike
from tabb.data.audit.columns import check_columns
from tabb.data.audit.episodes import check_timing
from tabb.data.audit.mends import Mend, Model, best_mend, sample, turned


def system(rows, seed, force=0.0, size=6, friction=0.0, turned=None):
    """A stable linear system of `size` states and two actions; `force` pushes half of the states, constantly.

    State `turned` is driven the other way round, and drives so.
    """
    draw = np.random.default_rng(0)
    a = draw.normal(0, 1, (size, size)) / np.sqrt(size) - 0.8 * np.eye(size)
    b, goal = draw.normal(0, 1, (size, 2)), draw.normal(0, 1, size)
    if turned is not None:
        others = np.arange(size) != turned
        b[turned] *= -1
        a[turned, others], a[others, turned] = -a[turned, others], -a[others, turned]
    draw = np.random.default_rng(seed)
    s, actions = draw.normal(0, 1, (rows, size)), draw.uniform(-1, 1, (rows, 2))
    push = force * np.r_[np.zeros(size - size // 2), np.ones(size // 2)]
    change = 0.1 * (s @ ((1 + friction) * a).T + actions @ b.T + push) + 0.005 * draw.normal(size=s.shape)
    rewards = change @ goal - 0.1 * (actions**2).sum(1)
    return inspect_arrays(s, actions, rewards, s + change, timeouts=np.arange(rows) % 50 == 49).transitions


SOURCE, TARGET = system(4000, 1), system(3000, 2, force=0.5, friction=0.2)


def findings(target, source=SOURCE):
    return {one.code: one for one in check_columns_alike("pair", source, target)}


def changed(edit, data=TARGET):
    first, second = np.array(data.observation), np.array(data.next_observation)
    edit(first), edit(second)
    return dataclasses.replace(data, observation=first, next_observation=second)


def scaled(column, factor, offset=0.0):
    def edit(table):
        table[:, column] = factor * table[:, column] + offset

    return edit


def exchanged(i, j):
    def edit(table):
        table[:, [i, j]] = table[:, [j, i]]

    return edit


def test_shifts_are_no_faults():
    for force in (0.0, 0.5, 2.0, 5.0):
        assert not {code for code, one in findings(system(3000, 3, force)).items() if one.level == "warning"}


@pytest.mark.parametrize("column", range(6))
@pytest.mark.parametrize(
    ("edit", "code", "says"),
    [
        (lambda i: scaled(i, -1), "sign", "other sign in the target: {i}"),
        (lambda i: scaled(i, 57.3), "units", "{i} (about "),
        (lambda i: scaled(i, 1e-3), "units", "{i} (about "),
        (lambda i: scaled(i, 1, 40.0), "offset", "{i} (by about "),
        (lambda i: exchanged(i, (i + 1) % 6), "order", "{i} looks like the target's {j}"),
    ],
    ids=["sign", "larger", "smaller", "offset", "exchange"],
)
def test_a_planted_fault_names_its_columns_alone(column, edit, code, says):
    warned = {code: one for code, one in findings(changed(edit(column))).items() if one.level == "warning"}
    assert set(warned) == {code}
    assert says.format(i=column, j=(column + 1) % 6) in warned[code].what
    others = set(range(6)) - {column, (column + 1) % 6}
    assert not any(f"{other} (about" in warned[code].what for other in others)


def test_signs_are_told_by_what_columns_do_to_each_other():
    """Also where the model of the source foretells little, and of several columns at once."""
    here, there = sample(SOURCE), sample(changed(scaled(4, -1), changed(scaled(1, -1))))
    moving = np.ones(6, bool)
    assert sorted(turned(here, there, moving)) == [1, 4]
    assert turned(here, sample(dataclasses.replace(TARGET, action=-TARGET.action)), moving) == []
    assert turned(here, sample(TARGET), moving) == []


REWARDS_AND_ACTIONS = {
    "rewards x 1000": (lambda t: {"reward": t.reward * 1000}, "rewards", "times larger"),
    "rewards negated": (lambda t: {"reward": -t.reward}, "rewards", "other sign"),
    "actions halved": (lambda t: {"action": t.action / 2}, "actions", "another bound in the target"),
    "actions negated": (lambda t: {"action": -t.action}, "actions", "columns 0, 1 have the opposite effect"),
    "one negated": (lambda t: {"action": t.action * np.float32([1, -1])}, "actions", "columns 1 have the opposite"),
    "actions in [0, 1]": (lambda t: {"action": (t.action + 1) / 2}, "actions", "never negative in the target"),
}


@pytest.mark.parametrize("case", REWARDS_AND_ACTIONS)
def test_rewards_and_actions_are_compared(case):
    change, code, says = REWARDS_AND_ACTIONS[case]
    found = findings(dataclasses.replace(TARGET, **change(TARGET)))
    assert set(found) == {code}
    assert says in found[code].what


def test_what_no_mend_helps_does_not_fit():
    noise = np.random.default_rng(0).normal(size=(3000, 2)).astype(np.float32)
    following = np.array(TARGET.next_observation)
    following[:, 3] += 3 * noise[: len(TARGET), 0]
    found = findings(dataclasses.replace(TARGET, next_observation=following))
    assert set(found) == {"misfit"}
    assert found["misfit"].what.startswith("columns of the target do not fit the source's steps: 3 (")


def test_the_work_is_bounded(monkeypatch):
    """At 100 columns not every pair is tried."""
    wide, other = system(8000, 1, size=100), system(4000, 2, size=100)
    model = Model(sample(wide), sample(other))
    assert len(model.suspects()) == 32
    assert best_mend(model) is None


@pytest.mark.filterwarnings("error")
def test_columns_that_never_move_and_no_rows_warn_of_nothing():
    flat = inspect_arrays(
        np.zeros((500, 2)), np.zeros((500, 1)), np.zeros(500), timeouts=np.arange(500) == 499
    ).transitions
    list(check_columns_alike("pair", flat, flat))
    list(check_columns_alike("pair", flat[:0], flat))
    list(check_timing("log", flat))
    list(check_timing("log", flat[:1]))


# --- timing ---


def walk(rows=4000, length=100):
    """A point pushed about; the reward is its progress less the effort."""
    draw = np.random.default_rng(0)
    state, log = np.zeros(2), {"observations": [], "actions": [], "rewards": []}
    for row in range(rows):
        state = 0.1 * draw.normal(size=2) if row % length == 0 else state
        action = draw.uniform(-1, 1, 1)
        speed = 0.9 * state[1] + 0.2 * action[0] + 0.02 * draw.normal()
        after = np.array([0.95 * state[0] + 0.1 * speed, speed])
        for key, value in zip(log, (state, action, after[1] - state[1] - 0.1 * action[0] ** 2), strict=True):
            log[key].append(value)
        state = after
    return {key: np.array(column) for key, column in log.items()} | {"timeouts": np.arange(rows) % length == length - 1}


def rolled(log, **rows):
    return inspect_arrays(**{key: np.roll(column, rows.get(key, 0), 0) for key, column in log.items()}).transitions


def test_late_actions_and_late_rewards():
    log = walk()
    assert list(check_timing("log", rolled(log))) == []
    (late,) = check_timing("log", rolled(log, rewards=1))
    assert (late.code, "towards the beginning" in late.fix) == ("reward-timing", True)
    (early,) = check_timing("log", rolled(log, rewards=-1))
    assert (early.code, "towards the end" in early.fix) == ("reward-timing", True)
    assert [one.code for one in check_timing("log", rolled(log, actions=1))][:1] == ["action-timing"]
    both = list(check_timing("log", rolled(log, actions=1, rewards=1)))
    assert [one.code for one in both] == ["action-timing", "reward-timing"]
    assert "towards the beginning" in both[1].fix


@pytest.mark.parametrize("way", [1, -1], ids=["so far", "to go"])
def test_rewards_that_are_sums(way):
    log = walk()
    rewards = log["rewards"].reshape(-1, 100)[:, ::way].cumsum(axis=1)[:, ::way].reshape(-1)
    (found,) = check_timing("log", rolled(log | {"rewards": rewards}))
    assert (found.code, found.level) == ("reward-sums", "warning")


def smooth(rows=6000, length=200):
    """A point that hardly changes its speed from row to row, so that neighbouring rewards are all but alike."""
    draw = np.random.default_rng(0)
    state, push, log = np.zeros(2), 0.0, {"observations": [], "actions": [], "rewards": []}
    for row in range(rows):
        if row % length == 0:
            state, push = 0.1 * draw.normal(size=2), 0.0
        push = 0.9 * push + 0.05 * draw.normal()
        after = np.array([state[0] + 0.05 * state[1], 0.99 * state[1] + 0.1 * push + 0.002 * draw.normal()])
        for key, value in zip(log, (state, [np.tanh(push)], 0.5 * (state[1] + after[1])), strict=True):
            log[key].append(value)
        state = after
    return {key: np.array(column) for key, column in log.items()} | {"timeouts": np.arange(rows) % length == length - 1}


def test_rewards_that_are_too_alike_are_told_by_their_differences():
    log = smooth()
    assert list(check_timing("log", rolled(log))) == []
    for rows, towards in ((1, "beginning"), (-1, "end")):
        (found,) = check_timing("log", rolled(log, rewards=rows))
        assert (found.code, f"towards the {towards}" in found.fix) == ("reward-timing", True)


# --- columns that are all but still in the target ---


def joints(rows, seed, held=False):
    """Two joints with their speeds; a held one trembles, and its speed with it. Speeds come from the actions."""
    draw = np.random.default_rng(seed)
    speeds, places = draw.normal(0, 1, (rows, 2)), draw.normal(0, 1, (rows, 2))
    actions = draw.uniform(-1, 1, (rows, 2))
    if held:
        speeds[:, 1] *= 0.01
        places[:, 1] = 0.01 * places[:, 1]
    change = 0.3 * actions - 0.1 * speeds + 0.02 * draw.normal(size=(rows, 2))
    if held:
        change[:, 1] = 0.01 * draw.normal(size=rows)
    state = np.c_[places, speeds]
    following = state + np.c_[0.1 * speeds, change]
    return inspect_arrays(state, actions, -speeds[:, 0], following, timeouts=np.arange(rows) % 50 == 49).transitions


def test_a_held_joint_is_in_no_other_unit_and_a_speed_in_thousands_is():
    source = joints(4000, 1)
    assert "units" not in findings(joints(3000, 2, held=True), source)
    for column in range(4):
        small = changed(scaled(column, 1e-3), joints(3000, 2))
        assert f"{column} (about" in findings(small, source)["units"].what


@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e6])
def test_what_is_absurd_has_no_unit(unit):
    table = np.random.default_rng(0).normal(0, unit, (500, 4))
    table[:, 3] = 0.0
    table[::250, 3] = 3 * unit  # a contact that is hardly ever made
    assert not [one for one in check_columns("log", {"observations": table}) if one.code == "outlier"]
    table[7, 1] = 1e6 * unit
    (one,) = [one for one in check_columns("log", {"observations": table}) if one.code == "outlier"]
    assert one.rows == (7,)


def test_a_speed_forwards_is_no_other_sign(monkeypatch):
    """Steps of a speed may fit the source's backwards; but a target that runs forwards like it has no other sign."""
    source, target = changed(scaled(2, 1.0, 8.0), SOURCE), changed(scaled(2, 1.0, 6.0), system(3000, 2, turned=2))
    model = Model(sample(source), sample(target))
    assert np.flatnonzero(model.turned_away()).tolist() == [2]
    assert best_mend(model) is None
    assert not Model(sample(source), sample(changed(scaled(2, -1.0), target))).turned_away().any()
    monkeypatch.setattr(Model, "turned_away", lambda self: np.zeros(6, bool))
    assert best_mend(model) == Mend("sign", (2,), -1.0)


def test_an_action_that_does_nothing_is_not_negated():
    for seed in range(10, 30):
        sides = []
        for rows, drawn in ((3000, seed), (1500, seed + 100)):
            data = system(rows, drawn)
            idle = np.random.default_rng(drawn).uniform(-1, 1, (len(data), 1))
            sides.append(dataclasses.replace(data, action=np.c_[data.action, idle].astype(np.float32)))
        source, target = sides
        assert "actions" not in findings(target, source)
        negated = dataclasses.replace(target, action=target.action * np.float32([1, -1, 1]))
        assert findings(negated, source)["actions"].what.startswith("columns 1 have the opposite effect")
