"""The door for a user's own data: arrays in, `Transitions` out. Every file door ends here too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tabb.data import checks, precision
from tabb.data.allocation import IN_MEMORY, Memory
from tabb.data.audit.inspection import (
    action_codes,
    clipped,
    code_doubts,
    flag_doubts,
    last_unfinished,
    notes_of,
    returns_of,
)
from tabb.data.audit.structure import gap_doubts, structure_doubts
from tabb.data.boundaries import Boundaries, apart_at_gaps, boundaries
from tabb.data.column_names import OPTIONAL, REQUIRED, Names, names_of, resolve, unread_doubts
from tabb.data.reading import (
    BOUNDS,
    CUT_EPISODES,
    NOTHING_STATED,
    Reading,
    bounds_of,
    cut_of,
    overruled,
    reading_with,
)
from tabb.data.report import FIRST_ROWS, STEPS, Loaded, Report, log_return
from tabb.transitions import Transitions

NOT_STORED = "end of an episode without a next observation"
LEAKED = "the next observation is another episode's first"
PADDED = "the next observation only fills the place (the row repeated, zeros or one value)"
ABSENT = "the next observation is unknown (NaN)"
OUTSIDE = "the row belongs to no episode"

MAZE_SIZE = 29
"""Entries of an observation of AntMaze."""
LARGEST_STEP = 2.0
"""Metres that an ant can cover in a step of AntMaze, with room to spare."""


def from_arrays(
    observations: Any,
    actions: Any,
    rewards: Any,
    next_observations: Any = None,
    terminals: Any = None,
    timeouts: Any = None,
    *,
    episodes: Any = None,
    action_low: Any = None,
    action_high: Any = None,
    extras: Mapping[str, Any] | None = None,
    name: str = "arrays",
    **others: Any,
) -> Transitions:
    """Transitions from logged steps, one row per step, in the order they were taken.

    >>> observations = np.arange(8.0).reshape(4, 2)  # four steps of two episodes
    >>> actions = np.array([[0.5], [-0.5], [0.0], [1.0]])
    >>> rows = tabb.from_arrays(observations, actions, rewards=[1, 1, 0, 1], terminals=[0, 1, 0, 1])
    >>> len(rows), rows.observation_size, rows.action_size
    (4, 2, 1)
    >>> rows.episode
    array([0, 0, 1, 1], dtype=int32)

    - `observations` [N, S], `actions` [N, A], `rewards` [N] or [N, 1]: any numeric type.
    - `action_low`, `action_high`: bounds of the action space, a number or one for each entry of an action. Actions are
      scaled by them to [-1, 1], and a policy scales back. Without them actions must lie in [-1, 1].
    - `next_observations` [N, S]: leave it out if it is just the next row. NaN where it is not known.
    - `terminals`, `timeouts` [N] or [N, 1]: booleans or 0 and 1; the task itself ended after this row, or the
      episode was cut after it. A row marked as both is terminal.
    - `episodes` [N]: the number of each row's episode, where no flag marks truncations; NaN or -1 for rows of none,
      across which no step leads: an episode is cut there.
    - `extras`: further columns [N] of numbers by name; they are kept with their rows, and only rules that
      name them see them.
    - `others`: these columns under names of other libraries (`terminated`, `truncations`, `next_obs`, ...). Names that
      mean ends but not which (`dones`, `masks`) are held against `terminals` and `timeouts`, and refused without.

    One rule (`tabb.data.boundaries`) finds the ends of episodes and drops the rows whose next observation is
    unknown; terminal rows stay. A truncated row stays, with d = 0, where its next observation is stored.
    Use `inspect_arrays` to see what was dropped. What looks wrong but can be used is a `DataWarning`. Raises
    `DataError` (one line, with `name`, key and row) for shapes, types or values that cannot be used, and where
    no row is left.
    """
    return inspect_arrays(
        observations,
        actions,
        rewards,
        next_observations,
        terminals,
        timeouts,
        episodes=episodes,
        action_low=action_low,
        action_high=action_high,
        extras=extras,
        name=name,
        **others,
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
    action_low: Any = None,
    action_high: Any = None,
    extras: Mapping[str, Any] | None = None,
    name: str = "arrays",
    **others: Any,
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
        **others,
    }
    given = {key: value for key, value in columns.items() if value is not None or key in REQUIRED}
    names = names_of(given, name)
    if names.unread:
        checks.fail(name, names.unread[0], f"is not a column of a log; use {', '.join((*REQUIRED, *OPTIONAL))}")
    raw = {key: given[key] for key in names.keys}
    for key, column in (extras or {}).items():
        if key in raw:
            checks.fail(name, key, "is a column of the log already; give the extra another name")
        raw[key] = column
    names = names._replace(extras=(*names.extras, *(extras or {})))
    reading = reading_with(None, action_low, action_high)
    return build(raw, name=name, layout="arrays", names=names, reading=reading)


def build(
    raw: dict[str, Any],
    *,
    name: str,
    layout: str,
    provenance: dict[str, Any] | None = None,
    owned: bool = False,
    names: Names | None = None,
    wide: Mapping[str, list[np.ndarray]] | None = None,
    reading: Reading = NOTHING_STATED,
    memory: Memory = IN_MEMORY,
    whole: bool = False,
) -> Loaded:
    """Check the columns `raw`, find the episodes, drop rows with nowhere to go.

    Args:
        raw: the columns by their keys in the file.
        owned: nobody else needs the arrays. `raw` is emptied and rows move within them, so that a large file takes
            little more memory than its transitions.
        names: what the keys of the file are; those of `raw` if not given.
        wide: stretches of rows as the file holds them, by column, where `raw` has them in float32 already.
        reading: what the user states of the file, `action_low` and `action_high` among it; else those of `provenance`.
        memory: where columns go that are made here.
        whole: the file has actions as integers, though those of `raw` are floats.
    """
    memory.note(f"{name}: looking for the ends of episodes")
    names = names or names_of(raw, name)
    for key in REQUIRED:
        if raw.get(names.read.get(key, key)) is None:
            checks.fail(name, key, f"is missing; a data set needs {', '.join(REQUIRED)}")
    notes = resolve(raw, names, name)
    blocks = {key: _blocks(raw[key], key, name, wide) for key in ("observations", "rewards")}
    extras = {key: checks.real(raw[key], name, key, memory) for key in names.extras}
    whole = whole or np.asarray(raw["actions"]).dtype.kind in "iub"
    columns = _checked(raw, name, names, memory)
    checks.same_length(columns | extras, name)
    if owned:
        raw.clear()
    provenance = dict(provenance or {})
    size = columns["actions"].shape[1]
    bounds = bounds_of(reading, provenance, size, name)
    notes += overruled(reading, provenance, size, name)
    codes = action_codes(columns["actions"]) if whole else 0
    columns["actions"] = checks.unit_actions(columns["actions"], bounds, name, owned=owned, memory=memory)
    cut_there = cut_of(provenance, name)
    provenance = {key: value for key, value in provenance.items() if key not in (*BOUNDS, CUT_EPISODES)}
    if names.maze and columns["observations"].shape[1] == MAZE_SIZE:
        provenance |= _mark_maze_jumps(columns)
    rows = len(columns["observations"])
    inside = _rows_of_episodes(columns, name)
    if len(inside) < rows:
        there = np.zeros(rows, bool)
        there[inside] = True
        columns = {key: _kept(column, there, owned) for key, column in columns.items()}
        extras = {key: _kept(column, there, owned) for key, column in extras.items()}
        owned = True
    stated = columns.get("episodes")
    gaps = np.empty(0, int)
    if stated is not None:
        columns["episodes"] = apart_at_gaps(stated, inside)
        gaps = np.flatnonzero((np.diff(columns["episodes"]) != 0) & (stated[1:] == stated[:-1]))
    observations, terminals = columns["observations"], columns["terminals"]
    timeouts, episodes = columns.get("timeouts"), columns.get("episodes")
    stores_next = "next_observations" in columns
    stored = columns.get("next_observations")
    outcome = boundaries(observations, terminals, stored, timeouts, episodes, owned, memory)
    drop = outcome.unknown & ~terminals
    keep = ~drop
    if not keep.any():
        if outcome.absent.all():
            checks.fail(name, "next_observations", "is NaN in every row; leave it out, and the next row is taken")
        checks.fail(
            name,
            "observations",
            f"no row of {len(keep)} has a next observation; give episodes of two steps or more",
        )
    ends = np.flatnonzero(outcome.end)
    doubts = [
        *(doubt for key in blocks for doubt in precision.precision_doubts(key, blocks[key])),
        *unread_doubts(names),
        *code_doubts(codes),
        *flag_doubts(columns, ends),
        *gap_doubts(gaps, outcome.absent, episodes, inside),
        *structure_doubts(columns, outcome, drop, inside),
    ]
    reasons = _reasons(drop, outcome, stores_next)
    dropped = {reason: inside[rows] for reason, rows in reasons.items()}
    if len(inside) < rows:
        dropped[OUTSIDE] = np.setdiff1d(np.arange(rows), inside)
    numbers = _numbers(outcome.end, keep)
    unfinished: tuple[int, ...] = (len(ends) - 1,) if last_unfinished(ends, terminals, timeouts) else ()
    cut: tuple[int, ...] | None = None
    if cut_there is not None and stated is not None:
        was_cut = np.isin(stated, [*cut_there, *stated[gaps]])
        unfinished = tuple(np.flatnonzero(was_cut[ends] & ~terminals[ends]).tolist())
        cut = tuple(np.unique(numbers[was_cut[keep]]).tolist())
    report = Report(
        name=name,
        layout=layout if cut is None else STEPS,
        rows=rows,
        kept=int(keep.sum()),
        dropped={reason: int(rows.size) for reason, rows in dropped.items()},
        dropped_rows={reason: tuple(rows[:FIRST_ROWS].tolist()) for reason, rows in dropped.items()},
        wrong_next=tuple(inside[outcome.leaked].tolist()) if stores_next else (),
        episode_ends=tuple(inside[ends].tolist()),
        episode_lengths=tuple(np.diff(ends, prepend=-1).tolist()) if len(inside) < rows else (),
        returns=returns_of(columns["rewards"], ends),
        unfinished=unfinished,
        terminals=int(terminals.sum()),
        truncations=int((~terminals[ends]).sum()),
        clipped=clipped(observations),
        provenance=provenance,
        notes=(*notes, *notes_of(columns, int(outcome.reset.sum())), *_unread_note(names)),
        doubts=tuple(doubts),
        unread=names.unread,
        kept_rows=inside[keep],
        action_bounds=bounds,
        extras=tuple(extras),
        mean_return=log_return(columns["rewards"][keep], numbers, cut),
        cut=cut,
    )
    transitions = Transitions(
        observation=_kept(observations, keep, owned),
        action=_kept(columns["actions"], keep, owned),
        reward=_kept(columns["rewards"], keep, owned),
        next_observation=_kept(outcome.next_observations, keep, owned or not stores_next),
        terminal=terminals[keep].astype(np.float32),
        episode=numbers,
        action_bounds=bounds,
        extras={key: column[keep] for key, column in extras.items()},
    )
    return Loaded(transitions, report)


def _reasons(drop: np.ndarray, outcome: Boundaries, stores_next: bool) -> dict[str, np.ndarray]:
    """Rows that are dropped, by the reason."""
    crossing = drop & (outcome.leaked if stores_next else outcome.reset)
    masks = {LEAKED: crossing, PADDED: drop & outcome.padded, ABSENT: drop & outcome.absent}
    masks[NOT_STORED] = drop & ~(crossing | outcome.padded | outcome.absent)
    return {reason: np.flatnonzero(mask) for reason, mask in masks.items() if mask.any()}


def _unread_note(names: Names) -> list[str]:
    """Keys that were not read: a column may be there under a name that nobody expects."""
    if not names.unread:
        return []
    return [f"keys that were not read: {checks.listed(names.unread)}"]


def _blocks(value: Any, key: str, name: str, wide: Mapping[str, list[np.ndarray]] | None) -> list[np.ndarray]:
    """Stretches of rows of a column as the file or the user has them, before they become float32."""
    if wide is not None and key in wide:
        return wide[key]
    array = checks.number(value, name, key)
    return [block.copy() for block in precision.blocks_of(array)] if array.ndim in (1, 2) else []


def _rows_of_episodes(columns: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Numbers of the rows that belong to an episode, as far as `episodes` says otherwise."""
    episodes = columns.get("episodes")
    if episodes is None:
        return np.arange(len(columns["observations"]))
    rows = np.flatnonzero(checks.of_an_episode(episodes))
    if not rows.size:
        checks.fail(name, "episodes", "no row belongs to an episode; give the number of each row's episode")
    return rows


