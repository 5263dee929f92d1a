"""Who holds a run folder, and disks that have no locks."""

import errno
import fcntl
import os

import pytest

from tabb import files
from tabb.errors import MachineWarning, RunError
from tabb.training.folder import RunFolder


def refuse_locks(monkeypatch, code):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files, "_WARNED", set())
    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO, errno.EINTR])
def test_a_disk_without_locks_is_no_other_process(tmp_path, monkeypatch, code):
    refuse_locks(monkeypatch, code)
    with pytest.warns(MachineWarning, match="no locks"), RunFolder(tmp_path).locked():
        pass
    with RunFolder(tmp_path).locked():  # no second warning: it would be an error here
        pass


@pytest.mark.parametrize("code", [errno.EWOULDBLOCK, errno.EACCES])
def test_a_holder_is_named_as_one(tmp_path, monkeypatch, code):
    refuse_locks(monkeypatch, code)
    with pytest.raises(RunError, match="another process trains here"), RunFolder(tmp_path).locked():
        pass


def test_a_folder_that_cannot_be_written_is_named_as_one(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(RunError, match="cannot be written"), RunFolder(tmp_path).locked():
        pass


def test_an_error_inside_the_block_is_not_taken_for_a_lock(tmp_path):
    with pytest.raises(OSError, match="space"), RunFolder(tmp_path).locked():
        raise OSError(errno.ENOSPC, "no space")
