"""Statistics of source rows: effective sample size, courses along episodes, maps of state space."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import NamedTuple

import numpy as np
import scipy.ndimage
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from tabb.data.report import Loaded

Column = NDArray[np.float64]
FEWEST = 20
"""least number of rows for a quantile"""
CELL_ROWS = 3
"""least number of rows in a cell of the map"""
EXTREME = 0.1
"""share of the rows that counts as one end of a state dimension"""


def effective_share(weights: ArrayLike) -> float:
    """(Σw)² / (N Σw²): effective sample size as a share of the rows."""
    w = np.asarray(weights, np.float64)
    return float(w.sum() ** 2 / (len(w) * np.square(w).sum()))


def steps_of(loaded: Loaded) -> NDArray[np.intp]:
    """Step of each transition in its episode, from 0 [N]; dropped rows of the episode count."""
    ends, rows = np.asarray(loaded.report.episode_ends, np.intp), loaded.report.kept_rows
    starts = ends + 1 - np.asarray(loaded.report.lengths, np.intp)
    result: NDArray[np.intp] = rows - starts[np.minimum(np.searchsorted(ends, rows), len(starts) - 1)]
    return result


def return_to_go(reward: ArrayLike, episode: ArrayLike, discount: float) -> Column:
    """Σ γ^t r over the rest of the row's logged episode [N]."""
    r, e = np.asarray(reward, np.float64), np.asarray(episode)
    result, rest = np.empty(len(r)), 0.0
    for i in range(len(r) - 1, -1, -1):
        rest = r[i] + (discount * rest if i + 1 < len(r) and e[i + 1] == e[i] else 0.0)
        result[i] = rest
    return result


def on_scale(value: float, logged: float) -> bool:
    """Whether a mean value lies between half and twice the mean logged return-to-go, and has its sign."""
    return value * logged >= 0 and 0.5 * abs(logged) <= abs(value) <= 2 * abs(logged)


class Correlation(NamedTuple):
    """Spearman's rank correlation with an approximate 95% interval (Fisher's z, standard error 1.06 / √(n - 3))."""

    value: float
    low: float
    high: float
    entries: int


def rank_correlation(first: ArrayLike, second: ArrayLike) -> Correlation | None:
    """Rank correlation of two columns; None for fewer than five entries or a constant column."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(a) < 5 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nearly constant columns
        value = float(scipy.stats.spearmanr(a, b).statistic)
    z, error = math.atanh(min(max(value, -0.999999), 0.999999)), 1.06 / math.sqrt(len(a) - 3)
    return Correlation(value, math.tanh(z - 1.96 * error), math.tanh(z + 1.96 * error), len(a))


@dataclasses.dataclass(frozen=True)
class Episodes:
    """One entry per source episode that has rows."""

    number: NDArray[np.int64]
    first: NDArray[np.intp]
    """Index of its first used row among all."""
    first_row: NDArray[np.int64]
    """First of its used rows in the file; `last_row` is the last."""
    last_row: NDArray[np.int64]
    rows: NDArray[np.int64]
    returns: Column
    """Sum of the rewards of its used rows, undiscounted."""
    means: dict[str, Column]
    """Mean of each column over its rows."""


def by_episode(episode: ArrayLike, file_row: ArrayLike, reward: ArrayLike, columns: dict[str, Column]) -> Episodes:
    """The source's episodes, in the order of the file; rows of one episode are adjacent."""
    numbers, first, inverse, counts = np.unique(
        np.asarray(episode), return_index=True, return_inverse=True, return_counts=True
    )
    rows = np.asarray(file_row)

    def total(column: ArrayLike) -> Column:
        return np.bincount(inverse, np.asarray(column, np.float64), minlength=len(numbers)).astype(np.float64)

    means = {name: total(column) / counts for name, column in columns.items()}
    return Episodes(numbers, first, rows[first], rows[first + counts - 1], counts, total(reward), means)


class Course(NamedTuple):
    """Quartiles of a column in bins of the step number; bins with too few rows are left out."""

    step: Column
    """Middle of each bin."""
    low: Column
    median: Column
    high: Column


def over_time(step: ArrayLike, column: ArrayLike, bins: int = 40) -> Course:
    """Quartiles of a column along an episode, in `bins` bins of equal width (fewer if episodes are shorter)."""
    at, values = np.asarray(step), np.asarray(column, np.float64)
    edges = np.linspace(0, at.max() + 1, min(bins, int(at.max()) + 1) + 1)
    which = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, len(edges) - 2)
    quartiles = []
    for i in range(len(edges) - 1):
        inside = values[which == i]
        if len(inside) >= FEWEST:
            quartiles.append(((edges[i] + edges[i + 1]) / 2, *np.quantile(inside, (0.25, 0.5, 0.75))))
    return (
        Course(*(np.array(part) for part in zip(*quartiles, strict=True))) if quartiles else Course(*[np.empty(0)] * 4)
    )


