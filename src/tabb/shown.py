"""Numbers as tables and lines show them."""

from __future__ import annotations

import math


def tenths(value: float, size: float | None = None) -> str:
    """A return with one decimal, `12.3`; with three digits where that would show hardly any of it, `0.00123`.

    `size` is that of the numbers that stand together, the value's own if not given: they look alike.
    """
    size = abs(value) if size is None else size
    return f"{value:z,.1f}" if size >= 1 or size == 0 else f"{value:z,.3g}"


def alone(score: float) -> str:
    """A score that stands alone: one decimal, unless that would be 0.0 of something small."""
    return tenths(score, 1.0 if abs(score) >= 0.05 else None)


def percent(share: float, tenths_below: float = 0.0) -> str:
    """A share as a percentage, without decimals, or with one below the share `tenths_below`.

    0% is none of it and 100% is all of it: what would round to either has a decimal, 99.6%, or a limit, > 99.9%.
    """
    if math.isnan(share):
        return "–"
    if 0 < share < 0.001:
        return "< 0.1%"
    if 0.999 < share < 1:
        return "> 99.9%"
    hidden = share not in (0, 1) and abs(round(100 * share)) in (0, 100)
    return f"{100 * share:.{int(hidden or abs(share) < tenths_below)}f}%"


def rounded(value: float) -> float:
    """A return as files state it: two decimals, or three digits of one below 1."""
    return round(value, 2) + 0.0 if abs(value) >= 1 else float(f"{value + 0.0:.3g}")
