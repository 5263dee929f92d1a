"""Transitions: the one pytree that every part of tabb passes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray

from tabb.action_bounds import ActionBounds, same_bounds
from tabb.errors import DataError

Rows = Any  # an index: integer array, boolean array or slice
COLUMNS = ("observation", "action", "reward", "next_observation", "terminal", "episode")
"""Fields of `Transitions` with an entry for each row."""
FLOATS = COLUMNS[:-1]
"""Those that hold float32."""
PIECE = 65_536
"""rows that are worked on at once where all of them need not fit into memory"""


class Transitions(eqx.Module):
    """Logged transitions (s, a, r, s', d) of one domain, one row each, in the order they were logged.

    Fields hold NumPy or JAX arrays, float32 and contiguous, or columns of a table in a file (`tabb.load(store=True)`):

    - `observation`: s, shape [N, S], in the units of the file (never normalised).
    - `action`: a, shape [N, A], inside [-1, 1]. `action_bounds` says what -1 and 1 are in the robot's units.
    - `reward`: r, shape [N].
    - `next_observation`: s', shape [N, S]. Where `terminal` is 1 it may be unknown (the D4RL layout does not
      store it) and then equals `observation`: finite, but nothing may be learned from it.
    - `terminal`: d, shape [N], 1 where the task itself ended (no value after it), else 0. A truncation
      (time limit, cut file) is never a terminal.
    - `episode`: shape [N], int32, the number of the row's episode; rows of one episode are adjacent.

    A row whose next observation is unknown and that is not terminal does not exist here: the doors of
    `tabb.data` drop such rows and count them.

    `action_bounds`, which is no column, are the bounds that actions were scaled by; None where the log itself has them
    in [-1, 1]. `extras` are further columns of the log, float32 [N] each, by name (`cost`, `weight`): they are kept
    with their rows and given back, and only rules that name them (`Rule.extras`) see them.
    """

    observation: Float[Any, "n s"]
    action: Float[Any, "n a"]
    reward: Float[Any, " n"]
    next_observation: Float[Any, "n s"]
    terminal: Float[Any, " n"]
    episode: Int[Any, " n"]
    action_bounds: ActionBounds | None = eqx.field(static=True, default=None)
    extras: dict[str, Any] = eqx.field(default_factory=dict)

    def __len__(self) -> int:
        return self.observation.shape[0]

    def __getitem__(self, rows: Rows) -> Transitions:
        """The given rows: an index array (also traced), a boolean mask or a slice."""
        return jax.tree.map(lambda column: column[rows], self)

    @property
    def observation_size(self) -> int:
        return self.observation.shape[-1]

    @property
    def action_size(self) -> int:
        return self.action.shape[-1]


@dataclasses.dataclass(frozen=True, eq=False)
class StoredRows:
    """Rows that stay in the file that they are in (`tabb.load(store=True)`)."""

    data: Transitions
    numbers: NDArray[np.intp] | None = None
    """Which of its rows, in this order; None for all."""

    def __len__(self) -> int:
        return len(self.data) if self.numbers is None else len(self.numbers)

    def part(self, places: slice) -> Transitions:
        """The rows at these places; in the file, where all of them are meant."""
        return self.data[places if self.numbers is None else self.numbers[places]]


def is_stored(data: Transitions) -> bool:
    """Whether rows are in a file that is mapped into memory."""
    return any(isinstance(getattr(data, name), np.memmap) for name in FLOATS)


def episodes_of(rows: Transitions | StoredRows) -> NDArray[np.int32]:
    """The number of each row's episode."""
    episode: NDArray[np.int32] = np.asarray((rows.data if isinstance(rows, StoredRows) else rows).episode)
    return episode if isinstance(rows, Transitions) or rows.numbers is None else episode[rows.numbers]


def pieces_of(rows: Transitions | StoredRows) -> Iterator[Transitions]:
    """The rows, in their order, in pieces of `PIECE`."""
    for begin in range(0, len(rows), PIECE):
        piece = slice(begin, begin + PIECE)
        yield rows.part(piece) if isinstance(rows, StoredRows) else rows[piece]


def episode_starts(data: Transitions) -> NDArray[np.intp]:
    """Numbers of the rows that begin an episode.

    Raises `DataError` where rows of an episode are not adjacent: nothing then says which comes first.
    """
    episode = np.asarray(data.episode)
    starts = np.flatnonzero(np.diff(episode, prepend=episode[:1] - 1))
    if len(starts) != len(np.unique(episode)):
        raise DataError(
            "episode: rows of an episode are not adjacent, so its first row is not known; give the rows in the "
            "order in which they were logged"
        )
    return starts


def spread_episodes(episode: ArrayLike, share: float) -> NDArray[Any]:
    """Numbers of `share` of the episodes (one at least, if `share` is not 0), evenly spread over the log."""
    numbers = np.unique(np.asarray(episode))
    count = max(1, round(share * len(numbers))) if share > 0 else 0
    return numbers[((np.arange(count) + 0.5) * len(numbers) / max(count, 1)).astype(int)]


def with_extras(data: Transitions, names: Collection[str]) -> Transitions:
    """The same rows with those of their extras that are named."""
    return dataclasses.replace(data, extras={name: column for name, column in data.extras.items() if name in names})


def concatenate(first: Transitions, second: Transitions) -> Transitions:
    """`first` followed by `second` (medium followed by expert, say); episodes are renumbered to stay distinct.

    Extras are those that both have. Raises `DataError` where their actions were scaled by other bounds.
    """
    if not same_bounds(first.action_bounds, second.action_bounds):
        raise DataError(
            f"action: the bounds are {first.action_bounds or '[-1, 1]'} and {second.action_bounds or '[-1, 1]'}; join "
            "only data of one action space"
        )
    shift = int(np.max(first.episode)) + 1 if len(first) else 0
    extras = [{name: data.extras[name] for name in first.extras if name in second.extras} for data in (first, second)]
    first = dataclasses.replace(first, extras=extras[0])
    episode = np.asarray(second.episode) + np.int32(shift)
    moved = dataclasses.replace(second, episode=episode, extras=extras[1], action_bounds=first.action_bounds)
    return jax.tree.map(lambda a, b: np.concatenate([np.asarray(a), np.asarray(b)]), first, moved)
