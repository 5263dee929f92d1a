"""Files written and read back: layouts, round trips, damaged bytes, atomic writes, the catalogue."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from tabb.data import available, catalogue, find, from_arrays, load, npz, read, resolve, save_npz, write_hdf5
from tabb.data.audit import audit
from tabb.data.convert import convert
from tabb.data.reading import Reading
from tabb.errors import DataError, RunError, TabbError, UsageError
from tabb.transitions import COLUMNS


def same(first, second):
    return first.action_bounds == second.action_bounds and all(
        np.array_equal(getattr(first, name), getattr(second, name))
        and getattr(first, name).dtype == getattr(second, name).dtype
        for name in COLUMNS
    )


@pytest.fixture
def columns(steps):
    """40 rows: a terminal at 9, timeouts at 19 and 39 whose next observations are stored, a cut one at 29."""
    made = steps(40)
    made["terminals"][9] = True
    made["timeouts"][[19, 29, 39]] = True
    made["next_observations"] = np.roll(made["observations"], -1, axis=0)
    made["next_observations"][[9, 19, 39]] = 0.5
    return made


def test_d4rl_layout_ignores_infos_and_metadata(steps, tmp_path):
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        for key, column in steps().items():
            file[key] = column
        file["infos/qpos"] = np.full((12, 2), np.nan)
        file["metadata/algorithm"] = "SAC"
        file.attrs["engine"] = "legacy"
        file.attrs["odd"] = h5py.Empty("f4")
    transitions, report = read(path)
    assert same(transitions, from_arrays(**steps()))
    assert (report.layout, report.engine, report.provenance) == ("d4rl", "legacy", {"engine": "legacy"})


def test_odrl_layout_with_columns(steps, tmp_path):
    path = tmp_path / "a.hdf5"
    made = steps() | {"rewards": steps()["rewards"][:, None], "terminals": np.zeros((12, 1))}
    made["next_observations"] = made["observations"] + 1
    del made["timeouts"]
    with h5py.File(path, "w") as file:
        for key, column in made.items():
            file[key] = column
    transitions, report = read(path)
    assert report.layout == "odrl"
    assert len(transitions) == 12


def test_content_decides_not_the_name(columns, tmp_path):
    write_hdf5(tmp_path / "a.npz", columns)
    np.savez(tmp_path / "b.npz", **columns)
    (tmp_path / "b.npz").rename(tmp_path / "b.hdf5")
    assert same(load(tmp_path / "a.npz"), load(tmp_path / "b.hdf5"))


def test_several_files_are_one_data_set(columns, tmp_path):
    first, second = tmp_path / "a.hdf5", tmp_path / "b.hdf5"
    write_hdf5(first, columns, {"engine": "legacy", "seed": 1})
    write_hdf5(second, columns, {"engine": "legacy", "seed": 2})
    transitions, report = read(f"{first}+{second}")
    assert same(transitions, load([first, second]))
    assert len(transitions) == 2 * len(load(first))
    assert np.unique(transitions.episode).tolist() == list(range(8))
    assert report.provenance == {"engine": "legacy"}
    assert report.episode_ends == (9, 19, 29, 39, 49, 59, 69, 79)
    assert report.rows == 80
    odd = tmp_path / "c+d.hdf5"
    write_hdf5(odd, columns)
    assert len(load(str(odd))) == len(load(first))


def test_write_and_read_hdf5(columns, tmp_path):
    path = tmp_path / "a.hdf5"
    write_hdf5(path, columns, {"engine": "native", "rows": 40, "behaviour": {"policy": "äß"}, "long": "x" * 70000})
    transitions, report = read(path)
    assert same(transitions, from_arrays(**columns))
    assert report.provenance["behaviour"] == '{"policy": "\\u00e4\\u00df"}'
    assert report.provenance["rows"] == 40
    assert len(report.provenance["long"]) == 70000
    with h5py.File(path) as file:
        assert file["observations"].compression == "gzip"
        assert file["observations"].shuffle
        assert file["terminals"].dtype == bool
    assert os.listdir(tmp_path) == ["a.hdf5"]


def test_npz_round_trip_is_exact(columns, tmp_path):
    transitions = from_arrays(**columns)[::3]
    save_npz(tmp_path / "a.npz", transitions)
    loaded, report = read(tmp_path / "a.npz")
    assert same(loaded, transitions)
    assert report.kept == report.rows == len(transitions)


def test_altered_rows_are_noticed(columns, tmp_path):
    path = tmp_path / "a.hdf5"
    write_hdf5(path, columns)
    with h5py.File(path, "a") as file:
        file["rewards"][3] = 0
    with pytest.raises(DataError, match="content_sha256"):
        load(path)


def damaged_only(data, good, path):
    """Whether `path` with content `data` loads exactly as `good` did or raises a one-line `DataError`."""
    path.write_bytes(data)
    try:
        return same(load(path), good)
    except DataError as error:
        return "\n" not in str(error) and str(path) in str(error)


@pytest.mark.parametrize("kind", ["hdf5", "npz"])
def test_every_cut_is_noticed(kind, columns, tmp_path):
    path, whole = tmp_path / "cut", tmp_path / "whole"
    write_hdf5(whole, columns) if kind == "hdf5" else save_npz(whole, from_arrays(**columns))
    good, data = load(whole), whole.read_bytes()
    wrong = [end for end in range(0, len(data), 13) if not damaged_only(data[:end], good, path)]
    assert wrong == []


def test_every_cut_of_a_foreign_file_is_noticed(columns, tmp_path):
    path, whole = tmp_path / "cut", tmp_path / "whole"
    with h5py.File(whole, "w") as file:
        for key, column in columns.items():
            file[key] = column
    good, data = load(whole), whole.read_bytes()
    wrong = [end for end in range(0, len(data), 61) if not damaged_only(data[:end], good, path)]
    assert wrong == []


@pytest.mark.parametrize("kind", ["hdf5", "npz"])
def test_every_flipped_bit_is_noticed_or_harmless(kind, columns, tmp_path):
    path, whole = tmp_path / "flipped", tmp_path / "whole"
    if kind == "hdf5":
        write_hdf5(whole, columns, {"engine": "legacy"})
    else:
        save_npz(whole, from_arrays(**columns))
    good, data = load(whole), whole.read_bytes()
    wrong = []
    for at in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[at] ^= 1 << (at // 3 % 8)
        if not damaged_only(flipped, good, path):
            wrong.append(at)
    assert wrong == []


def test_writing_to_nowhere(columns, tmp_path):
    with pytest.raises(RunError, match="cannot be written") as caught:
        write_hdf5(tmp_path / "absent" / "a.hdf5", columns)
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match="cannot be written"):
        save_npz(tmp_path / "absent" / "a.npz", from_arrays(**columns))


def test_writing_what_could_not_be_read(columns, tmp_path):
    path = tmp_path / "a.hdf5"
    with pytest.raises(DataError, match=r"a.hdf5: actions: row 0, column 0 is nan"):
        write_hdf5(path, columns | {"actions": np.full((40, 2), np.nan)})
    with pytest.raises(DataError, match="reward: is not a column"):
        write_hdf5(path, columns | {"reward": columns["rewards"]})
    with pytest.raises(DataError, match="terminals: missing"):
        write_hdf5(path, {key: columns[key] for key in ("observations", "actions", "rewards")})
    assert os.listdir(tmp_path) == []


def test_a_strangers_npz_is_not_taken_for_saved_transitions(columns, tmp_path):
    """Its `terminal` may mark time limits, and its rows may be in any order: nothing is taken for granted."""
    rows = from_arrays(**columns)
    save_npz(tmp_path / "saved.npz", rows, cut=[1])
    with np.load(tmp_path / "saved.npz") as file:
        kept = dict(file)
    assert kept.pop("tabb_saved") == 1
    np.savez(tmp_path / "other.npz", **kept)
    with pytest.raises(
        DataError, match=r"other\.npz: tabb_saved: missing, so nothing says what `terminal` and"
    ) as told:
        read(tmp_path / "other.npz")
    assert "\n" not in str(told.value)
    # What the line says mends both a file of an earlier version and a stranger's.
    with np.load(tmp_path / "other.npz") as old:
        np.savez(tmp_path / "again.npz", **old, tabb_saved=1)
    np.testing.assert_array_equal(read(tmp_path / "again.npz").transitions.next_observation, rows.next_observation)
    assert read(tmp_path / "again.npz").report.cut == (1,)
    names = {f"{key}s": key for key in ("observation", "action", "reward", "next_observation")}
    assert len(read(tmp_path / "other.npz", Reading(names=names)).transitions) > 0


def test_old_steps_of_a_run_are_known_by_their_place(columns, tmp_path):
    rows = from_arrays(**columns)
    (tmp_path / "config.json").write_text('{"rule": "tabb", "settings": {}}')
    np.savez(tmp_path / "target-steps.npz", **{key: np.asarray(getattr(rows, key)) for key in COLUMNS})
    np.testing.assert_array_equal(read(tmp_path / "target-steps.npz").transitions.observation, rows.observation)
    save_npz(tmp_path / "target-steps.npz", rows)


FULL_DISK = """
import resource, sys
import numpy as np
from tabb.data import from_arrays, save_npz, write_hdf5
from tabb.errors import RunError
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
rows = np.random.default_rng(0).uniform(-1, 1, (5000, 3))
columns = dict(observations=rows, actions=rows, rewards=rows[:, 0], terminals=rows[:, 0] > 9)
for write in (
    lambda path: write_hdf5(path, columns),
    lambda path: save_npz(path + ".npz", from_arrays(rows, rows, rows[:, 0])),
):
    try:
        write(sys.argv[1])
    except RunError as error:
        assert "\\n" not in str(error)
        print(error)
