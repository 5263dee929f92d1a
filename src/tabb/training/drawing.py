"""How rows lie on the device, side by side in one matrix, and how the batch of an update is drawn from them.

What is drawn depends on the key alone, so rows that stay in a file (`stored_rows`) are drawn on the host by the same
numbers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tabb.batch import FIELDS, Batch, Domains, ExtraRows, Imitated, Rollouts
from tabb.models.imitation import ImitatedRows
from tabb.models.matching import Paths, draw_rollouts
from tabb.models.returns_to_go import Conditions
from tabb.models.returns_to_go import places as places_in_episodes
from tabb.transformer import Steps

EXTRA_DRAW, IMITATED_DRAW, PATH_DRAW = 3, 5, 6
"""folded into an update's key for drawing extra rows, copies to imitate, and paths"""


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Layout:
    """Name and shape of each column of a packed row, in order."""

    columns: tuple[tuple[str, tuple[int, ...]], ...]


class Packed(NamedTuple):
    """Columns side by side in one matrix [N, width], so that drawing rows is one gather."""

    matrix: Float[Array, "n width"]
    layout: Layout

    def rows(self, numbers: Int[Array, " b"]) -> dict[str, Array]:
        """The given rows, split into their columns again."""
        drawn = self.matrix.at[numbers].get(mode="promise_in_bounds")
        columns, at = {}, 0
        for name, shape in self.layout.columns:
            width = math.prod(shape)
            columns[name] = drawn[:, at : at + width].reshape(len(numbers), *shape)
            at += width
        return columns


def pack(columns: dict[str, Array]) -> Packed | None:
    """Columns of equal length as one matrix; None if there are none."""
    if not columns:
        return None
    layout = Layout(tuple((name, column.shape[1:]) for name, column in columns.items()))
    widths = [math.prod(shape) for _, shape in layout.columns]  # also where there is no row
    flat = [
        jnp.asarray(column, jnp.float32).reshape(len(column), width)
        for column, width in zip(columns.values(), widths, strict=True)
    ]
    return Packed(jnp.concatenate(flat, axis=1), layout)


def pack_extra(rows: ExtraRows) -> Packed:
    """Extra rows and their columns as one matrix."""
    packed = pack(
        {name: getattr(rows, name) for name in FIELDS} | {COLUMN + k: v for k, v in sorted(rows.columns.items())}
    )
    assert packed is not None
    return packed


def unpack_extra(packed: Packed, numbers: Int[Array, " b"]) -> ExtraRows:
    """The extra rows of these numbers."""
    drawn = packed.rows(numbers)
    fields: dict[str, Any] = {name: drawn.pop(name) for name in FIELDS}
    return ExtraRows(**fields, columns={name.removeprefix(COLUMN): column for name, column in drawn.items()})


COLUMN = "column "
"""before the names of an extra row's columns, which may be those of its fields"""


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Drawn:
    """How many rows were drawn ahead for each update: of both domains, of the source, of the target."""

    rows: int
    source: int
    target: int


class Ahead(NamedTuple):
    """Rows that were drawn before the updates that they are for: those of an update are adjacent."""

    first: Int[Array, ""]
    """The first update that there are rows for."""
    drawn: Drawn


class Series(NamedTuple):
    """What windows of consecutive rows take from each row, of both domains."""

    place: Int[Array, " n"]
    """of the row in its episode, from 0"""
    condition: Float[Array, " n"]
    """what its action is conditioned on, as the policy's network sees it"""
    back: Int[Array, " k"]
    """1 - K, ..., 0: its length is that of a window"""


class Data(NamedTuple):
    """All rows that batches are drawn from, on the device; or those that were drawn ahead for some updates."""

    rows: Packed
    """The source rows (none where the rule draws none), then the target rows."""
    sources: Int[Array, ""]
    """How many of them are source rows."""
    columns: Packed | None
    """What the rule prepared for each source row."""
    target_columns: Packed | None
    """What it prepared for each target row."""
    extra: Packed | None = None
    """Rows that the rule made once; None if it made none, or makes them anew along the way."""
    imitated: Packed | None = None
    """The target rows and then their copies, copy after copy, for the policy to imitate; None without copies."""
    paths: Paths | None = None
    """The logged paths that the policy is held to in a model; None without trajectory matching."""
    ahead: Ahead | None = None
    """None where these are all rows. Else `rows`, columns and `imitated` hold those of each update in turn."""
    filled: Int[Array, " d"] | None = None
    """How many source and target rows there are by now, where steps add some; the rows behind them are room. None where
    all are there."""
    series: Series | None = None
    """None where the learner sees the drawn rows alone."""


def pack_data(domains: Domains, columns: dict[str, Array], target_columns: dict[str, Array] | None = None) -> Data:
    """Both domains and the rule's columns, packed."""
    both = {name: jnp.concatenate([getattr(domains.source, name), getattr(domains.target, name)]) for name in FIELDS}
    rows = pack(both)
    assert rows is not None
    return Data(rows, jnp.asarray(len(domains.source), jnp.int32), pack(columns), pack(target_columns or {}))


def pack_series(domains: Domains, conditions: Conditions, window: int) -> Series:
    """What windows of so many rows take from each row of both domains."""
    place = [jnp.asarray(places_in_episodes(rows)) for rows in (domains.source, domains.target)]
    condition = jnp.concatenate([conditions.source, conditions.target]) / conditions.aim.unit
    return Series(jnp.concatenate(place), condition, jnp.arange(1 - window, 1))


def pack_imitated(rows: ImitatedRows) -> Packed:
    """The target rows and their copies as one matrix, copy after copy."""
    packed = pack({name: column.reshape(-1, *column.shape[2:]) for name, column in rows._asdict().items()})
    assert packed is not None
    return packed


