"""What float32 resolves of a column: all of tabb works in it, and far from 0 its spacing can exceed a file's steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tabb.float32 import spacing

BLOCK = 500
"""adjacent rows looked at together"""
BLOCKS = 40
"""blocks looked at, spread over the file"""
SPACINGS = 8.0
"""A step of fewer float32 spacings than this keeps less than three bits."""


def blocks_of(array: Any) -> list[np.ndarray]:
    """Stretches of adjacent rows, spread over an array or HDF5 dataset, as they are stored: enough to measure steps."""
    starts = np.linspace(0, max(0, len(array) - BLOCK), BLOCKS).astype(int)
    return [array[start : start + BLOCK] for start in dict.fromkeys(starts.tolist())]


def coarse_columns(blocks: list[np.ndarray]) -> Iterator[tuple[int, float, float]]:
    """Columns whose steps float32 does not resolve: number, usual size of a step, spacing of float32 there.

    `blocks` are stretches [n, S] or [n] of the column as it was before it became float32.
    """
    tables = [block.reshape(len(block), -1).astype(np.float64) for block in blocks if len(block) > 1]
    if not tables:
        return
    steps = np.concatenate([np.abs(np.diff(table, axis=0)) for table in tables])
    size = np.concatenate([np.abs(table[:-1]) for table in tables])
    for column in range(steps.shape[1]):
        moves = (steps[:, column] > 0) & np.isfinite(steps[:, column])
        if not moves.any():
            continue
        step, near = float(np.median(steps[moves, column])), float(np.median(spacing(size[moves, column])))
        if step < SPACINGS * near:
            yield column, step, near


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
