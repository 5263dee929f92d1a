"""Parquet and CSV files and LeRobot data sets out, all at once or not at all. Needs the extra `parquet`."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tabb.data.arrow import import_pyarrow
from tabb.data.boundaries import apart_at_gaps
from tabb.data.checks import NO_EPISODE
from tabb.data.lerobot import INFO, OWN, PATHS
from tabb.data.reading import BOUNDS, CUT_EPISODES
from tabb.data.tables import METADATA
from tabb.errors import RunError, UsageError
from tabb.files import atomic
from tabb.own_files import refuse_others

_EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_FEATURES = {
    "observations": "observation.state",
    "actions": "action",
    "rewards": "next.reward",
    "next_observations": "next.observation.state",
    "terminals": "next.terminated",
    "timeouts": "next.truncated",
}
"""Columns of a log by their names in a LeRobot data set."""


def write_csv(path: Path, columns: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> None:
    """The columns of a log as a CSV file, like those of `write_parquet`; bounds of actions go into `FILE.toml` beside.

    Other attributes are not kept. Raises as `write_columns` does, and `UsageError` where
    `path` or that file is there.
    """
    pa = import_pyarrow()
    from pyarrow import csv

    beside = Path(f"{path}.toml")
    for one in (path, beside):
        if os.path.exists(one):
            raise UsageError(f"{one}: is there already; name another file, or remove it yourself")
    table = pa.table({key: _column(column) for key, column in _flat(with_steps(columns)).items()})
    with atomic(path) as part:
        csv.write_csv(table, part)
    bounds = {key: list(attributes[key]) for key in BOUNDS if key in attributes}
    if bounds:
        with atomic(beside) as part:
            part.write_text("".join(f"{key} = {value}\n" for key, value in bounds.items()), encoding="utf-8")


def _flat(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays [N], and arrays [N, K] as columns `key_0`, ..., `key_K-1`."""
    flat: dict[str, np.ndarray] = {}
    for key, column in columns.items():
        flat |= {f"{key}_{i}": column[:, i] for i in range(column.shape[1])} if column.ndim == 2 else {key: column}
    return flat


