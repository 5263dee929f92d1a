"""What a learner sees: the two domains on the device, and the batch drawn from them at each update."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from tabb.errors import UsageError
from tabb.float32 import is_constant
from tabb.networks import Normaliser
from tabb.transformer import Steps
from tabb.transitions import StoredRows, Transitions, pieces_of, with_extras

NORMALISATIONS = ("none", "pooled", "pooled-absolute")

DAMPING = 1e-3
"""Added to each column's spread, as published code does. It has no unit of its own: where the columns' usual (median)
spread is below 0.1 it is a hundredth of that."""

FIELDS = ("observation", "action", "reward", "next_observation", "terminal")
"""The columns of a transition that a batch holds."""


class Domains(NamedTuple):
    """Source and target data with *normalised* observations, and the normaliser that made them so."""

    source: Transitions
    target: Transitions
    normaliser: Normaliser


class Sizes(NamedTuple):
    """Widths that networks need: of an observation and of an action."""

    observation: int
    action: int


Rows = Transitions | StoredRows
"""of one domain, in memory or in a file"""


def fit_normaliser(source: Rows, target: Rows, kind: str, shares: tuple[int, int] = (1, 1)) -> Normaliser:
    """The normaliser for `kind`.

    - "none": identity.
    - "pooled": mean and standard deviation over both data sets, where each *domain* counts half: batches hold
      both in equal shares, whatever the sizes of the files. A domain of which batches hold no rows, by `shares`,
      does not count. The scale is that of `scale_of`.
    - "pooled-absolute": the same, but the scale is the spread + 1e-3 whatever the unit, and 1 for a spread below 1e-6:
      what "pooled" meant to runs that were begun before. Both agree bit for bit where the median spread is 0.1 at
      least and each column's 0.002 at least.
    """
    size = (source.data if isinstance(source, StoredRows) else source).observation_size
    if kind == "none":
        return Normaliser(jnp.zeros(size, jnp.float32), jnp.ones(size, jnp.float32))
    if kind not in NORMALISATIONS:
        raise UsageError(f"normalise={kind!r} is unknown: use one of {', '.join(NORMALISATIONS[:2])}")
    drawn = [domain for domain, share in zip((source, target), shares, strict=True) if share and len(domain)]
    mean = np.mean([_mean(domain, lambda x: x) for domain in drawn], axis=0)
    variance = np.mean([_mean(domain, lambda x: (x - mean) ** 2) for domain in drawn], axis=0)
    spread = np.sqrt(variance)
    scale = np.where(spread < 1e-6, 1.0, spread + 1e-3) if kind == "pooled-absolute" else scale_of(mean, spread)
    return Normaliser(jnp.asarray(mean, jnp.float32), jnp.asarray(scale, jnp.float32))


def _mean(rows: Rows, of: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean [S] of a function of observations in double precision, piece by piece.

    It is that of NumPy for all rows at once, bit for bit: row after row is added.
    """
    pieces = (of(np.asarray(piece.observation, np.float64)) for piece in pieces_of(rows))
    first = next(pieces)
    if first.shape[1] == 1:  # of a single column NumPy adds pairs
        return np.concatenate([first, *pieces]).mean(axis=0)
    total = first.sum(axis=0)
    for piece in pieces:
        total = np.concatenate([total[None], piece]).sum(axis=0)
    mean: NDArray[np.float64] = total / len(rows)
    return mean


