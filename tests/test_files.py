"""Files on disks that do less than a local one: only what makes a file whole may fail."""

import errno
import json
import os
import pathlib
import stat
from pathlib import Path

import pytest

import tabb
from tabb import files
from tabb.cli import main
from tabb.errors import MachineWarning, RunError, UsageError
from tabb.files import atomic, check_suffix, path_of, paths_of, write_json


@pytest.fixture(autouse=True)
def not_warned_yet(monkeypatch):
    monkeypatch.setattr(files, "_WARNED", set())


def failing_fsync(monkeypatch, code, of_folders):
    """`fsync` fails with `code`, of folders or of files."""
    fsync = os.fsync

    def refuse(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode) == of_folders:
            raise OSError(code, os.strerror(code))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", refuse)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO, errno.EACCES, errno.ENOSYS, errno.EBADF])
def test_a_folder_that_cannot_be_synced_costs_no_file(tmp_path, monkeypatch, code):
    failing_fsync(monkeypatch, code, of_folders=True)
    with pytest.warns(MachineWarning, match="cannot be told to keep a name"):
        write_json(tmp_path / "a.json", [1])
    write_json(tmp_path / "b.json", [2])  # no second warning: it would be an error here
    assert json.loads((tmp_path / "b.json").read_text()) == [2]


def test_a_folder_that_cannot_be_opened_costs_no_file(tmp_path, monkeypatch):
    """As on Windows, and on shares that can be written but not listed."""
    real = os.open

    def refuse(path, flags, *more, **options):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.warns(MachineWarning):
        write_json(tmp_path / "a.json", [1])
    assert json.loads((tmp_path / "a.json").read_text()) == [1]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_a_disk_without_modes_costs_no_file(tmp_path, monkeypatch, code):
    def refuse(self, mode, **_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(pathlib.Path, "chmod", refuse)
    with pytest.warns(MachineWarning, match="no file modes"):
        write_json(tmp_path / "a.json", [1])
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_disk_that_knows_no_fsync_gets_a_warning(tmp_path, monkeypatch):
    failing_fsync(monkeypatch, errno.EINVAL, of_folders=False)
    with pytest.warns(MachineWarning, match="cannot be told to keep a file"):
        write_json(tmp_path / "a.json", [1])
    assert (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    ("code", "remedy"), [(errno.ENOSPC, "free space"), (errno.EDQUOT, "free space"), (errno.EIO, "check the disk")]
)
def test_what_makes_a_file_whole_must_work(tmp_path, monkeypatch, code, remedy):
    (tmp_path / "a.json").write_text("before")
    failing_fsync(monkeypatch, code, of_folders=False)
    with pytest.raises(RunError, match=remedy):
        write_json(tmp_path / "a.json", [1])
    assert (tmp_path / "a.json").read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_never_takes_the_place_of_another(tmp_path, monkeypatch, links):
    def none(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not links:
        monkeypatch.setattr(os, "link", none)
    write_json(tmp_path / "a", {"first": 1}, new=True)
    with pytest.raises(FileExistsError):
        write_json(tmp_path / "a", {"second": 2}, new=True)
    assert (tmp_path / "a").read_text() == '{\n  "first": 1\n}\n'
    assert os.listdir(tmp_path) == ["a"]
    write_json(tmp_path / "a", {"third": 3})
    assert "third" in (tmp_path / "a").read_text()


def test_a_missing_folder_is_not_blamed_on_space(tmp_path):
    with pytest.raises(RunError, match="make its folder") as caught, atomic(tmp_path / "none" / "a"):
        pass
    assert "space" not in str(caught.value)


def test_a_folder_that_may_not_be_written_is_not_blamed_on_space(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    with pytest.raises(RunError, match="that you may write to"), atomic(tmp_path / "a"):
        pass


def test_numbers_that_are_not_finite_are_null(tmp_path):
    write_json(tmp_path / "a.json", {"a": [float("nan"), 1.5, float("-inf")], "b": (float("inf"), 2)})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"a": [None, 1.5, None], "b": [None, 2]}


def test_what_is_no_path_is_one_line():
    assert path_of("a/b", "out") == path_of(Path("a/b"), "out") == Path("a/b")
    assert paths_of("ab", "runs") == [Path("ab")], "not its letters"
    assert paths_of(Path("ab"), "runs") == paths_of(["ab"], "runs") == [Path("ab")]
    assert paths_of([], "runs") == []
    for call, says in (
        (lambda: path_of(None, "out"), "out is NoneType: give a path"),
        (lambda: path_of(["a"], "out"), "out is list: give a path"),
        (lambda: paths_of(3, "runs"), "runs is int: give a path, or several"),
        (lambda: paths_of(["a", None], "runs"), "runs is NoneType: give a path"),
    ):
        with pytest.raises(UsageError, match=f"^{says}$"):
            call()


def test_the_functions_of_tabb_take_no_other_thing_for_a_path(tmp_path):
    calls = (tabb.Policy.load, tabb.results, tabb.select, tabb.write_report, tabb.write_comparison, tabb.answer_of)
    for call in (*calls, lambda value: tabb.export(value, "npz"), tabb.watch):
        with pytest.raises(UsageError, match=r"^[a-z]+ is NoneType"):
            call(None)
        with pytest.raises(UsageError, match="is int: give a"):
            call(3)
    with pytest.raises(RunError, match="nowhere: no such folder"):
        tabb.answer_of(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"unknown format \['onnx'\]"):
        tabb.export(tmp_path, ["onnx"])


def test_a_name_that_says_another_format_is_refused():
    check_suffix(Path("a.HDF5"), "a file of scores", ".hdf5", ".h5", ".parquet")
    with pytest.raises(UsageError, match=r"^a.csv: a file of scores must end in .hdf5, .h5 or .parquet$"):
        check_suffix(Path("a.csv"), "a file of scores", ".hdf5", ".h5", ".parquet")
    check_suffix(Path("policy"), "a policy", ".npz")
    with pytest.raises(UsageError, match=r"^policy.onnx: a policy must end in .npz$"):
        check_suffix(Path("policy.onnx"), "a policy", ".npz")


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "run", "--out", "scores.csv"],
        ["select", "run", "--out", "policy.onnx"],
        ["report", "run/seed0", "--out", "page.pdf"],
        ["report", "run", "--out", "page.pdf"],
    ],
)
def test_commands_write_no_format_under_the_name_of_another(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in ("a/seed0", "b/seed0", "seed0"):
        Path("run", seed).mkdir(parents=True)
        Path("run", seed, "config.json").write_text('{"rule": {}}')
    (tmp_path / "run" / "seed0" / "config.json").unlink() if arguments[1] == "run" else None
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert f"{arguments[-1]}: a " in told
    assert "must end in" in told
    assert not Path(arguments[-1]).exists()
