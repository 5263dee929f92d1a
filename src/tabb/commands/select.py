"""`tabb select`: rank policies that cannot be rolled out."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from tabb.commands.options import parse
from tabb.errors import UsageError
from tabb.shown import tenths

if TYPE_CHECKING:
    from tabb.results.selection import Selection


@dataclasses.dataclass(frozen=True)
class Options:
    """Which runs, ranked by what."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """run folders, or folders that hold runs; all trained on the same target data"""
    by: Literal["actions", "value", "low"] = "actions"
    """how near a policy is to the logged actions, its estimated value, or the lower end of the value's interval"""
    last: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """rank only the policy that each run ended with, not those along it"""
    top: int = 10
    """rows of the table; 0 for all"""
    out: Path | None = None
    """write the best policy to this .npz file"""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """print JSON instead of text"""


def run(arguments: Sequence[str]) -> int:
    options = parse(
        Options,
        arguments,
        "tabb select",
        "Rank the policies of finished runs by what held-out target rows say of them.",
    )
    if not options.runs:
        raise UsageError("name one or more run folders, e.g. `tabb select runs/own`")
    if options.top < 0:
        raise UsageError(f"--top {options.top}: give a number of rows, 0 for all")
    from tabb.files import check_suffix
    from tabb.own_files import refuse_others
    from tabb.policy import Policy
    from tabb.results.selection import as_json, select

    if options.out is not None:
        refuse_others(options.out, "policy")
        check_suffix(options.out, "a policy", ".npz")
    selection = select(options.runs, options.by, options.last)
    best = selection.ranked[0]
    if options.out is not None:
        Policy.load(best.policy).save(options.out)
    for folder in selection.unfinished:
        print(f"tabb: warning: {folder}: is not finished and was left out", file=sys.stderr)
    print(as_json(selection) if options.json else table(selection, options.by, options.top))
    if options.out is not None and not options.json:
        print(f"policy: {options.out}")
    return 0


RANKED_BY = {
    "actions": "nearness to the logged actions",
    "value": "estimated value",
    "low": "the lower end of the value's interval",
}


def table(selection: Selection, by: str, top: int) -> str:
    """The ranking as text."""
    shown = selection.ranked[: top or None]
    known = any(one.truth is not None for one in shown)
    names = ("rank", "value", "interval", "learner", "seed", "updates", "off actions", "TD error", "predictor error")
    rows: list[tuple[str, ...]] = [(*names, "score")]
    for rank, one in enumerate(shown, 1):
        value, low, high = one.estimate
        errors = ("-" if error is None else f"{error:.3g}" for error in (one.td_error, one.predictor_error))
        truth = "-" if one.truth is None else tenths(one.truth)
        size = max(abs(low), abs(high))
        interval = f"{tenths(low, size)} to {tenths(high, size)}"
        cells = (str(rank), tenths(value, size), interval, one.learner, str(one.seed), f"{one.update:,}")
        rows.append((*cells, f"{one.action_error:.3f}", *errors, truth))
    if not known:
        rows = [row[:-1] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    lines.append("")
    if len(selection.ranked) > len(shown):
        lines.append(f"the best {len(shown)} of {len(selection.ranked)} policies; --top 0 shows all")
    lines += [
        f"ranked by {RANKED_BY[by]}, which alone is no proof: docs/selection.md says how well it ranked policies",
        "value: discounted return from the logged first states, estimated from all target rows; interval: 95%, of the "
        "fit alone",
        "off actions: root mean square distance from the actions of held-out rows",
    ]
    if selection.rank_correlation is not None:
        lines.append(f"rank correlation with the scores of their rollouts: {selection.rank_correlation:z.2f}")
    lines.append(f"best: {shown[0].policy}")
    return "\n".join(lines)
