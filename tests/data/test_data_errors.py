"""Wrong input: one line that names the file, the key and what to do, for every way in."""

import os
import zipfile

import h5py
import numpy as np
import pytest

from tabb.data import find, from_arrays, load
from tabb.errors import DataError


def change(key, value):
    return lambda columns: columns.__setitem__(key, value)


def put(key, row, value):
    def edit(columns):
        columns[key] = columns[key].astype(np.float64)
        columns[key][row] = value

    return edit


def drop(*keys):
    return lambda columns: [columns.pop(key) for key in keys]


def cut_all(columns):
    for key in columns:
        columns[key] = columns[key][:0]


# what is done to good columns of 12 rows -> key and words that the message must hold
WRONG_COLUMNS = {
    "no observations": (drop("observations"), "observations", "missing; the keys there are: actions"),
    "two keys missing": (drop("actions", "rewards"), "actions, rewards", "missing"),
    "observations one-dimensional": (change("observations", np.zeros(12)), "observations", r"shape \(12,\)"),
    "observations of images": (change("observations", np.zeros((12, 4, 4, 3))), "observations", "shape"),
    "observations without columns": (change("observations", np.zeros((12, 0))), "observations", "no columns"),
    "actions one-dimensional": (change("actions", np.zeros(12)), "actions", r"give \(rows, size\)"),
    "rewards with two columns": (change("rewards", np.zeros((12, 2))), "rewards", r"\(12, 2\)"),
    "a scalar": (change("rewards", np.float32(3)), "rewards", r"shape \(\)"),
    "observations on their side": (
        change("observations", np.zeros((3, 12))),
        "observations",
        "exchanged; transpose it",
    ),
    "actions on their side": (change("actions", np.zeros((2, 12))), "actions", r"\(2, 12\): rows and columns are exch"),
    "rewards on their side": (change("rewards", np.zeros((1, 12))), "rewards", r"\(1, 12\): rows and columns are exch"),
    "actions too short": (change("actions", np.zeros((11, 2))), "actions", "11 rows but observations has 12"),
    "rewards too long": (change("rewards", np.zeros(13)), "rewards", "13 rows"),
    "terminals too short": (change("terminals", np.zeros(3)), "terminals", "3 rows"),
    "next size": (change("next_observations", np.zeros((12, 4))), "next_observations", "4 columns"),
    "complex": (change("rewards", np.zeros(12, complex)), "rewards", "complex128"),
    "text": (change("rewards", np.full(12, b"x")), "rewards", "not numbers"),
    "NaN observation": (put("observations", (5, 2), np.nan), "observations", "row 5, column 2 is nan"),
    "infinite reward": (put("rewards", 7, -np.inf), "rewards", "row 7 is -inf"),
    "too large for float32": (put("rewards", 7, 1e300), "rewards", r"row 7 is 1e\+300"),
    "NaN action": (put("actions", (0, 1), np.nan), "actions", "row 0, column 1"),
    "NaN next": (
        change("next_observations", np.full((12, 3), np.nan)),
        "next_observations",
        "is NaN in every row; leave it out",
    ),
    "action above 1": (put("actions", (4, 1), 1.5), "actions", r"row 4, column 1 is 1.5.*\[-1, 1\].*action_low"),
    "action just above 1": (put("actions", (4, 1), 1.00001), "actions", "outside"),
    "action below -1": (put("actions", (0, 0), -2), "actions", "row 0, column 0 is -2"),
    "terminal of 2": (put("terminals", 3, 2), "terminals", "row 3 is 2.0, neither 0 nor 1"),
    "terminal NaN": (put("terminals", 3, np.nan), "terminals", "row 3 is nan"),
    "timeout of -1": (put("timeouts", 6, -1), "timeouts", "row 6"),
    "episode numbers return": (
        change("episodes", np.repeat([0, 1, 0], 4)),
        "episodes",
        "row 8 goes back to episode 0",
    ),
    "episode numbers that a float cannot tell apart": (
        change("episodes", np.repeat([2.0**53, 2.0**53 + 2], 6)),
        "episodes",
        "row 0 is 9.0072e\\+15, too large to tell episodes apart as float64",
    ),
    "episode numbers broken": (change("episodes", np.full(12, 0.5)), "episodes", "row 0 is 0.5"),
    "no rows": (cut_all, "observations", "no rows"),
    "no row with a next one": (change("timeouts", np.ones(12)), "observations", "no row of 12 has a next"),
}


def expect(path, key, words):
    with pytest.raises(DataError, match=words) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert key in message


@pytest.mark.parametrize("case", WRONG_COLUMNS)
@pytest.mark.parametrize("suffix", ["hdf5", "npz"])
def test_wrong_columns(case, suffix, steps, tmp_path):
    edit, key, words = WRONG_COLUMNS[case]
    columns = steps()
    edit(columns)
    path = tmp_path / f"wrong.{suffix}"
    if suffix == "npz":
        np.savez(path, **columns)
    else:
        with h5py.File(path, "w") as file:
            for name, column in columns.items():
                file[name] = column
    expect(path, key, words)
    if "missing" not in words:
        with pytest.raises(DataError, match=words) as caught:
            from_arrays(**columns, name="mine")
        assert str(caught.value).startswith(f"mine: {key}: ")


