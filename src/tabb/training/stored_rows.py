"""Training on rows that stay in a file: they are drawn on the host, in a thread of their own, ahead of the updates.

The row numbers of an update are those that the compiled loop draws itself from rows on the device, by the same keys; so
a run from a file is, bit for bit, the run from memory.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from numpy.typing import NDArray

from tabb.batch import FIELDS, Domains, on_device
from tabb.data.allocation import Scratch
from tabb.errors import UsageError
from tabb.models.fitting import ROWS_PER_CALL
from tabb.models.imitation import Imitation, best_rows, row_weight
from tabb.networks import Normaliser
from tabb.rules import Rule
from tabb.training.drawing import Ahead, Data, Drawn, Layout, Packed, draw_numbers, imitated_numbers, pack
from tabb.training.held_out import held_out_episodes
from tabb.training.loop import Program, compiled_sums, no_sums
from tabb.training.row_limit import rows_of_episodes
from tabb.transitions import StoredRows, Transitions, episodes_of, is_stored

FITTED = 1_000_000
"""rows of a domain, at most, that rules fit models to before training, where the rows stay in a file"""
SCORED = 64 * ROWS_PER_CALL
"""rows that a rule computes its numbers of at once"""
JUDGED = 100_000
"""rows of a target in a file, at most, that policies are judged by where nothing is rolled out"""
AHEAD = 1 << 24
"""bytes of rows that are drawn at once"""
MOST_ROWS = 2**31 - 1
"""rows of both domains that numbers of 32 bits can tell apart"""


class HostRows(NamedTuple):
    """All rows that batches are drawn from, on the host."""

    source: StoredRows
    target: StoredRows
    normaliser: Normaliser
    columns: Packed | None
    """What the rule prepared for each source row, with a matrix of NumPy's."""
    target_columns: Packed | None
    """What it prepared for each target row."""
    extra: Packed | None
    """Rows that the rule made once, on the device."""
    imitated: Packed | None
    """The target rows and their copies that the policy imitates, as in `Data`, with a matrix of NumPy's."""
    weight: NDArray[np.float32] | None
    """Where there is no `imitated`: whether each target row is imitated; None if all are."""

    @property
    def layout(self) -> Layout:
        """The columns of a row, in the order in which `Data` has them."""
        data = self.target.data
        return Layout(tuple((name, np.shape(getattr(data, name))[1:]) for name in FIELDS))


def check_stored(program: Program, imitation: Imitation | None, target_stays: bool) -> None:
    """Raise `UsageError` for a run that needs all rows in memory.

    That is one whose rule needs all rows at once, or whose policy imitates copies of target rows in a file or is held
    to paths that are drawn from rows.
    """
    rule = program.rule
    advice = "read the data without --store"
    if program.backbone.remembers:
        raise UsageError(f"backbone {program.backbone.name}: sees windows of rows, which a store cannot give; {advice}")
    if any(part.refresh_every for _, part in program.parts):
        raise UsageError(f"rule {rule.name}: draws rows anew between updates, which a store cannot give; {advice}")
    if rule.extras:
        raise UsageError(f"rule {rule.name}: reads {rule.extras[0]} of each row, which a store does not give; {advice}")
    for seam in ("columns", "target_columns"):
        if not rule.is_row_by_row(seam):
            raise UsageError(f"rule {rule.name}: its {seam} compare all rows with one another; {advice}")
    if imitation is not None and imitation.matching:
        raise UsageError(
            f"imitation matching={imitation.matching:g}: draws paths between updates, which a store cannot give; use "
            "matching=0, or read the data without --store"
        )
    if imitation is not None and imitation.rows != "logged" and target_stays:
        raise UsageError(
            f"imitation rows={imitation.rows}: makes copies of all target rows, which stay in a file; use rows=logged, "
            "or read the target without --store"
        )


def imitation_weight(config: Imitation | None, target: StoredRows) -> NDArray[np.float32] | None:
    """How much the policy imitates each target row; None where it imitates all alike."""
    if config is None or config.plain:
        return None
    columns = (np.asarray(column) for column in (target.data.episode, target.data.reward, target.data.terminal))
    episode, reward, terminal = (column if target.numbers is None else column[target.numbers] for column in columns)
    return row_weight(config, best_rows(episode, reward, terminal, config.best))


