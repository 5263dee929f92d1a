"""Names and absence: a column under another name is read, asked about or listed, never passed over."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from tabb.data import from_arrays, inspect_arrays, read
from tabb.data.column_names import SAME, STARTS, UNCERTAIN, names_of
from tabb.errors import DataError
from tabb.policy import Policy


@pytest.fixture
def ends(cart_log):
    return cart_log["terminals"] | cart_log["timeouts"]


@pytest.fixture
def needed(cart_log):
    return {key: cart_log[key] for key in ("observations", "actions", "rewards")}


def same(first, second):
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in vars(first))


@pytest.mark.parametrize("alias", [alias for alias in SAME if alias not in STARTS])
def test_other_names_of_a_column(alias, cart_log, ends):
    columns = {**cart_log, "episodes": np.cumsum(np.roll(ends, 1))}
    wanted, _ = inspect_arrays(**columns)
    columns[alias] = columns.pop(SAME[alias])
    transitions, report = inspect_arrays(**columns)
    assert same(transitions, wanted)
    assert f"`{alias}` is read as {SAME[alias]}" in report.notes


def test_first_rows_state_episodes(needed, cart_log, ends):
    wanted = from_arrays(**needed, terminals=cart_log["terminals"], timeouts=cart_log["timeouts"])
    for name in STARTS:
        assert same(from_arrays(**needed, terminals=cart_log["terminals"], **{name: np.roll(ends, 1)}), wanted)


@pytest.mark.parametrize("key", UNCERTAIN)
def test_names_of_ends_that_do_not_say_which(key, needed, ends, tmp_path):
    says = UNCERTAIN[key].format(key=key)
    np.savez(tmp_path / "log.npz", **needed, **{key: ends})
    with h5py.File(tmp_path / "log.hdf5", "w") as file:
        for name, column in {**needed, key: ends}.items():
            file[name] = column
    for make in (
        lambda: inspect_arrays(**needed, **{key: ends}),
        lambda: read(tmp_path / "log.npz"),
        lambda: read(tmp_path / "log.hdf5"),
    ):
        with pytest.raises(DataError) as caught:
            make()
        assert f": {key}: {says}" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_ends_beside_terminals_mean_timeouts(needed, cart_log, ends):
    wanted = from_arrays(**needed, terminals=cart_log["terminals"], timeouts=cart_log["timeouts"])
    for other in ({"dones": ends}, {"masks": 1.0 - ends}):
        transitions, report = inspect_arrays(**needed, terminals=cart_log["terminals"], **other)
        assert same(transitions, wanted)
        assert any("are read as timeouts" in note for note in report.notes)


def test_ends_that_say_the_same_again(cart_log, ends):
    wanted = from_arrays(**cart_log)
    for other in (
        {"dones": ends},
        {"dones": cart_log["terminals"]},
        {"masks": ~cart_log["terminals"]},
        {"terminated": cart_log["terminals"].astype(float)[:, None]},
        {"next_obs": cart_log["next_observations"]},
    ):
        assert same(from_arrays(**cart_log, **other), wanted)


CONTRADICTIONS = {
    "dones": lambda log: {"dones": np.roll(log["terminals"], 1)},
    "masks": lambda log: {"masks": log["terminals"]},
    "terminated": lambda log: {"terminated": ~log["terminals"]},
    "truncated": lambda log: {"truncated": log["terminals"]},
    "next_obs": lambda log: {"next_obs": log["observations"]},
    "is_first": lambda log: {"episodes": np.zeros(3000), "is_first": log["terminals"]},
}


@pytest.mark.parametrize("key", CONTRADICTIONS)
def test_columns_that_contradict_each_other(key, cart_log):
    with pytest.raises(DataError, match=f"arrays: {key}: says otherwise than"):
        inspect_arrays(**cart_log, **CONTRADICTIONS[key](cart_log))


def test_unknown_numbers_of_episodes_are_compared_as_such(cart_log):
    """-1 and NaN say the same; a number where the other column has none is another answer, not an equal one."""
    log = {key: cart_log[key] for key in ("observations", "actions", "rewards", "next_observations")}
    number = np.cumsum(np.roll(cart_log["terminals"] | cart_log["timeouts"], 1)).astype(float)
    some = np.isin(number, [3, 4])
    rows = from_arrays(**log, episodes=np.where(some, np.nan, number), traj_id=np.where(some, -1, number))
    assert len(rows) == 3000 - some.sum()
    with pytest.raises(DataError, match="traj_id: says otherwise than episodes"):
        from_arrays(
            np.ones((5, 1)), np.zeros((5, 1)), np.zeros(5), episodes=[0, 0, np.nan, 1, 1], traj_id=[0, 0, 5, 1, 1]
        )


def test_rlds_rows_are_asked_about(needed, ends):
    """Its last rows hold no step."""
    with pytest.raises(DataError, match="is_last: marks a row that holds the last observation and no step"):
        inspect_arrays(**needed, is_first=np.roll(ends, 1), is_last=ends, is_terminal=ends)


def test_keys_that_were_not_read_are_listed(cart_log, tmp_path):
    with h5py.File(tmp_path / "log.hdf5", "w") as file:
        for key, column in {**cart_log, "force": cart_log["rewards"], "infos/qpos": cart_log["rewards"]}.items():
            file[key] = column
        file["metadata/algorithm"] = "SAC"
    np.savez(tmp_path / "log.npz", **cart_log, force=cart_log["rewards"])
    for name in ("log.hdf5", "log.npz"):
        report = read(tmp_path / name).report
        assert report.unread == ("force",)
        assert "keys that were not read: force" in report.notes
    with pytest.raises(DataError, match="arrays: force: is not a column of a log; use observations, actions"):
        inspect_arrays(**cart_log, force=cart_log["rewards"])


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("done_mask", "where episodes end"),
        ("run_id", "where episodes end"),
        ("has_fallen", "where episodes end"),
        ("observations_", "what was seen after each step"),
        ("state_tp1", "what was seen after each step"),
        ("valid", "which rows hold steps"),
        ("is_pad", "which rows hold steps"),
        ("battery", None),
        ("weekends", None),
        ("next_reward", None),
    ],
)
def test_an_unread_key_that_may_say_what_nothing_says_is_doubted(key, says, needed, ends, cart_log, tmp_path):
    np.savez(tmp_path / "log.npz", **needed, **{key: ends})
    report = read(tmp_path / "log.npz").report
    assert [doubt for doubt in report.doubts if f"`{key}` was not read" in doubt and (says or "") in doubt] == (
        [doubt for doubt in report.doubts if "was not read" in doubt]
    )
    assert any("was not read" in doubt for doubt in report.doubts) == (says is not None)
    np.savez(tmp_path / "all.npz", **cart_log, **{key: ends})
    stated = [doubt for doubt in read(tmp_path / "all.npz").report.doubts if "was not read" in doubt]
    assert bool(stated) == (says == "which rows hold steps")


def test_singular_names_in_npz_are_listed(needed, tmp_path):
    np.savez(tmp_path / "log.npz", **{key.removesuffix("s"): column for key, column in needed.items()})
    with pytest.raises(DataError, match="observations, actions, rewards: missing; the keys there are: action, obs"):
        read(tmp_path / "log.npz")


def test_a_policy_is_called_one(tmp_path):
    columns = np.zeros(3, np.float32), np.ones(3, np.float32)
    layers = (np.zeros((3, 1), np.float32),), (np.zeros(1, np.float32),)
    Policy(*columns, *layers, {}).save(tmp_path / "policy.npz")
    with pytest.raises(DataError, match=r"missing; .*; it looks like a policy, which tabb\.Policy\.load reads$"):
        read(tmp_path / "policy.npz")


def test_names_keep_to_tabbs_own(cart_log):
    names = names_of([*cart_log, "terminated"], "log")
    assert names.read["terminals"] == "terminals"
    assert names.compared == ("terminated",)


def test_hdf5_without_terminals(needed, cart_log, tmp_path):
    """As of arrays and npz: nothing ended."""
    with h5py.File(tmp_path / "log.hdf5", "w") as file:
        for key, column in {**needed, "timeouts": cart_log["timeouts"] | cart_log["terminals"]}.items():
            file[key] = column
    transitions, report = read(tmp_path / "log.hdf5")
    assert report.terminals == 0
    assert not transitions.terminal.any()


def test_maze_logs_are_told_by_their_goal(tmp_path):
    """Ends that AntMaze's flags miss are found in every door."""
    draw = np.random.default_rng(0)
    observations = np.cumsum(0.1 * draw.normal(size=(300, 29)), axis=0)
    observations[100:, 0] += 10
    columns = {"observations": observations, "actions": draw.uniform(-1, 1, (300, 8)), "rewards": draw.normal(size=300)}
    columns |= {"terminals": np.zeros(300, bool), "infos/goal": np.zeros((300, 2))}
    with h5py.File(tmp_path / "log.hdf5", "w") as file:
        for key, column in columns.items():
            file[key] = column
    np.savez(tmp_path / "log.npz", **columns)
    for loaded in (read(tmp_path / "log.hdf5"), read(tmp_path / "log.npz"), inspect_arrays(**columns)):
        assert loaded.report.episode_ends == (99, 299)
        assert loaded.report.provenance["unstated_ends"] == 1


