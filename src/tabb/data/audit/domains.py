"""Whether two data sets can be the two domains of one transfer problem."""

from __future__ import annotations

import numpy as np

from tabb.data.checks import one_line, pieces
from tabb.data.report import Report
from tabb.errors import DataError
from tabb.transitions import Transitions, pieces_of

ACTION_RATIO = 5.0
"""The largest actions of public source and target files differ by a factor of 1.04 at most; five can only be
another scale or a policy that hardly moves, and no one can tell which from the data: a warning."""

FEW_ROWS = 100
"""Public target files have 3,151 rows at least; fewer than this hold hardly an episode."""


def check_domains(
    source: Transitions,
    target: Transitions,
    source_report: Report | None = None,
    target_report: Report | None = None,
) -> list[str]:
    """Check that `source` and `target` fit together; returns warnings, one line each.

    Raises `DataError` (one line) if observation or action sizes differ, if both reports state an engine and
    the two differ, or if both sides hold the same rows. Warned of are actions of very different range, a
    target larger than the source, and what `check_side` finds in either.
    """
    source_name = source_report.name if source_report else "source"
    target_name = target_report.name if target_report else "target"
    names = f"source {source_name} and target {target_name}" if source_report and target_report else "source and target"
    for size in ("observation_size", "action_size"):
        here, there = getattr(source, size), getattr(target, size)
        if here != there:
            raise DataError(one_line(f"{names}: {size} is {here} and {there}; both must be data of the same robot"))
    engines = [report.engine if report else None for report in (source_report, target_report)]
    if engines[0] and engines[1] and engines[0] != engines[1]:
        raise DataError(
            one_line(
                f"{names}: engine is {engines[0]} and {engines[1]}; engines differ as much as a shift does, "
                "so take both domains from one"
            )
        )
    if len(source) == len(target) and all(
        np.array_equal(getattr(here, key), getattr(there, key))
        for here, there in zip(pieces_of(source), pieces_of(target), strict=True)
        for key in ("observation", "action", "reward")
    ):
        raise DataError(one_line(f"{names}: hold the same {len(source):,} rows; give the target domain's own data"))

    warnings = []
    bounds = [side.action_bounds for side in (source, target)]
    if bounds[0] != bounds[1]:
        warnings.append(
            f"actions are scaled from {bounds[0] or '[-1, 1]'} in the source and from {bounds[1] or '[-1, 1]'} in the "
            "target, so that one number means two actions; give both the same bounds, unless their units differ"
        )
    ranges = [
        max(float(np.abs(np.asarray(piece.action)).max()) for piece in pieces_of(side)) for side in (source, target)
    ]
    low, high = sorted(ranges)
    if high > ACTION_RATIO * low:
        warnings.append(
            f"actions reach {ranges[0]:.3g} in the source and {ranges[1]:.3g} in the target; "
            "scale both by the bounds of the same action space"
        )
    if len(target) > len(source):
        warnings.append(
            f"the target has more rows ({len(target):,}) than the source ({len(source):,}); are they swapped?"
        )
    return [one_line(warning) for warning in warnings] + check_side("source", source) + check_side("target", target)


def check_side(domain: str, data: Transitions) -> list[str]:
    """Warnings, one line each: very few rows; observations, actions or rewards that are the same in all rows."""
    warnings = []
    if len(data) < FEW_ROWS:
        warnings.append(f"the {domain} has only {len(data):,} rows: too few to learn from")
    return [*warnings, *constant_warnings(domain, data)]


def constant_warnings(domain: str, data: Transitions) -> list[str]:
    """Those of `check_side` about columns that are the same in all rows."""
    return [
        f"the {domain}'s {key} is the same in all {len(data):,} rows: nothing to learn from"
        for key in constant_columns(data)
    ]


def constant_columns(data: Transitions) -> list[str]:
    """Which of observation, action and reward are the same in all rows."""
    columns = {key: np.asarray(getattr(data, key)) for key in ("observation", "action", "reward")}
    return [
        key
        for key, column in columns.items()
        if all((column[piece] == column[:1]).all() for piece in pieces(len(column)))
    ]
