"""What a user states of a file that the file does not say itself."""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tabb.action_bounds import ActionBounds, action_bounds
from tabb.data import checks
from tabb.errors import DataError, UsageError, meant

BOUNDS = ("action_low", "action_high")
"""Names of the bounds of the action space, in files and as options."""
CUT_EPISODES = "cut_episodes"
"""attribute of a log: the numbers of the episodes that were cut, where all of them are known"""


class RawColumns(NamedTuple):
    """What a file stores, numbers unchecked."""

    columns: dict[str, np.ndarray]
    """By name of the column, as in `from_arrays`."""
    provenance: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class ColumnNames:
    """The columns of a table by name or pattern (`q_*`), in this order. Names that are not given are guessed.

    HDF5 and npz files have one key for each.
    """

    observations: tuple[str, ...] = ()
    """what was seen before the step"""
    actions: tuple[str, ...] = ()
    """what was done"""
    rewards: tuple[str, ...] = ()
    """the reward of the step"""
    next_observations: tuple[str, ...] = ()
    """what was seen after the step; the next row's observation if there are none"""
    terminals: tuple[str, ...] = ()
    """1 where the task itself ended after the step"""
    timeouts: tuple[str, ...] = ()
    """1 where only the episode was cut after the step"""
    episodes: tuple[str, ...] = ()
    """number of the row's episode"""
    steps: tuple[str, ...] = ()
    """number of the row's step in its episode, or its time: rows are put in this order"""
    extras: tuple[str, ...] = ()
    """further columns of numbers to keep beside the log; only rules that name them see them"""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            given: Any = getattr(self, field.name)
            patterns = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
            if not all(isinstance(one, str) and one for one in patterns):
                raise UsageError(f"names.{field.name} is {given!r}; give names of columns, or patterns such as 'q_*'")
            object.__setattr__(self, field.name, patterns)

    def stated(self) -> dict[str, tuple[str, ...]]:
        """The patterns that are given, by what they name."""
        fields = [field.name for field in dataclasses.fields(self)]
        return {name: getattr(self, name) for name in fields if getattr(self, name)}


@dataclasses.dataclass(frozen=True)
class Reading:
    """How to read a file. What is stated here counts more than what the file says.

    `FILE.toml` beside a data file `FILE` states the same for it.
    """

    action_low: tuple[float, ...] | None = None
    """smallest value of each entry of an action, or one for all: actions are scaled to [-1, 1], and back when acting"""
    action_high: tuple[float, ...] | None = None
    """largest value of each entry of an action, or one for all"""
    names: ColumnNames = ColumnNames()

    def __post_init__(self) -> None:
        if isinstance(self.names, Mapping):
            object.__setattr__(self, "names", _from_mapping(ColumnNames, self.names, "names"))
        if not isinstance(self.names, ColumnNames):
            raise UsageError(f"names is {type(self.names).__name__}; give names of columns by what they are, as a dict")
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
        bounds = {name: list(value) for name in BOUNDS if (value := getattr(self, name)) is not None}
        names = {name: list(patterns) for name, patterns in self.names.stated().items()}
        return bounds | ({"names": names} if names else {})

    def over(self, other: Reading) -> Reading:
        """What is stated here, and what `other` states beside it."""
        names = ColumnNames(**other.names.stated() | self.names.stated())
        bounds = {key: getattr(self, key) if getattr(self, key) is not None else getattr(other, key) for key in BOUNDS}
        return Reading(**bounds, names=names)


NOTHING_STATED = Reading()


def reading_of(path: Path, reading: Reading) -> Reading:
    """`reading`, and what `FILE.toml` beside the data file `path` states.

    Raises `DataError` (one line) where that file cannot be read or states something else.
    """
    beside = Path(f"{path}.toml")
    if not os.path.isfile(beside):  # unlike Path's, False also where the name is too long
        return reading
    try:
        values = tomllib.loads(beside.read_text(encoding="utf-8"))
        return reading.over(_from_mapping(Reading, values, str(beside)))
    except (OSError, ValueError) as error:
        raise DataError(checks.one_line(f"{beside}: cannot be read as TOML ({error}); mend it")) from None
    except UsageError as error:
        raise DataError(checks.one_line(f"{beside}: {str(error).removeprefix(f'{beside}: ')}")) from None


def _from_mapping(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    known = [field.name for field in dataclasses.fields(kind)]
    for name, value in values.items():
        if name not in known:
            raise UsageError(f"{where}: {name} is not known; {meant(name, known)}")
        if name == "names" and not isinstance(value, Mapping | ColumnNames):
            raise UsageError(f"{where}: names is no table; write [names] and a line for each column")
    return kind(**values)


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


def cut_of(provenance: Mapping[str, Any], name: str) -> frozenset[int] | None:
    """Numbers of the episodes that were cut, as a file's attribute has them; None where it does not say.

    Raises `DataError` (one line) for what is no list of numbers.
    """
    value = provenance.get(CUT_EPISODES)
    if value is None:
        return None
    try:
        numbers = np.asarray(json.loads(value) if isinstance(value, str | bytes) else value)
    except ValueError:
        numbers = np.empty((0, 0))
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        checks.fail(name, CUT_EPISODES, "is no list of episodes' numbers; leave the attribute out, or write it again")
    return frozenset(numbers.tolist())


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
