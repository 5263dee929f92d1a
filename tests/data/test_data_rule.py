"""The one rule for ends of episodes and unknown next observations, on arrays to follow by eye."""

import dataclasses
import json

import numpy as np
import pytest

from tabb.data import check_domains, describe, from_arrays, inspect_arrays
from tabb.data.boundaries import resets
from tabb.data.report import log_return
from tabb.errors import DataError, DataWarning


def count(rows):
    """Observations 0, 1, 2, ...: a row's value is its number."""
    return np.arange(rows, dtype=np.float32)[:, None]


def arrays(rows, next_observations=None, terminals=(), timeouts=None, episodes=None, rewards=None):
    def flags(at):
        return np.isin(np.arange(rows), at)

    return inspect_arrays(
        count(rows),
        np.zeros((rows, 1)),
        np.arange(rows) if rewards is None else rewards,
        next_observations,
        flags(terminals),
        None if timeouts is None else flags(timeouts),
        episodes=episodes,
    )


def test_next_row_is_next_observation_and_last_row_is_dropped():
    transitions, report = arrays(5)
    assert transitions.observation[:, 0].tolist() == [0, 1, 2, 3]
    assert transitions.next_observation[:, 0].tolist() == [1, 2, 3, 4]
    assert transitions.terminal.tolist() == [0, 0, 0, 0]
    assert (report.rows, report.kept, sum(report.dropped.values())) == (5, 4, 1)
    assert report.unfinished == (0,)
    assert report.returns == (10.0,)  # also the dropped row was lived through


def test_terminal_rows_stay_and_truncations_go_and_never_become_terminals():
    transitions, report = arrays(9, terminals=[2], timeouts=[5, 8])
    assert transitions.observation[:, 0].tolist() == [0, 1, 2, 3, 4, 6, 7]
    assert transitions.next_observation[:, 0].tolist() == [1, 2, 2, 4, 5, 7, 8]
    assert transitions.terminal.tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert transitions.episode.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert report.episode_ends == (2, 5, 8)
    assert report.lengths == (3, 3, 3)
    assert (report.terminals, report.truncations, report.unfinished) == (1, 2, ())
    assert list(report.dropped_rows.values()) == [(5, 8)]


def test_terminal_last_row_stays():
    transitions, report = arrays(4, terminals=[3])
    assert len(transitions) == 4
    assert report.dropped == {}


def test_both_flags_count_as_terminal_and_are_noted():
    transitions, report = arrays(6, terminals=[2], timeouts=[2, 5])
    assert transitions.terminal.tolist() == [0, 0, 1, 0, 0]
    assert report.truncations == 1
    assert any("both terminal and timeout" in note for note in report.notes)
    assert not any("old `done`" in note for note in report.doubts)
    assert any("old `done`" in note for note in arrays(6, terminals=[2, 5], timeouts=[2]).report.doubts)


def test_stored_next_observation_at_a_time_limit_is_kept():
    following = count(6) + 1
    following[2] = 2.5  # not row 3: the true state at the limit
    transitions, report = arrays(6, following)
    assert transitions.next_observation[:, 0].tolist() == [1, 2, 2.5, 4, 5, 6]
    assert transitions.terminal.sum() == 0
    assert transitions.episode.tolist() == [0, 0, 0, 1, 1, 1]
    assert report.dropped == {}
    assert report.wrong_next == ()
    assert report.episode_ends == (2, 5)


def test_stored_next_observation_after_a_terminal_is_kept_if_true():
    following = count(6) + 1
    following[2] = 2.5
    assert arrays(6, following, terminals=[2]).transitions.next_observation[2] == 2.5


def test_shifted_next_observations_are_unknown_at_every_terminal():
    following = count(7) + 1
    following[4] = 77  # a row was left out after this terminal: no comparison tells
    transitions, report = arrays(7, following, terminals=[2, 4])
    assert transitions.next_observation[:, 0].tolist() == [1, 2, 2, 4, 4, 6, 7]
    assert report.wrong_next == (2, 4)
    assert report.dropped == {}


def test_timeout_with_stored_next_observation():
    following = count(8) + 1
    following[2] = 2.5
    transitions, report = arrays(8, following, timeouts=[2, 5])
    assert transitions.observation[:, 0].tolist() == [
        0,
        1,
        2,
        3,
        4,
        6,
        7,
    ]  # row 5 stores row 6, the next episode
    assert transitions.episode.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert report.wrong_next == (5,)


@pytest.mark.parametrize("filler", [5, 0])
def test_last_row_of_a_shifted_array_is_dropped(filler):
    following = np.append(count(6)[1:], [[filler]], axis=0)
    assert len(arrays(6, following).transitions) == 5


def test_episode_numbers_mark_ends():
    transitions, report = arrays(6, episodes=[7, 7, 7, 3, 3, 3])
    assert transitions.episode.tolist() == [0, 0, 1, 1]
    assert report.episode_ends == (2, 5)