def _mark_maze_jumps(columns: dict[str, np.ndarray]) -> dict[str, int]:
    """Mark rows of an AntMaze log after which the ant is elsewhere: ends that its flags miss or state a row off.

    In some D4RL files the ant is put back without a flag, or beside it. It runs far below 20 m/s, and a step is 0.1 s.
    """
    place = columns["observations"][:, :2].astype(np.float64)
    jumps = np.flatnonzero(np.linalg.norm(np.diff(place, axis=0), axis=1) > LARGEST_STEP)
    timeouts = columns.get("timeouts")
    timeouts = np.zeros(len(place), bool) if timeouts is None else timeouts.copy()
    unstated = jumps[~(timeouts | columns["terminals"])[jumps]]
    if not unstated.size:
        return {}
    timeouts[unstated] = True
    columns["timeouts"] = timeouts
    return {"unstated_ends": int(unstated.size)}


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
    for piece in checks.pieces(len(column), parts=8):
        rows = column[piece][keep[piece]]
        column[filled : filled + len(rows)] = rows
        filled += len(rows)
    return column[:filled]


def _checked(raw: dict[str, Any], name: str, names: Names, memory: Memory) -> dict[str, np.ndarray]:
    """The columns of `raw` with their final types, of one length; no terminals given means none happened."""
    label = names.read
    columns = {
        "observations": checks.matrix(raw["observations"], name, "observations", memory=memory),
        "actions": checks.stored_actions(raw["actions"], name, "actions"),
        "rewards": checks.real(raw["rewards"], name, "rewards", memory),
    }
    if "next_observations" in raw:
        key = label["next_observations"]
        columns["next_observations"] = checks.matrix(raw["next_observations"], name, key, unknown=True, memory=memory)
    for column in ("terminals", "timeouts"):
        if column in raw:
            columns[column] = checks.flag(raw[column], name, label.get(column, column))
    if "episodes" in raw:
        columns["episodes"] = checks.episode_numbers(raw["episodes"], name, label["episodes"])
    columns.setdefault("terminals", np.zeros(len(columns["observations"]), bool))
    checks.same_length(columns, name)
    sizes = (
        columns["observations"].shape[1],
        columns.get("next_observations", columns["observations"]).shape[1],
    )
    if sizes[0] != sizes[1]:
        checks.fail(
            name,
            label["next_observations"],
            f"has {sizes[1]} columns but observations has {sizes[0]}; make them equal",
        )
    return columns
