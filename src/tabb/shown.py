"""Numbers as tables and lines show them."""

from __future__ import annotations


def tenths(value: float, size: float | None = None) -> str:
    """A return with one decimal, `12.3`; with three digits where that would show hardly any of it, `0.00123`.

    `size` is that of the numbers that stand together, the value's own if not given: they look alike.
    """
    size = abs(value) if size is None else size
    return f"{value:z,.1f}" if size >= 1 or size == 0 else f"{value:z,.3g}"