class Map(NamedTuple):
    """A column over the first two principal components of the source's normalised observations."""

    x_edges: Column
    y_edges: Column
    mean: Column
    """Mean of the column in each cell [X, Y]; NaN in cells with too few source rows."""
    target: NDArray[np.bool_]
    """The smallest set of cells with 90% of the target's rows, after light smoothing of the counts [X, Y]."""
    explained: tuple[float, float]
    """Share of the variance along each component."""
    loads: tuple[tuple[int, ...], tuple[int, ...]]
    """Entries of the observation with the largest weight in each component."""


def region_map(source: ArrayLike, target: ArrayLike, column: ArrayLike, cells: tuple[int, int] = (32, 22)) -> Map:
    """A map of a column over state space. `source` [N, S] and `target` [M, S] are normalised."""
    s, t = np.asarray(source, np.float64), np.asarray(target, np.float64)
    middle = s.mean(axis=0)
    spread, axes = np.linalg.eigh(np.cov(s - middle, rowvar=False).reshape(s.shape[1], s.shape[1]))
    if s.shape[1] == 1:  # a plane needs two axes; the second is empty
        spread, axes = np.r_[0.0, spread], np.array([[0.0, 1.0]])
    axes = axes[:, [-1, -2]]
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    p, q = (s - middle) @ axes, (t - middle) @ axes
    edges = []
    for i, count in enumerate(cells):
        low, high = np.quantile(np.r_[p[:, i], q[:, i]], (0.002, 0.998))
        low, high = (low, high) if high > low else (low - 1.0, low + 1.0)
        edges.append(np.linspace(low, high, count + 1))
    total, _, _ = np.histogram2d(p[:, 0], p[:, 1], edges, weights=np.asarray(column, np.float64))
    rows, _, _ = np.histogram2d(p[:, 0], p[:, 1], edges)
    mean = np.where(rows >= CELL_ROWS, total / np.maximum(rows, 1), np.nan)
    target_rows, _, _ = np.histogram2d(q[:, 0], q[:, 1], edges)
    target_rows = scipy.ndimage.gaussian_filter(target_rows, 0.7)
    order = np.argsort(-target_rows, axis=None, kind="stable")
    held = np.cumsum(target_rows.ravel()[order])
    inside = np.zeros(target_rows.size, bool)
    inside[order[: int(np.searchsorted(held, 0.9 * held[-1])) + 1]] = True
    shares = np.maximum(spread[[-1, -2]], 0) / max(float(np.maximum(spread, 0).sum()), np.finfo(float).tiny)
    most = [tuple(int(k) for k in np.argsort(-np.abs(axes[:, i]), kind="stable")[:3]) for i in (0, 1)]
    return Map(
        edges[0],
        edges[1],
        mean,
        inside.reshape(target_rows.shape),
        (float(shares[0]), float(shares[1])),
        (most[0], most[1]),
    )


class Extreme(NamedTuple):
    """One end of a state dimension."""

    entry: int
    low: bool
    """Whether it is the low end."""
    bound: float
    """The end is at or beyond it, in the file's units."""
    mean: float
    """Mean of the column at this end; `elsewhere` is that of all other rows."""
    elsewhere: float
    target: float
    """Share of the target's rows there."""


def extremes(source: ArrayLike, target: ArrayLike, column: ArrayLike) -> list[Extreme]:
    """The lowest and highest tenth of each entry of the observation, the smallest mean of the column first.

    `source` [N, S] and `target` [M, S] are in the file's units. An end may have more than a tenth of the rows if these
    share one value, as flags do. Constant entries are left out.
    """
    s, t, c = np.asarray(source), np.asarray(target), np.asarray(column, np.float64)
    ends = []
    for entry in range(s.shape[1]):
        for low in (True, False):
            bound = np.quantile(s[:, entry], EXTREME if low else 1 - EXTREME)
            inside = s[:, entry] <= bound if low else s[:, entry] >= bound
            if inside.all() or not inside.any():
                continue
            beyond = t[:, entry] <= bound if low else t[:, entry] >= bound
            means = float(c[inside].mean()), float(c[~inside].mean())
            ends.append(Extreme(entry, low, float(bound), *means, float(beyond.mean())))
    return sorted(ends, key=lambda extreme: extreme.mean)
