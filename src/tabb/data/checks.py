"""Checks of raw columns: what comes in is any array, what goes out is numeric, finite and of one length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np

from tabb.action_bounds import ActionBounds
from tabb.data.allocation import IN_MEMORY, Memory
from tabb.errors import DataError

ACTION_TOLERANCE = 1e-6
NO_EPISODE = -1
"""number of the episode of a row that belongs to none"""
PIECE = 65_536
"""rows that are worked on at once where a whole file would take memory for nothing"""


def fail(name: str, key: str, problem: str) -> NoReturn:
    """Raise `refusal`."""
    raise refusal(name, key, problem)


def refusal(name: str, key: str, problem: str) -> DataError:
    """The one-line `DataError` "name: key: problem"."""
    return DataError(one_line(f"{name}: {key}: {problem}"))


def one_line(text: str) -> str:
    """`text` with its line breaks and repeated blanks made single blanks: messages are one line, always."""
    return " ".join(text.split())


def pieces(rows: int, parts: int = 1) -> Iterator[slice]:
    """`rows` rows in pieces of `PIECE`, or of a part of it."""
    step = max(1, PIECE // parts)
    return (slice(begin, min(begin + step, rows)) for begin in range(0, rows, step))


def number(value: Any, name: str, key: str) -> np.ndarray:
    """`value` as an array of booleans, integers or floats; objects, text and complex numbers are errors.

    So are masked entries, except in floats whose reader knows NaN (`_masked`): NumPy would hand out what is under them.
    """
    if isinstance(value, np.ma.MaskedArray):
        value = _masked(value, name, key)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:  # a ragged list
        fail(name, key, f"is not an array of numbers ({error}); give one array with a row per step")
    check_numbers(array.dtype, name, key)
    return array


def check_numbers(dtype: np.dtype[Any], name: str, key: str) -> None:
    """`dtype` is one of booleans, integers or floats."""
    if dtype.kind not in "biuf":
        advice = "store it as float32" + (", flags as 0 and 1" if dtype.kind in "SUO" else "")
        fail(name, key, f"holds {dtype} values, not numbers; {advice}")


def _masked(value: Any, name: str, key: str) -> np.ndarray:
    """A masked array as a plain one; masked next observations and episodes become NaN, others are errors."""
    masked = np.ma.getmaskarray(value)
    if not masked.any():
        return np.asarray(value.data)
    if key in ("next_observations", "episodes"):
        return np.asarray(value.astype(np.float64).filled(np.nan))
    row = int(np.argwhere(masked)[0][0])
    fail(name, key, f"row {row} is masked; leave the row's episode out, or fill in what it was")


def narrow(array: np.ndarray, memory: Memory = IN_MEMORY) -> np.ndarray:
    """Doubles as float32, which all columns become, unless one is too large: messages then show it as it is."""
    if array.dtype.kind != "f" or array.dtype.itemsize <= 4:
        return array
    if not array.ndim:
        return array
    result = memory.empty(array.shape, np.float32)
    for piece in pieces(len(result)):
        with np.errstate(over="ignore"):
            result[piece] = array[piece]
        if (np.isinf(result[piece]) & ~np.isinf(array[piece])).any():
            return array
    return result


def matrix(value: Any, name: str, key: str, unknown: bool = False, memory: Memory = IN_MEMORY) -> np.ndarray:
    """A float32 matrix [N, K] without infinity; without NaN unless it may be `unknown`, which NaN says."""
    array = number(value, name, key)
    matrix_shape(array.shape, name, key)
    return _finite(array, name, key, unknown, memory)


def matrix_shape(shape: tuple[int, ...], name: str, key: str) -> None:
    """`shape` is that of a matrix with at least one column."""
    if len(shape) != 2:
        fail(name, key, f"has shape {shape}; give (rows, size), one row per step")
    if shape[1] == 0:
        fail(name, key, f"has shape {shape}: no columns; give (rows, size) with size at least 1")


def column(value: Any, name: str, key: str) -> np.ndarray:
    """A vector [N] of the type it came in; shape (N, 1) is squeezed."""
    array = number(value, name, key)
    column_shape(array.shape, name, key)
    return array.reshape(-1)


def column_shape(shape: tuple[int, ...], name: str, key: str) -> None:
    """`shape` is that of a vector, or of a matrix with one column."""
    if len(shape) != 1 and (len(shape) != 2 or shape[1] != 1):
        on_its_side = ": rows and columns are exchanged" if len(shape) == 2 and shape[0] == 1 else ""
        fail(name, key, f"has shape {shape}{on_its_side}; give (rows,) or (rows, 1)")


def shapes(shape_of: Mapping[str, tuple[int, ...]], name: str, is_matrix: Callable[[str], bool]) -> None:
    """The shapes of a file's columns fit together: checked before any of them is read into memory."""
    for key, shape in shape_of.items():
        (matrix_shape if is_matrix(key) else column_shape)(shape, name, key)
    same_rows(shape_of, name)


