"""The structure of a log: what is stated wins, and where the steps of the file disagree a doubt counts the rows."""

from __future__ import annotations

import tracemalloc

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cart import cart
from tabb.data import inspect_arrays, read
from tabb.data.arrays import ABSENT, LEAKED, NOT_STORED, OUTSIDE, PADDED
from tabb.data.audit import audit
from tabb.data.audit.inspection import flag_doubts
from tabb.data.audit.structure import missed_jumps
from tabb.data.steps import Surprise
from tabb.errors import DataError

ENDS, CUTS = 188, 96
"""of the cart's log: its last row is the 189th end"""


def without(log, *keys):
    return {key: column for key, column in log.items() if key not in keys}


def doubts(**columns):
    return inspect_arrays(**columns).report.doubts


# --- F1: next observations that are not exactly the next row ---


def noise(following):
    return following + np.random.default_rng(0).normal(0, 1e-3, following.shape)


def one_column_rounded(following):
    result = following.copy()
    result[:, 0] = result[:, 0].astype(np.float16)
    return result


def half_of_the_rows_rounded(following):
    result = following.copy()
    result[::2] = result[::2].round(4)
    return result


INEXACT = {
    "noise": noise,
    "float16": lambda following: following.astype(np.float16),
    "one column": one_column_rounded,
    "csv": lambda following: following.round(3),
    "some rows": half_of_the_rows_rounded,
}


def test_shuffled_rows_without_next_observations(cart_log, tmp_path):
    """Every pair of rows would be a step that nobody took; nothing else of the steps is told then."""
    columns = without(cart_log, "next_observations")
    mixed = {key: column[np.random.default_rng(0).permutation(3000)] for key, column in columns.items()}
    for keys in ((), ("timeouts",)):
        assert doubts(**without(columns, *keys)) == ()
        assert [doubt.partition(" (")[0] for doubt in doubts(**without(mixed, *keys))] == [
            "rows seem to stand in no order"
        ]
    np.savez(tmp_path / "mixed.npz", **mixed)
    assert [finding.code for finding in audit(tmp_path / "mixed.npz").of_level("warning")] == ["doubt"]


def test_large_and_unsteady_steps_are_no_disorder():
    """A state that changes its sign each step is far from the next one, which follows from it; draws of one step each
    have no next one."""
    draw = np.random.default_rng(0)
    states = draw.normal(size=(400, 2)) * 0.1 + np.where(np.arange(400) % 2, 3, -3)[:, None]
    columns = {"observations": states, "actions": draw.uniform(-1, 1, (400, 1)), "rewards": np.zeros(400)}
    assert doubts(**columns, timeouts=np.arange(400) % 50 == 49) == ()
    single = inspect_arrays(**{**columns, "observations": draw.normal(size=(400, 2))}, terminals=np.ones(400))
    assert not any("no order" in doubt for doubt in single.report.doubts)


@pytest.mark.parametrize("case", INEXACT)
@pytest.mark.parametrize("stated", [True, False], ids=["timeouts", "no timeouts"])
def test_inexact_next_observations_do_not_cut_episodes(case, stated, cart_log):
    columns = cart_log if stated else without(cart_log, "timeouts")
    transitions, report = inspect_arrays(
        **{**columns, "next_observations": INEXACT[case](cart_log["next_observations"])}
    )
    assert report.episodes == ENDS + 1
    assert report.kept == 3000
    assert transitions.terminal.sum() == cart_log["terminals"].sum()
    assert report.doubts == ()


def test_another_filter_leaves_stated_ends_alone(cart_log):
    filtered = 0.98 * cart_log["next_observations"] + 0.01
    assert inspect_arrays(**{**cart_log, "next_observations": filtered}).report.episodes == ENDS + 1