"""


def test_full_disk_leaves_the_old_file_and_nothing_else(columns, tmp_path):
    path = tmp_path / "a.hdf5"
    write_hdf5(path, columns)
    before = path.read_bytes()
    result = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True)
    assert result.stdout.count("cannot be written (File too large)") == 2
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.hdf5"]


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A `$TABB_DATA` with a few (empty) files, and a package without samples."""
    names = ("source/hopper_medium", "source/hopper_expert", "source/ant_medium_replay")
    for name in (*names, "target/hopper_gravity_0.5_medium", "target/hopper_morph_medium_expert"):
        path = tmp_path / f"{name}.hdf5"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "target" / "notes.txt").touch()
    monkeypatch.setenv("TABB_DATA", str(tmp_path))
    monkeypatch.setattr(catalogue, "_BUNDLED_FOLDER", tmp_path / "bundled")
    return tmp_path


def test_find(shelf):
    source, target = shelf / "source", shelf / "target"
    assert find("hopper-gravity-0.5", "medium", "source") == [source / "hopper_medium.hdf5"]
    assert find("hopper", "medium_expert", "source") == [
        source / "hopper_medium.hdf5",
        source / "hopper_expert.hdf5",
    ]
    assert find("hopper-gravity-0.5", "medium", "target") == [target / "hopper_gravity_0.5_medium.hdf5"]
    assert find("hopper-morph", "medium_expert", "target") == [target / "hopper_morph_medium_expert.hdf5"]


