"""Bounds of an action space: actions are scaled to [-1, 1] when data are read, and scaled back when a policy acts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tabb.float32 import spacing

Bound = float | Sequence[float]
"""One number for all entries of an action, or one for each of them."""

ROUNDED = 1e-5
"""Share of the distance between two bounds by which two records of the same bounds may differ."""


@dataclasses.dataclass(frozen=True)
class ActionBounds:
    """The smallest and the largest value of each entry of an action, in the units of the robot.

    Inside tabb an action is a = 2 (u - low) / (high - low) - 1, where u is the action in the robot's units.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def size(self) -> int:
        """How many entries an action has."""
        return len(self.low)

    def scaled(self, actions: ArrayLike) -> NDArray[np.float32]:
        """Actions [..., A] in the robot's units as float32 in [-1, 1]; those outside of the bounds lie beyond it."""
        low, high = np.asarray(self.low), np.asarray(self.high)
        scaled: NDArray[np.float32] = (2.0 * (np.asarray(actions, np.float64) - low) / (high - low) - 1.0).astype(
            np.float32
        )
        return scaled

    def restored(self, actions: ArrayLike) -> NDArray[np.float32]:
        """The inverse of `scaled` for actions [..., A] in [-1, 1]: float32 in the robot's units, inside the bounds."""
        middle, half = self.middle_and_half()
        low, high = self.as_float32()
        restored: NDArray[np.float32] = np.clip(middle + half * np.asarray(actions, np.float32), low, high)
        return restored

    def middle_and_half(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Middle [A] of the bounds and half of their distance [A]: u = middle + half a."""
        low, high = np.asarray(self.low), np.asarray(self.high)
        return ((low + high) / 2).astype(np.float32), ((high - low) / 2).astype(np.float32)

    def as_float32(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lower and upper bounds [A]."""
        return np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)

    def rounding(self) -> NDArray[np.float64]:
        """How far beyond 1 rounding to float32 may put a scaled action [A] that lies at a bound."""
        low, high = np.asarray(self.low), np.asarray(self.high)
        return 2.0 * np.maximum(spacing(low), spacing(high)) / (high - low)

    def agrees_with(self, other: ActionBounds) -> bool:
        """Whether these are the other's up to rounding: 0.1 in a log is 0.1 in float32 in an environment's space."""
        if self.size != other.size:
            return False
        here, there = (np.asarray((bounds.low, bounds.high)) for bounds in (self, other))
        most = np.maximum(ROUNDED * (here[1] - here[0]), spacing(here))
        return bool((np.abs(here - there) <= most).all())

    def __str__(self) -> str:
        if len(set(self.low)) == len(set(self.high)) == 1:
            return f"[{self.low[0]:g}, {self.high[0]:g}]"
        pairs = [f"[{low:g}, {high:g}]" for low, high in zip(self.low, self.high, strict=True)]
        return ", ".join(pairs[:8]) + (f", ... ({self.size} in all)" if self.size > 8 else "")


def action_bounds(low: Bound, high: Bound, size: int) -> ActionBounds | None:
    """Bounds of actions with `size` entries; None where all are [-1, 1], which needs no scaling.

    Raises `ValueError` that says what is wrong with them.
    """
    bounds = []
    for name, bound in (("action_low", low), ("action_high", high)):
        try:
            values = np.asarray(bound, np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"{name} is {bound!r}; give a number, or one for each entry of an action") from None
        if values.shape not in ((), (1,), (size,)):
            given = f"{values.size} numbers" if values.ndim == 1 else f"shape {values.shape}"
            raise ValueError(f"{name} has {given}, but actions have {size} entries; give one for each of them, or one")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} is not finite; give the bounds that the robot obeys")
        bounds.append(tuple(np.broadcast_to(values.reshape(-1), (size,)).tolist()))
    lower, upper = bounds
    for entry, (below, above) in enumerate(zip(lower, upper, strict=True)):
        if not below < above:
            raise ValueError(f"action_low is {below:g} and action_high {above:g} in entry {entry}; give low < high")
    if set(lower) == {-1.0} and set(upper) == {1.0}:
        return None
    return ActionBounds(lower, upper)


def same_bounds(one: ActionBounds | None, other: ActionBounds | None) -> bool:
    """Whether two data sets or environments scale actions alike, up to rounding; None stands for [-1, 1]."""
    if one is None and other is None:
        return True
    size = (one or other).size  # type: ignore[union-attr]
    unit = ActionBounds((-1.0,) * size, (1.0,) * size)
    return (one or unit).agrees_with(other or unit)