def test_gaps_count_as_ends_and_are_doubted(cart_log):
    """Rows were left out of a log that states its ends: the stored next observation is not the next row."""
    rows = np.delete(np.arange(3000), [5, 6, 1000])
    assert not (cart_log["terminals"] | cart_log["timeouts"])[[4, 5, 6, 999, 1000]].any()
    columns = {key: column[rows] for key, column in cart_log.items()}
    report = inspect_arrays(**columns).report
    assert report.episodes == ENDS + 3
    (doubt,) = report.doubts
    assert doubt.startswith("after 2 rows (row 4, 997) the next row is not the stored next observation, yet no flag")
    one = {**without(columns, "timeouts", "terminals"), "episodes": np.zeros(len(rows))}
    report = inspect_arrays(**one).report
    assert report.episodes == 1
    assert any("`episodes` does not change there (taken as one episode)" in doubt for doubt in report.doubts)


# --- F2: next observations that are none ---

WRONG = {
    "equal": (lambda log: log["observations"], "equal the row's own observation"),
    "two rows on": (lambda log: np.roll(log["observations"], -2, 0), "the observation two rows on"),
    "before": (lambda log: np.roll(log["observations"], 1, 0), "the observation of the row before"),
    "shuffled": (
        lambda log: np.random.default_rng(0).permutation(log["next_observations"]),
        "nothing to do with their rows",
    ),
    "zero": (lambda log: np.zeros((3000, 2)), "nothing to do with their rows"),
    "other episodes": (lambda log: np.roll(log["next_observations"], 500, 0), "nothing to do with their rows"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.filterwarnings("error")
def test_wrong_next_observations_are_doubted_and_audited(case, cart_log, tmp_path):
    make, says = WRONG[case]
    columns = {**cart_log, "next_observations": make(cart_log)}
    report = inspect_arrays(**columns).report
    assert report.episodes == ENDS + 1  # the flags state them
    assert says in report.doubts[0]
    with h5py.File(tmp_path / "wrong.hdf5", "w") as file:
        for key, column in columns.items():
            file[key] = column
    assert any(
        says in finding.what and finding.level == "warning" for finding in audit(tmp_path / "wrong.hdf5").findings
    )


def test_shuffled_rows_with_stated_ends(cart_log):
    order = np.random.default_rng(0).permutation(3000)
    report = inspect_arrays(**{key: column[order] for key, column in cart_log.items()}).report
    assert report.kept == 3000
    assert any("follow from their own rows, but are not the next rows" in doubt for doubt in report.doubts)


# --- F3, F11: padding and unknown ---

PADDING = {
    "itself": lambda log, rows: log["observations"][rows],
    "zeros": lambda log, rows: 0.0,
    "a number": lambda log, rows: -99.0,
    "nan": lambda log, rows: np.nan,
    "one nan": lambda log, rows: np.array([np.nan, 0.3]),
}


@pytest.mark.parametrize("case", PADDING)
@pytest.mark.parametrize("stated", [True, False], ids=["timeouts", "no timeouts"])
def test_padding_at_cut_ends_is_dropped_and_counted(case, stated, cart_log):
    cut, following = cart_log["timeouts"], cart_log["next_observations"].copy()
    following[cut] = PADDING[case](cart_log, cut)
    columns = cart_log if stated else without(cart_log, "timeouts")
    transitions, report = inspect_arrays(**{**columns, "next_observations": following})
    assert report.dropped == {ABSENT if "nan" in case else PADDED: CUTS}
    assert report.episodes == ENDS + 1
    assert np.array_equal(report.kept_rows, np.flatnonzero(~cut))
    np.testing.assert_array_equal(transitions.next_observation, np.float32(cart_log["next_observations"][~cut]))


@pytest.mark.parametrize("case", PADDING)
def test_padding_at_terminal_rows_is_no_next_observation(case, cart_log):
    over, following = cart_log["terminals"], cart_log["next_observations"].copy()
    following[over] = PADDING[case](cart_log, over)
    transitions, report = inspect_arrays(**{**cart_log, "next_observations": following})
    assert report.kept == 3000
    if case == "a number":  # nothing at cut ends shows that it is padding; no learner reads it
        return
    at_end = transitions.terminal == 1
    np.testing.assert_array_equal(transitions.next_observation[at_end], transitions.observation[at_end])


def test_a_robot_at_rest_is_no_padding():
    """Rows that repeat inside episodes too may repeat at the time limit."""
    place = np.repeat(np.arange(100.0), 5)[:, None] % 50  # moves every fifth step
    following = np.roll(place, -1, axis=0)
    following[-1] = place[-1]
    timeouts = np.arange(500) % 50 == 47
    report = inspect_arrays(place, place * 0, place[:, 0], following, timeouts=timeouts).report
    assert PADDED not in report.dropped


def test_the_last_row_may_be_unknown(cart_log):
    following = cart_log["next_observations"].copy()
    following[-1] = np.nan
    report = inspect_arrays(**{**cart_log, "next_observations": following}).report
    assert report.dropped == {ABSENT: 1}
    assert report.dropped_rows == {ABSENT: (2999,)}


def test_pandas_shift_within_episodes(cart_log):
    """`groupby(episode).shift(-1)` leaves NaN at the last row of each episode, and nothing else need state ends."""
    end = cart_log["terminals"] | cart_log["timeouts"]
    following = np.roll(cart_log["observations"], -1, axis=0)
    following[end | (np.arange(3000) == 2999)] = np.nan
    columns = without(cart_log, "timeouts")
    report = inspect_arrays(**{**columns, "next_observations": following}).report
    assert report.dropped == {ABSENT: CUTS + 1}
    assert report.episodes == ENDS + 1


def test_infinity_is_no_word_for_unknown(cart_log):
    following = cart_log["next_observations"].copy()
    following[7, 1] = np.inf
    with pytest.raises(DataError, match="next_observations: row 7, column 1 is inf"):
        inspect_arrays(**{**cart_log, "next_observations": following})


@pytest.mark.parametrize("none", [np.nan, -1])
def test_rows_of_no_episode_are_dropped_and_counted(none, cart_log):
    number = np.cumsum(np.roll(cart_log["terminals"] | cart_log["timeouts"], 1)).astype(float)
    outside = np.isin(number, [3, 4, 50])
    columns = without(cart_log, "timeouts", "terminals", "next_observations")
    _, report = inspect_arrays(**columns, episodes=np.where(outside, none, number))
    assert report.dropped[OUTSIDE] == outside.sum()
    assert report.rows == 3000
    assert not set(report.kept_rows) & set(np.flatnonzero(outside))
    assert report.episodes == len(np.unique(number)) - 3
    assert sum(report.lengths) == 3000 - outside.sum()
    assert set(report.lengths) <= {*np.unique(number, return_counts=True)[1]}


def test_no_row_of_an_episode():
    with pytest.raises(DataError, match="episodes: no row belongs to an episode"):
        inspect_arrays(np.zeros((5, 1)), np.zeros((5, 1)), np.zeros(5), episodes=[np.nan] * 5)


@pytest.mark.parametrize("none", [np.nan, -1])
@pytest.mark.parametrize("stored", [True, False], ids=["next observations", "none"])
def test_no_step_leads_across_rows_of_no_episode(stored, none):
    """Places 0, 1, ..., 7 of one episode, of which rows 3 and 4 are of none: 2 must not be followed by 5."""
    place = np.arange(8.0)[:, None]
    following = {"next_observations": place + 1} if stored else {}
    number = np.where(np.isin(np.arange(8), (3, 4)), none, 6.0)
    columns = {"observations": place, "actions": place * 0, "rewards": np.ones(8), "episodes": number, **following}
    rows, report = inspect_arrays(**columns)
    np.testing.assert_array_equal(rows.next_observation, rows.observation + 1)
    here = [0, 1, 2, 5, 6, 7] if stored else [0, 1, 5, 6]
    assert rows.observation[:, 0].tolist() == here
    assert rows.episode.tolist() == [int(place > 2) for place in here]
    assert (report.episode_ends, report.lengths, report.returns) == ((2, 7), (3, 3), (3.0, 3.0))
    (doubt,) = (doubt for doubt in report.doubts if "no episode" in doubt)
    assert doubt.startswith("after 1 row (row 2) come rows of no episode, and then the same episode goes on (cut there")


def test_gaps_do_not_cut_where_another_episode_begins():
    place = np.arange(8.0)[:, None]
    number = np.array([0, 0, 0, -1, -1, 1, 1, 1])
    report = inspect_arrays(place, place * 0, np.ones(8), episodes=number).report
    assert (report.episode_ends, [doubt for doubt in report.doubts if "no episode" in doubt]) == ((2, 7), [])


def test_an_unknown_next_observation_cuts_a_stated_episode():
    """Row 3 is dropped, so that row 2 is not followed by row 4 in any episode."""
    place = np.arange(8.0)[:, None]
    following = np.where(place == 3, np.nan, place + 1)
    rows, report = inspect_arrays(place, place * 0, np.ones(8), following, episodes=np.zeros(8))
    assert rows.observation[:, 0].tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert rows.episode.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert report.dropped_rows == {ABSENT: (3,)}
    assert any(
        doubt.startswith("next_observations is NaN in 1 row (row 3) inside of episodes") for doubt in report.doubts
    )


# --- F4: ends that are stated in part ---


@pytest.mark.parametrize("stored", [True, False], ids=["next observations", "none"])
def test_half_of_the_timeouts(stored, cart_log):
    columns = cart_log if stored else without(cart_log, "next_observations")
    half = cart_log["timeouts"].copy()
    half[np.flatnonzero(half)[::2]] = False
    missing = np.flatnonzero(cart_log["timeouts"] & ~half)
    (doubt,) = doubts(**{**columns, "timeouts": half})
    count, listed = (48, missing[:5]) if stored else (45, missing[:5])  # three resets look like steps
    assert doubt.startswith(f"after {count} rows (row {', '.join(map(str, listed))}, ...)")


def wide_cart(rows, length):
    """A noisy two-mass log that is put back near 0 every `length` rows."""
    draw = np.random.default_rng(0)
    observations, actions, state = [], [], None
    for row in range(rows):
        if row % length == 0:
            state = draw.normal(0, 0.02, 4)
            target = draw.uniform(1, 2, 2)
        action = np.clip(target - state[:2] + draw.normal(0, 0.3, 2), -1, 1)
        observations.append(state)
        actions.append(action)
        speed = 0.9 * state[2:] + 0.1 * action + draw.normal(0, 0.01, 2)
        state = np.concatenate([state[:2] + 0.2 * speed, speed])
    return {"observations": np.array(observations), "actions": np.array(actions), "rewards": draw.normal(size=rows)}


def test_ends_stated_by_one_number_or_one_flag():
    columns = wide_cart(4000, 200)
    assert inspect_arrays(**columns).report.episodes == 20
    one = np.arange(4000) == 1999
    for stated in ({"episodes": np.zeros(4000)}, {"timeouts": one}):
        report = inspect_arrays(**columns, **stated).report
        assert report.episodes == (2 if "timeouts" in stated else 1)  # what is stated wins
        (doubt,) = report.doubts
        assert doubt.startswith(f"after {18 if 'timeouts' in stated else 19} rows (row 199, 399")
        assert "nothing marks it" in doubt
    assert doubts(**columns, timeouts=np.arange(4000) % 200 == 199) == ()


def test_pieces_of_one_long_log_are_no_jumps():
    """A log cut into pieces goes on after each: there is nothing to doubt."""
    columns = wide_cart(4000, 4000)
    assert doubts(**columns, timeouts=np.arange(4000) % 100 == 99) == ()


# --- F6: flags that mean the opposite, or sit a row off ---


def flipped(log):
    end = log["terminals"] | log["timeouts"]
    late, early = np.roll(log["timeouts"], 1), np.roll(log["timeouts"], -1)
    return {
        "masks": ({"terminals": ~end, "timeouts": None}, "2,812 of 3,000 rows are marked in `terminals`"),
        "inverted": ({"timeouts": ~end}, "2,812 of 3,000 rows are marked in `timeouts`"),
        "starts": ({"timeouts": np.roll(end, 1)}, "`timeouts` sits a row late (on first rows of episodes)"),
        "a row late": ({"timeouts": late}, "`timeouts` sits a row late"),
        "a row early": ({"timeouts": early}, "`timeouts` sits a row early"),
        "terminals late": ({"terminals": np.roll(log["terminals"], 1)}, "`terminals` sits a row late"),
        "episodes late": (
            {"timeouts": None, "episodes": np.cumsum(np.roll(log["timeouts"] | log["terminals"], 2))},
            "`episodes` sits a row late",
        ),
    }


@pytest.mark.parametrize("case", flipped({key: np.zeros(3000, bool) for key in ("terminals", "timeouts")}))
@pytest.mark.parametrize("stored", [True, False], ids=["next observations", "none"])
def test_flags_that_mean_something_else(case, stored, cart_log):
    columns = cart_log if stored else without(cart_log, "next_observations")
    change, says = flipped(cart_log)[case]
    assert any(says in doubt for doubt in doubts(**{**columns, **change}))


def test_a_log_that_is_right_is_not_doubted(cart_log):
    end = cart_log["terminals"] | cart_log["timeouts"]
    number = np.cumsum(np.roll(end, 1))
    for columns in (
        cart_log,
        without(cart_log, "next_observations"),
        without(cart_log, "timeouts"),
        {**without(cart_log, "timeouts"), "episodes": number},
        {**without(cart_log, "timeouts", "next_observations"), "episodes": number},
    ):
        report = inspect_arrays(**columns).report
        assert report.doubts == ()
        assert report.episodes == ENDS + 1


def test_most_rows_dropped(cart_log):
    following = cart_log["next_observations"].copy()
    following[np.arange(3000) % 3 > 0] = np.nan
    assert any(
        "rows are dropped: store the next" in doubt for doubt in doubts(**{**cart_log, "next_observations": following})
    )


# --- F31: terminal rows at the length of the time limit ---


def test_true_ends_at_the_time_limits_length_are_not_doubted():
    cart_log = cart(20_000)
    ends = np.flatnonzero(cart_log["terminals"] | cart_log["timeouts"])
    at_limit = (np.diff(ends, prepend=-1) == 20) & cart_log["terminals"][ends]
    assert at_limit.sum() >= 3
    assert doubts(**cart_log) == ()
    cut_as_over = cart_log["terminals"] | cart_log["timeouts"]
    assert "come after 20 steps exactly" in doubts(**{**cart_log, "terminals": cut_as_over, "timeouts": None})[0]


def test_a_time_limit_is_looked_for_without_a_copy_in_doubles(monkeypatch):
    """3,000 episodes of 40 steps that the task ends, 9.6 MB of float32: a copy in float64 would take twice that."""
    monkeypatch.setattr("tabb.data.checks.PIECE", 8192)
    draw = np.random.default_rng(0)
    observations = draw.normal(size=(120_000, 20)).astype(np.float32)
    terminals = np.arange(120_000) % 40 == 39
    columns = {"observations": observations, "terminals": terminals}
    tracemalloc.start()
    (doubt,) = flag_doubts(columns, np.flatnonzero(terminals))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert doubt.startswith("3,000 of 3,000 terminal rows come after 40 steps exactly")
    assert peak < observations.nbytes


def test_a_path_of_fixed_length_is_not_doubted():
    draw = np.random.default_rng(0)
    progress = np.tile(np.arange(30.0), 10)
    observations = np.c_[progress, draw.normal(size=300)]
    terminals = progress == 29
    assert not any(
        "steps exactly" in doubt
        for doubt in doubts(
            observations=observations, actions=observations[:, :1] * 0, rewards=progress, terminals=terminals
        )
    )
    drifting = np.c_[draw.normal(size=(300, 2))]
    assert any(
        "steps exactly" in doubt
        for doubt in doubts(observations=drifting, actions=drifting[:, :1] * 0, rewards=progress, terminals=terminals)
    )


# --- the three doors ---


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_three_doors_agree(data, cart_log, tmp_path):
    """Arrays, npz and HDF5 make the same transitions, notes, doubts or refusal of the same columns."""
    rows = data.draw(st.integers(30, 400))
    columns = {key: column[:rows].copy() for key, column in cart_log.items()}
    end = columns["terminals"] | columns["timeouts"]
    columns["episodes"] = np.cumsum(np.roll(end, 1))
    for key in ("next_observations", "terminals", "timeouts", "episodes"):
        if data.draw(st.booleans(), label=f"without {key}"):
            del columns[key]
    if "next_observations" in columns:
        fill = data.draw(st.sampled_from(["true", "nan", "zeros", "noise", "equal"]))
        following = columns["next_observations"]
        following[end] = {"nan": np.nan, "zeros": 0.0}.get(fill, following[end])
        columns["next_observations"] = {"noise": following + 1e-3, "equal": columns["observations"]}.get(
            fill, following
        )
    for alias, key in (("terminated", "terminals"), ("truncations", "timeouts"), ("next_obs", "next_observations")):
        if key in columns and data.draw(st.booleans(), label=alias):
            columns[alias] = columns.pop(key)
    if data.draw(st.booleans(), label="dones"):
        columns["dones"] = end
    columns["observations"][:, 0] += data.draw(st.sampled_from([0, 0, 5.4e6]))
    with h5py.File(tmp_path / "log.hdf5", "w") as file:
        for key, column in columns.items():
            file[key] = column
    np.savez(tmp_path / "log.npz", **columns)

    def outcome(make):
        try:
            loaded = make()
        except DataError as error:
            return str(error).partition(": ")[2]
        report = loaded.report.to_dict()
        for key in ("name", "layout"):
            del report[key]
        columns = [
            np.asarray(one).tobytes() for one in vars(loaded.transitions).values() if isinstance(one, np.ndarray)
        ]
        assert len(columns) == 6
        return report, columns

    arrays = outcome(lambda: inspect_arrays(**columns))
    assert outcome(lambda: read(tmp_path / "log.hdf5")) == arrays
    assert outcome(lambda: read(tmp_path / "log.npz")) == arrays


# --- what is measured ---


def test_surprise_is_one_for_usual_steps_and_large_for_jumps():
    draw = np.random.default_rng(0)
    speed = draw.normal(size=(2000, 1))
    observations = np.cumsum(speed + 0.1 * draw.normal(size=(2000, 1)), axis=0)
    observations[1000:] += 50
    end = np.arange(2000) == 1999
    surprise = Surprise(observations, speed, end)
    assert np.median(surprise(np.arange(900))) == pytest.approx(1, rel=0.3)
    assert surprise(np.array([999]))[0] > 1e3
    assert missed_jumps(observations, end, end, surprise).tolist() == [999]


def test_leaks_and_cuts_keep_their_names(cart_log):
    following = np.roll(cart_log["observations"], -1, axis=0)
    report = inspect_arrays(**{**cart_log, "next_observations": following}).report
    assert report.dropped == {LEAKED: CUTS, NOT_STORED: 1}
    assert inspect_arrays(**without(cart_log, "next_observations")).report.dropped == {NOT_STORED: CUTS + 1}


# --- rows that hold no step, several environments, angles ---


def in_turn(*logs):
    """The rows of several environments, one of each in turn."""
    return {
        key: np.stack([log[key] for log in logs], axis=1).reshape(-1, *logs[0][key].shape[1:])
        for key in logs[0]
        if key != "next_observations"
    }


@pytest.mark.parametrize("count", [2, 4])
def test_environments_that_are_logged_in_turn(count):
    woven = in_turn(*(cart(2400 // count, seed) for seed in range(count)))
    says = f"each row goes on {count} rows later, as where {count} environments are logged in turn"
    for columns in (woven, without(woven, "timeouts")):
        assert sum(doubt.startswith(says) for doubt in doubts(**columns)) == 1


def test_environments_in_turn_with_next_observations():
    logs = [cart(600, seed) for seed in range(4)]
    following = np.stack([log["next_observations"] for log in logs], axis=1).reshape(-1, 2)
    woven = in_turn(*logs) | {"next_observations": following}
    assert any("several environments are logged in turn" in doubt for doubt in doubts(**woven))
    loaded = inspect_arrays(**woven)
    np.testing.assert_array_equal(loaded.transitions.next_observation, following.astype(np.float32))


@pytest.mark.parametrize("stored", [True, False], ids=["next observations", "none"])
def test_rows_that_only_reset(stored, cart_log):
    """Gymnasium's vector environments since 1.0: a row after each end whose action is ignored."""
    ends = np.flatnonzero(cart_log["terminals"] | cart_log["timeouts"])
    extra = {
        "observations": cart_log["next_observations"][ends],
        "actions": np.full((len(ends), 1), 0.3),
        "rewards": np.zeros(len(ends)),
        "terminals": np.zeros(len(ends), bool),
        "timeouts": np.zeros(len(ends), bool),
        "next_observations": cart_log["observations"][ends + 1],
    }
    columns = {key: np.insert(column, ends + 1, extra[key], axis=0) for key, column in cart_log.items()}
    found = doubts(**(columns if stored else without(columns, "next_observations")))
    (says,) = [doubt for doubt in found if "next-step autoreset" in doubt]
    assert says.startswith(f"{len(ends)} rows (row {ends[0] + 1}, ")
    assert not any("sits a row" in doubt for doubt in found)


def test_rows_that_fill_episodes_up(cart_log):
    ends = np.flatnonzero(cart_log["terminals"] | cart_log["timeouts"])
    lengths = np.diff(ends, prepend=-1)
    at, count = np.repeat(ends + 1, 25 - lengths), int((25 - lengths).sum())
    log = without(cart_log, "next_observations")
    zeros = {key: np.insert(column, at, 0, axis=0) for key, column in log.items()}
    assert any(doubt.startswith(f"{count:,} rows (row ") and "nothing but zeros" in doubt for doubt in doubts(**zeros))
    twice = {key: np.repeat(column, 2, axis=0) for key, column in cart_log.items()}
    found = doubts(**twice)
    assert any(doubt.startswith("3,000 rows (row 1, 3, 5, 7, 9, ...) are the row before once more") for doubt in found)
    assert any("if each row stands twice, store it once" in doubt for doubt in found)


def wheel(rows=2000, limit=100):
    """A wheel that is pushed about; its angle lies in [-π, π)."""
    draw = np.random.default_rng(0)
    pushes = draw.uniform(-1, 1, rows)
    speed = np.zeros(rows)
    for i in range(1, rows):
        speed[i] = 0.98 * speed[i - 1] + 0.2 * pushes[i - 1] + 0.02
    angle = np.cumsum(0.3 * speed)
    columns = {"observations": np.c_[angle, speed], "actions": pushes[:, None], "rewards": np.cos(angle)}
    return columns | {"timeouts": np.arange(rows) % limit == limit - 1}


def test_an_angle_that_wraps_round():
    log = wheel()
    assert not any("wraps round" in doubt for doubt in doubts(**log))
    angle, speed = log["observations"].T
    round_again = np.c_[(angle + np.pi) % (2 * np.pi) - np.pi, speed]
    found = doubts(**log | {"observations": round_again})
    assert len(found) == 1
    assert found[0].startswith("column 0 of observations jumps from one end of its range to the other ")
    switch = np.c_[log["observations"], np.arange(2000) % 40 < 20]
    assert not any("wraps round" in doubt for doubt in doubts(**log | {"observations": switch}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda log: log["next_observations"] - log["observations"], "are changes, s' - s: add the observations"),
        (lambda log: 2 * log["next_observations"] + 1, "are the next rows in other units: scale both alike"),
    ],
    ids=["changes", "other units"],
)
@pytest.mark.parametrize("stated", [True, False], ids=["timeouts", "no timeouts"])
def test_next_observations_that_are_something_like_them(change, says, stated, cart_log):
    log = cart_log if stated else without(cart_log, "timeouts")
    assert f"next_observations {says}" in doubts(**{**log, "next_observations": change(log)})


def test_actions_that_are_whole_numbers(cart_log):
    steps = (cart_log["actions"] > 0).astype(int)
    (says,) = [doubt for doubt in doubts(**{**cart_log, "actions": steps}) if "whole numbers" in doubt]
    assert "discrete actions" in says
    assert doubts(**{**cart_log, "actions": steps.astype(float)}) == ()
    # With bounds stated, few values are codes still; ticks of a motor are many.
    three = np.arange(3000)[:, None] % 3
    bounds = {"action_low": 0, "action_high": 2}
    (says,) = inspect_arrays(**{**cart_log, "actions": three}, **bounds).report.doubts
    assert says.startswith("actions are whole numbers with 3 values at most, read as sizes")
    ticks = np.random.default_rng(0).integers(0, 4096, (3000, 1))
    assert doubts(**{**cart_log, "actions": ticks}, action_low=0, action_high=4095) == ()
