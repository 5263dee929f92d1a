"""The compiled loop: many updates per call, data and indices on the device, no host sync inside.

Each update draws from a key folded from the seed's key and the update's number, so an update depends on
nothing but the state and its number: how a run is cut into calls, and where it was stopped and resumed, changes
no bit of the result.

Extra rows that a rule makes once are part of the data. Those that it makes anew every n updates are part of the state:
the loop then runs in stretches of n updates, each of which begins with fresh rows.

Where a rule has phases, each has its own updates in the same compiled call: one loop follows another.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from tabb.backbones.backbone import Backbone, Inputs, State
from tabb.batch import FIELDS, Batch, Domains, Sizes
from tabb.errors import UsageError
from tabb.models.returns_to_go import Aim, Conditions
from tabb.rules.rule import Metrics, Models, Rule, check_seams, phases_of
from tabb.training.drawing import Data, Packed, Series, draw, pack_extra, unpack_extra


@dataclasses.dataclass(frozen=True)
class Program:
    """What a run compiles: backbone x rule, with the length of the run (the policy's schedule needs it). Static."""

    backbone: Backbone
    rule: Rule
    updates: int
    run_updates: int | None = None
    """Those of the run that this is a phase of; None for a whole run"""

    def __post_init__(self) -> None:
        check_seams(self.rule)
        object.__setattr__(self, "rule", self.rule.on(self.backbone))

    @property
    def shares(self) -> tuple[int, int]:
        """Source and target rows of a batch."""
        return self.rule.shares(self.backbone.batch_size)

    @property
    def reads(self) -> tuple[bool, bool]:
        """Whether the run needs source and target rows."""
        return self.rule.reads(self.backbone.batch_size)

    @property
    def extra_share(self) -> int:
        """Extra rows of a batch."""
        return self.rule.extra_share(self.backbone.batch_size)

    @property
    def refresh_every(self) -> int:
        """Updates from one refresh of the extra rows to the next; 0 for none."""
        return self.rule.refresh_every if self.extra_share else 0

    @property
    def parts(self) -> tuple[tuple[int, Program], ...]:
        """The program of each phase of the run, with its first update; this program alone for a rule without phases."""
        parts, first = [], 0
        for phase in phases_of(self.rule, self.updates):
            same = phase.rule is self.rule and phase == (self.rule, self.updates, 1.0)
            slowed = self.backbone.slowed(phase.rate_factor)
            program = self if same else Program(slowed, phase.rule, phase.updates, self.updates)
            parts.append((first, program))
            first += phase.updates
        self._check_parts([part for _, part in parts])
        return tuple(parts)

    def _check_parts(self, parts: list[Program]) -> None:
        """Raise `UsageError` unless the phases make up the run, and its extra rows are there for them.

        The last phase would go on in silence, or never come.
        """
        lengths = [part.updates for part in parts]
        if min(lengths) < 1 or sum(lengths) != self.updates:
            raise UsageError(
                f"rule {self.rule.name}: phases({self.updates}) gives phases of {' and '.join(map(str, lengths))} "
                f"updates; give at least one to each, and {self.updates:,} to all"
            )
        for part in parts:
            anew = bool(part.refresh_every), bool(self.refresh_every)
            if part.extra_share and (not self.extra_share or anew[0] != anew[1]):
                raise UsageError(
                    f"rule {self.rule.name}: its phase of {part.rule.name} draws extra rows, which are those of the "
                    f"whole run; give {self.rule.name} itself extra_share, extra_rows and the same refresh_every"
                )

    def init(self, sizes: Sizes, key: PRNGKeyArray, extra: Packed | None = None, aim: Aim | None = None) -> State:
        """Fresh networks; with the extra rows that the run begins with, if the rule makes them anew along the way.

        `aim` is what a policy that remembers its episode is asked for.
        """
        state = self.backbone.init(self.rule, sizes, self.updates, key)
        if aim is not None:
            state = state._replace(aim=jax.tree.map(jnp.copy, aim))  # a copy: the state is given away
        return state._replace(extra=extra) if self.refresh_every else state

    def extra_rows(self, models: Models, domains: Domains, key: PRNGKeyArray) -> Packed | None:
        """The rows that the rule makes once, packed; None if batches hold none.

        `key` is the one that the models were prepared with. Raises `UsageError` for rows that do not fit the data.
        """
        if not self.extra_share:
            return None
        rows = self.rule.extra_rows(models, domains, jax.random.fold_in(key, EXTRA_ROWS))
        if rows is None or not len(rows):
            raise UsageError(
                f"rule {self.rule.name}: extra_share asks for {self.extra_share} extra rows in a batch, but extra_rows "
                "makes none; return ExtraRows, or 0 from extra_share"
            )
        for name in FIELDS:
            shape = (len(rows), *getattr(domains.target, name).shape[1:])
            if (given := jnp.shape(getattr(rows, name))) != shape:
                raise UsageError(f"rule {self.rule.name}: extra_rows gives {name} of shape {given}; give {shape}")
        for name, column in rows.columns.items():
            if jnp.shape(column)[:1] != (len(rows),):
                raise UsageError(
                    f"rule {self.rule.name}: extra_rows gives a column {name!r} of shape {jnp.shape(column)}; give one "
                    f"entry for each of its {len(rows):,} rows"
                )
        return pack_extra(rows)

    def conditions(self, models: Models, domains: Domains) -> Conditions | None:
        """What each row's action is conditioned on, 0 in a domain that is not read; None for rows that are seen alone.

        Raises `UsageError` for conditions that do not fit the data.
        """
        if not self.backbone.remembers:
            return None
        read = [
            rows if needed else rows[:0]
            for rows, needed in zip((domains.source, domains.target), self.reads, strict=True)
        ]
        found = self.rule.conditions(models, domains._replace(source=read[0], target=read[1]))
        for name, rows in zip(("source", "target"), read, strict=True):
            if (given := jnp.shape(getattr(found, name))) != (len(rows),):
                raise UsageError(
                    f"rule {self.rule.name}: conditions gives {given} for {len(rows):,} {name} rows; give one number "
                    "per row"
                )
        source, target = (
            jnp.pad(column, (0, len(whole) - len(column)))
            for column, whole in ((found.source, domains.source), (found.target, domains.target))
        )
        return found._replace(source=source, target=target)

    def update(
        self, models: Models, state: State, batch: Batch, key: PRNGKeyArray, number: Int[Array, ""]
    ) -> tuple[State, Metrics]:
        return self.backbone.update(state, self.inputs(models, batch, key, number))

    def inputs(self, models: Models, batch: Batch, key: PRNGKeyArray, number: Int[Array, ""]) -> Inputs:
        """What update `number` is given besides the state."""
        run = self.updates if self.run_updates is None else self.run_updates
        return Inputs(self.rule, models, batch, key, number, self.updates, run)


EXTRA_ROWS = 1_000
"""folded into the key of preparation for the rows that a rule makes once"""
REFRESH = 4
"""folded into an update's key for making extra rows anew; drawing folds 3, 5 and 6, and the update itself 2"""


def refreshed(
    program: Program, models: Models, data: Data, key: PRNGKeyArray, state: State, number: Int[Array, ""]
) -> State:
    """The state before update `number`: with extra rows made anew if they are due.

    Raises `UsageError` (as it is compiled) where the rule returns rows of another shape than it was given.
    """
    rule = program.rule

    def make() -> Packed:
        update_key = jax.random.fold_in(key, number)
        start = draw(data, rule.refresh_shares(), jax.random.fold_in(update_key, REFRESH))
        step = program.backbone.step(state, program.inputs(models, start, update_key, number))
        present = unpack_extra(state.extra, jnp.arange(len(state.extra.matrix)))
        rows = pack_extra(rule.refresh(step, present))
        if rows.layout != state.extra.layout or rows.matrix.shape != state.extra.matrix.shape:
            raise UsageError(
                f"rule {rule.name}: refresh returns {len(rows.matrix):,} rows of {_columns(rows)} for "
                f"{len(state.extra.matrix):,} rows of {_columns(state.extra)}; return as many with the same columns"
            )
        return rows

    due = number % program.refresh_every == 0
    return state._replace(extra=jax.lax.cond(due, make, lambda: state.extra))


def _columns(packed: Packed) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in packed.layout.columns)


