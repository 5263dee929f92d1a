"""Where episodes end, and which next observations can be trusted: one rule for every file, source or target.

A row ends an episode if it is terminal, if the data say so (`timeouts`, `episodes`), if it is the last, if its stored
next observation is unknown (NaN) or, unless `episodes` states the ends, far from the next row (`tabb.data.steps`),
or, in data that do not state their ends, if its step to the next row is a reset: see `resets`.

Its next observation is unknown if none is stored, if the stored one is NaN, if it is the first observation of another
episode (made by shifting `observations` by one row), or if it is padding: at the end of an episode the row itself,
zeros, or one value that stands at most ends, where other rows hardly ever hold such a thing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tabb.data.allocation import IN_MEMORY, Memory
from tabb.data.checks import pieces
from tabb.data.steps import NextRows, compare_next_rows, in_order

FALL = 3.0
"""A reset brings the state at least this many times closer to a known first state of an episode."""

SURPRISE = 30.0
"""A reset's pair (s, s') is at least this many times as far from the usual pairs as the median pair."""

RARE = 0.01
"""Share of rows inside episodes up to which a next observation that looks like padding is padding at an end."""

_NEAR = 0.05  # in column scales: closer than this to a first state counts as this close
_STARTS = 64  # known first states compared with; more make a wide reset distribution no clearer
_PAIRS = 20_000  # pairs that the usual step is measured on


class Boundaries(NamedTuple):
    """The outcome for a file of N rows, S observation entries."""

    end: np.ndarray  # bool [N]: the row is the last of its episode
    next_observations: np.ndarray  # float32 [N, S]: equal to the observation where it is unknown
    unknown: np.ndarray  # bool [N]: the next observation is not known
    leaked: np.ndarray  # bool [N]: unknown, and what the file has there is (or may be) another episode's
    reset: np.ndarray  # bool [N]: the end is stated nowhere; `resets` found it
    padded: np.ndarray  # bool [N]: unknown, and what the file has there is padding
    absent: np.ndarray  # bool [N]: unknown, and the file has NaN there
    apart: np.ndarray  # bool [N]: no end is stated, but the next row is not the stored next observation
    next_rows: NextRows | None  # how stored next observations stand to the rows; None if none are stored


def boundaries(
    observations: np.ndarray,
    terminals: np.ndarray,
    next_observations: np.ndarray | None = None,
    timeouts: np.ndarray | None = None,
    episodes: np.ndarray | None = None,
    owned: bool = False,
    memory: Memory = IN_MEMORY,
) -> Boundaries:
    """Apply the rule of this module. Observations [N, S] float32, flags [N] bool, episode numbers [N].

    `next_observations` may hold NaN. `owned`: what must be mended in them may be mended in place. `memory`: where next
    observations go that are not stored.
    """
    rows = len(observations)
    none = np.zeros(rows, bool)
    stated = terminals.copy()
    stated[-1] = True
    if timeouts is not None:
        stated |= timeouts
    if episodes is not None:
        stated[:-1] |= episodes[1:] != episodes[:-1]
    states_cuts = episodes is not None or (timeouts is not None and bool(timeouts.any()))
    if next_observations is None:
        reset = none if states_cuts else resets(observations, stated)
        end = stated | reset
        following = memory.empty(observations.shape, np.float32)
        following[:-1] = observations[1:]
        following[end] = observations[end]
        return Boundaries(end, following, end, none, reset, none, none, none, None)

    absent = np.zeros(rows, bool)
    for piece in pieces(rows):
        absent[piece] = np.isnan(next_observations[piece]).any(axis=1)
    compared = compare_next_rows(observations, next_observations, ~stated)
    apart = ~compared.near & ~stated & ~absent
    end = stated | absent  # a row that is dropped is a gap, also inside of stated episodes
    # Rows whose next observations have nothing to do with the next row say nothing of ends: the flags do, or the
    # order of the rows. Rows in no order are each an episode of their own.
    if episodes is None and (
        compared.follow or not (states_cuts or (compared.relation != "unknown" and in_order(observations)))
    ):
        end |= apart
    reset = none if states_cuts else resets(observations, end)
    end |= reset

    leaked = (compared.equal if compared.exact or not compared.follow else compared.near) & end
    if not compared.exact and leaked.sum() < 0.1 * end.sum():
        leaked = none  # a true last observation that lies near the next episode's first by chance
    padded = _padding(observations, next_observations, terminals, end, absent) & ~leaked
    unknown = (leaked & ~terminals) | padded | absent
    # Whoever shifts `observations` to make `next_observations` has nothing for the last row but itself or row
    # 0.
    last = next_observations[-1]
    if not terminals[-1] and ((last == observations[-1]).all() or (last == observations[0]).all()):
        unknown[-1] = True
    # One next observation that crosses an end shows that the array was shifted: then terminal rows cross too,
    # also where a row is missing after them and no comparison can tell.
    if leaked.any():
        unknown |= terminals
        leaked = leaked | (terminals & ~padded & ~absent)
    if unknown.any():
        next_observations = next_observations if owned else next_observations.copy()
        next_observations[unknown] = observations[unknown]
    return Boundaries(end, next_observations, unknown, leaked, reset, padded, absent, apart, compared)


def apart_at_gaps(episodes: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Number of each row's episode, a new one behind each gap: no step leads across rows of no episode.

    `inside` are the numbers that the rows have in the file, where those of no episode stand between them.
    """
    starts = (episodes[1:] != episodes[:-1]) | (np.diff(inside) > 1)
    return np.append(0, np.cumsum(starts))