def test_bundled(shelf):
    with pytest.raises(DataError, match="no bundled source data for hopper"):
        find("hopper", "bundled", "source")
    folder = shelf / "bundled"
    folder.mkdir()
    for name in ("hopper_medium", "hopper_gravity_0.5_medium"):
        (folder / f"{name}.hdf5").touch()
    assert find("hopper-gravity-0.5", "bundled", "source") == [folder / "hopper_medium.hdf5"]
    assert resolve("bundled", "hopper-gravity-0.5", "target") == [folder / "hopper_gravity_0.5_medium.hdf5"]
    bundled = [entry[:3] for entry in available() if entry.quality == "bundled"]
    assert bundled == [("source", "hopper", "bundled"), ("target", "hopper-gravity-0.5", "bundled")]


def test_available(shelf):
    assert [entry[:3] for entry in available()] == [
        ("source", "ant", "medium_replay"),
        ("source", "hopper", "expert"),
        ("source", "hopper", "medium"),
        ("target", "hopper-gravity-0.5", "medium"),
        ("target", "hopper-morph", "medium_expert"),
    ]


def test_several_folders(shelf, monkeypatch, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for name in ("source/hopper_medium", "source/walker2d_expert"):
        (other / f"{name}.hdf5").parent.mkdir(exist_ok=True)
        (other / f"{name}.hdf5").touch()
    monkeypatch.setenv("TABB_DATA", f"{shelf}{os.pathsep}{other}")
    assert find("hopper", "medium", "source") == [shelf / "source" / "hopper_medium.hdf5"]  # the first folder's
    assert find("walker2d", "expert", "source") == [other / "source" / "walker2d_expert.hdf5"]
    assert len(available()) == 6
    with pytest.raises(DataError, match=r"no walker2d_medium.hdf5 in .* or .*/other"):
        find("walker2d", "medium", "source")
    monkeypatch.setenv("TABB_DATA", f"{shelf}{os.pathsep}{shelf / 'absent'}")
    with pytest.raises(UsageError, match="absent is not a folder; name those"):
        available()


def test_resolve(shelf):
    paths = [shelf / "source" / "hopper_medium.hdf5", shelf / "source" / "hopper_expert.hdf5"]
    assert resolve("medium", "hopper", "source") == paths[:1]
    assert resolve(paths[0], "ant", "target") == paths[:1]
    assert resolve(f"{paths[0]}+{paths[1]}", "hopper", "source") == paths


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: find("ant", "medium", "source"),
            DataError,
            "no ant_medium.hdf5 in .*data of ant at hand: ant medium_replay; TABB_DATA is",
        ),
        (
            lambda: find("ant", "medium_expert", "source"),
            DataError,
            "no ant_medium.hdf5 and ant_expert.hdf5 in",
        ),
        (
            lambda: find("hopper-jump", "medium", "target"),
            DataError,
            "no hopper_jump_medium.hdf5 in .*TABB_DATA is",
        ),
        (
            lambda: find("hopper", "best", "source"),
            UsageError,
            "quality 'best' is unknown; use one of medium,",
        ),
        (lambda: find("hopper", "medium", "sorce"), UsageError, "domain 'sorce' is unknown"),
        (lambda: resolve("meduim", "hopper", "source"), UsageError, "neither a file nor a quality"),
        (lambda: resolve("absent.hdf5", "hopper", "source"), DataError, "absent.hdf5: no such file"),
        (lambda: resolve("", "hopper", "source"), TabbError, "neither a file nor a quality"),
        (lambda: resolve("a+" * 5000, "hopper", "source"), TabbError, "neither a file nor a quality"),
    ],
)
def test_what_is_not_there(call, error, words, shelf):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_unset_or_wrong_variable(shelf, monkeypatch):
    monkeypatch.setenv("TABB_DATA", str(shelf / "absent"))
    with pytest.raises(UsageError, match="absent is not a folder"):
        available()
    monkeypatch.delenv("TABB_DATA")
    assert available() == []
    with pytest.raises(DataError, match=r"hopper_medium.hdf5.*TABB_DATA is not set: export TABB_DATA=<folder"):
        find("hopper", "medium", "source")


