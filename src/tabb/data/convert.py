"""A log in another format: HDF5, npz, Parquet, CSV or LeRobot, read back to the same transitions bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tabb.data import hdf5, lerobot, minari_sets, npz, storage, tables
from tabb.data.checks import episode_numbers, flag
from tabb.data.column_names import OPTIONAL, REQUIRED, resolve
from tabb.data.files import check_unchanged, read, split, state_of
from tabb.data.hdf5 import write_hdf5
from tabb.data.reading import BOUNDS, CUT_EPISODES, RawColumns, Reading, reading_of, reading_with
from tabb.data.report import Loaded
from tabb.data.write_tables import write_csv, write_lerobot, write_parquet
from tabb.errors import UsageError

Columns = dict[str, np.ndarray]


def convert(
    source: str | Path,
    out: str | Path,
    reading: Reading | None = None,
    *,
    action_low: Any = None,
    action_high: Any = None,
    fps: int | None = None,
) -> Loaded:
    """Write the log of `source`, any data set that `tabb.load` reads, as `out`; returns what was read.

    `out` ends in `.hdf5`, `.npz`, `.parquet` or `.csv`, or is a new folder for a LeRobot data set (v3.0), whose frames
    come `fps` a second. All rows and flags are written, numbers as float32, with the number of each row's episode; keys
    that tabb does not read are not. `reading`, `action_low` and `action_high` are those of `tabb.load`; bounds are
    written, too, and, but for CSV, which episodes were cut, where that is known. Reading `out` gives the transitions of
    `source` bit for bit.

    Raises:
        DataError: the data cannot be used.
        UsageError: `out` is of no such format, or is there and not of tabb; or an extra is missing.
        RunError: `out` cannot be written.
    """
    paths, out = split(source), Path(out)
    if len(paths) != 1:
        raise UsageError(f"{source}: is several files; convert them one at a time")
    (path,) = paths
    writer = _writer_of(out, fps)
    reading = reading_of(path, reading_with(reading, action_low, action_high))
    before = state_of(path)
    loaded = read([path], reading)
    stored = _stored(path, reading, loaded).columns
    check_unchanged(path, before, loaded)
    columns = _log_of(path, stored, loaded)
    extras = {key: np.asarray(stored[key]).reshape(-1).astype(np.float32) for key in loaded.report.extras}
    bounds = loaded.report.action_bounds
    attributes = {key: value for key, value in loaded.report.provenance.items() if key not in (hdf5.DIGEST, *BOUNDS)}
    attributes |= {} if bounds is None else {"action_low": list(bounds.low), "action_high": list(bounds.high)}
    ends = [loaded.report.episode_ends[of] for of in loaded.report.unfinished]
    attributes |= {} if loaded.report.cut is None else {CUT_EPISODES: columns["episodes"][ends].tolist()}
    writer(out, columns, attributes, extras)
    return loaded


def _writer_of(out: Path, fps: int | None) -> Callable[[Path, Columns, Mapping[str, Any], Columns], None]:
    """What writes a file of this name. Raises `UsageError` for a name that says no format."""
    suffix = out.suffix.lower()
    if suffix in (".hdf5", ".h5"):
        return lambda path, columns, attributes, extras: write_hdf5(path, columns, attributes, extras=extras)
    if suffix == ".npz":
        return lambda path, columns, attributes, extras: npz.write_npz(path, columns | extras, attributes)
    if suffix == ".parquet":
        return lambda path, columns, attributes, extras: write_parquet(path, columns | extras, attributes)
    if suffix == ".csv":
        return lambda path, columns, attributes, extras: write_csv(path, columns | extras, attributes)
    if not suffix:
        return lambda folder, columns, attributes, extras: write_lerobot(folder, columns | extras, attributes, fps)
    raise UsageError(f"{out}: is of no format to write; end it in .hdf5, .npz, .parquet or .csv, or name a new folder")


def _log_of(path: Path, stored: Columns, loaded: Loaded) -> Columns:
    """The columns of a log under tabb's names, as they are written: with the number of each row's episode."""
    columns: Columns = {key: np.asarray(stored[key]) for key in (*REQUIRED, *OPTIONAL) if key in stored}
    for key in ("observations", "actions", "next_observations"):
        if key in columns:
            columns[key] = columns[key].astype(np.float32, copy=False)
    columns["rewards"] = columns["rewards"].reshape(-1).astype(np.float32, copy=False)
    for key in ("terminals", "timeouts"):
        if key in columns:
            columns[key] = flag(columns[key], str(path), key)
    columns.setdefault("terminals", np.zeros(len(columns["rewards"]), bool))
    if "episodes" in columns:
        columns["episodes"] = episode_numbers(columns["episodes"], str(path), "episodes").astype(np.int64)
    else:
        ends = np.asarray(loaded.report.episode_ends)
        columns["episodes"] = np.searchsorted(ends, np.arange(len(columns["rewards"])))
    return columns


def _stored(path: Path, reading: Reading, loaded: Loaded) -> RawColumns:
    """What a data set stores, under tabb's names."""
    if path.is_dir():
        return (minari_sets if minari_sets.is_minari(path) else lerobot).raw_columns(path, reading)
    kind = storage.kind(path)
    if kind not in ("hdf5", "zip"):
        return tables.raw_columns(path, reading)
    content = (hdf5 if kind == "hdf5" else npz).read_content(path, reading)
    if content.names is None:  # transitions that were saved
        return RawColumns(_unsaved(loaded), {})
    resolve(content.columns, content.names, str(path))
    return RawColumns(content.columns, {})


def _unsaved(loaded: Loaded) -> Columns:
    """Transitions as the columns of a log; actions in the robot's units."""
    data = loaded.transitions
    actions = np.asarray(data.action)
    return {
        "observations": np.asarray(data.observation),
        "actions": actions if data.action_bounds is None else data.action_bounds.restored(actions),
        "rewards": np.asarray(data.reward),
        "next_observations": np.asarray(data.next_observation),
        "terminals": np.asarray(data.terminal),
        "episodes": np.asarray(data.episode),
        **{name: np.asarray(column) for name, column in data.extras.items()},
    }