def update_once(
    program: Program, models: Models, data: Data, key: PRNGKeyArray, state: State, number: Int[Array, ""]
) -> tuple[State, Metrics]:
    """Update `number` (counted from 0): make extra rows anew if they are due, draw its batch, update."""

    def of_part(first: int, part: Program, state: State) -> tuple[State, Metrics]:
        state = _begun(part, first, state, number == first)
        if part.refresh_every:
            state = refreshed(part, models, data, key, state, number)
        return _update(part, models, data, key, state, number)

    parts = program.parts
    if len(parts) == 1:
        return of_part(*parts[0], state)
    place = jnp.sum(number >= jnp.asarray([first for first, _ in parts])) - 1
    return jax.lax.switch(place, [functools.partial(of_part, *part) for part in parts], state)


def _begun(part: Program, first: int, state: State, now: Array) -> State:
    """The state as it goes into a phase: where one begins `now`, other than the first, with fresh optimisers."""
    if first == 0:
        return state
    return jax.lax.cond(now, part.backbone.restarted, lambda state: state, state)


def _update(
    program: Program, models: Models, data: Data, key: PRNGKeyArray, state: State, number: Int[Array, ""]
) -> tuple[State, Metrics]:
    key = jax.random.fold_in(key, number)
    extra = state.extra if program.refresh_every else None
    batch = draw(data, program.shares, key, program.extra_share, extra, number)
    updated, metrics = program.update(models, state, batch, jax.random.fold_in(key, 2), number)
    stopped = program.rule.stopped(state.learned)
    if stopped is not None:
        updated = jax.tree.map(lambda before, after: jnp.where(stopped, before, after), state, updated)
    return updated, metrics


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
    sums = no_sums(program, models, data, key, state)
    state, sums = sum_updates(program, models, data, key, state, sums, first, last)
    count = jnp.maximum(last - first, 1).astype(jnp.float32)
    return state, jax.tree.map(lambda total: total / count, sums)


