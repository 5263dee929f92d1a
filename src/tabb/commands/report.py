"""`tabb report`: which source data can be trusted, and how good the policy is; or several runs compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from tabb.commands.options import parse
from tabb.errors import UsageError

ABOUT = "Write what transferred in a finished run as one HTML page; of several runs, a page that compares them."


@dataclasses.dataclass(frozen=True)
class Options:
    """Which run or runs, and where to write."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """a finished run folder (runs/.../seed0), or the folder of its seeds; several, or a folder that holds several, are
    compared"""
    out: Path | None = None
    """HTML page to write; report.html in the folder if not given, of several runs comparison.html in the one that holds
    them all"""
    source: str | None = None
    """the runs' source data, if they have moved: a file, or a.hdf5+b.hdf5 (`\\+` is
    a plus in a name)"""
    target: str | None = None
    """the runs' target data, likewise"""


def run(arguments: Sequence[str]) -> int:
    options = parse(Options, arguments, "tabb report", ABOUT)
    if not options.runs:
        raise UsageError("name a finished run folder, such as runs/mine, or several; see `tabb report --help`")
    from tabb.data.files import split
    from tabb.results.comparison import folders_of, write_comparison
    from tabb.results.report import write_report

    given = [None if name is None else split(name) for name in (options.source, options.target)]
    if len(options.runs) > 1 or len(folders_of(options.runs)) > 1:
        print(f"comparison: {write_comparison(options.runs, options.out, *given)}")
    else:
        print(f"report: {write_report(options.runs[0], options.out, *given)}")
    return 0