def columns_of(
    rule: Rule,
    seam: str,
    models: Any,
    rows: StoredRows,
    domains: Domains,
    scratch: Scratch,
    report: Callable[[str, float], None],
) -> Packed | None:
    """What `rule.columns` or `rule.target_columns` gives for all rows, computed in pieces, in a file.

    `domains` are those that the rule was fitted to; in place of one of them it is given the pieces.
    """
    domain = "source" if seam == "columns" else "target"
    matrix: Any = None
    for begin, end in _pieces(len(rows)):
        piece: dict[str, Any] = {domain: on_device(rows.part(slice(begin, end)), domains.normaliser)}
        # Not compiled as a whole: it then rounds as in memory.
        packed = pack(getattr(rule, seam)(models, domains._replace(**piece)))
        if packed is None:
            return None
        report(f"numbers of each {domain} row", end / len(rows))
        if matrix is None:
            matrix, layout = scratch.empty((len(rows), packed.matrix.shape[1]), np.float32), packed.layout
        matrix[begin:end] = packed.matrix
    return None if matrix is None else Packed(matrix, layout)


def _pieces(rows: int) -> Iterator[tuple[int, int]]:
    """Bounds of pieces of `SCORED` rows; the last one is longer: a loop that runs once is compiled otherwise."""
    begin = 0
    while rows - begin >= 2 * SCORED:
        yield begin, begin + SCORED
        begin += SCORED
    if begin < rows:
        yield begin, rows


class Chunk(NamedTuple):
    """Rows for the updates `first` to `last` - 1."""

    first: int
    last: int
    data: Data