def _padding(
    observations: np.ndarray, stored: np.ndarray, terminals: np.ndarray, end: np.ndarray, absent: np.ndarray
) -> np.ndarray:
    """Ends (bool [N]) whose stored next observation only fills the place: the row itself, zeros, or one value.

    The same must hardly ever stand at rows inside episodes: a robot at rest repeats its rows, too.
    """
    ends, inside = np.flatnonzero(end & ~absent), np.flatnonzero(~end & ~absent)
    result = np.zeros(len(end), bool)
    if not (ends.size and inside.size):
        return result

    def repeats(rows: np.ndarray) -> np.ndarray:
        return (stored[rows] == observations[rows]).all(axis=1)

    def zeros(rows: np.ndarray) -> np.ndarray:
        return ~stored[rows].any(axis=1) & observations[rows].any(axis=1)

    for looks_padded in (repeats, zeros):
        at_ends = looks_padded(ends)
        if (
            at_ends.any()
            and np.concatenate([looks_padded(inside[piece]) for piece in pieces(len(inside))]).mean() < RARE
        ):
            result[ends[at_ends]] = True
    cuts = ends[~terminals[ends]]
    values, counts = np.unique(stored[cuts], axis=0, return_counts=True) if len(cuts) >= 3 else (stored[:0], [0])
    if max(counts) >= 3 and max(counts) > len(cuts) / 2:
        filler = values[np.argmax(counts)]
        if np.concatenate([(stored[inside[p]] == filler).all(axis=1) for p in pieces(len(inside))]).mean() < RARE:
            result[ends[(stored[ends] == filler).all(axis=1)]] = True
    return result


def resets(observations: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Rows (bool [N]) after which the next row starts another episode although nothing in the data says so.

    `end` marks the ends known so far; row 0 and the rows after them are known first states. The step from row
    i to row i + 1 is a reset if both hold:

    1. It falls onto a first state: with D(s) the distance to the nearest known first state (root mean square
       over columns, in units of each column's standard deviation, at least 0.3 of the median one so that a
       locked joint's tiny range does not count), D(s_i) >= 3 (D(s_i+1) + 0.05).
    2. No dynamics of this file make it: the Mahalanobis distance squared of the pair (s_i, s_i+1) from the
       file's usual pairs (worst 1% left out of their mean and covariance) is at least 30 times the median
       one.

    Neither alone suffices: a robot slowly returns to where it started, and contacts make surprising steps.
    Files with fewer than ten rows per column of the pair are too short to tell and give none. First states
    drawn from all over the state space cannot be found either: state the ends with `timeouts` or `episodes`.
    """
    reset = np.zeros(len(observations), bool)
    deviation = deviation_of(observations)
    varies = deviation > 1e-6 * np.maximum(observations.max(axis=0), -observations.min(axis=0))
    columns = int(varies.sum())
    inner = np.flatnonzero(~end)
    if columns == 0 or len(inner) < 20 * columns or len(inner) * 2 < len(end):  # too short, or rows are shuffled
        return reset
    scale = np.maximum(deviation[varies], 0.3 * np.median(deviation[varies]))
    centre = observations[0, varies].astype(np.float64)

    def scaled(index: np.ndarray | slice) -> np.ndarray:
        return (observations[index][:, varies] - centre) / scale

    starts = np.concatenate([[0], np.flatnonzero(end[:-1]) + 1])
    chosen = scaled(starts[np.linspace(0, len(starts) - 1, min(_STARTS, len(starts))).astype(int)])
    distance = np.empty(len(observations))
    for piece in pieces(len(observations), parts=8):  # a row has a distance to each of the first states
        part = scaled(piece)
        square = (part**2).sum(axis=1)[:, None] - 2 * part @ chosen.T + (chosen**2).sum(axis=1)
        distance[piece] = np.sqrt(np.maximum(square.min(axis=1), 0) / columns)
    asked = (inner[piece] for piece in pieces(len(inner)))
    falls = np.concatenate([rows[distance[rows] >= FALL * (distance[rows + 1] + _NEAR)] for rows in asked])
    if falls.size == 0:
        return reset

    usual = inner[:: len(inner) // _PAIRS + 1]
    surprise = _surprise(np.hstack([scaled(usual), scaled(usual + 1)]), np.hstack([scaled(falls), scaled(falls + 1)]))
    reset[falls[surprise >= SURPRISE]] = True
    return reset


def deviation_of(observations: np.ndarray) -> np.ndarray:
    """Standard deviation of each column in float64, without a copy of all in float64."""
    rows = len(observations)
    mean = sum(observations[piece].sum(axis=0, dtype=np.float64) for piece in pieces(rows)) / rows
    square = sum(((observations[piece] - mean) ** 2).sum(axis=0) for piece in pieces(rows))
    return np.sqrt(np.asarray(square) / rows)


def _surprise(usual: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Squared Mahalanobis distance of rows `asked` [m, k] from rows `usual` [n, k], in units of its
    median."""
    fitted = usual
    for _ in range(3):  # the odd pairs that are sought must not widen the measure of the usual ones
        mean = fitted.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(fitted.T))
        whiten = vectors / np.sqrt(np.maximum(values, 1e-7))
        square = (((usual - mean) @ whiten) ** 2).sum(axis=1)
        fitted = usual[square <= np.quantile(square, 0.99)]
    return (((asked - mean) @ whiten) ** 2).sum(axis=1) / np.median(square)