def test_names_that_are_too_long(columns, tmp_path):
    """A file's name may be as long as the disk allows, that of the file beside it may be longer."""
    path = tmp_path / ("a" * 250 + ".hdf5")
    with h5py.File(path, "w") as file:
        for key, column in columns.items():
            file[key] = column
    assert read(path).report.rows == len(columns["rewards"])
    longer = tmp_path / ("a" * 300 + ".hdf5")
    with pytest.raises(DataError, match=r"cannot be opened \(File name too long\); check the path"):
        read(longer)
    assert [finding.code for finding in audit(longer).findings] == ["unreadable"]
    for suffix in (".csv", ""):
        with pytest.raises(RunError, match="cannot be written"):
            convert(path, tmp_path / ("a" * 300 + suffix))


def test_a_file_that_changes_while_it_is_read(columns, tmp_path, monkeypatch):
    path = tmp_path / "growing.npz"
    np.savez(path, **columns)
    shorter = {key: column[:10] for key, column in columns.items()}
    names_of = npz.names_of

    def meanwhile(*arguments):
        np.savez(tmp_path / "next.npz", **shorter)
        os.replace(tmp_path / "next.npz", path)
        return names_of(*arguments)

    monkeypatch.setattr(npz, "names_of", meanwhile)
    with pytest.raises(DataError, match=r"growing\.npz: was changed while it was read"):
        read(path)


def test_a_doubt_names_its_file_unless_all_have_it(cart_log, tmp_path):
    """Of two files read as one: what is wrong with the second alone is said of it, what both have is said once."""
    far = dict(cart_log, rewards=cart_log["rewards"] + 1e8)
    for name, columns in (("good", cart_log), ("far", far), ("further", far)):
        np.savez(tmp_path / f"{name}.npz", **columns)
    (alone,) = read(tmp_path / "far.npz").report.doubts
    what, _, fix = alone.partition(": ")
    (one,) = read([tmp_path / "good.npz", tmp_path / "far.npz"]).report.doubts
    assert one == f"{what} (in {tmp_path / 'far.npz'}): {fix}"
    assert read([tmp_path / "far.npz", tmp_path / "further.npz"]).report.doubts == (alone,)


def test_joined_files_say_which_extras_are_left_out(columns, tmp_path):
    np.savez(tmp_path / "a.npz", **columns)
    np.savez(tmp_path / "b.npz", **columns, cost=columns["rewards"])
    loaded = read([tmp_path / "a.npz", tmp_path / "b.npz"])
    assert not loaded.transitions.extras
    assert "extras that not all of these files have are left out: cost" in loaded.report.notes