class Feed:
    """Draws the rows of a run's updates, one chunk of updates ahead of the one that trains."""

    def __init__(self, program: Program, rows: HostRows, key: PRNGKeyArray, stretch: int) -> None:
        """`stretch` is the number of updates that follow one another without an end in between."""
        if len(rows.source) + len(rows.target) > MOST_ROWS:
            raise UsageError(
                f"{len(rows.source) + len(rows.target):,} rows are more than {MOST_ROWS:,}; give fewer, with "
                "--source-rows"
            )
        self._program, self._rows, self._key = program, rows, key
        shares = [part.shares for _, part in program.parts]
        self._drawn = Drawn(max(map(sum, shares)), max(s for s, _ in shares), max(t for _, t in shares))
        self._updates = max(1, min(stretch, AHEAD // self._bytes()))
        self._finish = jax.jit(functools.partial(_finished, rows.layout))

    def _bytes(self) -> int:
        """Bytes of the rows of an update."""
        rows, drawn = self._rows, self._drawn
        width = drawn.rows * _width(rows.layout)
        for packed, count in (
            (rows.columns, drawn.source),
            (rows.target_columns, drawn.target),
            (rows.imitated, drawn.target),
        ):
            width += 0 if packed is None else count * packed.matrix.shape[1]
        return 4 * width

    def spans(self, first: int, last: int, ends: Collection[int]) -> Iterator[tuple[int, int]]:
        """Updates `first` to `last` - 1 in chunks that end at each of `ends` and where a phase begins."""
        stops = sorted({*ends, *(begin for begin, _ in self._program.parts), last})
        for stop in (one for one in stops if first < one <= last):
            while first < stop:
                yield first, min(first + self._updates, stop)
                first = min(first + self._updates, stop)

    def chunks(self, first: int, last: int, ends: Collection[int]) -> Iterator[Chunk]:
        """The rows of updates `first` to `last` - 1; the next chunk is made while this one is used."""
        spans = list(self.spans(first, last, ends))
        with ThreadPoolExecutor(1, "tabb-rows") as pool:
            coming = pool.submit(self.chunk, *spans[0])
            for following in [*spans[1:], None]:
                chunk = coming.result()
                if following is not None:
                    coming = pool.submit(self.chunk, *following)
                yield chunk

    def chunk(self, first: int, last: int) -> Chunk:
        """The rows of updates `first` to `last` - 1 of one phase, on the device."""
        rows, drawn = self._rows, self._drawn
        shares = [part.shares for begin, part in self._program.parts if begin <= first][-1]
        copies = 1 if rows.imitated is None else len(rows.imitated.matrix) // len(rows.target)
        counts = (len(rows.source), len(rows.target), copies)
        numbers, copied = (
            np.asarray(part)[: last - first]
            for part in numbers_ahead(shares, self._updates, self._key, jnp.asarray(first, jnp.int32), *counts)
        )
        source, target = numbers[:, : shares[0]], numbers[:, shares[0] :] - len(rows.source)
        matrix = np.zeros((self._updates, drawn.rows, _width(rows.layout)), np.float32)
        _fill(matrix[: len(numbers), : shares[0]], rows.source, source)
        _fill(matrix[: len(numbers), shares[0] : sum(shares)], rows.target, target)
        weight = None
        if rows.weight is not None:
            weight = self._gathered(rows.weight[:, None], target, drawn.target)
        packed, imitated = self._finish(rows.normaliser, matrix, weight, shares[0] + np.arange(drawn.target))
        layouts = (
            (rows.columns, source, drawn.source),
            (rows.target_columns, target, drawn.target),
            (rows.imitated, copied, drawn.target),
        )
        columns, target_columns, copies_of = (
            None if of is None else Packed(jnp.asarray(self._gathered(of.matrix, at, count)), of.layout)
            for of, at, count in layouts
        )
        data = Data(
            packed,
            jnp.asarray(len(rows.source), jnp.int32),
            columns,
            target_columns,
            rows.extra,
            imitated if rows.imitated is None else copies_of,
            None,
            Ahead(jnp.asarray(first, jnp.int32), drawn),
        )
        return Chunk(first, last, jax.block_until_ready(data))

    def _gathered(self, matrix: Any, numbers: NDArray[np.int32], count: int) -> NDArray[np.float32]:
        """The rows `numbers` [u, n] of a matrix, `count` for each update: [updates * count, width]."""
        result = np.zeros((self._updates, count, matrix.shape[1]), np.float32)
        result[: len(numbers), : numbers.shape[1]] = matrix[numbers]
        return result.reshape(-1, matrix.shape[1])


def _width(layout: Layout) -> int:
    return sum(int(np.prod(shape)) for _, shape in layout.columns)


def _fill(matrix: NDArray[np.float32], rows: StoredRows, places: NDArray[np.int32]) -> None:
    """Write the columns of the rows at `places` [u, n] side by side into a matrix [u, n, width]."""
    numbers = places if rows.numbers is None else rows.numbers[places]
    at = 0
    for name in FIELDS:
        column = np.asarray(getattr(rows.data, name))
        width = column.shape[1] if column.ndim == 2 else 1
        matrix[..., at : at + width] = column[numbers].reshape(*numbers.shape, width)
        at += width


@functools.partial(jax.jit, static_argnums=(0, 1))
def numbers_ahead(
    shares: tuple[int, int],
    updates: int,
    key: PRNGKeyArray,
    first: Int[Array, ""],
    sources: Int[Array, ""],
    targets: Int[Array, ""],
    copies: Int[Array, ""],
) -> tuple[Int[Array, "u b"], Int[Array, "u t"]]:
    """Numbers of the rows of so many updates as the loop draws them, and of the rows that their policies imitate."""

    def of_update(number: Int[Array, ""]) -> tuple[Int[Array, " b"], Int[Array, " t"]]:
        update_key = jax.random.fold_in(key, number)
        numbers = draw_numbers(shares, sources, sources + targets, update_key)
        return numbers, imitated_numbers(numbers[shares[0] :] - sources, targets, copies, update_key)

    return jax.vmap(of_update)(first + jnp.arange(updates))


def _finished(
    layout: Layout,
    normaliser: Normaliser,
    matrix: Float[Array, "u b w"],
    weight: Float[Array, "n 1"] | None,
    targets: Int[Array, " t"],
) -> tuple[Packed, Packed | None]:
    """Rows as training sees them, and the target rows with their weight as the policy imitates them."""
    columns, at = {}, 0
    for name, shape in layout.columns:
        width = math.prod(shape)
        columns[name] = matrix[..., at : at + width]
        at += width
    for name in ("observation", "next_observation"):
        columns[name] = normaliser(columns[name])
    packed = Packed(jnp.concatenate(list(columns.values()), axis=-1).reshape(-1, at), layout)
    if weight is None:
        return packed, None
    # Those past the target rows of a phase with few of them are never looked at.
    seen, done = (columns[name].at[:, targets].get(mode="clip") for name in ("observation", "action"))
    imitated = jnp.concatenate([seen, done, weight.reshape(*seen.shape[:-1], 1)], axis=-1)
    shapes = dict(layout.columns)
    return packed, Packed(
        imitated.reshape(-1, imitated.shape[-1]),
        Layout((("observation", shapes["observation"]), ("action", shapes["action"]), ("weight", ()))),
    )


class StoredUpdates:
    """The compiled program of a run whose rows are drawn ahead; `tabb.training.stretches` calls it as any other."""

    def __init__(
        self,
        program: Program,
        feed: Feed,
        models: Any,
        key: PRNGKeyArray,
        state: Any,
        first: int,
        ends: Collection[int],
    ) -> None:
        """Compiles for the shapes of the state, which goes on with update `first`; stretches end at `ends`."""
        last = program.updates
        data = feed.chunk(*next(feed.spans(first, last, ends))).data
        sums = no_sums(program, models, data, key, state)
        self._nothing = jax.tree.map(np.asarray, sums)
        bound = jnp.zeros((), jnp.int32)
        self._compiled = compiled_sums.lower(program, models, data, key, state, sums, bound, bound).compile()
        self._chunks = feed.chunks(first, last, ends)

    def __call__(
        self, models: Any, feed: Feed, key: PRNGKeyArray, state: Any, first: Array, last: Array
    ) -> tuple[Any, dict[str, Any]]:
        """Updates `first` to `last` - 1 and the mean of each metric over them."""
        del feed
        done, end, sums = int(first), int(last), jax.tree.map(jnp.array, self._nothing)
        while done < end:
            chunk = next(self._chunks)
            assert chunk.first == done, "stretches follow one another"
            bounds = jnp.asarray(done, jnp.int32), jnp.asarray(chunk.last, jnp.int32)
            state, sums = self._compiled(models, chunk.data, key, state, sums, *bounds)
            jax.block_until_ready(sums)
            done = chunk.last
        count = jnp.asarray(end - int(first), jnp.float32)
        return state, jax.tree.map(lambda total: total / count, sums)

    def close(self) -> None:
        """End the thread that draws."""
        self._chunks.close()  # type: ignore[attr-defined]


class Side(NamedTuple):
    """A domain of which one at least stays in a file."""

    rows: StoredRows
    """Those to learn from."""
    fitted: Transitions
    """Those that rules fit models to, in memory."""
    held_out: Transitions
    """Whole episodes to judge policies by, in memory; no rows where none are held out."""
    judged: Transitions
    """All rows of the domain, or as many as policies are judged by."""
    episodes: list[int]
    """Numbers of all episodes that are held out."""


def side_of(data: Transitions, limit: int | None, share: float, seed: int) -> Side:
    """A domain with at most `limit` rows, of whose episodes `share` are held out; both are drawn as in memory.

    Raises `UsageError` where no episode would be left to learn from.
    """
    numbers = None if limit is None or limit >= len(data) else rows_of_episodes(np.asarray(data.episode), limit, seed)
    whole, stays = StoredRows(data, numbers), is_stored(data)
    if not share:
        fitted = _sample(whole, FITTED if stays else len(whole), seed)
        return Side(whole, fitted, data[:0], data[:0], [])
    episode = episodes_of(whole)
    chosen = held_out_episodes(episode, share)
    held = np.isin(episode, chosen)
    places = np.arange(len(whole)) if numbers is None else numbers
    rows, out = StoredRows(data, places[~held]), StoredRows(data, places[held])
    most = (FITTED, JUDGED) if stays else (len(whole), len(whole))
    return Side(
        rows,
        _sample(rows, most[0], seed),
        _sample(out, most[1], seed),
        _sample(whole, most[1], seed),
        [int(number) for number in chosen],
    )


def _sample(rows: StoredRows, most: int, seed: int) -> Transitions:
    """At most so many of the rows, in memory: whole episodes, drawn by the seed."""
    if len(rows) > most:
        numbers = rows_of_episodes(episodes_of(rows), most, seed)
        rows = StoredRows(rows.data, numbers if rows.numbers is None else rows.numbers[numbers])
    return jax.tree.map(np.array, rows.part(slice(None)))
