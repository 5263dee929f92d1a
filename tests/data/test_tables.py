"""Tables: what their columns are taken for, how it is stated otherwise, and odd ones."""

import contextlib
import gzip
import itertools

import numpy as np
import pytest

import tabb
from cart import cart
from command_line import refused, told
from tabb.data import ColumnNames, Reading, from_table, inspect_table, load, read
from tabb.data.audit import audit
from tabb.errors import DataError, DataWarning, UsageError
from tabb.transitions import COLUMNS

pa = pytest.importorskip("pyarrow", reason="tables need the extra `parquet`")
from pyarrow import csv, parquet  # noqa: E402

LOG = cart(200, 1)


def same(one, other):
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def spread(key, prefix, log=LOG, separator="_"):
    """The columns of a matrix one by one."""
    return {f"{prefix}{separator}{i}": log[key][:, i] for i in range(log[key].shape[1])}


def lists(column, fixed=True):
    """A matrix as one column of lists."""
    if fixed:
        return pa.FixedSizeListArray.from_arrays(pa.array(column.reshape(-1)), column.shape[1])
    return pa.array(list(column))


FLAGS = {"terminals": LOG["terminals"], "timeouts": LOG["timeouts"]}
LAYOUTS = {
    "numbered": {
        **spread("observations", "obs"),
        **spread("actions", "action"),
        "reward": LOG["rewards"],
        **spread("next_observations", "next_obs"),
        **FLAGS,
    },
    "NeoRL-2": {
        "observations": lists(LOG["observations"]),
        "actions": lists(LOG["actions"]),
        "rewards": LOG["rewards"],
        "next_observations": lists(LOG["next_observations"]),
        **FLAGS,
    },
    "lists of any length, flags of Gymnasium": {
        "obs": lists(LOG["observations"], fixed=False),
        "action": lists(LOG["actions"], fixed=False),
        "reward": LOG["rewards"],
        "next_obs": lists(LOG["next_observations"], fixed=False),
        "terminated": LOG["terminals"],
        "truncated": LOG["timeouts"],
    },
    "named": {
        "state.place": LOG["observations"][:, 0],
        "state.speed": LOG["observations"][:, 1],
        "action": LOG["actions"][:, 0],
        "reward": LOG["rewards"],
        "next_state.place": LOG["next_observations"][:, 0],
        "next_state.speed": LOG["next_observations"][:, 1],
        "terminated": LOG["terminals"].astype(np.int8),
        "truncated": LOG["timeouts"].astype(float),
        "label": ["a"] * 200,
        "wheel": np.arange(200),
    },
}


class Columns:
    """A table of another library."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_the_same_log(layout, tmp_path):
    table = pa.table(LAYOUTS[layout])
    wanted = tabb.from_arrays(**LOG)
    same(from_table(table), wanted)
    same(from_table(Columns(table)), wanted)
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=37)
    loaded = read(tmp_path / "a.parquet")
    same(loaded.transitions, wanted)
    assert loaded.report.layout == "parquet"
    if layout == "named":
        assert loaded.report.unread == ("label", "wheel")
        assert dict(loaded.report.taken)["observations"] == ("state.place", "state.speed")
    if layout in ("numbered", "named"):
        csv.write_csv(table, tmp_path / "a.csv")
        same(load(tmp_path / "a.csv"), wanted)
        assert read(tmp_path / "a.csv").report.layout == "csv"


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_tables_of_other_libraries(library):
    frames = pytest.importorskip(library, reason=f"needs {library}")
    same(from_table(frames.DataFrame(LAYOUTS["numbered"])), tabb.from_arrays(**LOG))


def test_numbers_order_columns_and_not_their_places():
    wide = {f"obs_{i}": np.full(4, float(i)) + np.arange(4) for i in (10, 2, 0, 1, 11)}
    table = pa.table(wide | {"action": np.zeros(4), "reward": np.zeros(4), "episode": np.zeros(4, int)})
    assert dict(inspect_table(table).report.taken)["observations"] == ("obs_0", "obs_1", "obs_2", "obs_10", "obs_11")


OWN = {
    "q_1": LOG["observations"][:, 0],
    "dq_1": LOG["observations"][:, 1],
    "u": LOG["actions"][:, 0] * 3,
    "score": LOG["rewards"],
    "fell": LOG["terminals"],
    "cut": LOG["timeouts"],
    "q_after": LOG["next_observations"][:, 0],
    "dq_after": LOG["next_observations"][:, 1],
}
NAMES = {
    "observations": ["q_[0-9]", "dq_[0-9]"],
    "actions": "u",
    "rewards": "score",
    "terminals": "fell",
    "timeouts": "cut",
    "next_observations": ["q_after", "dq_after"],
}
TOML = """
action_low = -3
action_high = [3.0]

