"""`tabb score`: what a finished run says of each source row, as a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from tabb.commands.options import parse


@dataclasses.dataclass(frozen=True)
class Options:
    """Which run, and where to write."""

    run: Annotated[Path, tyro.conf.Positional]
    """a finished run folder (runs/.../seed0)"""
    out: Path | None = None
    """HDF5 or Parquet file to write; scores.hdf5 in the run folder if not given"""
    source: str | None = None
    """the run's source data, if they have moved: a file, or a.hdf5+b.hdf5 (`\\+` is
    a plus in a name)"""
    target: str | None = None
    """the run's target data, likewise"""


def run(arguments: Sequence[str]) -> int:
    options = parse(Options, arguments, "tabb score", "Write the scores that a run gives to each source row.")
    from tabb.data.files import split
    from tabb.files import check_suffix
    from tabb.own_files import refuse_others
    from tabb.results.row_scores import SCORE_FILES, save_scores, score_rows

    out = options.out or options.run / "scores.hdf5"
    refuse_others(out, "table" if out.suffix.lower() == ".parquet" else "scores")  # before the work, not after it
    check_suffix(out, "a file of scores", *SCORE_FILES)
    given = [None if name is None else split(name) for name in (options.source, options.target)]
    scores = score_rows(options.run, *given)
    out = save_scores(scores, out)
    import numpy as np

    print(f"{len(scores.columns['episode']):,} source rows: 10%, 50% and 90% of them lie below")
    for name, column in scores.columns.items():
        if column.ndim == 1 and column.dtype.kind == "f":
            quantiles = "  ".join(f"{value:10.4g}" for value in np.quantile(column, (0.1, 0.5, 0.9)))
            print(f"  {name:12}  {quantiles}   mean {column.mean():.4g}")
    for number, name in enumerate(scores.about.get("files", ())):
        rows = scores.columns["file"] == number
        means = [
            f"{column} {scores.columns[column][rows].mean():.4g}"
            for column in ("tbm", "weight")
            if column in scores.columns and rows.any()
        ]
        print(f"file {number}: {rows.sum():,} rows{''.join(f', mean {mean}' for mean in means)}: {name}")
    print(f"scores: {out}")
    return 0
