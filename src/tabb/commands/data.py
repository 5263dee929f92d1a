"""`tabb data`: what data sets there are, what is in a file, and fetching public ones."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from tabb.commands.options import parse
from tabb.data import available, describe, read
from tabb.data.checks import UnscaledActions
from tabb.data.convert import convert
from tabb.data.download import at_hand
from tabb.data.names import locate, parts_of
from tabb.data.published_d4rl import published_d4rl
from tabb.data.published_otdf import published_otdf
from tabb.data.reading import Reading
from tabb.data.report import Loaded
from tabb.errors import UsageError, meant

ACTIONS = ("list", "describe", "get", "convert")


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """What to list."""

    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """print JSON instead of a table"""


@dataclasses.dataclass(frozen=True)
class DescribeOptions(Reading):
    """What to describe."""

    files: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """HDF5, npz, Parquet or CSV files; `a.hdf5+b.hdf5` reads two as one data set, `\\+` is a plus in a name; or names:
    otdf:..., minari:..."""
    store: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """for data larger than memory: keep the rows in a file of the cache, as `tabb train --store` does"""
    columns: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """also minimum, maximum, mean and standard deviation of each column"""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """print JSON instead of text"""


@dataclasses.dataclass(frozen=True)
class GetOptions:
    """What to fetch."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """data sets: otdf:TASK-QUALITY, d4rl:NAME, minari:ID, lerobot:OWNER/NAME"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertOptions(Reading):
    """What to write in another format."""

    source: Annotated[str, tyro.conf.Positional]
    """a data file, a folder of LeRobot or Minari, or a name"""
    out: Annotated[Path, tyro.conf.Positional]
    """file to write, which ends in .hdf5, .npz, .parquet or .csv, or new folder for a LeRobot data set"""
    fps: int | None = None
    """frames a second of a LeRobot data set; those of the source, else 1"""


def run(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(
            "usage: tabb data list [--json]\n"
            "       tabb data describe FILE... [--columns] [--json]\n"
            "       tabb data get NAME...\n"
            "       tabb data convert FROM TO\n\n"
            "list      data sets of the folder $TABB_DATA and of the package, and public ones\n"
            "describe  rows, episodes, returns and defects of files (HDF5, npz, Parquet, CSV)\n"
            "get       fetch public data sets: otdf:hopper-morph-medium, d4rl:hopper-medium-v2, "
            "minari:mujoco/hopper/medium-v0, lerobot:lerobot/pusht\n"
            "convert   write a log as HDF5, npz, Parquet, CSV or a LeRobot data set"
        )
        return 0 if arguments else 2
    action, rest = arguments[0], arguments[1:]
    if action == "list":
        return _list(parse(ListOptions, rest, "tabb data list", "List the data sets at hand."))
    if action == "describe":
        return _describe(parse(DescribeOptions, rest, "tabb data describe", "Describe data files."))
    if action == "get":
        return _get(parse(GetOptions, rest, "tabb data get", "Fetch public data sets."))
    if action == "convert":
        return _convert(parse(ConvertOptions, rest, "tabb data convert", "Write a log in another format."))
    raise UsageError(f"unknown action {action!r} of tabb data: {meant(action, ACTIONS)}")


def _list(options: ListOptions) -> int:
    entries = available()
    public = [(entry, at_hand(entry)) for entry in (*published_otdf(), *published_d4rl())]
    if options.json:
        rows = [entry._asdict() | {"path": str(entry.path)} for entry in entries]
        rows += [entry._asdict() | {"path": path and str(path)} for entry, path in public]
        print(json.dumps(rows, indent=2))
        return 0
    for entry in entries:
        print(f"{entry.domain:6}  {entry.task:24}  {entry.quality:13}  {entry.bytes / 1e6:6.1f} MB  {entry.path}")
    if not any(entry.quality != "bundled" for entry in entries):
        print("more: set TABB_DATA to a folder with source/<robot>_<quality>.hdf5 and target/<task>_<quality>.hdf5")
    print("\npublic, by name (`tabb data get NAME`, or as --source, --target):")
    for one, path in public:
        mark = f"at hand: {path}" if path else "to fetch"
        print(f"{one.domain:6}  {one.name:39}  {one.bytes / 1e6:6.1f} MB  {mark}")
    return 0


def _get(options: GetOptions) -> int:
    if not options.names:
        raise UsageError("tabb data get: name at least one data set; `tabb data list` shows the public ones")
    for name in options.names:
        path = locate(name)
        if path is None:
            raise UsageError(
                f"tabb data get {name}: is no public data set; write otdf:..., d4rl:..., minari:... or lerobot:..."
            )
        print(path)
    return 0


def _convert(options: ConvertOptions) -> int:
    report = convert(options.source, options.out, Reading.within(options), fps=options.fps).report
    for line in (*report.notes, *report.doubts):
        print(f"tabb: warning: {line}", file=sys.stderr)
    print(f"{report.rows:,} rows in {report.episodes:,} episodes: {options.out}")
    return 0


def _describe(options: DescribeOptions) -> int:
    if not options.files:
        raise UsageError("tabb data describe: name at least one file; `tabb data list` shows those at hand")
    reports, unscaled = [], False
    for name in options.files:
        loaded, outside = _read_unscaled(name, Reading.within(options), options.store)
        unscaled |= outside is not None
        entry: dict[str, Any] = {"report": loaded.report.to_dict()}
        if outside is not None:
            entry["unscaled_actions"] = {"min": outside.low.tolist(), "max": outside.high.tolist()}
        if options.columns:
            entry["columns"] = describe(loaded.transitions)
        if options.json:
            reports.append(entry)
            continue
        print(loaded.report)
        if outside is not None:
            print(_told(outside))
        for key, table in entry.get("columns", {}).items():
            print(f"  {key}")
            for i, values in enumerate(zip(*table.values(), strict=True)):
                print(f"    {i:3}  " + "  ".join(f"{n} {v:10.4g}" for n, v in zip(table, values, strict=True)))
    if options.json:
        print(json.dumps(reports, indent=2))
    return UnscaledActions.exit_code if unscaled else 0


def _read_unscaled(name: str, reading: Reading, store: bool) -> tuple[Loaded, UnscaledActions | None]:
    """A data set, and what is known of its actions if they lie outside of their bounds: then it is no use for training.

    They are then read with the bounds that they span, so that all else can be told.
    """

    def note(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        return read(parts_of(name), reading, store=store, note=note), None
    except UnscaledActions as error:
        outside = error
    while True:
        high = np.where(outside.low < outside.high, outside.high, outside.low + 1)
        spanned = dataclasses.replace(reading, action_low=tuple(outside.low), action_high=tuple(high))
        try:
            loaded = read(parts_of(name), spanned, store=store, note=note)
            return loaded._replace(report=dataclasses.replace(loaded.report, action_bounds=None)), outside
        except UnscaledActions as error:  # of several files, another one
            low, high = np.minimum(error.low, outside.low), np.maximum(error.high, outside.high)
            outside = UnscaledActions(str(error), low, high)


def _told(outside: UnscaledActions) -> str:
    """The columns of actions, as lines of a report, and what to do."""
    lines = [
        f"  action {i:3} {low:.6g} to {high:.6g}"
        for i, (low, high) in enumerate(zip(outside.low, outside.high, strict=True))
    ]
    lines.append(f"  unscaled   {str(outside).partition(': actions: ')[2]}")
    lines.append(f"             --action-low {' '.join(f'LOW_{i}' for i in range(len(outside.low)))} --action-high ...")
    return "\n".join(lines)
