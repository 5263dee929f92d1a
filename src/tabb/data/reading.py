"""What a user states of a file that the file does not say itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tabb.action_bounds import ActionBounds, action_bounds
from tabb.data import checks
from tabb.errors import UsageError

BOUNDS = ("action_low", "action_high")
"""Names of the bounds of the action space, in files and as options."""


class RawColumns(NamedTuple):
    """What a file stores, numbers unchecked."""

    columns: dict[str, np.ndarray]
    """By name of the column, as in `from_arrays`."""
    provenance: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Reading:
    """How to read a file. What is stated here counts more than what the file says."""

    action_low: tuple[float, ...] | None = None
    """smallest value of each entry of an action, or one for all: actions are scaled to [-1, 1], and back when acting"""
    action_high: tuple[float, ...] | None = None
    """largest value of each entry of an action, or one for all"""

    def __post_init__(self) -> None:
        for name in BOUNDS:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _numbers(name, value))

    @classmethod
    def within(cls, options: Reading) -> Reading:
        """The part of a command's options that says how files are read."""
        return cls(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Reading)})

    def to_dict(self) -> dict[str, Any]:
        """What is stated, as JSON types; nothing for what is left open."""
        stated = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in stated.items()
            if value != usual[name]
        }


NOTHING_STATED = Reading()


def reading_with(reading: Reading | None, action_low: Any, action_high: Any) -> Reading:
    """`reading` with the bounds that are given beside it."""
    reading = reading or NOTHING_STATED
    if not isinstance(reading, Reading):
        raise UsageError(f"reading is {type(reading).__name__}: give tabb.data.Reading(action_low=..., ...)")
    given = {name: value for name, value in zip(BOUNDS, (action_low, action_high), strict=True) if value is not None}
    return dataclasses.replace(reading, **given) if given else reading


def bounds_of(reading: Reading, provenance: Mapping[str, Any], size: int, name: str) -> ActionBounds | None:
    """The bounds of actions with `size` entries: those stated, else those in the file; None for [-1, 1].

    Raises `DataError` (one line) for bounds that cannot be.
    """
    stated = [getattr(reading, key) for key in BOUNDS]
    where = name
    if stated == [None, None]:
        stated = [_from_file(provenance.get(key), name, key) for key in BOUNDS]
        where = f"{name}: its own bounds"
    if stated == [None, None]:
        return None
    for key, value in zip(BOUNDS, stated, strict=True):
        if value is None:
            checks.fail(where, key, "is missing; give both bounds of the action space")
    try:
        return action_bounds(stated[0], stated[1], size)
    except ValueError as error:
        problem = str(error)
        key = "action_high" if problem.startswith("action_high") else "action_low"
        checks.fail(where, key, problem.removeprefix(f"{key} "))


def overruled(reading: Reading, provenance: Mapping[str, Any], size: int, name: str) -> list[str]:
    """A note where what is stated is not what the file says, else nothing."""
    if reading.action_low is None or not set(BOUNDS) <= set(provenance):
        return []
    own, stated = bounds_of(NOTHING_STATED, provenance, size, name), bounds_of(reading, provenance, size, name)
    if own == stated:
        return []
    return [f"actions are scaled by the bounds {stated or '[-1, 1]'} as stated, not {own or '[-1, 1]'} as in the file"]


def _from_file(value: Any, name: str, key: str) -> tuple[float, ...] | None:
    """A bound as files hold it: a number, an array, or either as JSON."""
    if value is None:
        return None
    if isinstance(value, str | bytes):
        try:
            value = json.loads(value)
        except ValueError:
            checks.fail(name, key, f"is {str(value)[:40]!r}; store a number, or a list of them")
    try:
        return _numbers(key, value)
    except UsageError as error:
        checks.fail(name, key, str(error).removeprefix(f"{key} "))


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        array = np.zeros((0, 0))
    if array.ndim > 1 or not array.size:
        raise UsageError(f"{name} is {str(value)[:40]}; give a number, or one for each entry of an action")
    return tuple(array.reshape(-1).tolist())
