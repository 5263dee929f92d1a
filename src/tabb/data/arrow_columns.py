"""Columns of numbers out of a table (`tabb.data.arrow`), batch by batch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tabb.data import checks, precision
from tabb.data.allocation import IN_MEMORY, Memory
from tabb.data.arrow import Source, damaged, import_pyarrow
from tabb.errors import DataError

_LARGEST_RATIO = 2_000
_ALWAYS_FINE = 1 << 28
"""bytes that any file may claim: columns that hardly change take no room in Parquet"""


def is_numeric(kind: Any) -> bool:
    """Whether columns of this type hold numbers or truth values, or lists of them."""
    types = import_pyarrow().types
    if is_list(kind):
        return is_numeric(kind.value_type) and not is_list(kind.value_type)
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind))


def are_whole(source: Source, columns: Sequence[str]) -> bool:
    """Whether all of these columns are of whole numbers or truth values, as far as types tell."""
    types = import_pyarrow().types
    kinds = {name: kind.value_type if is_list(kind := source.schema.field(name).type) else kind for name in columns}
    return all(name in source.whole or types.is_integer(kind) or types.is_boolean(kind) for name, kind in kinds.items())


def is_label(kind: Any) -> bool:
    """Whether columns of this type hold texts, which can name episodes."""
    types = import_pyarrow().types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _numbered(array: Any, labels: dict[str, int]) -> np.ndarray:
    """Texts as numbers, the same for the same text, NaN where one is missing; `labels` has those of earlier batches."""
    values = [np.nan if text is None else labels.setdefault(text, len(labels)) for text in array.to_pylist()]
    return np.asarray(values, np.float64)


def is_list(kind: Any) -> bool:
    """Whether each row of such a column is a list."""
    types = import_pyarrow().types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


class _Blocks:
    """Stretches of a matrix in double precision, as `precision.blocks_of` takes them, filled as batches pass by.

    `order` are the rows of the table in the order that they are put in, None for their own.
    """

    def __init__(self, rows: int, width: int, order: np.ndarray | None = None) -> None:
        starts = np.linspace(0, max(0, rows - precision.BLOCK), precision.BLOCKS).astype(int)
        order = np.arange(rows) if order is None else order
        self._rows = [order[start : start + precision.BLOCK] for start in dict.fromkeys(starts.tolist())]
        self.parts = [np.empty((len(rows_of), width)) for rows_of in self._rows]

    def take(self, values: np.ndarray, begin: int, columns: slice) -> None:
        """The rows [n, K] of a batch that begins with row `begin` of the table, as far as they are in a stretch."""
        for part, rows in zip(self.parts, self._rows, strict=True):
            here = np.flatnonzero((rows >= begin) & (rows < begin + len(values)))
            part[here, columns] = values[rows[here] - begin]


def blocks_in_order(
    source: Source, keys: Iterable[str], matrices: Mapping[str, Sequence[str]], order: np.ndarray
) -> dict[str, list[np.ndarray]]:
    """The stretches that `read_columns` returns, of these of its columns, once rows have been put in this order.

    The table is read again: doubles are not kept. `matrices` has the columns that each key is joined from.
    """
    groups = {key: list(matrices[key]) for key in keys}
    widths = _widths(source, [column for columns in groups.values() for column in columns])
    blocks = {
        key: _Blocks(source.rows, sum(widths[column] for column in columns), order) for key, columns in groups.items()
    }
    begin = 0
    for batch in source.batches(list(widths)):
        for key, columns in groups.items():
            at = 0
            for column in columns:
                values = _table(batch.column(column), widths[column], source.name, column, begin, unknown=True)
                blocks[key].take(values, begin, slice(at, at + widths[column]))
                at += widths[column]
        begin += batch.num_rows
    return {key: one.parts for key, one in blocks.items()}


def read_columns(
    source: Source,
    matrices: Mapping[str, Sequence[str]],
    vectors: Mapping[str, str],
    memory: Memory = IN_MEMORY,
) -> tuple[dict[str, np.ndarray], dict[str, list[np.ndarray]]]:
    """Columns side by side as float32 matrices [N, K], and single columns [N] as they are, by the names given to them.

    Actions that are stored in more than float32 are float64. A missing value is NaN; texts of `episodes` are numbered.
    Also returned: stretches of the matrices, and of single columns of rewards, before they became float32 (see
    `tabb.data.precision`). No more than the result and a batch is in memory at once; matrices go where `memory` says.
    Raises `DataError` (one line) for columns that hold no numbers, and lists of several lengths.
    """
    if not source.rows:
        checks.fail(source.name, next(iter(matrices), "table"), "has no rows; give at least two steps of an episode")
    wanted = list(dict.fromkeys([*(c for columns in matrices.values() for c in columns), *vectors.values()]))
    for column in wanted:
        kind = source.schema.field(column).type
        if column == vectors.get("episodes") and is_label(kind):
            continue
        if not is_numeric(kind):
            checks.fail(source.name, column, f"holds {kind} values, not numbers; store it as float32, flags as 0 and 1")
    widths = _widths(source, wanted)
    _check_size(source, sum(widths.values()))
    for column in vectors.values():
        if widths[column] != 1:
            checks.fail(source.name, column, f"has {widths[column]} numbers in a row; give a column with one")
    result: dict[str, np.ndarray] = {
        key: memory.empty((source.rows, sum(widths[c] for c in columns)), _kind_of(source, key, columns))
        for key, columns in matrices.items()
    }
    doubles = {
        key: _Blocks(source.rows, result[key].shape[1])
        for key, columns in matrices.items()
        if any(_is_wider_than_float32(source.schema.field(column).type) for column in columns)
    }
    parts: dict[str, list[np.ndarray]] = {key: [] for key in vectors}
    labels: dict[str, int] = {}
    memory.note(f"{source.name}: reading {source.rows:,} rows")
    begin = 0
    try:
        for batch in source.batches(wanted):
            rows = slice(begin, begin + batch.num_rows)
            for key, columns in matrices.items():
                at = 0
                for column in columns:
                    values = _table(
                        batch.column(column), widths[column], source.name, column, begin, key == "next_observations"
                    )
                    there = slice(at, at + widths[column])
                    with np.errstate(over="ignore"):
                        result[key][rows, there] = values
                    if key in doubles:
                        doubles[key].take(values, begin, there)
                    at += widths[column]
            for key, column in vectors.items():
                if is_label(source.schema.field(column).type):
                    parts[key].append(_numbered(batch.column(column), labels))
                else:
                    parts[key].append(_table(batch.column(column), 1, source.name, column, begin)[:, 0])
            begin += batch.num_rows
    except DataError:
        raise
    except Exception as error:  # pyarrow raises half a dozen types on damaged pages
        damaged(source.name, "Parquet" if source.csv is None else "CSV", error)
    import_pyarrow().default_memory_pool().release_unused()
    if begin != source.rows:
        checks.fail(source.name, "rows", f"are {begin:,}, but {source.rows:,} are stated; write the file again")
    for key in list(parts):
        vector = np.concatenate(parts.pop(key))
        result[key] = checks.narrow(vector) if key == "rewards" else vector
        if result[key] is not vector:
            doubles[key] = _Blocks(source.rows, 1)
            doubles[key].take(vector[:, None], 0, slice(0, 1))
    return result, {key: blocks.parts for key, blocks in doubles.items()}


def _check_size(source: Source, width: int) -> None:
    """Refuse tables that claim more rows than their files can hold, before memory is taken for them."""
    size = sum(os.path.getsize(path) for path in source.files)
    claimed = 4 * width * source.rows
    if source.files and claimed > max(_ALWAYS_FINE, _LARGEST_RATIO * size):
        checks.fail(source.name, "rows", f"are {source.rows:,}, more than the file can hold: it is damaged")


def _kind_of(source: Source, key: str, columns: Sequence[str]) -> type[np.floating[Any]]:
    """The type of a matrix: float32, but float64 for doubles of actions, which are scaled before they are rounded."""
    wide = any(_is_wider_than_float32(source.schema.field(column).type) for column in columns)
    return np.float64 if key == "actions" and wide else np.float32


def _is_wider_than_float32(kind: Any) -> bool:
    kind = kind.value_type if is_list(kind) else kind
    types = import_pyarrow().types
    return not (types.is_float32(kind) or types.is_float16(kind) or types.is_boolean(kind))


def _widths(source: Source, columns: Sequence[str]) -> dict[str, int]:
    """How many numbers a row of each column has."""
    types = import_pyarrow().types
    widths = {}
    unknown = []
    for column in columns:
        kind = source.schema.field(column).type
        if types.is_fixed_size_list(kind):
            widths[column] = kind.list_size
        elif is_list(kind):
            unknown.append(column)
        else:
            widths[column] = 1
    if unknown:
        pa = import_pyarrow()
        try:
            first = next(batch for batch in source.batches(unknown) if batch.num_rows)
        except (pa.ArrowException, OSError, ValueError) as error:
            damaged(source.name, "Parquet", error)
        for column in unknown:
            value = first.column(column)[0]
            widths[column] = len(value) if value.is_valid else 0
    empty = [column for column, width in widths.items() if not width]
    if empty:
        checks.fail(source.name, empty[0], "has no numbers in its first row; leave the column out or mend the row")
    return widths


def _table(array: Any, width: int, name: str, column: str, begin: int, unknown: bool = False) -> np.ndarray:
    """A batch of a column as a table [n, width]; `begin` is the row that it starts with. Lists may be `unknown`."""
    pa = import_pyarrow()
    if not is_list(array.type):
        return _numbers(array)[:, None]
    from pyarrow import compute

    if array.null_count and unknown:
        there = ~array.is_null().to_numpy(zero_copy_only=False)
        table = np.full((len(array), width), np.nan)
        table[there] = _table(array.filter(pa.array(there)), width, name, column, begin)
        return table
    if array.null_count:
        row = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        checks.fail(name, column, f"row {begin + row} is missing; leave the row's episode out or mend it")
    lengths = compute.list_value_length(array).to_numpy(zero_copy_only=False)
    odd = np.flatnonzero(lengths != width)
    if odd.size:
        row = int(odd[0])
        checks.fail(
            name, column, f"row {begin + row} has {lengths[row]} numbers, but earlier ones have {width}; mend the row"
        )
    return _numbers(array.flatten()).reshape(-1, width)


def _numbers(array: Any) -> np.ndarray:
    """A flat array of Arrow as NumPy's; missing values are NaN."""
    pa = import_pyarrow()
    if pa.types.is_decimal(array.type):
        array = array.cast(pa.float64())
    if pa.types.is_boolean(array.type) and array.null_count:
        array = array.cast(pa.uint8())
    values: np.ndarray = array.to_numpy(zero_copy_only=False)
    return values
