"""The compiled loop: many updates per call, data and indices on the device, no host sync inside.

Each update draws from a key folded from the seed's key and the update's number, so an update depends on
nothing but the state and its number: how a run is cut into calls, and where it was stopped and resumed, changes
no bit of the result.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tabb.backbones.backbone import Backbone, State
from tabb.batch import FIELDS, Batch, Domains, Sizes
from tabb.rules.rule import Metrics, Models, Rule, check_seams


@dataclasses.dataclass(frozen=True)
class Program:
    """What a run compiles: backbone x rule, with the length of the run (the policy's schedule needs it). Static."""

    backbone: Backbone
    rule: Rule
    updates: int

    def __post_init__(self) -> None:
        check_seams(self.rule)
        object.__setattr__(self, "rule", self.rule.on(self.backbone))

    def init(self, sizes: Sizes, key: PRNGKeyArray) -> State:
        return self.backbone.init(self.rule, sizes, self.updates, key)

    def update(
        self, models: Models, state: State, batch: Batch, key: PRNGKeyArray, number: Int[Array, ""]
    ) -> tuple[State, Metrics]:
        return self.backbone.update(self.rule, models, self.updates, state, batch, key, number)


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
    flat = [jnp.asarray(column, jnp.float32).reshape(len(column), -1) for column in columns.values()]
    return Packed(jnp.concatenate(flat, axis=1), layout)


class Data(NamedTuple):
    """All rows that batches are drawn from, on the device."""

    rows: Packed
    """The source rows (none where the rule draws none), then the target rows."""
    sources: Int[Array, ""]
    """How many of them are source rows."""
    columns: Packed | None
    """What the rule prepared for each source row."""
    target_columns: Packed | None
    """What it prepared for each target row."""


def pack_data(domains: Domains, columns: dict[str, Array], target_columns: dict[str, Array] | None = None) -> Data:
    """Both domains and the rule's columns, packed."""
    both = {name: jnp.concatenate([getattr(domains.source, name), getattr(domains.target, name)]) for name in FIELDS}
    rows = pack(both)
    assert rows is not None
    return Data(rows, jnp.asarray(len(domains.source), jnp.int32), pack(columns), pack(target_columns or {}))


def draw(data: Data, shares: tuple[int, int], key: PRNGKeyArray) -> Batch:
    """A batch of uniformly drawn rows (with replacement): `shares[0]` of the source, then `shares[1]` of the target."""
    # One draw of all row numbers and one gather: what is drawn in two parts has to be copied together again.
    from_source = jnp.arange(sum(shares)) < shares[0]
    least = jnp.where(from_source, 0, data.sources)
    bound = jnp.where(from_source, data.sources, len(data.rows.matrix))
    numbers = jax.random.randint(key, (sum(shares),), least, bound)
    columns, target_columns = {}, {}
    if shares[0] and data.columns is not None:
        columns = data.columns.rows(numbers[: shares[0]])
    if data.target_columns is not None:
        target_columns = data.target_columns.rows(numbers[shares[0] :] - data.sources)
    return Batch(**data.rows.rows(numbers), columns=columns, target_columns=target_columns, source_rows=shares[0])


def update_once(
    program: Program, models: Models, data: Data, key: PRNGKeyArray, state: State, number: Int[Array, ""]
) -> tuple[State, Metrics]:
    """Update `number` (counted from 0): draw its batch, update."""
    shares = program.rule.shares(program.backbone.batch_size)
    key = jax.random.fold_in(key, number)
    batch = draw(data, shares, key)
    return program.update(models, state, batch, jax.random.fold_in(key, 2), number)


def run_updates(
    program: Program,
    models: Models,
    data: Data,
    key: PRNGKeyArray,
    state: State,
    first: Int[Array, ""] | int,
    last: Int[Array, ""] | int,
) -> tuple[State, Metrics]:
    """Updates `first` to `last` - 1; returns the new state and the mean of each metric over them.

    The bounds are traced, so every stretch of a run is the same compiled program.
    """
    first, last = jnp.asarray(first, jnp.int32), jnp.asarray(last, jnp.int32)
    update = functools.partial(update_once, program, models, data, key)
    shapes = jax.eval_shape(update, state, first)[1]
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    def body(number: Array, carry: tuple[State, Metrics]) -> tuple[State, Metrics]:
        state, sums = carry
        state, metrics = update(state, number)
        return state, jax.tree.map(jnp.add, sums, metrics)

    state, sums = jax.lax.fori_loop(first, last, body, (state, zeros))
    count = jnp.maximum(last - first, 1).astype(jnp.float32)
    return state, jax.tree.map(lambda total: total / count, sums)


compiled_updates = jax.jit(run_updates, static_argnums=0, donate_argnums=4)
"""`run_updates` for one seed, compiled; the state that goes in is used up."""


def run_updates_of_seeds(
    program: Program, models: Models, data: Data, key: Array, state: State, first: Array, last: Array
) -> tuple[State, Metrics]:
    """`run_updates` with a leading seed axis on models, the rule's columns, key and state; the data are shared."""
    over_seeds = jax.vmap(
        functools.partial(run_updates, program),
        in_axes=(0, Data(None, None, 0, 0), 0, 0, None, None),  # type: ignore[arg-type]
    )
    return over_seeds(models, data, key, state, first, last)


compiled_updates_of_seeds = jax.jit(run_updates_of_seeds, static_argnums=0, donate_argnums=4)
"""Pays on an accelerator only: on a CPU an update is bound by arithmetic, and seeds run best as processes."""