def test_episode_of_one_dropped_row_leaves_no_gap_in_the_numbers():
    transitions, report = arrays(6, episodes=[0, 0, 0, 1, 2, 2])
    assert transitions.episode.tolist() == [0, 0, 1]
    assert report.episodes == 3


def test_shuffled_rows_are_all_kept():
    order = np.random.default_rng(0).permutation(400)
    rows = count(400)[order], np.zeros((400, 1)), np.zeros(400), count(400)[order] + 1
    with pytest.warns(DataWarning, match="follow from their own rows, but are not the next rows"):
        assert len(from_arrays(*rows)) == 400


def test_a_time_limit_stored_as_terminal_is_warned_of():
    def notes(ends):
        return " ".join(arrays(sum(ends), terminals=np.cumsum(ends) - 1).report.doubts)

    assert "3 of 4 terminal rows come after 30 steps exactly" in notes([30, 12, 30, 30])
    assert "steps exactly" not in notes([30, 12, 30, 31])
    assert "steps exactly" not in notes([5, 5, 5, 5])  # a short task of fixed length


def test_arrays_without_any_end_are_warned_of(steps):
    columns = {key: steps(50)[key] for key in ("observations", "actions", "rewards")}
    with pytest.warns(DataWarning, match="^log: all 50 rows are taken as one episode") as told:
        from_arrays(**columns, name="log")
    assert told[0].filename == __file__
    from_arrays(**columns, episodes=np.zeros(50, int))  # stated: no warning


def test_types_shapes_and_rounding():
    transitions = from_arrays(
        [[0, 1], [2, 3], [4, 5]], [[1 + 5e-7], [-1], [0]], [[1], [2], [3]], terminals=[[0.0], [0.0], [1.0]]
    )
    for field in ("observation", "action", "reward", "next_observation", "terminal"):
        column = getattr(transitions, field)
        assert column.dtype == np.float32
        assert column.flags.c_contiguous
    assert transitions.episode.dtype == np.int32
    assert transitions.reward.shape == (3,)
    assert transitions.action.max() == 1


def test_input_is_left_alone(steps):
    given = steps()
    before = {key: value.copy() for key, value in given.items()}
    transitions = from_arrays(**given)
    transitions.observation[:] = 0
    assert all(np.array_equal(given[key], before[key]) for key in ("actions", "rewards"))


