"""Fewer rows of a domain than there are: how methods fare with less data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tabb.transitions import Transitions


def kept_rows(data: Transitions, rows: int | None, seed: int) -> NDArray[np.intp]:
    """Numbers of at most `rows` rows, in the order of the log: whole episodes, drawn until there are enough.

    The last episode drawn is cut after its first rows where the number is reached, so that there are exactly `rows` of
    them; all rows where there are no more, or where `rows` is None. Depends on the data, the number and the seed
    alone, and the episodes of a smaller number are among those of a larger one.
    """
    if rows is None or rows >= len(data):
        return np.arange(len(data))
    _, inverse, counts = np.unique(np.asarray(data.episode), return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(counts))
    room = np.empty(len(counts), np.intp)  # of each episode: how many rows may still come when it is drawn
    room[order] = rows - np.r_[0, np.cumsum(counts[order])[:-1]]
    # Rows of one episode need not be adjacent: each is the nth of its episode in the order of the data.
    by_episode = np.argsort(inverse, kind="stable")
    place_in_episode = np.empty(len(data), np.intp)
    place_in_episode[by_episode] = np.arange(len(data)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.flatnonzero(place_in_episode < room[inverse])


def limited(data: Transitions, rows: int | None, seed: int) -> Transitions:
    """The data themselves, or these rows of them."""
    return data if rows is None or rows >= len(data) else data[kept_rows(data, rows, seed)]