[names]
observations = ["q_[0-9]", "dq_[0-9]"]
actions = "u"
rewards = "score"
terminals = "fell"
timeouts = "cut"
next_observations = ["q_after", "dq_after"]
"""


def test_columns_are_named_in_python_in_a_toml_file_and_as_options(tmp_path, capsys):
    table = pa.table(OWN)
    wanted = from_table(table, Reading(names=NAMES), action_low=-3, action_high=3)
    np.testing.assert_array_equal(wanted.observation, tabb.from_arrays(**LOG).observation)
    np.testing.assert_allclose(wanted.action, tabb.from_arrays(**LOG).action, atol=1e-6)
    parquet.write_table(table, tmp_path / "a.parquet")
    code, line = refused(capsys, "data", "describe", tmp_path / "a.parquet")
    assert code == 3
    assert "observations: not found; say which columns they are (names.observations) of: cut, dq_1" in line
    options = [
        word
        for key, patterns in NAMES.items()
        for word in (f"--names.{key.replace('_', '-')}", *([patterns] if isinstance(patterns, str) else patterns))
    ]
    text = told(
        capsys, "data", "describe", tmp_path / "a.parquet", *options, "--action-low", "-3", "--action-high", "3"
    )
    assert "columns    observations: q_1, dq_1" in text
    (tmp_path / "a.parquet.toml").write_text(TOML)
    same(load(tmp_path / "a.parquet"), wanted)
    assert load(tmp_path / "a.parquet").action_bounds == wanted.action_bounds
    assert not any(finding.level == "error" for finding in audit(tmp_path / "a.parquet").findings)
    # What an option says counts more.
    assert load(tmp_path / "a.parquet", action_high=6, action_low=-6).action_bounds.high == (6.0,)


def test_names_are_for_npz_and_hdf5_too(tmp_path):
    log = {"obs": LOG["observations"], "acts": LOG["actions"], "rewards": LOG["rewards"]}
    np.savez(tmp_path / "a.npz", **log, stop=LOG["timeouts"], fell=LOG["terminals"])
    with pytest.raises(DataError, match="observations"):
        load(tmp_path / "a.npz")
    reading = Reading(names={"observations": "obs", "actions": "acts", "timeouts": "stop", "terminals": "fell"})
    loaded = load(tmp_path / "a.npz", reading)
    same(loaded, tabb.from_arrays(LOG["observations"], LOG["actions"], LOG["rewards"], None, **FLAGS))
    with pytest.raises(DataError, match=r"names.actions: is 0 keys \(act_\*\); name one key of acts"):
        load(tmp_path / "a.npz", Reading(names={"actions": "act_*"}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("action_low = ", "cannot be read as TOML"),
        ("[columns]\nobservations = 'a'", "columns is not known; use one of action_low, action_high, names"),
        ("names = 3", "names is no table"),
        ("[names]\nobservation = 'a'", "names: observation is not known; did you mean observations"),
        ("[names]\nobservations = [3]", "names.observations is"),
        ("action_low = 'far'", "action_low is far; give a number"),
    ],
)
def test_a_toml_file_with_mistakes(text, words, tmp_path):
    parquet.write_table(pa.table(LAYOUTS["numbered"]), tmp_path / "a.parquet")
    (tmp_path / "a.parquet.toml").write_text(text)
    with pytest.raises(DataError, match=r"a\.parquet\.toml: ") as caught:
        load(tmp_path / "a.parquet")
    assert words in str(caught.value)


def changed(**columns):
    """The numbered layout with other columns; None leaves one out."""
    return {name: column for name, column in (LAYOUTS["numbered"] | columns).items() if column is not None}


def with_missing(column, row):
    return pa.array(column, mask=np.arange(len(column)) == row)


ODD = {
    "no reward": (
        changed(reward=None),
        r"rewards: not found; say which columns they are \(names.rewards\) of: action_0",
    ),
    "two ways": (changed(state_0=LOG["rewards"]), "observations: may be obs_0, ... or state_0, ...; say which"),
    "ends that do not say why": (
        changed(terminals=None, timeouts=None, done=FLAGS["terminals"]),
        "done: does not say why",
    ),
    "text": (changed(obs_1=["x"] * 200), "observations: obs_1, beside obs_0, holds something else than plain numbers"),
    "text in an action": (changed(action_0=["0,5"] * 200), "actions: not found: action_0 holds something else"),
    "text as rewards": (changed(reward=["n. a."] * 200), "rewards: not found: reward holds something else"),
    "structures": (
        changed(obs_0=None, obs_1=None, obs=[{"x": 1.0}] * 200),
        "observations: not found: obs holds something else",
    ),
    "words as flags": (changed(terminals=["no"] * 200), "terminals: holds string values.*flags as 0 and 1"),
    "all text": (changed(obs_0=["x"] * 200, obs_1=["x"] * 200), "observations: not found"),
    "a missing number": (changed(obs_1=with_missing(LOG["rewards"], 7)), r"observations: row 7, column 1 is nan"),
    "a missing flag": (changed(terminals=with_missing(LOG["terminals"], 3)), r"terminals: row 3 is nan"),
    "no rows": ({name: column[:0] for name, column in LAYOUTS["numbered"].items()}, "observations: has no rows"),
    "lists of two lengths": (
        {"obs": [[1.0, 2.0], [1.0]], "action": [0.0, 0.0], "reward": [0.0, 0.0]},
        "obs: row 1 has 1 numbers, but earlier ones have 2",
    ),
    "a missing list": (
        {"obs": [[1.0, 2.0], None], "action": [0.0, 0.0], "reward": [0.0, 0.0]},
        "obs: row 1 is missing",
    ),
    "empty lists": (
        {"obs": [[], []], "action": [0.0, 0.0], "reward": [0.0, 0.0]},
        "observations: not found|no numbers",
    ),
    "matrices": ({"obs": [[[1.0]], [[2.0]]], "action": [0.0, 0.0], "reward": [0.0, 0.0]}, "observations: not found"),
    "too large": (changed(obs_0=np.full(200, 1e300)), "observations: row 0, column 0 is inf"),
    "an episode comes back": (
        changed(terminals=None, timeouts=None, episode=np.arange(200) // 20 % 5),
        "episodes: row 100 goes back to episode 0",
    ),
    "flags that contradict": (changed(done=~FLAGS["terminals"]), "done: says otherwise than terminals and timeouts"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_tables_are_one_line(case, tmp_path):
    columns, words = ODD[case]
    parquet.write_table(pa.table(columns), tmp_path / "odd.parquet")
    with pytest.raises(DataError, match=words) as caught:
        load(tmp_path / "odd.parquet")
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)
    # The audit says the same and does not fail.
    assert audit(tmp_path / "odd.parquet").of_level("error")


def test_damaged_files_are_one_line(tmp_path):
    parquet.write_table(pa.table(LAYOUTS["numbered"]), tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    path = tmp_path / "cut.parquet"
    generator = np.random.default_rng(0)
    damaged = [whole[: len(whole) * part // 12] for part in range(1, 12)]
    for _ in range(60):
        flipped = bytearray(whole)
        flipped[generator.integers(4, len(whole))] ^= 1 << generator.integers(8)
        damaged.append(bytes(flipped))
    wanted = load(tmp_path / "whole.parquet")
    for content in damaged:
        path.write_bytes(content)
        with contextlib.suppress(DataError), np.errstate(all="ignore"):
            assert len(read(path).transitions) <= len(wanted)  # a bit of a number: Parquet has no checksums there


def test_text_that_is_no_table(tmp_path):
    (tmp_path / "a.csv").write_text("obs_0,obs_0,action,reward\n1,2,3,4\n")
    with pytest.raises(DataError, match="obs_0: names two columns"):
        load(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("obs_0,action,reward\n1,2\n1,2,3\n")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        load(tmp_path / "a.csv")
    (tmp_path / "a.txt").write_text("obs_0,action,reward\n1,2,3\n")
    with pytest.raises(DataError, match="neither HDF5, npz, Parquet nor CSV"):
        load(tmp_path / "a.txt")
    for wrong in (3, {"observations": 3}, {"observation": "a"}):
        with pytest.raises(UsageError, match="names"):
            Reading(names=wrong)
    with pytest.raises(UsageError, match="table is dict: give a table of pyarrow"):
        from_table({"obs_0": [1.0]})


HEADERS = {
    "semicolons": ("obs_0;action;reward\n0,5;1;2\n", "line 1: is separated by semicolons; put commas"),
    "tabs": ("obs_0\taction\treward\n1\t1\t2\n", "line 1: is separated by tabs"),
    "blanks": ("obs_0, action, reward\n1, 1, 2\n", "line 1: ' action' has blanks around it"),
    "a comment": ("# of Monday\nobs_0,action,reward\n1,1,2\n", "line 1: begins with #"),
    "numbers": ("0.5,-1e-3,2,False\n1,1,2,True\n", "line 1: holds numbers; let the file begin with the names"),
    "Latin-1": ("größe,action\n1,1\n".encode("latin-1"), "is no text of lines in UTF-8"),
    "gzip": (gzip.compress(b"obs_0,action,reward\n1,1,2\n"), "is compressed by gzip; unpack it first"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_csv_of_another_kind_is_named(case, tmp_path):
    content, words = HEADERS[case]
    (tmp_path / "a.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=words) as caught:
        load(tmp_path / "a.csv")
    assert str(caught.value).startswith(str(tmp_path / "a.csv: ").rstrip())


def test_columns_may_be_counted_from_zero(tmp_path):
    """As pandas writes an array's, with or without the column of its index."""
    names = {"observations": "0", "actions": "1", "rewards": "2"}
    for header, row in (("0,1,2", "0.5,0.1,1"), (",0,1,2", "0,0.5,0.1,1")):
        (tmp_path / "a.csv").write_text(f"{header}\n{row}\n{row}\n", encoding="utf-8")
        assert read(tmp_path / "a.csv", Reading(names=ColumnNames(**names))).report.rows == 2


