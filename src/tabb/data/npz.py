"""`.npz` files: a user's own columns (keys as in `from_arrays`), or `Transitions` as they are."""

from __future__ import annotations

import dataclasses
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tabb.data import checks, storage
from tabb.data.arrays import OPTIONAL, REQUIRED, build
from tabb.data.report import Loaded, Report
from tabb.errors import DataError, TabbError
from tabb.files import atomic
from tabb.transitions import Transitions

FIELDS = tuple(field.name for field in dataclasses.fields(Transitions))


def load_npz(path: str | Path) -> Loaded:
    """Transitions and report of one file, of either kind:

    - columns: `observations`, `actions`, `rewards` and, where known, `next_observations`, `terminals`,
      `timeouts`, `episodes`: treated as `from_arrays` does;
    - a file of `save_npz` (`observation`, `action`, ...): its rows are checked and taken as they are.

    Nothing is unpickled. Raises `DataError` (one line) naming file, key and row.
    """
    path = Path(path)
    columns = _raw(path)
    if "observation" in columns:
        return _saved(columns, str(path))
    return build(columns, name=str(path), layout="npz", owned=True)


def raw_columns(path: Path) -> dict[str, np.ndarray]:
    """The columns of a file (keys as in `from_arrays`), numbers unchecked. Raises `DataError` as `load_npz`."""
    columns = _raw(path)
    singular = {"observations": "observation", "actions": "action", "rewards": "reward"}
    if "observation" in columns:
        return {key: columns[own] for key, own in singular.items()}
    return columns


def _raw(path: Path) -> dict[str, np.ndarray]:
    if storage.kind(path) != "zip":
        raise DataError(checks.one_line(f"{path}: is not npz; use tabb.data.load, which reads HDF5 too"))
    try:
        return _read(path)
    except TabbError:
        raise
    except Exception as error:  # zipfile and NumPy raise a dozen types on damaged bytes
        reason = checks.one_line(str(error)) or type(error).__name__
        raise DataError(
            checks.one_line(f"{path}: cannot be read as npz, damaged or cut ({reason[:200]}); fetch or write it again")
        ) from None


def save_npz(path: str | Path, transitions: Transitions) -> None:
    """Write `transitions`, all at once or not at all; `load` gives them back bit for bit.

    Raises `RunError` (one line) if the file cannot be written.
    """
    path = Path(path)
    columns: dict[str, Any] = {field: np.asarray(getattr(transitions, field)) for field in FIELDS}
    with atomic(path) as part, open(part, "wb") as file:
        np.savez_compressed(file, **columns)


def _read(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        names = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        wanted = FIELDS if "observation" in names else (*REQUIRED, *OPTIONAL)
        needed = FIELDS if "observation" in names else REQUIRED
        missing = [key for key in needed if key not in names]
        if missing:
            has = checks.listed(names)
            checks.fail(str(path), ", ".join(missing), f"missing; the keys there are: {has}")
        for info in names.values():
            archive.open(info).close()  # a key renamed by damage must not pass for one that was never there
        size = os.path.getsize(path)
        for key in wanted:
            if key in names and names[key].file_size > max(1 << 24, 2_000 * size):
                checks.fail(str(path), key, f"claims {names[key].file_size:,} bytes, more than the file can hold")
        shapes = {key: _shape(archive, names[key], str(path), key) for key in wanted if key in names}
        checks.shapes(shapes, str(path))
    columns = {}
    with np.load(path, allow_pickle=False) as file:
        for key in wanted:
            if key not in names:
                continue
            try:
                columns[key] = file[key] if key in checks.WHOLE else checks.narrow(file[key])
            except Exception as error:  # as above; here the key is known
                reason = checks.one_line(str(error)) or type(error).__name__
                pickled = "object" in reason.lower()
                advice = "store it as float32" if pickled else "fetch or write the file again"
                checks.fail(str(path), key, f"cannot be read ({reason[:200]}); {advice}")
    return columns


def _shape(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, key: str) -> tuple[int, ...]:
    """The shape that the array's header claims, once its size agrees with that of the entry: NumPy believes it."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        at = file.tell()
    if dtype.kind not in "biuf":
        checks.fail(name, key, f"holds {dtype} values, not numbers; store it as float32")
    claimed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or at + claimed != info.file_size:
        checks.fail(name, key, f"claims {claimed:,} bytes where {info.file_size - at:,} are; write the file again")
    return shape


def _saved(columns: dict[str, np.ndarray], name: str) -> Loaded:
    """The rows of `save_npz`, checked; ends of episodes are where the number changes."""
    transitions = Transitions(
        observation=checks.matrix(columns["observation"], name, "observation"),
        action=checks.actions_in_range(checks.matrix(columns["action"], name, "action"), name, "action"),
        reward=checks.real(columns["reward"], name, "reward"),
        next_observation=checks.matrix(columns["next_observation"], name, "next_observation"),
        terminal=checks.flag(columns["terminal"], name, "terminal").astype(np.float32),
        episode=_numbers(columns["episode"], name),
    )
    checks.same_length({key: np.asarray(getattr(transitions, key)) for key in FIELDS}, name)
    if transitions.next_observation.shape != transitions.observation.shape:
        checks.fail(name, "next_observation", "has another size than observation; write the file again")
    number = np.asarray(transitions.episode)
    ends = np.flatnonzero(np.append(number[1:] != number[:-1], True))
    returns = np.add.reduceat(np.asarray(transitions.reward, np.float64), np.append(0, ends[:-1] + 1))
    ended = np.asarray(transitions.terminal)[ends] == 1
    return Loaded(
        transitions,
        Report(
            name=name,
            layout="npz",
            rows=len(transitions),
            kept=len(transitions),
            dropped={},
            dropped_rows={},
            wrong_next=(),
            episode_ends=tuple(ends.tolist()),
            returns=tuple(returns.tolist()),
            unfinished=(),
            terminals=int(ended.sum()),
            truncations=int((~ended).sum()),
            notes=("rows that were dropped when these transitions were first read are in no return",),
            kept_rows=np.arange(len(transitions)),
        ),
    )


def _numbers(value: np.ndarray, name: str) -> np.ndarray:
    """Episode numbers as `save_npz` writes them: int32."""
    array = checks.episode_numbers(value, name, "episode")
    bad = np.flatnonzero(~np.isfinite(array) | (array < -(2**31)) | (array >= 2**31))
    if bad.size:
        checks.fail(name, "episode", f"row {int(bad[0])} is {array[bad[0]]}, no 32-bit number; write the file again")
    return array.astype(np.int32)
