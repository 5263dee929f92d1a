"""Arrow tables, Parquet and CSV files as one kind of source, read in batches. Needs the extra `parquet`."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tabb.data import checks
from tabb.errors import DataError, UsageError

BATCH = 16_384
"""rows read at once"""
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|nan|[-+]?inf|true|false", re.IGNORECASE)


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
        damaged(path, "CSV", error)
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
        damaged(path, "Parquet", error)


def damaged(path: Path | str, format: str, error: Exception) -> NoReturn:
    reason = checks.one_line(str(error)) or type(error).__name__
    raise DataError(
        checks.one_line(f"{path}: cannot be read as {format}, damaged or cut ({reason[:200]}); fetch or write it again")
    ) from None
