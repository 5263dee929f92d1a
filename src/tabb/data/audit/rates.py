"""Whether steps of two domains last equally long: what a velocity does to its position says how long a step is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tabb.data.audit.finding import Finding
from tabb.data.audit.mends import Steps

FOLLOWS = 0.9
"""correlation of a column's steps with another column from which that one is its velocity"""
OTHER_RATE = 1.25
"""factor between the lengths of steps from which they are of other rates; in public data it is 0.92 to 1.06"""
ALIKE = 1.15
"""factor within which columns agree about it"""
FEWEST = 2
"""columns that must agree: of one alone, the unit may be another"""


def rate_factor(source: Steps, target: Steps, mended: set[int]) -> tuple[float, list[int]] | None:
    """How many times as long a step of the target lasts, and the columns that say so; None where they say nothing.

    Columns that were `mended` are in other units, and not asked.
    """
    (here, known), (there, also) = _slopes(source), _slopes(target)
    columns, logs = [], []
    for i in set(range(len(here))) - mended:
        j = int(np.argmax(np.abs(known[i])))
        clear = j not in mended and min(abs(known[i, j]), abs(also[i, j])) > FOLLOWS
        if clear and here[i, j] * there[i, j] > 0:
            columns.append(i)
            logs.append(float(np.log(there[i, j] / here[i, j])))
    if len(columns) < FEWEST:
        return None
    middle = float(np.median(logs))
    agree = [i for i, log in zip(columns, logs, strict=True) if abs(log - middle) < np.log(ALIKE)]
    if abs(middle) < np.log(OTHER_RATE) or len(agree) < max(FEWEST, 2 * len(columns) / 3):
        return None
    return float(np.exp(middle)), sorted(agree)


def check_rates(names: str, factor: float, columns: list[int]) -> Iterator[Finding]:
    """The finding about steps of another rate."""
    listed = ", ".join(map(str, columns[:8])) + (", ..." if len(columns) > 8 else "")
    what = (
        f"a step of the target seems to last {factor:.3g} times as long as the source's: so much farther do the same "
        f"velocities move columns {listed}"
    )
    fix = "log both domains at one control rate; if they are, check the units of these columns and of their velocities"
    yield Finding("warning", "rate", names, what, fix)


def _slopes(steps: Steps) -> tuple[np.ndarray, np.ndarray]:
    """How far [S, S] each column moves in a step per unit of another, as it is in the middle of the step; and the
    correlations of the two."""
    during = steps.observation + steps.change / 2
    spread, pace = during.std(axis=0), steps.change.std(axis=0)
    units = [np.where(of > 0, of, 1.0) for of in (spread, pace)]
    seen, change = ((t - t.mean(axis=0)) / unit for t, unit in zip((during, steps.change), units, strict=True))
    correlation = change.T @ seen / len(seen)
    np.fill_diagonal(correlation, 0.0)
    return correlation * units[1][:, None] / units[0], correlation
