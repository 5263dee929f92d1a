"""What float32 resolves: all of tabb works in it, and its spacing is the one lower bound that depends on no unit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEAST = 1e-20
"""Keeps a quotient of numbers in any unit finite: far below what they are, above what squares to zero in float32."""

CONSTANT = 4.0
"""A spread of fewer spacings than this is rounding."""

SPACINGS = 8.0
"""A step of fewer float32 spacings than this keeps less than three bits."""


def spacing(values: ArrayLike) -> NDArray[np.float64]:
    """Distance of neighbouring float32 numbers near `values`."""
    return np.spacing(np.abs(np.asarray(values, np.float64)).astype(np.float32)).astype(np.float64)


def is_constant(mean: ArrayLike, deviation: ArrayLike) -> NDArray[np.bool_]:
    """Whether columns of such a mean and standard deviation never move, as far as float32 can tell."""
    return np.asarray(deviation) <= CONSTANT * spacing(mean)


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