def listed(keys: Iterable[str]) -> str:
    """The keys of a file for a message, the first ten of them by name."""
    names = sorted(keys)
    more = f", ... ({len(names)} in all)" if len(names) > 10 else ""
    return (", ".join(name[:60] or "'' (no name)" for name in names[:10]) or "none") + more


def real(value: Any, name: str, key: str, memory: Memory = IN_MEMORY) -> np.ndarray:
    """A float32 vector [N] without NaN or infinity."""
    return _finite(column(value, name, key), name, key, memory=memory)


def flag(value: Any, name: str, key: str) -> np.ndarray:
    """A boolean vector [N] from booleans or the numbers 0 and 1."""
    array = column(value, name, key)
    if array.dtype != bool:
        bad = np.flatnonzero((array != 0) & (array != 1))  # NaN differs from both
        if bad.size:
            row = int(bad[0])
            fail(
                name,
                key,
                f"row {row} is {array[row]}, neither 0 nor 1; mark only the rows that end an episode",
            )
    return array.astype(bool, copy=False)


def episode_numbers(value: Any, name: str, key: str) -> np.ndarray:
    """An integer vector [N] whose equal values are adjacent; `NO_EPISODE`, which NaN means too, may stand anywhere."""
    array = column(value, name, key)
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), NO_EPISODE, array)
        coarse = np.flatnonzero(np.isfinite(array) & (np.abs(array) >= 2.0 ** (np.finfo(array.dtype).nmant + 1)))
        if coarse.size:
            fail(
                name,
                key,
                f"row {int(coarse[0])} is {array[coarse[0]]:.6g}, too large to tell episodes apart as {array.dtype}; "
                "store whole numbers as integers, or number the episodes from 0",
            )
        bad = np.flatnonzero(array != np.floor(array))
        if bad.size:
            fail(
                name,
                key,
                f"row {int(bad[0])} is {array[bad[0]]}; give the integer number of the row's episode",
            )
    rows = np.flatnonzero(array != NO_EPISODE) if array.dtype.kind in "if" else np.arange(array.size)
    if rows.size:
        inside = array[rows]
        starts = np.flatnonzero(np.concatenate([[True], inside[1:] != inside[:-1]]))
        _, first = np.unique(inside[starts], return_index=True)
        again = np.setdiff1d(np.arange(starts.size), first)
        if again.size:
            row = int(rows[starts[again[0]]])
            fail(
                name,
                key,
                f"row {row} goes back to episode {array[row]}; sort the rows so that episodes are adjacent",
            )
    return array


def of_an_episode(numbers: np.ndarray) -> np.ndarray:
    """Which rows (bool [N]) belong to an episode: the others have the number `NO_EPISODE` or NaN."""
    return ~np.isnan(numbers) & (numbers != NO_EPISODE)


def same_rows(shape_of: Mapping[str, tuple[int, ...]], name: str) -> None:
    """All columns have as many rows as the first one, and at least one; matrices that lie on their side are told so."""
    lengths = {shape[0] for shape in shape_of.values() if len(shape) == 1 or shape[1:] == (1,)}
    for key, shape in shape_of.items():
        if len(shape) == 2 and len(lengths) == 1 and shape[0] not in lengths and shape[1] in lengths:
            fail(name, key, f"has shape {shape}: rows and columns are exchanged; transpose it, one row per step")
    first, rows = next((key, shape[0]) for key, shape in shape_of.items())
    if rows == 0:
        fail(name, first, "has no rows; give at least two steps of an episode")
    for key, shape in shape_of.items():
        if shape[0] != rows:
            fail(name, key, f"has {shape[0]} rows but {first} has {rows}; every key needs one row per step")


def same_length(columns: Mapping[str, np.ndarray], name: str) -> None:
    """`same_rows` of these columns."""
    same_rows({key: array.shape for key, array in columns.items()}, name)


class UnscaledActions(DataError):
    """Actions that do not lie inside their bounds, with the smallest and largest value of each entry."""

    def __init__(self, message: str, low: np.ndarray, high: np.ndarray) -> None:
        super().__init__(message)
        self.low, self.high = low, high


