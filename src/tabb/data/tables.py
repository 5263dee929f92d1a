"""Tables in: Parquet and CSV files, and tables of pandas, polars and Arrow in Python. Needs the extra `parquet`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tabb.data import checks
from tabb.data.allocation import IN_MEMORY, Memory
from tabb.data.arrays import build
from tabb.data.arrow import Source, csv_source, parquet_source, table_source
from tabb.data.arrow_columns import are_whole, blocks_in_order, is_numeric, read_columns
from tabb.data.column_names import STARTS, starts_as_numbers
from tabb.data.reading import BOUNDS, NOTHING_STATED, RawColumns, Reading, reading_with
from tabb.data.report import Loaded
from tabb.data.table_columns import Assigned, assign
from tabb.transitions import Transitions

UNEVEN = 0.5
"""Share of the usual distance of two steps by which one may differ: times are never exact, and are no missing steps."""
STRETCH = 10
"""rows with rising steps that hardly ever stand together in a shuffled table"""
METADATA = "tabb"
"""Key of a Parquet file's metadata under which tabb writes attributes as JSON."""


class Content(NamedTuple):
    """What is read of a table."""

    name: str
    columns: dict[str, np.ndarray]
    """By what they are, numbers unchecked."""
    wide: dict[str, list[np.ndarray]]
    """Stretches of doubles that became float32."""
    assigned: Assigned
    provenance: dict[str, Any]
    notes: list[str]
    doubts: list[str]
    whole: bool = False
    """The file has actions as integers."""
    order: np.ndarray | None = None
    """The row of the file that each row was before rows were put in order; None if none moved."""


def load_table(path: str | Path, reading: Reading = NOTHING_STATED, memory: Memory = IN_MEMORY) -> Loaded:
    """Transitions and report of a Parquet or CSV file.

    Columns are taken for what their names say: `observations` (`obs`, `state`), `actions`, `rewards` and the others of
    `from_arrays`, in one column of lists or in several (`obs_0`, `obs_1`, ...; `state.x`, `state.y`). `reading.names`
    states it otherwise. A column with the number of the step (`frame_index`, `step`) puts the rows of each episode in
    order; with `names.steps` it may be a time. Raises `DataError` (one line) naming file, column and row, `UsageError`
    without the extra `parquet`.
    """
    path = Path(path)
    return load_source(_source_of(path), reading, "csv" if is_csv(path) else "parquet", memory)


def from_table(
    table: Any,
    reading: Reading | None = None,
    *,
    action_low: Any = None,
    action_high: Any = None,
    name: str = "table",
) -> Transitions:
    """Transitions from a table in memory, one row per step: of pandas, polars, pyarrow, or any that gives Arrow data.

    Columns are taken for what their names say, as in a Parquet file (`tabb.data.load_table`); `reading` states it
    otherwise: `tabb.data.Reading(names={"observations": ["q_*", "dq_*"], "actions": "u_*"})`. `action_low` and
    `action_high` are those of `from_arrays`. What looks wrong but can be used is a `DataWarning`.

    Raises:
        DataError: columns that are not found, or cannot be used.
        UsageError: this is no table, or the extra `parquet` is missing.
    """
    return inspect_table(table, reading, action_low=action_low, action_high=action_high, name=name).warned()


def inspect_table(
    table: Any,
    reading: Reading | None = None,
    *,
    action_low: Any = None,
    action_high: Any = None,
    name: str = "table",
) -> Loaded:
    """As `from_table`, with the report of what was found, kept and dropped."""
    return load_source(table_source(table, name), reading_with(reading, action_low, action_high), "table")


def load_source(source: Source, reading: Reading, layout: str, memory: Memory = IN_MEMORY) -> Loaded:
    """Transitions and report of a table that was opened."""
    return build_table(_content(source, reading, memory), reading, layout, memory)


def build_table(content: Content, reading: Reading, layout: str, memory: Memory = IN_MEMORY) -> Loaded:
    """Transitions and report of a table that was read."""
    order = content.order
    loaded = build(
        content.columns,
        name=content.name,
        layout=layout,
        provenance=content.provenance,
        owned=True,
        names=content.assigned.names,
        wide=content.wide,
        reading=reading,
        memory=memory,
        whole=content.whole,
    )
    report = loaded.report
    return loaded._replace(
        report=dataclasses.replace(
            report,
            taken=content.assigned.taken,
            notes=(*content.notes, *report.notes),
            doubts=(*content.doubts, *report.doubts),
            kept_rows=report.kept_rows if order is None else order[report.kept_rows],
        )
    )


def raw_columns(path: Path, reading: Reading = NOTHING_STATED, memory: Memory = IN_MEMORY) -> RawColumns:
    """The columns of a file as it stores them, numbers unchecked. Raises `DataError` where it cannot be read."""
    content = _content(_source_of(path), reading, memory)
    return RawColumns(content.columns, content.provenance)


def _source_of(path: Path) -> Source:
    return csv_source(path) if is_csv(path) else parquet_source([path], str(path))


def is_csv(path: Path) -> bool:
    """Whether a file is called one of comma-separated values: nothing else tells."""
    return path.suffix.lower() == ".csv"


def _content(source: Source, reading: Reading, memory: Memory) -> Content:
    kinds = {field.name: field.type for field in source.schema}
    assigned = assign(list(kinds), lambda column: is_numeric(kinds[column]), reading.names.stated(), source.name)
    vectors = dict(assigned.vectors)
    if assigned.steps is not None:
        vectors["steps"] = assigned.steps
    columns, wide = read_columns(source, assigned.matrices, vectors, memory)
    if (starts := vectors.get("episodes")) in STARTS:
        columns["episodes"] = starts_as_numbers(columns["episodes"], source.name, starts)
    whole = are_whole(source, assigned.matrices["actions"])
    content = Content(source.name, columns, wide, assigned, _provenance(source), [], [], whole)
    return put_in_order(content, source, memory)


