"""What a report says of checked columns: returns, the cut last episode, clipping, notes and doubts."""

from __future__ import annotations

import numpy as np

from tabb.data import checks


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
    """Entries sharing exactly the largest magnitude are clipped, unless nearly every row has one (a code)."""
    limit = max(float(observations.max()), -float(observations.min()))
    entries = rows = 0
    for piece in checks.pieces(len(observations)):
        at_limit = np.abs(observations[piece]) == limit
        entries += int(at_limit.sum())
        rows += int(at_limit.any(axis=1).sum())
    share = rows / len(observations)
    return (limit, share) if limit > 0 and entries > 2 and share < 0.9 else None


def notes_of(columns: dict[str, np.ndarray], ends: np.ndarray, resets: int) -> tuple[list[str], list[str]]:
    """What a reader should know, and what looks wrong."""
    notes, doubts = [], []
    terminals, timeouts = columns["terminals"], columns.get("timeouts")
    both = 0 if timeouts is None else int((terminals & timeouts).sum())
    if both:
        notes.append(f"{both} rows are marked both terminal and timeout; they count as terminal")
        if timeouts is not None and both == int(timeouts.sum()):
            doubts.append("every timeout is also terminal: check that `terminals` does not hold Gym's old `done`")
    if resets:
        notes.append(f"{resets} ends of episodes are stated nowhere and were found by their jump to a first state")
    if "episodes" not in columns and "next_observations" not in columns and timeouts is None:
        notes.append("neither timeouts, episodes nor next_observations: truncations were looked for, not stated")
        if len(ends) == 1 and not terminals.any():
            doubts.append(
                f"all {len(terminals):,} rows are taken as one episode: say where episodes end with terminals, "
                "timeouts or episodes"
            )
    limit = _time_limit(terminals, ends)
    if limit:
        doubts.append(
            f"{limit[0]:,} of {int(terminals.sum()):,} terminal rows come after {limit[1]:,} steps exactly, and "
            "none later: if that is a time limit, mark them as timeouts, or their futures count as worth nothing"
        )
    return notes, doubts


def _time_limit(terminals: np.ndarray, ends: np.ndarray) -> tuple[int, int] | None:
    """(count, length) where several terminal episodes share exactly the largest length; else None.

    Tasks end by themselves after very different numbers of steps, a time limit always after the same.
    """
    lengths = np.diff(ends, prepend=-1)
    longest = int(lengths.max())
    count = int((terminals[ends] & (lengths == longest)).sum())
    return (count, longest) if count >= 3 and longest >= 20 else None
