"""At most so many rows of a domain: how methods do with less data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tabb.transitions import PIECE, Transitions


def kept_rows(data: Transitions, rows: int | None, seed: int) -> NDArray[np.intp]:
    """Numbers of at most `rows` rows, in the order of the log; all where there are no more, or `rows` is None.

    They are those of `rows_of_episodes`.
    """
    if rows is None or rows >= len(data):
        return np.arange(len(data))
    return rows_of_episodes(np.asarray(data.episode), rows, seed)


def rows_of_episodes(episode: NDArray[np.integer], rows: int, seed: int) -> NDArray[np.intp]:
    """Numbers of `rows` rows, in the order of the log: whole episodes, drawn until there are enough.

    The last episode drawn is cut after its first rows where the number is reached, so that there are exactly `rows` of
    them. Depends on the number of each row's episode, on `rows` and the seed alone, and the episodes of a smaller
    number of rows are among those of a larger one.
    """
    rising = not any((piece[1:] < piece[:-1]).any() for piece in _overlapping(episode))
    if rising:  # as files have them: nothing as long as the data is needed
        starts = np.flatnonzero(np.append(True, episode[1:] != episode[:-1]))
        counts = np.diff(np.append(starts, len(episode)))
    else:
        _, inverse, counts = np.unique(episode, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(counts))
    room = np.empty(len(counts), np.intp)  # of each episode: how many rows may still come when it is drawn
    room[order] = rows - np.r_[0, np.cumsum(counts[order])[:-1]]
    if rising:
        taken = np.clip(room, 0, counts)
        return np.concatenate([start + np.arange(n) for start, n in zip(starts, taken, strict=True) if n])
    # Rows of one episode need not be adjacent: each is the nth of its episode in the order of the data.
    by_episode = np.argsort(inverse, kind="stable")
    place_in_episode = np.empty(len(episode), np.intp)
    place_in_episode[by_episode] = np.arange(len(episode)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.flatnonzero(place_in_episode < room[inverse])


def cut_episodes(episode: NDArray[np.integer], kept: NDArray[np.integer]) -> set[int]:
    """Numbers of the episodes that may not be whole in the rows kept: the one cut there, and that of the log's end."""
    names, counts = np.unique(np.asarray(kept), return_counts=True)
    of_all, last = np.zeros(len(names), np.intp), int(names[-1])
    for begin in range(0, len(episode), PIECE):  # nothing as long as the data is needed
        piece = np.asarray(episode[begin : begin + PIECE])
        last = max(last, int(piece.max()))
        of_all += np.bincount(np.searchsorted(names, piece[np.isin(piece, names)]), minlength=len(names))
    return {*names[counts < of_all].tolist(), last}


def _overlapping(episode: NDArray[np.integer]) -> Iterator[NDArray[np.integer]]:
    """Stretches of the numbers, of which each begins with the last number of the one before."""
    return (episode[begin : begin + PIECE + 1] for begin in range(0, len(episode), PIECE))


def limited(data: Transitions, rows: int | None, seed: int) -> Transitions:
    """The data themselves, or these rows of them."""
    return data if rows is None or rows >= len(data) else data[kept_rows(data, rows, seed)]
