"""Bytes in and out: opening a file with one-line errors, writing one so that it is whole or absent."""

from __future__ import annotations

import codecs
import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tabb.data.checks import one_line
from tabb.errors import DataError

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
PARQUET_SIGNATURE = b"PAR1"
PACKED = {"gzip": b"\x1f\x8b", "bzip2": b"BZh", "xz": b"\xfd7zXZ\x00", "zstd": b"\x28\xb5\x2f\xfd"}
ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")


def kind(path: Path) -> str:
    """`hdf5`, `zip` or `parquet` by the first bytes, whatever the file is called; `csv` by its name, if it is text.

    Raises `DataError` for any other content.
    """
    try:
        # Opening a pipe would wait for its writer, and no format here can be read from one.
        if not stat.S_ISREG(mode := os.stat(path).st_mode) and not stat.S_ISDIR(mode):
            raise DataError(one_line(f"{path}: is not a regular file but a pipe or a device; give a file"))
        with open(path, "rb") as file:
            head = file.read(4096)
    except FileNotFoundError:
        raise DataError(one_line(f"{path}: no such file; check the path, or see `tabb data list`")) from None
    except IsADirectoryError:
        raise DataError(
            one_line(f"{path}: is a folder, but no LeRobot or Minari data set; name a file in it")
        ) from None
    except PermissionError:
        raise DataError(one_line(f"{path}: no permission to read it; change its mode or copy it")) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise DataError(one_line(f"{path}: cannot be opened ({reason}); check the path")) from None
    if not head:
        raise DataError(one_line(f"{path}: is empty (0 bytes); fetch or write it again"))
    # HDF5 allows a block of the user's own in front: the signature is then at 512, 1024, 2048, ...
    if any(head.startswith(HDF5_SIGNATURE, at) for at in (0, 512, 1024, 2048)):
        return "hdf5"
    if head.startswith(ZIP_SIGNATURES):
        return "zip"
    if head.startswith(PARQUET_SIGNATURE):
        return "parquet"
    if head.startswith(b"version https://git-lfs"):
        raise DataError(one_line(f"{path}: is a Git LFS pointer, not the data; run `git lfs pull`"))
    packed = next((name for name, start in PACKED.items() if head.startswith(start)), None)
    if packed:
        raise DataError(one_line(f"{path}: is compressed by {packed}; unpack it first"))
    if path.suffix.lower() == ".csv":
        if not _is_text(head):
            raise DataError(
                one_line(f"{path}: is called CSV but is no text of lines in UTF-8; save it as UTF-8, in lines")
            )
        return "csv"
    raise DataError(
        one_line(
            f"{path}: is neither HDF5, npz, Parquet nor CSV ({_looks(head)}); give one of these or the folder of a "
            "LeRobot or Minari data set, or read it yourself and pass its columns to tabb.from_arrays"
        )
    )


def _looks(head: bytes) -> str:
    """What a file that is no data file seems to be."""
    return "it looks like text; a CSV file must be called one" if _is_text(head) else "nothing says what it is"


def _is_text(head: bytes) -> bool:
    try:  # the last letter may be cut
        return codecs.getincrementaldecoder("utf-8")().decode(head).isprintable() or b"\n" in head
    except UnicodeDecodeError:
        return False


def digest(columns: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and values: HDF5 itself notices damage to compressed rows only."""
    result = hashlib.sha256()
    for key in sorted(columns):
        array = np.ascontiguousarray(columns[key])
        result.update(f"{key} {array.dtype.str} {array.shape};".encode())
        result.update(array.data.cast("B") if array.size else b"")
    return result.hexdigest()
