"""The compiled loop: many updates per call, data and indices on the device, no host sync inside.

Each update draws from a key folded from the seed's key and the update's number, so an update depends on
nothing but the state and its number: how a run is cut into calls, and where it was stopped and resumed, changes
no bit of the result.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tabb.backbones.iql import IQL, State
from tabb.batch import Batch, Domains, Sizes
from tabb.rules.rule import Metrics, Models, Rule
from tabb.transitions import Transitions


@dataclasses.dataclass(frozen=True)
class Learner:
    """Backbone x rule, with the length of the run (the policy's schedule needs it). Static in compiled code."""

    backbone: IQL
    rule: Rule
    updates: int

    def init(self, sizes: Sizes, key: PRNGKeyArray) -> State:
        return self.backbone.init(self.rule, sizes, self.updates, key)

    def update(self, models: Models, state: State, batch: Batch) -> tuple[State, Metrics]:
        return self.backbone.update(self.rule, models, self.updates, state, batch)


class Packed(NamedTuple):
    """One domain as a single matrix [N, width], so that drawing rows is one gather; `layout` splits rows again."""

    matrix: Float[Array, "n width"]
    layout: Layout


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Layout:
    """Name and shape of each column of a packed row, in order."""

    columns: tuple[tuple[str, tuple[int, ...]], ...]


FIELDS = ("observation", "action", "reward", "next_observation", "terminal")


def pack(data: Transitions, columns: dict[str, Array]) -> Packed:
    """Transitions and the rule's columns side by side."""
    named = {name: jnp.asarray(getattr(data, name)) for name in FIELDS} | columns
    rows = len(data)
    matrix = jnp.concatenate([column.reshape(rows, -1) for column in named.values()], axis=1)
    layout = Layout(tuple((name, column.shape[1:]) for name, column in named.items()))
    return Packed(matrix.astype(jnp.float32), layout)


def unpack(packed: Packed, rows: Int[Array, " b"]) -> dict[str, Array]:
    """The given rows, split into their columns."""
    drawn = packed.matrix[rows]
    out, at = {}, 0
    for name, shape in packed.layout.columns:
        width = 1
        for size in shape:
            width *= size
        out[name] = drawn[:, at : at + width].reshape(len(rows), *shape)
        at += width
    return out


def draw(source: Packed, target: Packed, shares: tuple[int, int], key: PRNGKeyArray) -> Batch:
    """A batch of uniformly drawn rows (with replacement): `shares[0]` of the source, then `shares[1]` of the target."""
    source_key, target_key = jax.random.split(key)
    parts = []
    for packed, share, part_key in ((source, shares[0], source_key), (target, shares[1], target_key)):
        rows = jax.random.randint(part_key, (share,), 0, packed.matrix.shape[0])
        parts.append(unpack(packed, rows))
    fields = {name: jnp.concatenate([part[name] for part in parts]) for name in FIELDS}
    columns = {name: column for name, column in parts[0].items() if name not in FIELDS}
    return Batch(**fields, columns=columns, source_rows=shares[0])


def update_once(
    learner: Learner, models: Models, source: Packed, target: Packed, key: PRNGKeyArray, state: State, number: Array
) -> tuple[State, Metrics]:
    """Update `number` (counted from 0): draw its batch, update."""
    shares = learner.rule.shares(learner.backbone.batch_size)
    batch = draw(source, target, shares, jax.random.fold_in(key, number))
    return learner.update(models, state, batch)


def run_updates(
    learner: Learner,
    models: Models,
    source: Packed,
    target: Packed,
    key: PRNGKeyArray,
    state: State,
    first: Int[Array, ""] | int,
    last: Int[Array, ""] | int,
) -> tuple[State, Metrics]:
    """Updates `first` to `last` - 1; returns the new state and the mean of each metric over them.

    The bounds are traced, so every stretch of a run is the same compiled program.
    """
    first, last = jnp.asarray(first, jnp.int32), jnp.asarray(last, jnp.int32)
    update = functools.partial(update_once, learner, models, source, target, key)
    shapes = jax.eval_shape(update, state, first)[1]
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    def body(number: Array, carry: tuple[State, Metrics]) -> tuple[State, Metrics]:
        state, sums = carry
        state, metrics = update(state, number)
        return state, jax.tree.map(jnp.add, sums, metrics)

    state, sums = jax.lax.fori_loop(first, last, body, (state, zeros))
    count = jnp.maximum(last - first, 1).astype(jnp.float32)
    return state, jax.tree.map(lambda total: total / count, sums)


compiled_updates = jax.jit(run_updates, static_argnums=0, donate_argnums=5)
"""`run_updates` for one seed, compiled; the state that goes in is used up."""

compiled_updates_of_seeds = jax.jit(
    lambda learner, models, source, target, key, state, first, last: jax.vmap(
        functools.partial(run_updates, learner), in_axes=(0, 0, None, 0, 0, None, None)
    )(models, source, target, key, state, first, last),
    static_argnums=0,
    donate_argnums=5,
)
"""`run_updates` with a leading seed axis on models, source columns, key and state. Pays on accelerators only."""