def test_a_letter_may_lie_across_the_end_of_what_is_looked_at(tmp_path):
    """4096 bytes tell what a file is; a letter of two bytes may be the 4096th and the next."""
    rows = "obs_0,action,reward,note\n1,0.5,1,"
    (tmp_path / "a.csv").write_text(rows + "x" * (4095 - len(rows)) + "é\n2,0.5,1,y\n3,0.1,1,z\n", encoding="utf-8")
    assert read(tmp_path / "a.csv").report.rows == 3


def test_next_observations_are_matched_by_name():
    log = {**LAYOUTS["numbered"]}
    named = {"obs_x": log.pop("obs_0"), "obs_v": log.pop("obs_1")}
    named |= {"next_obs_v": log.pop("next_obs_1"), "next_obs_x": log.pop("next_obs_0")}
    same(from_table(pa.table(named | log)), from_table(pa.table(LAYOUTS["numbered"])))


# --- the order of rows ---


def steps_of(log):
    """Number of each row's episode, and of its step."""
    ends = np.flatnonzero(log["terminals"] | log["timeouts"])
    episode = np.searchsorted(ends, np.arange(len(log["rewards"])))
    return episode, np.arange(len(episode)) - np.searchsorted(episode, episode)


def test_rows_out_of_order_are_put_in_order():
    episode, step = steps_of(LOG)
    columns = changed(next_obs_0=None, next_obs_1=None, timeouts=None, episode_id=episode, step=step)
    wanted = from_table(pa.table(columns))
    mixed = np.random.default_rng(0).permutation(200)
    loaded = inspect_table(pa.table({name: np.asarray(column)[mixed] for name, column in columns.items()}))
    same(loaded.transitions, wanted)
    np.testing.assert_array_equal(LOG["rewards"][mixed].astype(np.float32)[loaded.report.kept_rows], wanted.reward)
    assert "rows were put in the order of `step`" in loaded.report.notes[0]
    # Episodes in another order, each in its own: nothing to do.
    blocks = np.concatenate([np.flatnonzero(episode == number) for number in np.unique(episode)[::-1]])
    turned = inspect_table(pa.table({name: np.asarray(column)[blocks] for name, column in columns.items()}))
    assert not any("were put" in note for note in turned.report.notes)
    assert turned.report.episodes == len(np.unique(episode))


