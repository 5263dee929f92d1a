"""LeRobot data sets, v3.0 and v2.1: a folder with `meta/info.json` and Parquet files of rows. No torch; videos stay.

Needs the extra `parquet`. A row is what was seen at a step and what was done then; nothing is stored of what was seen
after the last step of an episode. All else is the one rule of `tabb.data.arrays.build`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tabb.data import checks
from tabb.data.allocation import IN_MEMORY, Memory
from tabb.data.arrow import Source, parquet_source
from tabb.data.arrow_columns import are_whole, is_numeric, read_columns
from tabb.data.column_names import MATRICES
from tabb.data.reading import NOTHING_STATED, RawColumns, Reading
from tabb.data.report import Loaded
from tabb.data.table_columns import Assigned, assign
from tabb.data.tables import Content, build_table, put_in_order
from tabb.errors import DataError, TabbError, UsageError

INFO = Path("meta") / "info.json"
PATHS = {
    "2": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    "3": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
}
"""Where rows are by the first number of the version, unless `data_path` says otherwise."""
OWN = "tabb"
"""Key of `info.json` under which tabb writes attributes."""
BOOKKEEPING = ("timestamp", "index", "task_index")
"""Columns of every data set that say nothing of the log itself."""
GUESSES = {
    "observations": (r"observation\.state", r"observation\.state\..+", r"observation\.(?!images?\b).+"),
    "next_observations": (r"next\.observation\.state",),
    "actions": ("action", r"action\..+"),
    "rewards": (r"next\.reward", "reward"),
    "terminals": (r"next\.terminated", "terminated"),
    "timeouts": (r"next\.truncated", "truncated"),
    "episodes": ("episode_index",),
    "steps": ("frame_index",),
}
"""Patterns of columns, the first that matches counts; several are joined in the order of `info.json`."""
SUCCESS = ("next.success", "success", "is_success", "next.is_success")
DONE = ("next.done", "done")
_ID = re.compile(r"[\w.-]+/[\w.-]+")


def is_lerobot(path: Path) -> bool:
    """Whether the folder `path` holds a LeRobot data set."""
    return (path / INFO).is_file()


def load_lerobot(folder: str | Path, reading: Reading = NOTHING_STATED, memory: Memory = IN_MEMORY) -> Loaded:
    """Transitions and report of the LeRobot data set in `folder`.

    Observations are `observation.state`, or else all columns of numbers that begin with `observation.`, joined in the
    order of `info.json`; `reading.names.observations` chooses others. Rewards are `next.reward`. The task is taken to
    end where the last row of an episode is a success, unless `next.terminated` or `reading.names.terminals` says where.
    Raises `DataError` (one line) naming file, column and row, `UsageError` without the extra `parquet`.
    """
    content = _content(Path(folder), reading, memory)
    return build_table(content, reading, "lerobot", memory)


def raw_columns(folder: Path, reading: Reading = NOTHING_STATED, memory: Memory = IN_MEMORY) -> RawColumns:
    """The columns of a data set as it stores them, numbers unchecked. Raises `DataError` where it cannot be read."""
    content = _content(folder, reading, memory)
    return RawColumns(content.columns, content.provenance)


class _Info(NamedTuple):
    """What `info.json` says."""

    values: dict[str, Any]
    features: dict[str, Any]
    files: list[Path]


def _content(folder: Path, reading: Reading, memory: Memory) -> Content:
    name = str(folder)
    info = _read_info(folder, name)
    source = dataclasses.replace(parquet_source(info.files, name), name=name)
    _check_features(source, info, name)
    ignored = [key for key, feature in info.features.items() if _is_picture(feature)]
    assigned, ends = _assigned(source, info, ignored, reading, name)
    if "episodes" not in assigned.vectors:
        checks.fail(name, "episode_index", "is no column of the rows; fetch the data set again, or name it")
    vectors = assigned.vectors | {f" {key}": column for key, column in ends.items()}
    vectors |= {"steps": assigned.steps} if assigned.steps is not None else {}
    columns, wide = read_columns(source, assigned.matrices, vectors, memory)
    _check_widths(info, columns, assigned, name)
    _check_totals(columns["episodes"], info, name)
    provenance = {key: info.values[key] for key in ("codebase_version", "robot_type", "fps") if info.values.get(key)}
    own = info.values.get(OWN)
    provenance |= own if isinstance(own, dict) else {}
    whole = are_whole(source, assigned.matrices["actions"])
    content = put_in_order(Content(name, columns, wide, assigned, provenance, [], [], whole), source, memory)
    if ignored:
        content.notes.append(f"videos and images are ignored: {checks.listed(ignored)}")
    _state_ends(content, ends, {key: columns.pop(f" {key}") for key in ends})
    return content


def _read_info(folder: Path, name: str) -> _Info:
    """`info.json` with the files that it says the rows are in, in their order."""
    where = folder / INFO
    try:
        values = json.loads(where.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(checks.one_line(f"{where}: cannot be read ({error}); fetch the data set again")) from None
    features = values.get("features") if isinstance(values, dict) else None
    if not isinstance(features, dict) or not all(isinstance(one, dict) for one in features.values()):
        checks.fail(str(where), "features", "is missing or no table; fetch the data set again")
    version = str(values.get("codebase_version"))
    major = version.removeprefix("v")[:1]
    if major not in PATHS:
        checks.fail(
            str(where), "codebase_version", f"is {version}; v2.1 and v3.0 are read: convert it with LeRobot's script"
        )
    template = values.get("data_path") or PATHS[major]
    files = _files_like(folder, str(template), str(where))
    if not files:
        checks.fail(
            name, "data", f"has no file like {str(template)[:100]}, as info.json says; fetch the data set again"
        )
    return _Info(values, features, files)


def _files_like(folder: Path, template: str, where: str) -> list[Path]:
    """The files below `folder` whose paths are as `template` says, in the order of the numbers in their paths.

    Paths are looked for, never made: a template can lead nowhere else.
    """
    parts = re.split(r"\{\w+(?::0?\d{0,2}d)?\}", template)
    pattern = re.compile(r"(\d+)".join(map(re.escape, parts)))
    if len(parts) == 1 or re.search(r"[{}]", "".join(parts)):
        checks.fail(where, "data_path", f"is {template[:100]!r}; fetch the data set again")
    found = []
    for here, _, names in os.walk(folder, followlinks=False):
        for one in names:
            path = Path(here) / one
            match = pattern.fullmatch(path.relative_to(folder).as_posix())
            if match:
                found.append((tuple(map(int, match.groups())), path))
    return [path for _, path in sorted(found)]


def _is_picture(feature: dict[str, Any]) -> bool:
    return feature.get("dtype") in ("video", "image")


def _check_features(source: Source, info: _Info, name: str) -> None:
    """The columns of numbers that `info.json` lists are there, with as many numbers in a row as it says."""
    there = set(source.schema.names)
    for key, feature in info.features.items():
        if _is_picture(feature) or feature.get("dtype") in ("string", "language"):
            continue
        if key not in there:
            checks.fail(name, key, "is in info.json but not in the rows; fetch the data set again, or mend info.json")


def _check_widths(info: _Info, columns: dict[str, np.ndarray], assigned: Assigned, name: str) -> None:
    """Columns have as many numbers in a row as `info.json` says."""
    for key, group in assigned.matrices.items():
        shapes = [info.features.get(column, {}).get("shape") for column in group]
        if all(isinstance(shape, list) and len(shape) == 1 for shape in shapes):
            stated = sum(shape[0] for shape in shapes)
            if stated != columns[key].shape[1]:
                checks.fail(
                    name,
                    group[0],
                    f"has {columns[key].shape[1]} numbers in a row, but info.json says {stated}; one of them is wrong",
                )


def _check_totals(episodes: np.ndarray, info: _Info, name: str) -> None:
    """There are as many rows and episodes as `info.json` says."""
    counts = {"total_frames": len(episodes), "total_episodes": len(np.unique(episodes[checks.of_an_episode(episodes)]))}
    for key, count in counts.items():
        stated = info.values.get(key)
        if stated is not None and stated != count:
            what = "rows" if key == "total_frames" else "episodes"
            checks.fail(
                name, key, f"is {stated} in info.json, but there are {count:,} {what}; fetch the data set again"
            )


def _assigned(
    source: Source, info: _Info, ignored: Sequence[str], reading: Reading, name: str
) -> tuple[Assigned, dict[str, str]]:
    """What each column is; and those that say of ends, under `success` and `done`."""
    stated = reading.names.stated()
    kinds = {field.name: field.type for field in source.schema}
    # The order of info.json is what several columns are joined in.
    order = [*(key for key in info.features if key in kinds), *(key for key in kinds if key not in info.features)]
    free = [key for key in order if key not in ignored and is_numeric(kinds[key])]
    for key, patterns in GUESSES.items():
        if key in stated:
            continue
        for pattern in patterns:
            found = [column for column in free if re.fullmatch(pattern, column)]
            if found:
                stated[key] = tuple(found if key in MATRICES else found[:1])
                break
    named = {column for patterns in stated.values() for column in patterns}
    ends: dict[str, str] = {}
    for kind, names in (("success", SUCCESS), ("done", DONE)):
        there = [one for one in names if one in free and (kind == "success" or one not in named)]
        ends |= {kind: there[0]} if there else {}
    if "rewards" not in stated:
        advice = f", or {ends['success']} for a reward of 1 in success" if "success" in ends else ""
        checks.fail(name, "rewards", f"not found: no next.reward; name a column (names.rewards){advice}")
    hidden = {*ignored, *BOOKKEEPING, *ends.values()} - named
    return assign([key for key in order if key not in hidden], lambda key: key in free, stated, name), ends


def _state_ends(content: Content, names: dict[str, str], ends: dict[str, np.ndarray]) -> None:
    """Ends of the task, where no column states them, are last rows of episodes that are a success."""
    columns, name = content.columns, content.name
    last = np.append(columns["episodes"][1:] != columns["episodes"][:-1], True)
    if "done" in ends:
        inside = checks.flag(ends["done"], name, names["done"]) & ~last
        if inside.any():
            content.doubts.append(
                f"`{names['done']}` marks {int(inside.sum()):,} rows that are not the last of their episode (the first "
                f"is row {int(np.argmax(inside))}): check episode_index; it is not used"
            )
    if "terminals" in columns:
        return
    if "success" not in ends:
        content.notes.append("no column says where the task itself ended, so no row is terminal (names.terminals)")
        return
    success = checks.flag(ends["success"], name, names["success"]) & last
    columns["terminals"] = success
    content.assigned.names.read["terminals"] = "terminals"
    content.notes.append(
        f"{int(success.sum()):,} of {int(last.sum()):,} episodes end in success (`{names['success']}`), which is taken "
        "for the end of the task; names.terminals says otherwise"
    )


def folder_of(name: str) -> Path:
    """The folder of the LeRobot data set `name` (`lerobot/pusht`), downloaded without its videos if it is not there.

    It is looked for where LeRobot keeps data sets (`HF_LEROBOT_HOME`), and else fetched by the hub's own client, which
    keeps it in its cache. Raises `UsageError` for a malformed name or without the extra `lerobot`, `DataError` if it
    cannot be had (one line each).
    """
    if not _ID.fullmatch(name):
        raise UsageError(checks.one_line(f"lerobot:{name}: is no name of a data set; write lerobot:OWNER/NAME"))
    home = os.environ.get("HF_LEROBOT_HOME")
    if home is None:
        home = os.path.join(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface", "lerobot")
    folder = Path(home).expanduser() / name
    if is_lerobot(folder):
        return folder
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UsageError(
            f"lerobot:{name}: is not in {home}, and fetching it needs the extra `lerobot`: "
            'pip install "tabb-rl[lerobot]"'
        ) from None
    try:
        folder = Path(snapshot_download(name, repo_type="dataset", allow_patterns=["meta/*", "meta/**", "data/**"]))
    except TabbError:
        raise
    except Exception as error:  # the client raises a dozen types
        reason = checks.one_line(str(error)) or type(error).__name__
        raise DataError(
            checks.one_line(f"lerobot:{name}: cannot be fetched ({reason[:200]}); check its name and the network")
        ) from None
    if not is_lerobot(folder):
        raise DataError(checks.one_line(f"lerobot:{name}: holds no {INFO.as_posix()}, so it is no LeRobot data set"))
    return folder
