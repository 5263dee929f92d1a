"""`tabb report`: which source data can be trusted, and how good the policy is, on one page."""

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
    """a finished run folder (runs/.../seed0), or the folder of its seeds"""
    out: Path | None = None
    """HTML page to write; report.html in the folder if not given"""
    source: str | None = None
    """the run's source data, if they have moved: a file, or a.hdf5+b.hdf5 (`\\+` is
    a plus in a name)"""
    target: str | None = None
    """the run's target data, likewise"""


def run(arguments: Sequence[str]) -> int:
    options = parse(Options, arguments, "tabb report", "Write what transferred in a finished run as one HTML page.")
    from tabb.data.files import split
    from tabb.results.report import write_report

    given = [None if name is None else split(name) for name in (options.source, options.target)]
    print(f"report: {write_report(options.run, options.out, *given)}")
    return 0