def stored_actions(value: Any, name: str, key: str) -> np.ndarray:
    """A matrix [N, A] that is finite in float32, in the type it came in: it is scaled before it is rounded."""
    array = number(value, name, key)
    matrix_shape(array.shape, name, key)
    _all_finite(array, name, key)
    return array


def unit_actions(
    actions: np.ndarray,
    bounds: ActionBounds | None,
    name: str,
    key: str = "actions",
    owned: bool = False,
    memory: Memory = IN_MEMORY,
) -> np.ndarray:
    """`actions` [N, A] scaled by their bounds to [-1, 1], as float32; those beyond by rounding alone are brought back.

    Rounding is 1e-6, and what float32 makes of the bounds. `owned`: they may be scaled in place. Raises
    `UnscaledActions` for actions outside of the bounds.
    """
    low, high = actions.min(axis=0), actions.max(axis=0)
    beyond: Any = np.float32(1 + ACTION_TOLERANCE) if bounds is None else 1 + ACTION_TOLERANCE + bounds.rounding()

    # Most bounds lie where float32 resolves them: there doubles are read as float32 first, as texts of it are in CSV.
    coarse = bounds is not None and bounds.rounding() > ACTION_TOLERANCE

    def scaled(rows: np.ndarray) -> np.ndarray:
        single = rows.astype(np.float32)
        return single if bounds is None else bounds.scaled(np.where(coarse, rows, single))

    def outside(rows: np.ndarray) -> np.ndarray:
        mask: np.ndarray = np.abs(scaled(rows)) > beyond
        return mask

    if outside(np.stack([low, high])).any():
        row, column = next(
            (piece.start + int(found[0, 0]), int(found[0, 1]))
            for piece in pieces(len(actions))
            if (found := np.argwhere(outside(actions[piece]))).size
        )
        raise _unscaled(float(actions[row, column]), row, column, low, high, bounds, name, key)
    single = actions.dtype == np.float32 and actions.flags.c_contiguous
    if bounds is None and single and low.min() >= -1 and high.max() <= 1:
        return actions
    result = actions if owned and single else memory.empty(actions.shape, np.float32)
    for piece in pieces(len(actions)):
        result[piece] = np.clip(scaled(actions[piece]), -1, 1)
    return result


def _unscaled(
    value: float,
    row: int,
    column: int,
    low: np.ndarray,
    high: np.ndarray,
    bounds: ActionBounds | None,
    name: str,
    key: str,
) -> UnscaledActions:
    """The error for the first action outside of its bounds."""
    if bounds is None:
        problem = (
            f"is {value:.6g}, outside [-1, 1] (the file spans [{low.min():.6g}, {high.max():.6g}]); state the bounds "
            "of the action space as action_low and action_high, and actions are scaled by them"
        )
    else:
        problem = (
            f"is {value:.6g}, outside its bounds [{bounds.low[column]:g}, {bounds.high[column]:g}] (the file spans "
            f"[{low[column]:.6g}, {high[column]:.6g}] there); state the action_low and action_high that the robot obeys"
        )
    return UnscaledActions(one_line(f"{name}: {key}: row {row}, column {column} {problem}"), low, high)


def _finite(array: np.ndarray, name: str, key: str, unknown: bool = False, memory: Memory = IN_MEMORY) -> np.ndarray:
    """`array` as contiguous float32; the first value that is not finite there (NaN may be `unknown`) is an error."""
    with np.errstate(over="ignore"):
        if memory.on_disk and (array.dtype != np.float32 or not array.flags.c_contiguous):
            result = memory.empty(array.shape, np.float32)
            for piece in pieces(len(array)):
                result[piece] = array[piece]
        else:
            result = np.ascontiguousarray(array, dtype=np.float32)
    _all_finite(result, name, key, unknown, array)
    return result


def _all_finite(
    array: np.ndarray, name: str, key: str, unknown: bool = False, stored: np.ndarray | None = None
) -> None:
    """`array` is finite as float32; NaN may be `unknown`. Messages show what is `stored`."""

    def refused(rows: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            narrow = rows.astype(np.float32, copy=False)
        mask: np.ndarray = np.isinf(narrow) if unknown else ~np.isfinite(narrow)
        return mask

    for piece in pieces(len(array)):
        wrong = refused(array[piece])
        if not wrong.any():
            continue
        at = np.argwhere(wrong)[0]
        at[0] += piece.start
        where = f"row {at[0]}" if array.ndim == 1 else f"row {at[0]}, column {at[1]}"
        value = (array if stored is None else stored)[tuple(at)]
        fail(name, key, f"{where} is {value}, not a finite float32; leave the row's episode out or mend it")