def scale_of(mean: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each column is divided by: its spread + `DAMPING`, or its spread alone where that is below twice `DAMPING`.

    A column that never moves, as far as float32 can tell (Ant's contact forces), gets 1: it is only centred. Other
    units give other scales in the same proportion, up to the damping.
    """
    constant = is_constant(mean, spread)
    usual = float(np.median(spread[~constant])) if (~constant).any() else 1.0
    damping = min(DAMPING, 0.01 * usual)
    return np.where(constant, 1.0, np.where(spread >= 2 * damping, spread + damping, spread))


def make_domains(
    source: Transitions,
    target: Transitions,
    normalise: str = "pooled",
    shares: tuple[int, int] = (1, 1),
    extras: Collection[str] = (),
) -> Domains:
    """Both data sets on the device with normalised observations; `shares` say by which of them, as `Rule.reads`.

    Of the extras of the data those that are named are kept.
    """
    return normalised_domains(source, target, fit_normaliser(source, target, normalise, shares), extras)


def normalised_domains(
    source: Transitions, target: Transitions, normaliser: Normaliser, extras: Collection[str] = ()
) -> Domains:
    """Both data sets on the device, their observations normalised."""
    return Domains(on_device(source, normaliser, extras), on_device(target, normaliser, extras), normaliser)


def on_device(data: Transitions, normaliser: Normaliser, extras: Collection[str] = ()) -> Transitions:
    """Rows on the device with normalised observations, as rules are given them."""
    data = jax.tree.map(jnp.asarray, with_extras(data, extras))
    return dataclasses.replace(
        data,
        observation=normaliser(data.observation),
        next_observation=normaliser(data.next_observation),
    )


class ExtraRows(eqx.Module):
    """Rows that a rule makes itself, beside those of the data: with normalised observations, as `Domains` has them."""

    observation: Float[Array, "n s"]
    action: Float[Array, "n a"]
    reward: Float[Array, " n"]
    next_observation: Float[Array, "n s"]
    terminal: Float[Array, " n"]
    columns: dict[str, Array] = eqx.field(default_factory=dict)
    """what batches carry along for each of them, leading axis n"""

    def __len__(self) -> int:
        return self.observation.shape[0]


class Imitated(NamedTuple):
    """What the policy imitates in place of the batch's target rows: states (normalised) and actions, a row for each."""

    observation: Float[Array, "t s"]
    action: Float[Array, "t a"]
    weight: Float[Array, " t"]
    """1 for a row that is imitated, 0 for one that is not"""


class Rollouts(NamedTuple):
    """Where a policy acts in a model, and the logged states that it should come through (`tabb.models.matching`)."""

    start: Float[Array, "p s"]
    """states beside logged paths, normalised"""
    goals: Float[Array, "h p s"]
    """the log's next states, step after step"""
    per_spread: Float[Array, " s"]
    """1 / spread of each entry; 0 for one that never moves"""
    weight: Float[Array, ""]
    """of their loss against that of imitation"""
    model: Any
    """of the target's dynamics"""


class Batch(eqx.Module):
    """Rows of one update, B in all: `source_rows` source rows, then target rows, then `extra_rows` extra rows.

    `columns` holds what a rule prepared for each source row (predictions, scores): leading axis `source_rows`;
    `target_columns` and `extra_columns` the same for target rows and for the extra rows that a rule made.
    """

    observation: Float[Array, "b s"]
    action: Float[Array, "b a"]
    reward: Float[Array, " b"]
    next_observation: Float[Array, "b s"]
    terminal: Float[Array, " b"]
    columns: dict[str, Array]
    target_columns: dict[str, Array]
    source_rows: int = eqx.field(static=True)
    extra_columns: dict[str, Array] = eqx.field(default_factory=dict)
    extra_rows: int = eqx.field(static=True, default=0)
    imitated: Imitated | None = None
    """copies of the target rows that the policy imitates in their place; None where it imitates the rows themselves"""
    rollouts: Rollouts | None = None
    """where the policy acts in a model and is held to logged paths; None without trajectory matching"""
    windows: Steps | None = None
    """the last steps of each row's episode up to the row itself; None where the learner sees rows alone"""

    def __len__(self) -> int:
        return self.observation.shape[0]

    @property
    def target_rows(self) -> int:
        """How many target rows it holds."""
        return len(self) - self.source_rows - self.extra_rows

    def to_imitate(self) -> tuple[Float[Array, "b s"], Float[Array, "b a"]]:
        """States and actions of the policy's loss: those of each row, or of a copy of it."""
        if self.imitated is None:
            return self.observation, self.action
        first, last = self.source_rows, len(self) - self.extra_rows
        copies = self.imitated
        return (
            jnp.concatenate([self.observation[:first], copies.observation, self.observation[last:]]),
            jnp.concatenate([self.action[:first], copies.action, self.action[last:]]),
        )

    def imitation_weight(self, weight: Float[Array, " b"]) -> Float[Array, " b"]:
        """Weights of rows in the policy's loss: `weight`, and 0 for target rows that the policy does not imitate."""
        if self.imitated is None:
            return weight
        first, last = self.source_rows, len(self) - self.extra_rows
        return jnp.concatenate([weight[:first], weight[first:last] * self.imitated.weight, weight[last:]])

    def best_source(self, score: Float[Array, " s"], count: int) -> Batch:
        """The batch with only the `count` source rows of the highest score, in the order they were in."""
        if count == self.source_rows:
            return self
        _, best = jax.lax.top_k(score, count)
        kept = jnp.concatenate([jnp.sort(best), jnp.arange(self.source_rows, len(self))])
        rows = {name: getattr(self, name)[kept] for name in FIELDS}
        columns = {name: column[kept[:count]] for name, column in self.columns.items()}
        windows = jax.tree.map(lambda steps: steps[kept], self.windows)
        return dataclasses.replace(self, **rows, columns=columns, source_rows=count, windows=windows)
