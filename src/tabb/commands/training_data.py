"""What the commands that train say of their data, and what they refuse."""

from __future__ import annotations

import sys
import warnings
from typing import Any

from tabb.data.report import Loaded, Report
from tabb.errors import DataWarning, HeldOutWarning, UsageError
from tabb.tracking import TrackingWarning


def check_data(loaded: dict[str, Loaded], engine: str, show: bool) -> None:
    """Check that the data sets fit together and, to `show`, say what they are and what looks wrong in them."""
    from tabb.data import check_domains, check_side
    from tabb.data.audit import pair_form, short_form

    if len(loaded) == 1:
        found = check_side("target", loaded["target"].transitions)
    else:
        source, target = loaded["source"], loaded["target"]
        found = check_domains(source.transitions, target.transitions, source.report, target.report)
    _check_engine(loaded, engine)
    if not show:
        return
    for domain, data in loaded.items():
        _tell(domain, data.report)
        found += [f"{domain}: {line}" for line in short_form(data)]
    if len(loaded) == 2:
        found += pair_form(source.transitions, target.transitions)
    for warning in found:
        print(f"tabb: warning: {warning}", file=sys.stderr)


def _tell(domain: str, report: Report) -> None:
    """A data set in one line, and what a user should know of it."""
    dropped = "".join(f", {count:,} dropped ({reason})" for reason, count in report.dropped.items())
    print(
        f"{domain}: {report.kept:,} transitions in {report.episodes:,} episodes ({report.terminals:,} terminal, "
        f"{report.truncations:,} truncated){dropped}: {report.name}",
        file=sys.stderr,
    )
    for note in (*report.notes, *report.doubts):
        print(f"tabb: warning: {domain}: {note}", file=sys.stderr)


def tell_limits(loaded: dict[str, Loaded], options: Any) -> None:
    """Say where a run learns from fewer rows than there are."""
    for domain, data in loaded.items():
        rows = getattr(options, f"{domain}_rows")
        if rows is not None and rows < len(data.transitions):
            print(f"{domain}: {rows:,} of these rows are used (--{domain}-rows)", file=sys.stderr)


def _check_engine(loaded: dict[str, Any], engine: str) -> None:
    """Data of one engine evaluated on the other would hide a shift as large as gravity's."""
    for domain, data in loaded.items():
        stated = data.report.engine
        if stated is not None and stated != engine:
            raise UsageError(
                f"{data.report.name}: the {domain} data come from engine {stated} but --engine is {engine}; "
                f"say --engine {stated}"
            )


def short_of(report: Any) -> dict[str, Any]:
    """What of a data report goes into a run's record: not the return of each of a thousand episodes."""
    return {
        "layout": report.layout,
        "rows": report.rows,
        "kept": report.kept,
        "dropped": report.dropped,
        "episodes": report.episodes,
        "mean_return": report.mean_return,
        "engine": report.engine,
    }


def quietly(train: Any, *arguments: Any, **options: Any) -> None:
    """`train` without warnings of data: `check_data` gives them, with the names of files, or is asked not to.

    Of tracking and of held-out episodes, one line of ours.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        warnings.simplefilter("always", HeldOutWarning)  # `train` alone knows
        warnings.simplefilter("always", TrackingWarning)
        warnings.showwarning = lambda message, *_, **__: print(f"tabb: warning: {message}", file=sys.stderr)
        train(*arguments, **options)
