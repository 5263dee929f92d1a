"""Columns of numbers out of Arrow tables, Parquet and CSV files, in batches. Needs the extra `parquet`."""

from __future__ import annotations

import csv
import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tabb.data import checks, precision
from tabb.data.allocation import IN_MEMORY, Memory
from tabb.errors import DataError, UsageError

BATCH = 16_384
"""rows read at once"""
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|nan|[-+]?inf|true|false", re.IGNORECASE)
_LARGEST_RATIO = 2_000
_ALWAYS_FINE = 1 << 28
"""bytes that any file may claim: columns that hardly change take no room in Parquet"""


def import_pyarrow() -> Any:
    """The package pyarrow. Raises `UsageError` without the extra."""
    try:
        import pyarrow
    except ImportError:
        raise UsageError('tables and Parquet files need the extra `parquet`: pip install "tabb-rl[parquet]"') from None
    return pyarrow


@dataclasses.dataclass(frozen=True)
class Source:
    """A table in memory, a CSV file, or Parquet files one after the other, whose columns are read in batches."""

    name: str
    """What it is called in messages."""
    schema: Any
    """pyarrow's schema: names and types of columns."""
    rows: int
    table: Any = None
    files: tuple[Path, ...] = ()
    csv: Path | None = None
    whole: frozenset[str] = frozenset()
    """Of a CSV file, columns that begin with whole numbers, though they are read as floats."""

    @property
    def metadata(self) -> dict[str, str]:
        """Texts that the table or file says of itself."""
        found = {}
        for key, value in (self.schema.metadata or {}).items():
            try:
                found[key.decode()] = value.decode()
            except UnicodeDecodeError:  # pyarrow's own schema, say
                continue
        return found

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Record batches with these columns, in order; at most `BATCH` rows each."""
        if self.table is not None:
            yield from self.table.select(list(columns)).to_batches(max_chunksize=BATCH)
            return
        if self.csv is not None:
            with _csv_reader(self.csv, self.schema, columns) as reader:
                yield from reader
        for path in self.files:
            with _parquet_file(path) as file:
                yield from file.iter_batches(BATCH, columns=list(columns), use_threads=False)


def table_source(table: Any, name: str) -> Source:
    """A table in memory: pyarrow's own, or whatever gives Arrow data or speaks the dataframe interchange protocol.

    Raises `UsageError` for anything else.
    """
    pa = import_pyarrow()
    if not isinstance(table, pa.Table):
        try:
            if hasattr(table, "__arrow_c_stream__"):
                table = pa.table(table)
            elif hasattr(table, "__dataframe__"):
                table = pa.interchange.from_dataframe(table)
            else:
                raise UsageError(
                    f"table is {type(table).__name__}: give a table of pyarrow, pandas or polars, or its columns to "
                    "tabb.from_arrays"
                )
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise UsageError(f"table is {type(table).__name__}, which Arrow cannot take ({error})") from None
    return Source(name, table.schema, table.num_rows, table)


def csv_source(path: Path) -> Source:
    """A CSV file; whole numbers are read as floats, since a column may begin with them alone.

    Raises `DataError` where it cannot be read.
    """
    pa = import_pyarrow()
    try:
        _check_header(path)
        with _csv_reader(path) as reader:
            schema = reader.schema
        whole = frozenset(field.name for field in schema if pa.types.is_integer(field.type))
        wide = pa.float64()
        schema = pa.schema(
            [
                pa.field(
                    field.name, wide if pa.types.is_integer(field.type) or pa.types.is_null(field.type) else field.type
                )
                for field in schema
            ]
        )
        repeated = [name for name in schema.names if schema.names.count(name) > 1]
        if repeated:
            checks.fail(str(path), repeated[0], "names two columns; rename one of them")
        with _csv_reader(path, schema, schema.names[:1]) as reader:
            rows = sum(batch.num_rows for batch in reader)
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        _damaged(path, "CSV", error)
    return Source(str(path), schema, rows, csv=path, whole=whole)


def _check_header(path: Path) -> None:
    """The first line of a CSV file is names with commas between them: pyarrow takes any line for that."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        line = file.readline(1 << 20)
    names = next(csv.reader([line.rstrip("\r\n")]), [])
    other = [what for mark, what in _SEPARATORS.items() if mark in line] if len(names) == 1 else []
    if other:
        checks.fail(
            str(path), "line 1", f"is separated by {other[0]}; put commas between columns, and points into numbers"
        )
    if line.startswith("#"):
        checks.fail(str(path), "line 1", "begins with #; let the file begin with the names of its columns")
    padded = [name for name in names if name != name.strip()]
    if 1 < len(names) <= len(padded) + 1:
        checks.fail(str(path), "line 1", f"{padded[0][:60]!r} has blanks around it; leave out blanks beside commas")
    named = [name for name in names if name]
    # pandas counts the columns of an array: these are names.
    counted = bool(named) and named == [str(place) for place in range(len(named))]
    if names and not counted and all(_NUMBER.fullmatch(name) for name in named):
        checks.fail(str(path), "line 1", "holds numbers; let the file begin with the names of its columns")


def _csv_reader(path: Path, schema: Any = None, columns: Sequence[str] = ()) -> Any:
    """A reader of batches; types are those of `schema`, else those of the first rows."""
    from pyarrow import csv as arrow_csv

    types = None if schema is None else {field.name: field.type for field in schema}
    convert = arrow_csv.ConvertOptions(column_types=types, include_columns=list(columns))
    options = arrow_csv.ReadOptions(use_threads=False, block_size=1 << 20)
    return arrow_csv.open_csv(path, options, convert_options=convert)


def parquet_source(paths: Sequence[Path], name: str) -> Source:
    """Parquet files with one schema. Raises `DataError` where they cannot be read or their columns differ."""
    import_pyarrow()
    schema, rows = None, 0
    for path in paths:
        with _parquet_file(path) as file:
            if schema is None:
                schema = file.schema_arrow
            elif file.schema_arrow.names != schema.names or file.schema_arrow.types != schema.types:
                here, there = set(file.schema_arrow.names), set(schema.names)
                odd = sorted(here ^ there) or [n for n in schema.names if file.schema_arrow.field(n) != schema.field(n)]
                raise DataError(
                    checks.one_line(f"{path}: column {', '.join(odd[:3])} is not as in {paths[0]}; write both alike")
                )
            rows += file.metadata.num_rows
    assert schema is not None
    repeated = [one for one in schema.names if schema.names.count(one) > 1]
    if repeated:
        checks.fail(name, repeated[0], "names two columns; rename one of them")
    return Source(name, schema, rows, files=tuple(paths))


def _parquet_file(path: Path) -> Any:
    pa = import_pyarrow()
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path, memory_map=False, pre_buffer=False, buffer_size=1 << 20)
    except (pa.ArrowException, OSError, ValueError) as error:
        _damaged(path, "Parquet", error)


def _damaged(path: Path | str, format: str, error: Exception) -> NoReturn:
    reason = checks.one_line(str(error)) or type(error).__name__
    raise DataError(
        checks.one_line(f"{path}: cannot be read as {format}, damaged or cut ({reason[:200]}); fetch or write it again")
    ) from None


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
        _damaged(source.name, "Parquet" if source.csv is None else "CSV", error)
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
            _damaged(source.name, "Parquet", error)
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
