"""What a report says of checked columns: returns, the cut last episode, clipping, notes and doubts about flags."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tabb.data import checks
from tabb.data.boundaries import deviation_of
from tabb.data.steps import stand_still

SAME_PLACE = 0.1
"""Share of a column's spread: episodes whose last rows differ by less were ended by the task, not by the clock."""
LOOKED_AT = 20_000
"""rows at the beginning in which it is looked whether a column is a measured one"""
FEW_VALUES = 20
"""values of a column up to which it is a switch or a code"""
FEW_LAST, SAME_PLACE_OF_FEW = 10, 0.02
"""Of fewer episodes than this, last rows are near each other by chance in one of many columns: nearer is asked."""


def returns_of(rewards: np.ndarray, ends: np.ndarray) -> tuple[float, ...]:
    """Undiscounted return of each episode; `ends` are the last rows."""
    starts = np.concatenate([[0], ends[:-1] + 1])
    return tuple(np.add.reduceat(rewards.astype(np.float64), starts).tolist())


def last_unfinished(ends: np.ndarray, terminals: np.ndarray, timeouts: np.ndarray | None) -> bool:
    """Whether the end of the file cut the last episode.

    It did if the episode has no end of its own and is shorter than the time limit seen in the others. With no
    other truncated episode to compare with, its `timeouts` flag decides.
    """
    if terminals[-1]:
        return False
    lengths = np.diff(ends, prepend=-1)
    others = lengths[:-1][~terminals[ends[:-1]]]
    if others.size:
        return bool(lengths[-1] < others.max())
    return timeouts is None or not bool(timeouts[-1])


def clipped(observations: np.ndarray) -> tuple[float, float] | None:
    """Entries sharing exactly the largest magnitude are clipped, unless nearly every row has one (a code).

    Those of switches and goals are none: columns with few values, or that hardly ever change from row to row.
    """
    limit = max(float(observations.max()), -float(observations.min()))
    entries = rows = 0
    at = np.zeros(observations.shape[1], bool)
    for piece in checks.pieces(len(observations)):
        at |= (np.abs(observations[piece]) == limit).any(axis=0)
    columns = [column for column in np.flatnonzero(at) if _measures(observations[:, column], limit)]
    for piece in checks.pieces(len(observations)):
        at_limit = np.abs(observations[piece][:, columns]) == limit
        entries += int(at_limit.sum())
        rows += int(at_limit.any(axis=1).sum())
    share = rows / len(observations)
    return (limit, share) if limit > 0 and entries > 2 and share < 0.9 else None


def _measures(values: np.ndarray, limit: float) -> bool:
    """Whether a column takes many values below the limit, and other ones from row to row."""
    values = values[:LOOKED_AT]
    below = np.flatnonzero(np.abs(values[:-1]) != limit)
    few = len(np.unique(values[below])) <= min(FEW_VALUES, below.size // 2)
    return below.size > 0 and not few and not stand_still(values[:, None], below)[0]


def notes_of(columns: dict[str, np.ndarray], resets: int) -> Iterator[str]:
    """What a reader should know of the flags in `columns`; `resets` ends were found that nothing states."""
    terminals, timeouts = columns["terminals"], columns.get("timeouts")
    both = 0 if timeouts is None else int((terminals & timeouts).sum())
    if both:
        yield f"{both} rows are marked both terminal and timeout; they count as terminal"
    if resets:
        found = "1 end of an episode is" if resets == 1 else f"{resets:,} ends of episodes are"
        yield f"{found} stated nowhere, but found by the jump to a first state"
    if "episodes" not in columns and "next_observations" not in columns and timeouts is None:
        yield "neither timeouts, episodes nor next_observations: truncations were looked for, not stated"


def action_codes(actions: np.ndarray) -> int:
    """How many values actions [N, A] have where all are whole numbers, a few in each column: codes of choices.

    0 where they are not. Of columns that never change nothing is said.
    """
    values: list[set[float]] = [set() for _ in range(actions.shape[1])]
    for piece in checks.pieces(len(actions)):
        rows = actions[piece]
        if (rows != np.round(rows)).any():
            return 0
        for column, seen in enumerate(values):
            seen.update(np.unique(rows[:, column]).tolist())
            if len(seen) > FEW_VALUES:
                return 0
    return max(map(len, values)) if max(map(len, values)) > 1 else 0


def code_doubts(values: int) -> Iterator[str]:
    """A doubt about actions that are whole numbers with so many values, if any (`action_codes`)."""
    if values:
        yield (
            f"actions are whole numbers with {values} values at most, read as sizes: if they name choices (discrete "
            "actions), no method here can learn from them; if they are sizes, nothing need be done"
        )


def flag_doubts(columns: dict[str, np.ndarray], ends: np.ndarray) -> Iterator[str]:
    """Flags that look wrong, each "what: remedy"; `ends` are the last rows of episodes."""
    terminals, timeouts = columns["terminals"], columns.get("timeouts")
    if timeouts is not None and timeouts.any() and not (timeouts & ~terminals).any():
        yield "every timeout is also terminal: check that `terminals` does not hold Gym's old `done`"
    stated = "episodes" in columns or "next_observations" in columns or timeouts is not None
    if not stated and len(ends) == 1 and not terminals.any():
        yield (
            f"all {len(terminals):,} rows are taken as one episode: say where episodes end with terminals, "
            "timeouts or episodes"
        )
    limit = _time_limit(columns["observations"], terminals, ends)
    if limit:
        yield (
            f"{limit[0]:,} of {int(terminals.sum()):,} terminal rows come after {limit[1]:,} steps exactly, and "
            "none later: if that is a time limit, mark them as timeouts, or their futures count as worth nothing"
        )


def _time_limit(observations: np.ndarray, terminals: np.ndarray, ends: np.ndarray) -> tuple[int, int] | None:
    """(count, length) where several terminal episodes share exactly the largest length; else None.

    Tasks end by themselves after very different numbers of steps, a time limit always after the same. Not asked is
    where other episodes of that length are marked as cut (the log knows its limit), and where the terminal ones all end
    in one place (a path of fixed length).
    """
    lengths = np.diff(ends, prepend=-1)
    longest = int(lengths.max())
    at_limit = lengths == longest
    last = ends[terminals[ends] & at_limit]
    if len(last) < 3 or longest < 20 or (at_limit & ~terminals[ends]).any():
        return None
    spread = deviation_of(observations)
    moves = spread > 0
    near = SAME_PLACE if len(last) >= FEW_LAST else SAME_PLACE_OF_FEW
    if (observations[last].std(axis=0, dtype=np.float64)[moves] < near * spread[moves]).any():
        return None
    return len(last), longest