def test_whole_numbers_as_actions_of_tables_are_doubted(tmp_path):
    """Also in CSV files, which are read as floats; floats that happen to be whole are sizes."""
    codes = np.arange(200) % 2
    for actions, doubted in ((codes, True), (codes > 0, True), (codes.astype(float), False)):
        table = pa.table(changed(action_0=actions))
        parquet.write_table(table, tmp_path / "a.parquet")
        # NumPy's text of floats has a point, Arrow's has none.
        rows = [",".join(table.column_names), *(",".join(map(str, row.values())) for row in table.to_pylist())]
        (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
        for found in (inspect_table(table), read(tmp_path / "a.parquet"), read(tmp_path / "a.csv")):
            said = [doubt for doubt in found.report.doubts if "whole numbers with 2 values at most" in doubt]
            assert len(said) == doubted, (actions.dtype, found.report.layout)


@pytest.mark.parametrize("stored", [True, False], ids=["parquet", "table"])
def test_what_float32_resolves_is_the_same_in_any_order_of_rows(stored, tmp_path):
    """Steps are those of the log, also where its rows come shuffled and were put in order."""
    log = cart(3_000, 1)
    end = log["terminals"] | log["timeouts"]
    episode = np.cumsum(np.append(False, end[:-1]))
    columns = {"obs_0": 5.4e6 + 0.01 * log["observations"][:, 0], "obs_1": log["observations"][:, 1]}
    columns |= {"action": log["actions"][:, 0], "reward": 1e8 + log["rewards"], "terminal": log["terminals"]}
    columns |= {"episode": episode, "step": np.arange(3_000) - np.searchsorted(episode, episode)}
    mixed = np.random.default_rng(0).permutation(3_000)
    doubts = []
    for rows in (np.arange(3_000), mixed):
        table = pa.table({key: column[rows] for key, column in columns.items()})
        parquet.write_table(table, tmp_path / "a.parquet", row_group_size=700)
        report = read(tmp_path / "a.parquet").report if stored else inspect_table(table).report
        doubts.append([doubt for doubt in report.doubts if "float32 resolves" in doubt])
    assert len(doubts[0]) == 2
    assert doubts[0] == doubts[1]


def test_missing_steps_cut_episodes():
    episode, step = steps_of(LOG)
    columns = changed(next_obs_0=None, next_obs_1=None, timeouts=None, episode_id=episode, step=step)
    row = int(np.flatnonzero(step == 4)[2])
    left = np.delete(np.arange(200), row)
    table = pa.table({name: np.asarray(column)[left] for name, column in columns.items()})
    with pytest.warns(DataWarning, match=rf"steps are missing after 1 rows \(the first is row {row - 1}\)"):
        found = from_table(table)
    whole = from_table(pa.table(columns))
    kept = np.flatnonzero(
        (whole.reward != np.float32(LOG["rewards"][row])) & (whole.reward != np.float32(LOG["rewards"][row - 1]))
    )
    np.testing.assert_array_equal(found.reward, whole.reward[kept])
    # Times are never exact, and rows of no episode have no order.
    times = step * 0.02 + np.random.default_rng(0).uniform(-1e-3, 1e-3, 200)
    timed = pa.table({**columns, "step": times})
    same(from_table(timed), whole)
    with pytest.warns(DataWarning, match=rf"steps are missing after 1 rows \(the first is row {row - 1}\)"):
        from_table(timed.take(left))
    none = np.append(episode, [-1, -1])
    padded = {name: np.append(np.asarray(column), [column[0]] * 2) for name, column in columns.items()}
    same(from_table(pa.table(padded | {"episode_id": none})), whole)
    # Every second row, on purpose, is no gap.
    second = step % 2 == 0
    table = pa.table({name: np.asarray(column)[second] for name, column in columns.items()})
    assert not inspect_table(table).report.doubts


@pytest.mark.parametrize("counted", [True, False], ids=["steps", "no steps"])
def test_rows_whose_episode_is_missing_cut_the_episode(counted):
    """Also where steps are counted: the rows are in order, and the gap stays where it is."""
    episode, step = steps_of(LOG)
    row = int(np.flatnonzero(step == 4)[2])
    columns = changed(next_obs_0=None, next_obs_1=None, timeouts=None, episode_id=with_missing(episode, row))
    columns |= {"step": np.where(np.arange(200) > row, step - (episode == episode[row]), step)} if counted else {}
    loaded = inspect_table(pa.table(columns))
    kept = loaded.report.kept_rows
    assert row not in kept
    assert row - 1 not in kept
    before, behind = np.flatnonzero(kept == row - 2)[0], np.flatnonzero(kept == row + 1)[0]
    assert loaded.transitions.episode[behind] == loaded.transitions.episode[before] + 1
    assert any(f"after 1 row (row {row - 1}) come rows of no episode" in doubt for doubt in loaded.report.doubts)


def test_a_missing_step_is_none_where_next_observations_are_stored():
    episode, step = steps_of(LOG)
    left = np.delete(np.arange(200), int(np.flatnonzero(step == 4)[2]))
    columns = changed(timeouts=None, episode_id=episode, step=step)
    loaded = inspect_table(pa.table({name: np.asarray(column)[left] for name, column in columns.items()}))
    assert loaded.report.kept == 199
    assert not any("missing" in doubt for doubt in loaded.report.doubts)


def test_episodes_may_be_named_by_texts(tmp_path):
    episode, _ = steps_of(LOG)
    wanted = from_table(pa.table(changed(timeouts=None, episode_id=episode)))
    names = np.array([f"run-{number:x}" for number in 7 * episode])
    for column in (names, pa.array(names).dictionary_encode()):
        table = pa.table(changed(timeouts=None, episode_id=column))
        same(from_table(table), wanted)
        parquet.write_table(table, tmp_path / "a.parquet", row_group_size=30)
        same(load(tmp_path / "a.parquet"), wanted)
    csv.write_csv(pa.table(changed(timeouts=None, episode_id=names)), tmp_path / "a.csv")
    same(load(tmp_path / "a.csv"), wanted)
    with pytest.raises(DataError, match="goes back to episode 0"):
        from_table(pa.table(changed(timeouts=None, episode_id=np.roll(names, 3))))


def test_steps_that_are_none():
    episode, step = steps_of(LOG)
    twice = step.copy()
    twice[1] = 0
    with pytest.raises(DataError, match="step: rows 0 and 1 are the same step of an episode"):
        from_table(pa.table(changed(episode=episode, step=twice)))
    with pytest.raises(DataError, match="no column numbers episodes"):
        from_table(pa.table(changed(wheel=step)), Reading(names=ColumnNames(steps="wheel")))


@pytest.mark.parametrize("later", [0, 0.5, 0.26])
def test_episodes_of_two_robots_under_one_number_are_no_episode(later):
    """In the order of their times every row would lead to the other robot."""
    episode, step = steps_of(LOG)
    columns = {name: np.tile(column, 2) for name, column in changed(timeouts=None).items()}
    columns |= {"episode": np.tile(episode, 2), "step": np.concatenate([step, step + later])}
    with pytest.raises(DataError, match=r"episode: the episode that begins in row 0 begins again in row 200, and both"):
        from_table(pa.table(columns))
    # Numbers of their own, or parts of episodes in another order, are what they say.
    own = columns | {"episode": np.concatenate([episode, episode + 100])}
    assert len(from_table(pa.table(own))) == 2 * len(from_table(pa.table(changed(timeouts=None, episode=episode))))
    turned = np.roll(np.arange(200), 12)
    parts = {name: np.asarray(column)[turned] for name, column in changed(timeouts=None).items()}
    parts |= {"episode": episode[turned], "step": step[turned]}
    same(from_table(pa.table(parts)), from_table(pa.table(changed(timeouts=None, episode=episode))))


def test_rows_of_one_step_are_named_as_the_file_has_them():
    episode, step = steps_of(LOG)
    turned = np.random.default_rng(0).permutation(200)
    twice = step.copy()
    twice[1] = 0
    columns = {name: np.asarray(column)[turned] for name, column in changed(timeouts=None).items()}
    columns |= {"episode": episode[turned], "step": twice[turned]}
    one, other = sorted(int(np.flatnonzero(turned == row)[0]) for row in (0, 1))
    with pytest.raises(DataError, match=rf"step: rows {one} and {other} are the same step of an episode"):
        from_table(pa.table(columns))


def test_several_parquet_files_are_joined(tmp_path):
    for name, rows in (("a", slice(0, 100)), ("b", slice(100, 200))):
        parquet.write_table(pa.table(LAYOUTS["numbered"]).slice(rows.start, 100), tmp_path / f"{name}.parquet")
    joined = load([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert len(joined) == 200
    assert dict(read(f"{tmp_path}/a.parquet+{tmp_path}/b.parquet").report.taken)["actions"] == ("action_0",)
    assert list(itertools.chain(joined.observation[0])) == list(np.float32(LOG["observations"][0]))


def test_without_the_extra_it_is_said(monkeypatch, tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + b"x" * 40)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r'pip install "tabb-rl\[parquet\]"'):
        load(tmp_path / "a.parquet")
