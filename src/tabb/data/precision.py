"""What float32 resolves of a column: all of tabb works in it, and far from 0 its spacing can exceed a file's steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tabb.float32 import coarse_columns

BLOCK = 500
"""adjacent rows looked at together"""
BLOCKS = 40
"""blocks looked at, spread over the file"""


def blocks_of(array: Any) -> list[np.ndarray]:
    """Stretches of adjacent rows, spread over an array or HDF5 dataset, as they are stored: enough to measure steps."""
    starts = np.linspace(0, max(0, len(array) - BLOCK), BLOCKS).astype(int)
    return [array[start : start + BLOCK] for start in dict.fromkeys(starts.tolist())]


def precision_doubts(key: str, blocks: list[np.ndarray]) -> Iterator[str]:
    """One doubt "what: remedy" about the columns of `key` whose steps float32 does not resolve, if any."""
    coarse = list(coarse_columns(blocks))
    if not coarse:
        return
    numbers = ", ".join(str(column) for column, _, _ in coarse[:5]) + (", ..." if len(coarse) > 5 else "")
    _, step, near = max(coarse, key=lambda one: one[2] / one[1])
    columns = (
        f"columns {numbers} of observations move" if len(coarse) > 1 else f"column {numbers} of observations moves"
    )
    where = ", in both domains alike" + ("" if key == "rewards" else " and in what the policy is given")
    yield (
        f"{'rewards change' if key == 'rewards' else columns} by about {step:.2g} a row, where float32 resolves "
        f"{near:.2g} only: subtract an origin (a number near the mean){where}"
    )
