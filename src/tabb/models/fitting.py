"""What rules share that fit networks before training: standardised inputs, rows with a next state, the fit itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from numpy.typing import NDArray

from tabb.batch import Domains
from tabb.errors import DataError, UsageError
from tabb.float32 import is_constant
from tabb.networks import Normaliser
from tabb.transitions import Transitions

P = TypeVar("P")
C = TypeVar("C")
R = TypeVar("R")

CALLS = 20
"""compiled calls that a fit is cut into, so that progress shows and Ctrl-C is heard"""

ROWS_PER_CALL = 8192
"""rows scored at once: bounds the memory of hidden layers, whatever the size of the data"""

ROUNDING = 4 * float(jnp.finfo(jnp.float32).eps)
"""part of a number that only rounding makes"""

LEAST_UNIT = 0.01
"""least unit of an entry in one domain, as a part of its spread in the other: what hardly moves in the target would
otherwise make errors on source rows so large that they drown all else"""

Report = Callable[[str, float], None]


def check_widths(hidden: tuple[int, ...]) -> None:
    """Raise `UsageError` unless there are hidden layers, each of width 1 at least."""
    if not hidden or min(hidden) < 1:
        raise UsageError(f"hidden={hidden}: needs layers of width 1 at least")


def steps(data: Transitions) -> Float[Array, "n w"]:
    """[s, a, s'] of every row: what a score of the dynamics looks at."""
    return jnp.concatenate([data.observation, data.action, data.next_observation], axis=-1)


def changes(data: Transitions) -> Transitions:
    """The same rows with the change s' - s where s' was, for scores that look at [s, a, s' - s]."""
    return dataclasses.replace(data, next_observation=data.next_observation - data.observation)


def with_next(data: Transitions, name: str) -> Int[Array, " m"]:
    """Numbers of the rows that have a next state: a terminal row has none, what the file holds there says nothing.

    Raises `DataError` where no row has one.
    """
    rows = np.flatnonzero(np.asarray(data.terminal) == 0)
    if not rows.size:
        raise DataError(f"{name}: every row is terminal, so there are no dynamics to learn; check terminals")
    return jnp.asarray(rows, jnp.int32)


def step_normaliser(domains: Domains) -> Normaliser:
    """Mean and deviation of each column of [s, a, s'] over rows with a next state, each domain counting half."""
    moments = []
    for name, data in (("source", domains.source), ("target", domains.target)):
        rows = np.asarray(with_next(data, name))
        # Column group by column group: the million rows of Ant as one matrix of doubles would take gigabytes.
        groups = [np.asarray(part)[rows] for part in (data.observation, data.action, data.next_observation)]
        means, variances = zip(*map(column_moments, groups), strict=True)
        mean = np.concatenate(means)
        moments.append((mean, np.concatenate(variances) + mean**2))
    mean, square = np.mean(moments, axis=0)
    scale = np.sqrt(np.maximum(square - mean**2, 0))
    # A constant column (Ant's contact forces) has no spread to divide by.
    scale = np.where(is_constant(mean, scale), 1.0, scale)
    return Normaliser(jnp.asarray(mean, jnp.float32), jnp.asarray(scale, jnp.float32))


def pair_moments(data: Transitions) -> tuple[Any, Any, Any]:
    """Mean and spread [S + A, doubles] of the entries of (s, a), and whether each moves."""
    columns = [np.asarray(data.observation), np.asarray(data.action)]
    mean, spread = (
        np.concatenate([getattr(column, name)(axis=0, dtype=np.float64) for column in columns])
        for name in ("mean", "std")
    )
    return mean, spread, ~is_constant(mean, spread)


def pair_normaliser(data: Transitions) -> Normaliser:
    """Standardises (s, a) by these rows; what never changes is only centred."""
    mean, spread, moves = pair_moments(data)
    return Normaliser(jnp.asarray(mean, jnp.float32), jnp.asarray(np.where(moves, spread, 1.0), jnp.float32))


def column_moments(values: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of each column, summed in double precision without a copy of all in doubles."""
    mean = values.mean(axis=0, dtype=np.float64)
    return mean, ((values - mean.astype(np.float32)) ** 2).mean(axis=0, dtype=np.float64)


def outcome_scales(data: Transitions, other: Transitions | None = None) -> tuple[Float[Array, " s"], Normaliser]:
    """Units of a step's outcome: the spread of the changes s' - s, entry by entry; mean and spread of the rewards.

    Rewards are centred, changes need not be: theirs is a small part of their spread. A sparse task's reward of -1
    with rare successes lies some 20 spreads from 0, and its error would drown that of the states.

    With the rows of the `other` domain the units are still those of `data`, since errors there are what counts. Only
    what does not move there has the other's unit, and none is below `LEAST_UNIT` of the other's.
    """
    change, moves = _changes(data)
    reward, varies = jnp.std(data.reward), ~never_changes(data.reward)
    if other is not None:
        other_change, other_moves = _changes(other)
        change, moves = unit_beside(change, moves, other_change, other_moves)
        reward, varies = unit_beside(reward, varies, jnp.std(other.reward), ~never_changes(other.reward))
    # A constant column (Ant's contact forces) has no spread to divide by.
    # So has a constant reward (no step of a sparse task succeeds): divided by next to nothing it would drown the rest.
    return jnp.where(moves, change, 1.0), Normaliser(jnp.mean(data.reward), jnp.where(varies, reward, 1.0))


def _changes(data: Transitions) -> tuple[Float[Array, " s"], Bool[Array, " s"]]:
    """The spread of the changes of each entry, and whether it moves at all."""
    change = data.next_observation - data.observation
    alive = 1.0 - data.terminal
    spread = jnp.sqrt(jnp.sum(change**2 * alive[:, None], axis=0) / jnp.sum(alive))
    return spread, ~stands_still(change * alive[:, None], data.observation)


def unit_beside(spread: Any, moves: Any, other: Any, other_moves: Any) -> tuple[Array, Array]:
    """The unit of something with this spread, that moves or not, beside the spread in another domain; if it has one."""
    least = jnp.where(other_moves, LEAST_UNIT * other, 0.0)
    return jnp.where(moves, jnp.maximum(spread, least), other), moves | other_moves


def stands_still(change: Float[Array, "n s"], observation: Float[Array, "m s"]) -> Array:
    """Columns [S] that no change moves, rounding aside: their unit does not matter."""
    return jnp.max(jnp.abs(change), axis=0) <= ROUNDING * jnp.max(jnp.abs(observation), axis=0)


def never_changes(values: Float[Array, "n ..."]) -> Array:
    """Whether the numbers of each column are one number, rounding aside: their unit does not matter."""
    return jnp.max(values, axis=0) - jnp.min(values, axis=0) <= ROUNDING * jnp.max(jnp.abs(values), axis=0)


def standard_steps(domains: Domains, normaliser: Normaliser) -> tuple[Float[Array, "n w"], Float[Array, "m w"]]:
    """Standardised [s, a, s'] of the source and of the target rows that have a next state."""
    return (
        normaliser(steps(domains.source)[with_next(domains.source, "source")]),
        normaliser(steps(domains.target)[with_next(domains.target, "target")]),
    )


def fit(
    loss: Callable[[P, Any, PRNGKeyArray], Float[Array, ""]],
    parameters: P,
    data: Any,
    optimiser: optax.GradientTransformation,
    updates: int,
    key: PRNGKeyArray,
    report: Report,
    what: str,
) -> P:
    """`parameters` after so many updates of `optimiser` on `loss(parameters, data, key of the update)`."""

    def update(carry: tuple[P, Any], data: Any, key: PRNGKeyArray) -> tuple[P, Any]:
        parameters, state = carry
        step, state = optimiser.update(jax.grad(loss)(parameters, data, key), state, parameters)
        return optax.apply_updates(parameters, step), state

    return run_fit(update, (parameters, optimiser.init(parameters)), data, updates, key, report, what)[0]


def run_fit(
    update: Callable[[C, Any, PRNGKeyArray], C],
    carry: C,
    data: Any,
    updates: int,
    key: PRNGKeyArray,
    report: Report,
    what: str,
) -> C:
    """`carry` after so many calls of `update(carry, data, key of the update)`.

    Deterministic in `key`, however the fit is cut into calls; `report(what, share done)` before each of them.
    """

    @jax.jit
    def run(data: Any, key: PRNGKeyArray, carry: C, bounds: Int[Array, " 2"]) -> C:
        def body(number: Array, carry: C) -> C:
            return update(carry, data, jax.random.fold_in(key, number))

        return jax.lax.fori_loop(bounds[0], bounds[1], body, carry)

    call = max(1, -(-updates // CALLS))
    for first in range(0, updates, call):
        report(what, first / updates)
        carry = run(data, key, carry, jnp.asarray([first, min(first + call, updates)], jnp.int32))
        jax.block_until_ready(carry)
    report(what, 1.0)
    return carry


def draw_rows(rows: Int[Array, " m"], count: int, key: PRNGKeyArray) -> Int[Array, " count"]:
    """So many of the given row numbers, uniformly with replacement."""
    return rows[jax.random.randint(key, (count,), 0, len(rows))]


def scores(score: Callable[[R], Any], data: R) -> Any:
    """`score` of every row, computed in pieces; it takes rows with a leading axis and returns arrays with one."""

    def one(row: R) -> Any:
        return jax.tree.map(lambda leaf: leaf[0], score(jax.tree.map(lambda leaf: leaf[None], row)))

    return jax.jit(lambda data: jax.lax.map(one, data, batch_size=ROWS_PER_CALL))(data)
