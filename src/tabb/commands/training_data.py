"""What the commands that train say of their data, and what they refuse."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tabb.data.report import Loaded, Report
from tabb.training.config import Settings
from tabb.training.from_files import check_engine
from tabb.training.progress import say

LONG = 20e6
"""bytes of data whose reading takes seconds: the user is told before"""


ROOM = 0.5
"""share of the free memory that files may take before a store is proposed: rows take 0.7 to 2 times their bytes"""


def tell(text: str) -> None:
    """A line on standard error."""
    say(text)


def silent(text: str) -> None:
    """Say nothing."""


def tell_reading(files: Mapping[str, Sequence[str | Path]], store: bool = False) -> None:
    """Say that large files are being read, which takes a while; if they hardly fit into memory, say what helps."""
    total = 0
    for domain, paths in files.items():
        size = sum(Path(path).stat().st_size for path in paths if Path(path).is_file())
        total += size
        if size > LONG:
            tell(f"{domain}: reading {size / 1e6:,.0f} MB ...")
    free = free_memory()
    if not store and free is not None and total > ROOM * free:
        tell(
            f"tabb: warning: {total / 1e9:,.1f} GB of data for {free / 1e9:,.1f} GB of free memory; --store keeps the "
            "rows in a file and draws batches from there"
        )


def free_memory() -> int | None:
    """Bytes of memory that are free, or can be made so; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def check_data(loaded: dict[str, Loaded], engine: str, task: str | None, show: bool) -> None:
    """Check that the data sets fit together and, to `show`, say what they are and what looks wrong in them."""
    from tabb.data import check_domains, check_side
    from tabb.data.audit import pair_form, short_form

    if len(loaded) < 2:
        warnings = [line for domain, data in loaded.items() for line in check_side(domain, data.transitions)]
    else:
        source, target = loaded["source"], loaded["target"]
        warnings = check_domains(source.transitions, target.transitions, source.report, target.report)
    check_engine(loaded, engine, task)
    if not show:
        return
    for domain, data in loaded.items():
        _describe(domain, data.report)
        warnings += [f"{domain}: {line}" for line in short_form(data)]
    if len(loaded) == 2:
        warnings += pair_form(source.transitions, target.transitions)
    for warning in warnings:
        print(f"tabb: warning: {warning}", file=sys.stderr)


def _describe(domain: str, report: Report) -> None:
    """A data set in one line, and what a user should know of it."""
    dropped = "".join(f", {count:,} dropped ({reason})" for reason, count in report.dropped.items())
    print(
        f"{domain}: {report.kept:,} transitions in {report.episodes:,} episodes ({report.terminals:,} terminal, "
        f"{report.truncations:,} truncated){dropped}: {report.name}",
        file=sys.stderr,
    )
    for note in (*report.notes, *report.doubts):
        print(f"tabb: warning: {domain}: {note}", file=sys.stderr)


def tell_limits(loaded: dict[str, Loaded], settings: Settings) -> None:
    """Say where a run learns from fewer rows than there are."""
    for domain, data in loaded.items():
        rows = getattr(settings, f"{domain}_rows")
        if rows is not None and rows < len(data.transitions):
            print(f"{domain}: {rows:,} of these rows are used (--{domain}-rows)", file=sys.stderr)