def test_ragged_list_and_objects():
    with pytest.raises(DataError, match=r"arrays: observations: is not an array"):
        from_arrays([[1, 2], [3]], [[0], [0]], [0, 0])
    with pytest.raises(DataError, match=r"arrays: rewards: holds object"):
        from_arrays([[1], [3]], [[0], [0]], [None, {}])


def test_missing_file(tmp_path):
    expect(tmp_path / "absent.hdf5", "", "no such file")


def test_folder(tmp_path):
    expect(tmp_path, "", "is a folder")


def test_nul_in_path():
    expect("a\0b", "", "cannot be opened")


def test_line_break_in_path():
    with pytest.raises(DataError, match="no such file") as caught:
        load("a\nb.hdf5")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    path = tmp_path / "secret.hdf5"
    path.write_bytes(b"x")
    path.chmod(0)
    expect(path, "", "no permission")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"observations,actions\n1,2\n", "neither HDF5, npz, Parquet nor CSV"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n", "damaged or cut"),
        (b"PK\x03\x04junk", "damaged or cut"),
        (b"\x80\x04\x95pickle", "neither HDF5, npz, Parquet nor CSV"),
    ],
)
def test_other_content(content, words, tmp_path):
    path = tmp_path / "file.hdf5"
    path.write_bytes(content)
    expect(path, "", words)


def test_nothing_given():
    with pytest.raises(DataError, match="no file given"):
        load([])


def hdf5(path, steps, **others):
    with h5py.File(path, "w") as file:
        for key, column in (steps() | others).items():
            if column is not None:
                file[key] = column
    return path


def test_group_in_place_of_a_dataset(steps, tmp_path):
    path = hdf5(tmp_path / "a.hdf5", steps, rewards=None)
    with h5py.File(path, "a") as file:
        file.create_group("rewards")
    expect(path, "rewards", "is a group")


def test_link_to_nothing(steps, tmp_path):
    path = hdf5(tmp_path / "a.hdf5", steps, rewards=None)
    with h5py.File(path, "a") as file:
        file["rewards"] = h5py.SoftLink("/nowhere")
    expect(path, "rewards", "link to nothing")


def test_empty_dataspace_and_text(steps, tmp_path):
    expect(hdf5(tmp_path / "a.hdf5", steps, rewards=h5py.Empty("f4")), "rewards", "not numbers")
    expect(hdf5(tmp_path / "b.hdf5", steps, rewards=["a"] * 12), "rewards", "holds object")


def test_claimed_size_is_not_believed(steps, tmp_path):
    path = hdf5(tmp_path / "a.hdf5", steps, rewards=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("rewards", (10**12,), "f4", chunks=(1024,))
    expect(path, "rewards", "claims 4,000,000,000,000 bytes")


def test_objects_in_npz_are_never_unpickled(steps, tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    path = tmp_path / "a.npz"
    np.savez(path, **steps() | {"rewards": np.array([Trap()] * 12, dtype=object)})
    expect(path, "rewards", "store it as float32")
    assert not (tmp_path / "sprung").exists()


def test_zip_of_other_things(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    expect(path, "observations", "the keys there are: readme.txt")


def test_files_that_do_not_match(steps, tmp_path):
    first = hdf5(tmp_path / "a.hdf5", steps)
    narrow = hdf5(tmp_path / "b.hdf5", steps, actions=np.zeros((12, 1)))
    with pytest.raises(DataError, match=r"b.hdf5: action_size is 1 but 2 in .*a.hdf5"):
        load([first, narrow])
    other = hdf5(tmp_path / "c.hdf5", steps)
    with h5py.File(other, "a") as file:
        file.attrs["engine"] = "native"
    with pytest.raises(DataError, match="engine is native but not stated"):
        load(f"{first}+{other}")


def test_no_array_and_other_formats(tmp_path):
    with pytest.raises(DataError, match=r"^arrays: rewards: is missing; a data set needs observations, actions, rew"):
        from_arrays([[1], [3]], [[0], [0]], None)
    for suffix, content in ((".npy", b"\x93NUMPY\x01\x00"), (".txt", b"a,b\n1,2\n")):
        path = tmp_path / f"log{suffix}"
        path.write_bytes(content)
        expect(path, "", "pass its columns to tabb.from_arrays")


def test_a_missing_data_set_lists_those_of_its_robot(monkeypatch, tmp_path):
    (tmp_path / "target").mkdir()
    for name in ("hopper_morph_medium", "walker2d_morph_medium"):
        (tmp_path / "target" / f"{name}.hdf5").touch()
    monkeypatch.setenv("TABB_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"target data of walker2d at hand: walker2d-morph medium; TABB_DATA is"):
        find("walker2d-kinematic", "medium", "target")


def test_a_file_that_is_open_in_this_program_is_not_called_damaged(tmp_path):
    """HDF5 opens a file twice only with the same way of locking, and h5py's default is another than tabb's."""
    with h5py.File(tmp_path / "log.hdf5", "w") as file:
        file["observations"] = np.zeros((3, 2))
    with h5py.File(tmp_path / "log.hdf5", "r"), pytest.raises(DataError, match="is open in this program") as caught:
        load(tmp_path / "log.hdf5")
    assert "damaged" not in str(caught.value)