def wanderer(episodes, length, seed=0, noise=0.01):
    """A pushed oscillator: first states near 0, no end marked. Returns observations [N, 4], true ends."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(episodes):
        state = rng.normal(0, noise, 4)
        for step in range(length):
            rows.append(state)
            force = 2.0 if step % 200 < 100 else -2.0
            speed = state[2:] + 0.05 * (force - state[:2]) + rng.normal(0, 0.02, 2)
            state = np.concatenate([state[:2] + 0.05 * speed, speed])
    return np.float32(rows), np.arange(1, episodes + 1) * length - 1


def test_unmarked_resets_are_found():
    observations, ends = wanderer(8, 333)
    end = np.zeros(len(observations), bool)
    end[-1] = True
    assert np.flatnonzero(resets(observations, end)).tolist() == ends[:-1].tolist()
    _, report = inspect_arrays(observations, observations[:, :2] * 0, observations[:, 0])
    assert report.episode_ends == tuple(ends)
    assert report.dropped == {
        "the next observation is another episode's first": 7,
        "end of an episode without a next observation": 1,
    }


def test_stated_ends_are_believed():
    observations, ends = wanderer(4, 333)
    timeouts = np.zeros(len(observations), bool)
    timeouts[ends[1::2]] = True
    _, report = inspect_arrays(observations, observations[:, :2] * 0, observations[:, 0], timeouts=timeouts)
    assert report.episode_ends == tuple(ends[1::2])


def test_one_long_episode_has_no_reset():
    observations, _ = wanderer(1, 5000)
    end = np.zeros(5000, bool)
    end[-1] = True
    assert not resets(observations, end).any()


def test_report_reads_and_serialises(steps):
    _, report = inspect_arrays(**steps() | {"timeouts": np.arange(12) % 4 == 3}, name="mine")
    text = str(report)
    assert text.startswith("mine (arrays)")
    assert "3 truncated" in text
    assert json.loads(json.dumps(report.to_dict()))["lengths"] == [4, 4, 4]


def test_describe(steps):
    transitions = from_arrays(**steps())
    table = describe(transitions)
    assert np.allclose(table["observation"]["mean"], transitions.observation.mean(0), atol=1e-6)
    assert len(table["action"]["min"]) == 2


def test_million_rows():
    rows = 1_000_000
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(rows, 11)).astype(np.float32)
    timeouts = np.arange(rows) % 1000 == 999
    # Draws in no order, which is doubted.
    transitions = inspect_arrays(observations, observations[:, :3] * 0, observations[:, 0], timeouts=timeouts)[0]
    assert len(transitions) == rows - 1000
    assert transitions.episode[-1] == 999


class TestDomains:
    def side(self, steps, seed, scale=1.0, observations=3):
        columns = steps(400 + seed, seed)
        columns["actions"] = columns["actions"] * np.float32(scale)
        columns["observations"] = columns["observations"][:, :observations]
        return inspect_arrays(**columns, name=f"side{seed}")

    def test_good_pair(self, steps):
        assert check_domains(self.side(steps, 1)[0], self.side(steps, 0)[0]) == []

    def test_sizes(self, steps):
        source, target = self.side(steps, 1), self.side(steps, 0, observations=2)
        with pytest.raises(DataError, match=r"side1.*observation_size is 3 and 2"):
            check_domains(source[0], target[0], source[1], target[1])

    def test_same_rows(self, steps):
        with pytest.raises(DataError, match="same 399 rows"):
            check_domains(self.side(steps, 0)[0], self.side(steps, 0)[0])

    def test_engines(self, steps):
        source, target = self.side(steps, 1), self.side(steps, 0)
        source.report.provenance["engine"] = "legacy"
        assert check_domains(source[0], target[0], source[1], target[1]) == []
        target.report.provenance["engine"] = "native"
        with pytest.raises(DataError, match="engine is legacy and native"):
            check_domains(source[0], target[0], source[1], target[1])

    def test_action_ranges_and_swapped_sides(self, steps):
        (warning,) = check_domains(self.side(steps, 1)[0], self.side(steps, 0, 0.01)[0])
        assert "actions reach" in warning
        (warning,) = check_domains(self.side(steps, 0)[0], self.side(steps, 1)[0])
        assert "swapped" in warning

    def test_degenerate_sides(self, steps):
        source, columns = self.side(steps, 1)[0], steps(30, 0)
        columns["rewards"][:] = 1
        columns["actions"][:] = 0
        said = "; ".join(check_domains(source, inspect_arrays(**columns)[0]))
        for words in ("only 29 rows", "target's reward is the same", "target's action is the same", "actions reach"):
            assert words in said
        assert "observation" not in said
        assert "the source" in "; ".join(check_domains(inspect_arrays(**columns)[0], source))


def test_what_a_log_has_counts_each_episode_by_its_rows():
    """Episodes of returns 6 (3 rows) and -4 (2 rows); the last, of one row, may be cut."""
    rewards, episodes = np.array([1, 2, 3, -1, -3, 50], np.float32), np.array([4, 4, 4, 6, 6, 7], np.int32)
    assert log_return(rewards, episodes) == pytest.approx((3 * 6 + 2 * -4) / 5)
    far = np.array([-(2**31)] * 3 + [5] * 2 + [2**31 - 1], np.int32)
    assert log_return(rewards, far) == log_return(rewards, episodes), "numbers of episodes say nothing but their order"
    mostly = log_return(rewards[:5], np.array([4, 4, 6, 6, 6]))
    assert mostly == pytest.approx((2 * 3 + 3 * -1) / 5), "most of the log is its last episode, cut or not"
    assert log_return(rewards[:3], episodes[:3]) == 6.0, "the only episode there is"


def test_a_report_tells_what_its_rows_have():
    transitions, report = arrays(9, terminals=(2,), timeouts=(6,))
    assert transitions.reward.tolist() == [0, 1, 2, 3, 4, 5, 7]
    assert report.mean_return == pytest.approx((3 * 3 + 3 * 12) / 6)
    assert "mean of episodes, each counted by its rows" in str(report)
    assert report.to_dict()["mean_return"] == report.summary()["mean_return"] == report.mean_return


def test_a_report_says_where_its_numbers_of_returns_are_of_other_rows():
    """Rewards of 1: nine of ten rows of a cut episode are kept, and a file of tabb's has a plain mean beside that."""
    _, report = arrays(30, timeouts=(9, 19, 29), rewards=np.ones(30))
    assert (report.mean_return, report.returns) == (9.0, (10.0, 10.0, 10.0))
    assert "9.0, mean of episodes, each counted by its rows; 10.0 to 10.0 with the dropped rows" in str(report)
    _, whole = arrays(30, terminals=(9, 19, 29), rewards=np.ones(30))
    assert "each counted by its rows; 10.0 to 10.0\n" in f"{whole}\n"
    outside = {"the row belongs to no episode": (30, 31)}
    between = dataclasses.replace(whole, rows=32, dropped=dict.fromkeys(outside, 2), dropped_rows=outside)
    assert "with the dropped rows" not in str(between)
    stated = {"mean_score": 31.5, "task": "hopper"}
    own = str(dataclasses.replace(whole, provenance=stated | {"tabb_version": "0.1.0"}))
    assert "mean_score=31.5 (of whole episodes, each counted once), task=hopper" in own
    assert "mean_score=31.5, task" in str(dataclasses.replace(whole, provenance=stated)), "of others nothing is known"
