"""The door for a user's own data: arrays in, `Transitions` out. Every file door ends here too."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabb.data import checks
from tabb.data.boundaries import boundaries
from tabb.data.inspection import clipped, last_unfinished, notes_of, returns_of
from tabb.data.report import FIRST_ROWS, Loaded, Report
from tabb.transitions import Transitions

REQUIRED = ("observations", "actions", "rewards")
OPTIONAL = ("next_observations", "terminals", "timeouts", "episodes")

NOT_STORED = "end of an episode without a next observation"
LEAKED = "the next observation is another episode's first"


def from_arrays(
    observations: Any,
    actions: Any,
    rewards: Any,
    next_observations: Any = None,
    terminals: Any = None,
    timeouts: Any = None,
    *,
    episodes: Any = None,
    name: str = "arrays",
) -> Transitions:
    """Transitions from logged steps, one row per step, in the order they were taken.

    - `observations` [N, S], `actions` [N, A] inside [-1, 1], `rewards` [N] or [N, 1]: any numeric type.
    - `next_observations` [N, S]: leave it out if it is just the next row.
    - `terminals`, `timeouts` [N] or [N, 1]: booleans or 0 and 1; the task itself ended after this row, or the
      episode was cut after it. A row marked as both is terminal.
    - `episodes` [N]: the number of each row's episode, where no flag marks truncations.

    One rule (`tabb.data.boundaries`) finds the ends of episodes and drops the rows whose next observation is
    unknown; terminal rows stay. A truncated row stays, with d = 0, where its next observation is stored.
    Use `inspect_arrays` to see what was dropped. What looks wrong but can be used is a `DataWarning`. Raises
    `DataError` (one line, with `name`, key and row) for shapes, types or values that cannot be used, and where
    no row is left.
    """
    return inspect_arrays(
        observations, actions, rewards, next_observations, terminals, timeouts, episodes=episodes, name=name
    ).warned()


def inspect_arrays(
    observations: Any,
    actions: Any,
    rewards: Any,
    next_observations: Any = None,
    terminals: Any = None,
    timeouts: Any = None,
    *,
    episodes: Any = None,
    name: str = "arrays",
) -> Loaded:
    """As `from_arrays`, with the report of what was found, kept and dropped."""
    columns = {
        "observations": observations,
        "actions": actions,
        "rewards": rewards,
        "next_observations": next_observations,
        "terminals": terminals,
        "timeouts": timeouts,
        "episodes": episodes,
    }
    given = {key: value for key, value in columns.items() if value is not None or key in REQUIRED}
    return build(given, name=name, layout="arrays")


def build(
    raw: dict[str, Any], *, name: str, layout: str, provenance: dict[str, Any] | None = None, owned: bool = False
) -> Loaded:
    """Check the columns `raw` (keys as in `from_arrays`), find the episodes, drop rows with nowhere to go.

    `owned`: nobody else needs the arrays. `raw` is emptied and rows move within them, so that a large file takes
    little more memory than its transitions.
    """
    columns = _checked(raw, name)
    if owned:
        raw.clear()
    observations, terminals = columns["observations"], columns["terminals"]
    timeouts, stored = columns.get("timeouts"), columns.get("next_observations")
    found = boundaries(observations, terminals, stored, timeouts, columns.get("episodes"), owned)
    drop = found.unknown & ~terminals
    keep = ~drop
    if not keep.any():
        checks.fail(
            name,
            "observations",
            f"no row of {len(keep)} has a next observation; give episodes of two steps or more",
        )
    crossing = drop & (found.reset if stored is None else found.leaked)
    reasons = {LEAKED: np.flatnonzero(crossing), NOT_STORED: np.flatnonzero(drop & ~crossing)}
    reasons = {reason: rows for reason, rows in reasons.items() if rows.size}
    ends = np.flatnonzero(found.end)
    notes, doubts = notes_of(columns, ends, int(found.reset.sum()))
    report = Report(
        name=name,
        layout=layout,
        rows=len(observations),
        kept=int(keep.sum()),
        dropped={reason: int(rows.size) for reason, rows in reasons.items()},
        dropped_rows={reason: tuple(rows[:FIRST_ROWS].tolist()) for reason, rows in reasons.items()},
        wrong_next=() if stored is None else tuple(np.flatnonzero(found.leaked).tolist()),
        episode_ends=tuple(ends.tolist()),
        returns=returns_of(columns["rewards"], ends),
        unfinished=(len(ends) - 1,) if last_unfinished(ends, terminals, timeouts) else (),
        terminals=int(terminals.sum()),
        truncations=int((~terminals[ends]).sum()),
        clipped=clipped(observations),
        provenance=dict(provenance or {}),
        notes=tuple(notes),
        doubts=tuple(doubts),
        kept_rows=np.flatnonzero(keep),
    )
    transitions = Transitions(
        observation=_kept(observations, keep, owned),
        action=_kept(columns["actions"], keep, owned),
        reward=_kept(columns["rewards"], keep, owned),
        next_observation=_kept(found.next_observations, keep, owned or stored is None),
        terminal=terminals[keep].astype(np.float32),
        episode=_numbers(found.end, keep),
    )
    return Loaded(transitions, report)


def _numbers(end: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The episode of each row that is kept, from 0 and without gaps: an episode may have lost its only row."""
    before = np.cumsum(end, dtype=np.int32)
    before -= end
    before = before[keep]
    numbers = np.zeros(len(before), np.int32)
    np.cumsum(before[1:] != before[:-1], out=numbers[1:])
    return numbers


def _kept(column: np.ndarray, keep: np.ndarray, owned: bool) -> np.ndarray:
    """The rows to keep; where the column is `owned` they move up within it."""
    if keep.all():
        return column
    if not owned:
        return column[keep]
    filled = 0
    for piece in checks.pieces(len(column)):
        rows = column[piece][keep[piece]]
        column[filled : filled + len(rows)] = rows
        filled += len(rows)
    return column[:filled]


def _checked(raw: dict[str, Any], name: str) -> dict[str, np.ndarray]:
    """The columns of `raw` with their final types, of one length; no terminals given means none happened."""
    for key in REQUIRED:
        if raw[key] is None:
            checks.fail(name, key, f"is missing; a data set needs {', '.join(REQUIRED)}")
    columns = {
        "observations": checks.matrix(raw["observations"], name, "observations"),
        "actions": checks.matrix(raw["actions"], name, "actions"),
        "rewards": checks.real(raw["rewards"], name, "rewards"),
    }
    if "next_observations" in raw:
        columns["next_observations"] = checks.matrix(raw["next_observations"], name, "next_observations")
    for key in ("terminals", "timeouts"):
        if key in raw:
            columns[key] = checks.flag(raw[key], name, key)
    if "episodes" in raw:
        columns["episodes"] = checks.episode_numbers(raw["episodes"], name, "episodes")
    columns.setdefault("terminals", np.zeros(len(columns["observations"]), bool))
    checks.same_length(columns, name)
    sizes = (
        columns["observations"].shape[1],
        columns.get("next_observations", columns["observations"]).shape[1],
    )
    if sizes[0] != sizes[1]:
        checks.fail(
            name,
            "next_observations",
            f"has {sizes[1]} columns but observations has {sizes[0]}; make them equal",
        )
    columns["actions"] = checks.actions_in_range(columns["actions"], name)
    return columns
