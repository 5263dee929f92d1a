"""`tabb audit`: what is wrong in data files, with its place and its remedy."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from tabb.commands.options import parse
from tabb.data.reading import Reading
from tabb.errors import UsageError

WRONG = 3
"""exit code where an error was found, as of data that cannot be used"""


@dataclasses.dataclass(frozen=True)
class Options(Reading):
    """What to audit."""

    files: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """HDF5, npz, Parquet or CSV files; `a.hdf5+b.hdf5` are two read as one, `\\+` is a plus in a name"""
    source: str | None = None
    """source data of a pair: audited with the target's"""
    target: str | None = None
    """target data of the pair"""
    task: str | None = None
    """task of the files and of the target (the source is of its robot, unshifted): steps are then simulated anew"""
    store: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """for data larger than memory: keep the rows in a file of the cache, as `tabb train --store` does"""
    mixture: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """estimate which share of the source's steps look like the target's (some seconds more)"""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """print JSON instead of text"""
    out: Path | None = None
    """write the JSON to this file as well"""


def run(arguments: Sequence[str]) -> int:
    options = parse(Options, arguments, "tabb audit", "Find what is wrong in data files, and how to mend it.")
    if not options.files and options.source is None and options.target is None:
        raise UsageError("name files, or --source FILE --target FILE")
    from tabb.data.audit import audit
    from tabb.files import write_json
    from tabb.own_files import refuse_others

    if options.out is not None:
        refuse_others(options.out, "audit")
    result = audit(
        *options.files,
        source=options.source,
        target=options.target,
        task=options.task,
        reading=Reading.within(options),
        store=options.store,
        mixture=options.mixture,
    )
    if options.out is not None:
        write_json(options.out, result.to_dict())
    print(json.dumps(result.to_dict(), indent=2) if options.json else result)
    return WRONG if result.of_level("error") else 0