# --- masked arrays ---


def test_masked_entries_are_unknown(cart_log):
    masked = np.ma.masked_greater(cart_log["rewards"], 0.9)
    row = int(np.flatnonzero(cart_log["rewards"] > 0.9)[0])
    with pytest.raises(DataError, match=f"arrays: rewards: row {row} is masked; leave the row's episode out"):
        from_arrays(**{**cart_log, "rewards": masked})
    rows = np.broadcast_to(cart_log["timeouts"][:, None], (3000, 2))
    following = np.ma.masked_array(cart_log["next_observations"], rows)
    report = inspect_arrays(**{**cart_log, "next_observations": following}).report
    assert report.dropped == {"the next observation is unknown (NaN)": 96}
    unmasked = {key: np.ma.masked_array(column) for key, column in cart_log.items()}
    assert same(from_arrays(**unmasked), from_arrays(**cart_log))


@pytest.mark.parametrize("key", ["Terminal", "Done", "fallen"])
def test_ends_of_the_task_may_be_unread_beside_stated_cuts(key, needed, cart_log, ends, tmp_path):
    """Episodes are stated, but a name in capitals, or of one's own, may say which of them the task ended."""
    columns = {**needed, "episode": np.cumsum(np.roll(ends, 1)), key: cart_log["terminals"]}
    np.savez(tmp_path / "log.npz", **columns)
    (doubt,) = (one for one in read(tmp_path / "log.npz").report.doubts if "was not read" in one)
    assert doubt.startswith(f"`{key}` was not read, and nothing states where the task itself ended: name it terminals")
    np.savez(tmp_path / "log.npz", **columns, terminals=cart_log["terminals"])
    assert not read(tmp_path / "log.npz").report.doubts