def draw_numbers(
    shares: tuple[int, int],
    sources: Int[Array, ""],
    rows: Int[Array, ""] | int,
    key: PRNGKeyArray,
    filled: Int[Array, " d"] | None = None,
) -> Int[Array, " b"]:
    """Numbers of the rows of a batch among `rows` rows, of which the first `sources` are the source's.

    `filled` are how many of either domain's rows are there, if not all.
    """
    # One draw of all row numbers and one gather: what is drawn in two parts has to be copied together again.
    from_source = jnp.arange(sum(shares)) < shares[0]
    least = jnp.where(from_source, 0, sources)
    ends = (sources, rows) if filled is None else (filled[0], sources + filled[1])
    bound = jnp.where(from_source, *ends)
    return jax.random.randint(key, (sum(shares),), least, bound)


class Places(NamedTuple):
    """Where the rows of a batch are in the matrices of `Data`."""

    rows: Int[Array, " b"]
    source: Int[Array, " s"]
    target: Int[Array, " t"]


def places(data: Data, shares: tuple[int, int], key: PRNGKeyArray, number: Int[Array, ""] | None = None) -> Places:
    """The places of a batch, drawn uniformly with replacement, or those that were drawn ahead for update `number`."""
    if data.ahead is None:
        numbers = draw_numbers(shares, data.sources, len(data.rows.matrix), key, data.filled)
        return Places(numbers, numbers[: shares[0]], numbers[shares[0] :] - data.sources)
    assert number is not None, "rows were drawn ahead of updates only"
    update, drawn = number - data.ahead.first, data.ahead.drawn
    return Places(
        update * drawn.rows + jnp.arange(sum(shares)),
        update * drawn.source + jnp.arange(shares[0]),
        update * drawn.target + jnp.arange(shares[1]),
    )


def draw(
    data: Data,
    shares: tuple[int, int],
    key: PRNGKeyArray,
    extra_share: int = 0,
    extra: Packed | None = None,
    number: Int[Array, ""] | None = None,
) -> Batch:
    """A batch of uniformly drawn rows (with replacement): `shares[0]` of the source, then `shares[1]` of the target.

    After them come `extra_share` rows of `extra`, or of the extra rows of the data. `number` is the update that it is
    for.
    """
    at = places(data, shares, key, number)
    columns, target_columns = {}, {}
    if shares[0] and data.columns is not None:
        columns = data.columns.rows(at.source)
    if data.target_columns is not None:
        target_columns = data.target_columns.rows(at.target)
    rows: dict[str, Any] = data.rows.rows(at.rows)
    imitated = _draw_imitated(data, at.target, key)
    rollouts = _draw_rollouts(data, key) if shares[1] else None  # a phase on source rows alone keeps to no paths
    extra = data.extra if extra is None else extra
    if not extra_share or extra is None:
        return Batch(
            **rows,
            columns=columns,
            target_columns=target_columns,
            source_rows=shares[0],
            imitated=imitated,
            rollouts=rollouts,
            windows=None if data.series is None else draw_windows(data.rows, data.series, at.rows),
        )
    numbers = jax.random.randint(jax.random.fold_in(key, EXTRA_DRAW), (extra_share,), 0, len(extra.matrix))
    made = unpack_extra(extra, numbers)
    rows = {name: jnp.concatenate([column, getattr(made, name)]) for name, column in rows.items()}
    return Batch(
        **rows,
        columns=columns,
        target_columns=target_columns,
        source_rows=shares[0],
        extra_columns=made.columns,
        extra_rows=extra_share,
        imitated=imitated,
        rollouts=rollouts,
    )


def draw_windows(rows: Packed, series: Series, numbers: Int[Array, " b"]) -> Steps:
    """The K rows up to each of the rows `numbers`; before the first row of its episode there are none, all zero."""
    place = series.place[numbers][:, None] + series.back
    there = place >= 0
    at = jnp.maximum(numbers[:, None] + series.back, 0)
    drawn = rows.rows(at.reshape(-1))

    def column(name: str) -> Array:
        return jnp.where(there[..., None], drawn[name].reshape(*at.shape, -1), 0.0)

    return Steps(
        condition=jnp.where(there, series.condition[at], 0.0),
        observation=column("observation"),
        action=column("action"),
        time=jnp.maximum(place, 0),
        mask=there.astype(jnp.float32),
    )


def _draw_rollouts(data: Data, key: PRNGKeyArray) -> Rollouts | None:
    """Where the policy acts in the model, drawn from the logged paths."""
    if data.paths is None:
        return None

    def column(name: str) -> Callable[[Array], Array]:
        return lambda numbers: data.rows.rows(data.sources + numbers)[name]

    return draw_rollouts(
        data.paths, column("observation"), column("next_observation"), jax.random.fold_in(key, PATH_DRAW)
    )


def _draw_imitated(data: Data, numbers: Int[Array, " t"], key: PRNGKeyArray) -> Imitated | None:
    """For each of these target rows itself or one of its copies, all equally likely."""
    if data.imitated is None:
        return None
    if data.ahead is None:
        targets = len(data.rows.matrix) - data.sources
        numbers = imitated_numbers(numbers, targets, len(data.imitated.matrix) // targets, key)
    return Imitated(**data.imitated.rows(numbers))


def imitated_numbers(
    numbers: Int[Array, " t"], targets: Int[Array, ""] | int, copies: Int[Array, ""] | int, key: PRNGKeyArray
) -> Int[Array, " t"]:
    """For each of these target rows, of `targets` in all, the number of itself or of one of its copies."""
    copy = jax.random.randint(jax.random.fold_in(key, IMITATED_DRAW), numbers.shape, 0, copies)
    return copy * targets + numbers
