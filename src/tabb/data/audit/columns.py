"""Checks of one file's columns as they are stored, before episodes are found: they need not be readable as a log."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tabb.action_bounds import ActionBounds
from tabb.data.audit.finding import Finding, row_numbers
from tabb.data.checks import ACTION_TOLERANCE, pieces
from tabb.data.column_names import SAME
from tabb.shown import percent

AT_BOUND = 1.0 - 1e-4
"""an action this large is at its bound"""
MANY_AT_BOUND = 0.2
"""share of rows with an action at its bound that is worth a note (HalfCheetah's logged policies reach 0.1)"""
SMALL = 0.2
"""size that scaled actions exceed in almost any log"""
SPANS = 6
"""columns listed with their spans"""
ABSURD = 1e4
"""factor between a number and 99% of its column that no sensor makes"""
UNKNOWN = {
    "next_observations": "what was seen after the step is not known",
    "episodes": "which episode the row belongs to is not known, if to any",
}
"""what NaN says in columns in which it is read"""
MANY_TWICE = 0.001
"""share of rows that occur twice from which it is a warning"""


def check_columns(name: str, columns: dict[str, np.ndarray], bounds: ActionBounds | None = None) -> Iterator[Finding]:
    """Findings about stored columns: numbers that are not finite, bounds, constants, repetitions.

    `bounds` are those of stored actions, None for [-1, 1].
    """
    for key, array in columns.items():
        if array.dtype.kind == "f" and array.ndim in (1, 2):
            yield from _not_finite(name, key, array)
            yield from _absurd(name, key, array)
    actions = columns.get("actions")
    if actions is not None and actions.ndim == 2 and actions.size:
        yield from _actions(name, actions, bounds)
    for key in ("observations", "actions"):
        table = columns.get(key)
        if table is not None and table.ndim == 2 and len(table) > 1:
            yield from _flat_columns(name, key, table)
    rewards = columns.get("rewards")
    if rewards is not None and rewards.size > 1 and (rewards == rewards.flat[0]).all():
        what = f"is {rewards.flat[0]:.4g} in every row: nothing can be learned from it"
        yield Finding("warning", "constant", f"{name}: rewards", what, "store the reward of each step")
    yield from _repeated_rows(name, columns)


def _not_finite(name: str, key: str, array: np.ndarray) -> Iterator[Finding]:
    """Rows that hold NaN or infinity; in some columns NaN is no error, but says that a value is not known."""
    unknown = UNKNOWN.get(SAME.get(key, key))
    for code, is_so in (("nan", np.isnan), ("inf", np.isinf)):
        wrong = _rows_where(array, is_so)
        if wrong.any():
            what = f"{rows_hold(int(wrong.sum()))} {'NaN' if code == 'nan' else 'infinity'}"
            if code == "nan" and unknown:
                fix = "none needed if that is so; else log them again"
                yield Finding("note", "unknown", f"{name}: {key}", f"{what}: {unknown}", fix, row_numbers(wrong))
                continue
            fix = "leave out the episodes of these rows, or log them again; filling in numbers makes up dynamics"
            yield Finding("error", code, f"{name}: {key}", what, fix, row_numbers(wrong))


def _rows_where(array: np.ndarray, is_so: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Rows (bool [N]) of which an entry is so, found piece by piece: the rows may be in a file."""
    return np.concatenate(
        [is_so(array[piece]).reshape(piece.stop - piece.start, -1).any(axis=1) for piece in pieces(len(array))]
        or [np.zeros(0, bool)]
    )


def _absurd(name: str, key: str, array: np.ndarray) -> Iterator[Finding]:
    """Numbers so far from all others of their column that they can only be errors: one makes its column dead."""
    table = array.reshape(len(array), -1)
    if not table.size:
        return
    with np.errstate(invalid="ignore"):
        usual = np.array([_usual_size(column) for column in table.T])
        limit = ABSURD * usual
        wrong = _rows_where(table, lambda rows: np.isfinite(rows) & (np.abs(rows) > limit))
    if wrong.any():
        what = f"{rows_hold(int(wrong.sum()))} numbers over {ABSURD:,.0f} times as large as the rest of their column"
        fix = "leave out the episodes of these rows, or log them again: one such number drowns the rest of its column"
        yield Finding("warning", "outlier", f"{name}: {key}", what, fix, row_numbers(wrong))


def _usual_size(column: np.ndarray) -> float:
    """The size that 99% of a column's finite numbers do not exceed, whatever the others hold.

    That of a sensor that is 0 nearly always is the median of its other numbers, or 1 where it has a single one.
    """
    finite = np.isfinite(column)
    sizes = np.abs(column if finite.all() else column[finite])
    usual = float(np.quantile(sizes, 0.99)) if sizes.size else 0.0
    if usual > 0:
        return usual
    others = sizes[sizes > 0]
    return float(np.median(others)) if others.size > 1 else 1.0


def rows_hold(count: int) -> str:
    """`1 row holds`, `2 rows hold`."""
    return "1 row holds" if count == 1 else f"{count:,} rows hold"


def _actions(name: str, actions: np.ndarray, bounds: ActionBounds | None) -> Iterator[Finding]:
    if bounds is not None and bounds.size != actions.shape[1]:
        return  # said when it is read

    def finite(rows: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(rows), rows, 0 if bounds is None else bounds.middle_and_half()[0])

    def scaled(rows: np.ndarray) -> np.ndarray:
        return finite(rows) if bounds is None else bounds.scaled(finite(rows))

    def outside(rows: np.ndarray) -> np.ndarray:
        far: np.ndarray = np.abs(scaled(rows)) > 1 + ACTION_TOLERANCE + (0.0 if bounds is None else bounds.rounding())
        return far

    where = f"{name}: actions"
    wrong = _rows_where(actions, outside)
    if wrong.any():
        far = [outside(actions[piece]).any(axis=0) for piece in pieces(len(actions))]
        columns = np.flatnonzero(np.any(far, axis=0))
        low, high = _spans(actions, finite)
        spans = [f"column {i} spans [{low[i]:.4g}, {high[i]:.4g}]" for i in columns[:SPANS]]
        spans += ["..."] if len(columns) > SPANS else []
        count = int(wrong.sum())
        lie = "1 row lies" if count == 1 else f"{count:,} rows lie"
        what = f"{lie} outside {bounds or '[-1, 1]'}; {', '.join(spans)}"
        fix = "state the bounds of the action space as action_low and action_high, the same for both domains"
        yield Finding("error", "action-range", where, what, fix, row_numbers(wrong))
        return
    for columns, how in _unlike_scaled(*_spans(actions, scaled)):
        fix = "none needed if the policy did so; else state the bounds of the action space, action_low and action_high"
        yield Finding("note", "action-scale", where, f"columns {_ranges(columns)} {how}", fix)
    share = float(_rows_where(actions, lambda rows: np.abs(scaled(rows)) >= AT_BOUND).mean())
    if share > MANY_AT_BOUND:
        what = f"{percent(share)} of the rows have an action at its bound"
        fix = "none needed if the controller saturates; if the log was clipped, log what was sent instead"
        yield Finding("note", "action-bound", where, what, fix)


def _spans(actions: np.ndarray, of: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value [A] of a function of the actions."""
    spans = [(rows.min(axis=0), rows.max(axis=0)) for piece in pieces(len(actions)) for rows in [of(actions[piece])]]
    return np.min([low for low, _ in spans], axis=0), np.max([high for _, high in spans], axis=0)


def _unlike_scaled(low: np.ndarray, high: np.ndarray) -> Iterator[tuple[np.ndarray, str]]:
    """Columns that move but keep to a small part of [-1, 1], as actions in other units do, and how."""
    moves = low < high
    small = moves & (np.maximum(-low, high) < SMALL)
    one_sign = moves & ~small & ((low >= 0) | (high <= 0))
    if small.any():
        yield np.flatnonzero(small), f"never exceed {np.maximum(-low, high)[small].max():.2g} in size"
    if one_sign.any():
        yield np.flatnonzero(one_sign), "never change their sign"


def _flat_columns(name: str, key: str, array: np.ndarray) -> Iterator[Finding]:
    """Columns that never change, and columns that are copies of another."""
    still = np.all([(array[piece] == array[:1]).all(axis=0) for piece in pieces(len(array))], axis=0)
    where = f"{name}: {key}"
    if still.any():
        listed = _ranges(np.flatnonzero(still))
        level: Any = "warning" if key == "actions" or still.all() else "note"
        fix = "a joint that never moves cannot be learned: check the log" if level == "warning" else "none needed"
        yield Finding(level, "constant", where, f"columns {listed} are the same in every row", fix)
    seen: dict[bytes, int] = {}
    for i in np.flatnonzero(~still):
        first = seen.setdefault(hashlib.sha256(np.ascontiguousarray(array[:, i])).digest(), int(i))
        if first != i:
            fix = "check that no sensor was written twice in place of another; drop one if that is intended"
            yield Finding("warning", "duplicated-column", where, f"columns {first} and {i} are equal in every row", fix)


def _repeated_rows(name: str, columns: dict[str, Any]) -> Iterator[Finding]:
    """Rows that stand in the file more than once, bit for bit."""
    parts = [columns[key] for key in ("observations", "actions", "rewards") if key in columns]
    if len({len(part) for part in parts}) != 1 or not parts or any(part.ndim > 2 for part in parts):
        return
    sums = row_sums(parts)
    _, first = np.unique(sums, return_index=True)
    again = np.ones(len(sums), bool)
    again[first] = False
    if again.any():
        share = again.mean()
        level: Any = "warning" if share > MANY_TWICE else "note"
        count = int(again.sum())
        copies = "1 row is a copy of an earlier one" if count == 1 else f"{count:,} rows are copies of earlier ones"
        what = f"{copies} ({percent(float(share), 1.0)})"
        fix = "remove the second copies: rows that occur twice count twice, and held-out rows are no longer unseen"
        yield Finding(level, "duplicated-rows", name, what, fix, row_numbers(again))


def row_sums(parts: list[np.ndarray]) -> np.ndarray:
    """A number [N] of each row of columns side by side: rows equal bit for bit share it, others hardly ever."""
    sums = np.zeros(len(parts[0]), np.uint64)
    generator = np.random.default_rng(0)
    for part in parts:
        # A sum of bits weighted by random odd numbers: two other rows agree with a probability of 2^-64.
        width = part.size // max(1, len(part))
        odd = generator.integers(0, 2**63, width, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        for piece in pieces(len(part)):
            with np.errstate(over="ignore"):  # doubles beyond float32 are told of when the file is read
                bits = part[piece].reshape(-1, width).astype(np.float32).view(np.uint32)
                sums[piece] += (bits.astype(np.uint64) * odd).sum(axis=1, dtype=np.uint64)
    return sums


def _ranges(numbers: np.ndarray) -> str:
    """`0, 27-110` for 0, 27, 28, ..., 110."""
    parts = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
