"""What float32 resolves: all of tabb works in it, and its spacing is the one lower bound that depends on no unit."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEAST = 1e-20
"""Keeps a quotient of numbers in any unit finite: far below what they are, above what squares to zero in float32."""

LARGEST = float(np.finfo(np.float32).max)
"""The largest number that it holds."""

CONSTANT = 4.0
"""A spread of fewer spacings than this is rounding."""


def spacing(values: ArrayLike) -> NDArray[np.float64]:
    """Distance of neighbouring float32 numbers near `values`."""
    return np.spacing(np.abs(np.asarray(values, np.float64)).astype(np.float32)).astype(np.float64)


def is_constant(mean: ArrayLike, deviation: ArrayLike) -> NDArray[np.bool_]:
    """Whether columns of such a mean and standard deviation never move, as far as float32 can tell."""
    return np.asarray(deviation) <= CONSTANT * spacing(mean)