def no_sums(program: Program, models: Models, data: Data, key: PRNGKeyArray, state: State) -> Metrics:
    """The sum of each metric over no updates."""
    first = jnp.zeros((), jnp.int32)
    shapes = jax.eval_shape(functools.partial(_update, program.parts[0][1], models, data, key), state, first)[1]
    return jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)


def sum_updates(
    program: Program,
    models: Models,
    data: Data,
    key: PRNGKeyArray,
    state: State,
    sums: Metrics,
    first: Int[Array, ""],
    last: Int[Array, ""],
) -> tuple[State, Metrics]:
    """Updates `first` to `last` - 1; `sums` of the metrics go on."""
    parts = program.parts
    if len(parts) == 1:
        state, sums = _run_part(parts[0][1], models, data, key, state, sums, first, last)
    else:
        ends: list[int | Array] = [*(begin for begin, _ in parts[1:]), last]
        for (begin, part), end in zip(parts, ends, strict=True):
            since, until = jnp.maximum(first, begin), jnp.minimum(last, end)
            state = _begun(part, begin, state, (since == begin) & (since < until))
            state, sums = _run_part(part, models, data, key, state, sums, since, until)
    return state, sums


def _run_part(
    program: Program,
    models: Models,
    data: Data,
    key: PRNGKeyArray,
    state: State,
    sums: Metrics,
    first: Int[Array, ""],
    last: Int[Array, ""],
) -> tuple[State, Metrics]:
    """Updates `first` to `last` - 1, all of one phase; `sums` of the metrics go on."""
    update = functools.partial(_update, program, models, data, key)

    def body(number: Array, carry: tuple[State, Metrics]) -> tuple[State, Metrics]:
        state, sums = carry
        state, metrics = update(state, number)
        return state, jax.tree.map(jnp.add, sums, metrics)

    if not program.refresh_every:
        state, sums = jax.lax.fori_loop(first, last, body, (state, sums))
    else:
        # Rows are made anew between inner loops: a condition inside of them would copy all rows at each update.
        every = program.refresh_every

        def stretch(carry: tuple[Array, State, Metrics]) -> tuple[Array, State, Metrics]:
            number, state, sums = carry
            state = refreshed(program, models, data, key, state, number)
            end = jnp.minimum(last, (number // every + 1) * every)
            return end, *jax.lax.fori_loop(number, end, body, (state, sums))

        _, state, sums = jax.lax.while_loop(lambda carry: carry[0] < last, stretch, (first, state, sums))
    return state, sums


compiled_updates = jax.jit(run_updates, static_argnums=0, donate_argnums=4)
"""`run_updates` for one seed, compiled; the state that goes in is used up."""
compiled_sums = jax.jit(sum_updates, static_argnums=0, donate_argnums=(4, 5))
"""`sum_updates` for one seed, compiled; state and sums that go in are used up."""


def run_updates_of_seeds(
    program: Program, models: Models, data: Data, key: Array, state: State, first: Array, last: Array
) -> tuple[State, Metrics]:
    """`run_updates` with a leading seed axis on models, columns, extra rows, key and state; the data are shared."""
    series = None if data.series is None else Series(None, 0, None)  # type: ignore[arg-type]
    over_seeds = jax.vmap(
        functools.partial(run_updates, program),
        in_axes=(0, Data(None, None, 0, 0, 0, 0, 0, None, None, series), 0, 0, None, None),  # type: ignore[arg-type]
    )
    return over_seeds(models, data, key, state, first, last)


compiled_updates_of_seeds = jax.jit(run_updates_of_seeds, static_argnums=0, donate_argnums=4)
"""Pays on an accelerator only: on a CPU an update is bound by arithmetic, and seeds run best as processes."""