def write_columns(path: Path, columns: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> None:
    """Arrays [N], and arrays [N, K] as columns `key_0`, ..., `key_K-1`, as one Parquet file with attributes.

    Raises `RunError` if the file cannot be written, `UsageError` without the extra.
    """
    flat = {key: _column(column) for key, column in _flat(columns).items()}
    _write(path, flat, {METADATA: json.dumps(dict(attributes))})


def write_parquet(path: Path, columns: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> None:
    """The columns of a log as a Parquet file: `observations_0`, ..., `rewards`, flags, episodes and steps.

    Raises as `write_columns` does, and `UsageError` where `path` is there and is not tabb's.
    """
    refuse_others(path, "table")
    write_columns(path, with_steps(columns), attributes)


def write_lerobot(
    folder: Path, columns: Mapping[str, np.ndarray], attributes: Mapping[str, Any], fps: int | None = None
) -> None:
    """The columns of a log as a LeRobot data set, v3.0, in the new folder `folder`; rows of no episode are left out.

    An episode with such rows in between becomes two. Beside `observation.state`, `action` and `next.reward` there are
    `next.terminated`, `next.truncated` and, where the log has them, `next.observation.state`. `attributes` are kept
    under `tabb` in `info.json`.

    Raises:
        RunError: the folder cannot be written.
        UsageError: it is there already, or the extra is missing.
    """
    import_pyarrow()
    if os.path.exists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: is there already; name a new folder for a LeRobot data set")
    kept = columns["episodes"] != NO_EPISODE
    columns = {key: column if kept.all() else column[kept] for key, column in columns.items()}
    numbers = apart_at_gaps(columns["episodes"], np.flatnonzero(kept))
    if CUT_EPISODES in attributes:  # by the numbers that episodes have from now on
        was_cut = np.isin(columns["episodes"], attributes[CUT_EPISODES])
        attributes = {**attributes, CUT_EPISODES: np.unique(numbers[was_cut]).tolist()}
    columns["episodes"] = numbers
    fps = int(fps or attributes.get("fps") or 1)
    rows = _rows(columns, fps)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror or error}); choose another folder") from None
    try:
        _write_rows(part, rows, attributes, fps)
        part.chmod(0o777 & ~_mask())
        if folder.exists():
            folder.rmdir()
        os.rename(part, folder)
    except OSError as error:
        raise RunError(
            f"{folder}: cannot be written ({error.strerror or error}); free space, or choose another"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def with_steps(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns with the number of each row's step, where every row belongs to an episode."""
    numbered = (columns["episodes"] != NO_EPISODE).all()
    return {**columns, **({"steps": steps_of(columns["episodes"])} if numbered else {})}


def steps_of(episodes: np.ndarray) -> np.ndarray:
    """Number of each row's step in its episode, whose rows are adjacent."""
    starts = np.append(True, episodes[1:] != episodes[:-1])
    rows = np.arange(len(episodes))
    return rows - np.maximum.accumulate(np.where(starts, rows, 0))


def _rows(columns: Mapping[str, np.ndarray], fps: int) -> dict[str, np.ndarray]:
    """The columns of a LeRobot data set."""
    rows = {_FEATURES.get(key, key): column for key, column in columns.items() if key != "episodes"}
    episodes = columns["episodes"]
    starts = np.append(True, episodes[1:] != episodes[:-1])
    steps = steps_of(episodes)
    return rows | {
        "next.done": np.append(starts[1:], True),
        "timestamp": (steps / fps).astype(np.float32),
        "frame_index": steps,
        "episode_index": np.cumsum(starts) - 1,
        "index": np.arange(len(episodes)),
        "task_index": np.zeros(len(episodes), np.int64),
    }


def _write_rows(folder: Path, rows: Mapping[str, np.ndarray], attributes: Mapping[str, Any], fps: int) -> None:
    """The files of a LeRobot data set: rows, the table of episodes, that of tasks, statistics and `info.json`."""
    place = {"chunk_index": 0, "file_index": 0}
    data, table = (folder / one.format(**place) for one in (PATHS["3"], _EPISODES))
    tasks = folder / "meta" / "tasks.parquet"
    for file in (data, table, tasks):
        file.parent.mkdir(parents=True, exist_ok=True)
    _write(data, {key: _column(column) for key, column in rows.items()}, {})
    starts = np.flatnonzero(rows["frame_index"] == 0)
    ends = np.append(starts[1:], len(rows["index"]))
    zeros = np.zeros(len(starts), np.int64)
    episodes = {
        "episode_index": np.arange(len(starts)),
        "length": ends - starts,
        "dataset_from_index": starts,
        "dataset_to_index": ends,
        **{f"{kind}/{name}": zeros for kind in ("data", "meta/episodes") for name in place},
    }
    pa = import_pyarrow()
    _write(table, episodes | {"tasks": pa.array([["a log"]] * len(starts))}, {})
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": []}  # LeRobot reads its tasks with pandas
    _write(tasks, {"task_index": np.zeros(1, np.int64), "task": pa.array(["a log"])}, {"pandas": json.dumps(pandas)})
    info = {
        "codebase_version": "v3.0",
        "robot_type": attributes.get("robot_type"),
        "total_episodes": len(starts),
        "total_frames": len(rows["index"]),
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": fps,
        "splits": {"train": f"0:{len(starts)}"},
        "data_path": PATHS["3"],
        "video_path": None,
        "features": {key: _feature(column) for key, column in rows.items()},
        OWN: {key: value for key, value in attributes.items() if key not in ("codebase_version", "robot_type", "fps")},
    }
    statistics = {key: _statistics(column) for key, column in rows.items()}
    (folder / "meta" / "stats.json").write_text(json.dumps(statistics, indent=2) + "\n", encoding="utf-8")
    (folder / INFO).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")


def _feature(column: np.ndarray) -> dict[str, Any]:
    return {"dtype": str(column.dtype), "shape": [column.shape[1] if column.ndim == 2 else 1], "names": None}


def _statistics(column: np.ndarray) -> dict[str, list[float]]:
    values = column.reshape(len(column), -1).astype(np.float64)
    return {
        "min": values.min(axis=0).tolist(),
        "max": values.max(axis=0).tolist(),
        "mean": values.mean(axis=0).tolist(),
        "std": values.std(axis=0).tolist(),
        "count": [len(values)],
    }


def _column(column: np.ndarray) -> Any:
    """An array as a column of Arrow: rows of several numbers are lists of a fixed size."""
    pa = import_pyarrow()
    if column.ndim == 1:
        return pa.array(column)
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(column).reshape(-1)), column.shape[1])


def _write(path: Path, columns: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    pa = import_pyarrow()
    from pyarrow import parquet

    table = pa.table(dict(columns))
    with atomic(path) as part:
        parquet.write_table(table.replace_schema_metadata(dict(metadata)) if metadata else table, part)