def _provenance(source: Source) -> dict[str, Any]:
    """What a file says of itself: tabb's own attributes, and the bounds of actions."""
    metadata = source.metadata
    try:
        own = json.loads(metadata.get(METADATA, "{}"))
    except ValueError:
        own = {}
    own = own if isinstance(own, dict) else {}
    return own | {key: metadata[key] for key in BOUNDS if key in metadata}


def put_in_order(content: Content, source: Source, memory: Memory = IN_MEMORY) -> Content:
    """Put rows in the order of their episodes' steps, and mark rows after which steps are missing as cut.

    `source` is the table that they were read from.
    """
    columns, name = content.columns, content.name
    steps = columns.pop("steps", None)
    if steps is None:
        return content
    key = content.assigned.steps or "steps"
    if not np.isfinite(steps).all() if steps.dtype.kind == "f" else steps.dtype.kind not in "iu":
        checks.fail(name, key, "is no number of a step in every row; leave the column out (names.steps)")
    steps = steps.astype(np.int64) if steps.dtype.kind == "u" else steps
    order: np.ndarray | None = None
    episodes = columns.get("episodes")
    if episodes is None:
        checks.fail(name, key, "numbers steps, but no column numbers episodes (names.episodes)")
    moved = np.lexsort((steps, episodes))
    if (np.diff(moved) < 0).any() and not _is_in_order(steps, episodes):
        if twice := _begun_twice(steps, episodes):
            checks.fail(
                name,
                content.assigned.vectors.get("episodes", "episodes"),
                f"the episode that begins in row {twice[0]} begins again in row {twice[1]}, and both have the same "
                f"`{key}`; give the episodes of each robot or run numbers of their own, or name the file of each",
            )
        order = moved
        for column in list(columns):
            columns[column] = _moved(columns[column], order, memory)
        groups = content.assigned.matrices | {key: [column] for key, column in content.assigned.vectors.items()}
        content = content._replace(wide=blocks_in_order(source, content.wide, groups, order))
        steps, episodes = steps[order], episodes[order]
        content.notes.append(
            f"rows were put in the order of `{key}` within their episodes; numbers of rows are those after that"
        )
    inside = (episodes[1:] == episodes[:-1]) & (episodes[1:] != checks.NO_EPISODE)
    apart = np.diff(steps)[inside]
    if not apart.size:
        return content._replace(order=order)
    if (apart == 0).any():
        row = int(np.flatnonzero(inside & (np.diff(steps) == 0))[0])
        one, other = sorted((row, row + 1) if order is None else order[row : row + 2].tolist())
        checks.fail(name, key, f"rows {one} and {other} are the same step of an episode; keep one of them")
    stride = np.median(apart)
    gaps = np.flatnonzero(inside & (np.abs(np.diff(steps) - stride) >= UNEVEN * stride))
    if gaps.size and "next_observations" not in columns:
        content.doubts.append(
            f"steps are missing after {gaps.size:,} rows (the first is row {gaps[0]}), as `{key}` says, and episodes "
            "are cut there: log every step"
        )
        timeouts = columns.get("timeouts")
        timeouts = np.zeros(len(steps), bool) if timeouts is None else checks.flag(timeouts, name, "timeouts").copy()
        timeouts[gaps] = True
        columns["timeouts"] = timeouts
        content.assigned.names.read["timeouts"] = "timeouts"
    return content._replace(order=order)


def _moved(column: np.ndarray, order: np.ndarray, memory: Memory) -> np.ndarray:
    """The rows of a column in another order."""
    result = memory.empty(column.shape, column.dtype)
    for piece in checks.pieces(len(column)):
        result[piece] = column[order[piece]]
    return result


def _begun_twice(steps: np.ndarray, episodes: np.ndarray) -> tuple[int, int] | None:
    """Two rows where one episode begins and goes on for many rows, over the same steps: it is that of two robots.

    Put in the order of their steps, the rows would lead from one robot to the other and back. The rows of a shuffled
    table stand apart too, but not in long stretches.
    """
    changes = (episodes[1:] != episodes[:-1]) | (np.diff(steps) <= 0)
    first = np.flatnonzero(np.append(True, changes))
    last = np.append(first[1:], len(steps)) - 1
    long = (last - first + 1 >= STRETCH) & checks.of_an_episode(episodes[first])
    first, last = first[long], last[long]
    by_steps = np.lexsort((steps[first], episodes[first]))
    first, last = first[by_steps], last[by_steps]
    same = (episodes[first[1:]] == episodes[first[:-1]]) & (steps[first[1:]] <= steps[last[:-1]])
    if not same.any():
        return None
    place = int(np.argmax(same))
    one, other = sorted((int(first[place]), int(first[place + 1])))
    return one, other


def _is_in_order(steps: np.ndarray, episodes: np.ndarray) -> bool:
    """Whether rows of an episode are adjacent and their steps rise, whatever the numbers of the episodes.

    Rows of no episode may stand anywhere: they are gaps, and stay where they are.
    """
    there = checks.of_an_episode(episodes)
    steps, episodes = steps[there], episodes[there]
    changes = episodes[1:] != episodes[:-1]
    starts = episodes[np.flatnonzero(np.append(True, changes))]
    return len(np.unique(starts)) == len(starts) and bool((np.diff(steps)[~changes] > 0).all())
