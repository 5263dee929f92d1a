"""Updates and steps in environments by turns: each step is a row that later batches are drawn from.

What is done before an update depends on its number, on the state and on the steps so far: a run cut anywhere takes the
same steps. The rows of a domain that is stepped in lie behind its logged ones, in room for all steps of the run.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from numpy.typing import NDArray

from tabb.data.npz import save_npz
from tabb.environments.running_episodes import World
from tabb.networks import Normaliser, normaliser_of
from tabb.training.drawing import Data, Packed
from tabb.training.folder import RunFolder
from tabb.training.loop import Program, compiled_sums, no_sums
from tabb.training.online import DOMAINS, Domain, Online, step_plan
from tabb.training.refits import BLOCK, Refits, written
from tabb.training.side import Side, SideState


class InteractionState(NamedTuple):
    """What a checkpoint holds of the steps of a run."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    """of the normaliser"""
    sides: tuple[SideState, ...]
    models: Any = ()
    """what the rule fitted last, where it fits again along the run"""


class Interrupted(Exception):
    """A run ends before its next step: the state (None before the first) after so many updates."""

    def __init__(self, state: Any, updates: int) -> None:
        super().__init__()
        self.state, self.updates = state, updates


class Interaction:
    """The steps that one seed's run takes in its worlds."""

    def __init__(
        self,
        program: Program,
        online: Online,
        worlds: dict[Domain, World],
        normaliser: Normaliser | None,
        seed: int,
        key: PRNGKeyArray,
        started: bool,
        stop: threading.Event | None = None,
        refits: Refits | None = None,
    ) -> None:
        """`normaliser` is None where no logged row says one: the first steps then do.

        `key` is the one that the rule's models are prepared with. `started` says that the run starts from the weights
        of another one: its policy takes the first steps. Once `stop` is set no further step is taken in an environment
        that may be a robot. `refits` are of a rule whose models are fitted again.
        """
        self.refits = refits
        self._program, self._started, self._normaliser = program, started, normaliser
        stop = stop or threading.Event()
        self.sides = [
            Side(domain, world, step_plan(program, domain, online), online.lanes, seed, key, stop)
            for domain, world in worlds.items()
        ]
        self._logged = dict.fromkeys(DOMAINS, 0)
        self._begin = dict.fromkeys(DOMAINS, 0)
        self._without_models = refits is not None and not refits.fitted
        self._fits: list[dict[str, int]] = []
        self._fit_seconds = 0.0

    @property
    def normaliser(self) -> Normaliser:
        assert self._normaliser is not None, "`begin` comes first"
        return self._normaliser

    @property
    def stopped(self) -> bool:
        """Whether the run ends here, because no further step may be taken."""
        return any(side.stopped for side in self.sides)

    def begin(self, saved: InteractionState | None, goes_on: bool = True, folder: RunFolder | None = None) -> list[str]:
        """Go on from what a checkpoint holds, or take the steps that the normaliser comes from; what to say of it.

        A run that does not go on has read what it needs to be finished, and opens no environment. One with a folder
        keeps logs of its steps there. Raises `Interrupted` where the run was stopped meanwhile.
        """
        if saved is not None:
            self._normaliser = Normaliser(jnp.asarray(saved.mean), jnp.asarray(saved.scale))
            if self.refits is not None:
                self.refits.models = saved.models
                self._without_models = False
            if not goes_on:
                for side, state in zip(self.sides, saved.sides, strict=True):
                    side.recall(state)
                    if folder is not None and (log := folder.step_log(side.domain)).exists():
                        side.logged_in(log)  # it alone knows of ends that the environment made
                return []
        told = []
        for number, side in enumerate(self.sides):
            if saved is not None and not side.restore(saved.sides[number]):
                told.append(f"the episodes in {side.world.name} could not be gone on with: new ones begin")
            if folder is not None:
                known = side.taken
                side.logged_in(folder.step_log(side.domain))
                if side.taken > known:
                    told.append(f"{side.taken - known:,} steps in {side.world.name} since the last checkpoint are kept")
        if self._normaliser is None:
            side = next(side for side in self.sides if side.plan.rounds[0] == 0)
            identity = Normaliser(*(of(side.world.observation_size, jnp.float32) for of in (jnp.zeros, jnp.ones)))
            side.take(max(1, side.plan.warm_up), self._program.backbone, None, identity, at_random=True)
            if self.stopped:
                raise Interrupted(None, 0)
            self._normaliser = normaliser_of(side.observations())
        return told

    def with_room(self, data: Data, logged: tuple[int, int]) -> Data:
        """The data with room for the steps of the run, and those in it that were taken before.

        `logged` are the source and target rows that the data hold. Their matrix is used up.
        """
        matrices = jnp.split(data.rows.matrix, [logged[0]])
        parts, filled, place = [], [], 0
        for domain, matrix, count in zip(DOMAINS, matrices, logged, strict=True):
            parts.append(matrix)
            filled.append(count)
            place += count
            for side in self.sides:
                if side.domain == domain:
                    rows = side.rows(slice(0, side.taken), self.normaliser)
                    room = side.plan.steps - side.taken
                    parts += [jnp.asarray(rows), jnp.zeros((room, rows.shape[1]), jnp.float32)]
                    self._begin[domain] = place
                    filled[-1] += side.taken
                    place += side.plan.steps
            if domain == "source":
                sources = place
        self._logged = dict(zip(DOMAINS, logged, strict=True))
        data = data._replace(
            rows=data.rows._replace(matrix=jnp.concatenate(parts)),
            sources=jnp.asarray(sources, jnp.int32),
            filled=jnp.asarray(filled, jnp.int32),
        )
        if self.refits is None:
            return data
        steps = {side.domain: side.plan.steps for side in self.sides}
        for domain in DOMAINS:
            said = self.refits.room(domain, steps.get(domain, 0), self.normaliser)
            data = _with_matrix(data, domain, said)
        return data if self._without_models else self._with_said(data)

    def step(self, data: Data, state: Any, number: int) -> Data:
        """Take the steps that are due before update `number`; the data that go in are used up."""
        for side in self.sides:
            total = side.plan.due(number)
            for until in sorted({min(total, side.plan.warm_up), total}):
                if until > side.taken:
                    at_random = until <= side.plan.warm_up and not self._started
                    taken = side.take(until, self._program.backbone, state, self.normaliser, at_random)
                    if taken.stop > taken.start:
                        data = self._with_rows(data, side, taken)
        return data

    def _with_rows(self, data: Data, side: Side, taken: slice) -> Data:
        assert data.filled is not None
        at = np.int32(self._begin[side.domain] + taken.start)
        rows = side.rows(taken, self.normaliser)
        matrix, filled = _added(DOMAINS.index(side.domain), data.rows.matrix, data.filled, rows, at)
        data = data._replace(rows=data.rows._replace(matrix=matrix), filled=filled)
        return data if self._without_models else self._with_said_of(data, side, taken)

    # --- Models that are fitted again ---

    def refitted(self, data: Data, number: int) -> Data:
        """Fit the rule's models before update `number`, if they are due, and ask them of all rows."""
        if self.refits is None or number not in self.refits.numbers:
            return data
        begun = time.monotonic()
        stepped = {side.domain: side.learned_from(self.normaliser) for side in self.sides}
        counts = self.refits.fit(number, stepped, self.normaliser)
        self._without_models = False
        data = self._with_said(data)
        seconds = time.monotonic() - begun
        self._fit_seconds += seconds
        self._fits.append({"update": number} | {f"{domain}_rows": count for domain, count in counts.items()})
        told = " and ".join(f"{count:,} {domain}" for domain, count in counts.items())
        self.refits.note(f"models fitted to {told} rows before update {number:,}, in {seconds:.0f} s")
        return data

    def fits(self) -> list[dict[str, int]]:
        """The fits since this was asked the last time: before which update, to how many rows."""
        fits, self._fits = self._fits, []
        return fits

    def fit_seconds(self) -> float:
        """What the fits took since this was asked the last time."""
        seconds, self._fit_seconds = self._fit_seconds, 0.0
        return seconds

    def _with_said(self, data: Data) -> Data:
        """The data with what the models say of all rows so far."""
        assert self.refits is not None
        for domain in DOMAINS:
            if _said(data, domain) is not None:
                said = self.refits.of_logged(domain, self.normaliser)
                data = data if said is None else _said_at(data, domain, said.matrix, 0)
        for side in self.sides:
            data = self._with_said_of(data, side, slice(0, side.taken))
        return data

    def _with_said_of(self, data: Data, side: Side, taken: slice) -> Data:
        """The data with what the models say of the blocks of steps in which these were taken."""
        if self.refits is None or _said(data, side.domain) is None:
            return data
        for begin in range(taken.start // BLOCK * BLOCK, taken.stop, BLOCK):
            rows = side.rows(slice(begin, begin + BLOCK), self.normaliser)
            rows = np.pad(rows, ((0, BLOCK - len(rows)), (0, 0)))  # the last block may reach beyond the last step
            said = self.refits.of_block(side.domain, rows, self.normaliser)
            assert said is not None
            data = _said_at(data, side.domain, said.matrix, self._logged[side.domain] + begin)
        return data

    def ends(self, first: int, last: int) -> Iterator[int]:
        """Where updates `first` to `last` - 1 are interrupted for steps, and `last`."""
        rounds: Collection[int] = set()
        for side in self.sides:
            between = np.searchsorted(side.plan.rounds, [first + 1, last])
            rounds = {*rounds, *side.plan.rounds[slice(*between)].tolist()}
        yield from sorted({*rounds, last})

    def state(self) -> InteractionState:
        """What `begin` goes on from."""
        mean, scale = (np.array(part, np.float32) for part in (self.normaliser.mean, self.normaliser.scale))
        return InteractionState(mean, scale, tuple(side.state() for side in self.sides), self._models())

    def template(self) -> InteractionState:
        """A state of the shapes that a checkpoint has."""
        size = self.sides[0].world.observation_size
        empty = np.zeros(size, np.float32)
        return InteractionState(empty, empty, tuple(side.state() for side in self.sides), self._models())

    def _models(self) -> Any:
        return () if self.refits is None else self.refits.models

    def keep(self, folder: RunFolder) -> None:
        """Keep the steps of a run that is through as data sets in its folder, and the models that were fitted last."""
        for side in self.sides:
            file, log = folder.steps_file(side.domain), folder.step_log(side.domain)
            if log.exists() or not file.exists():  # else a run killed since has kept them whole, with all ends known
                save_npz(file, side.log(), side.cut())
            log.unlink(missing_ok=True)
        if self.refits is not None:
            folder.save_prepared(self.refits.models)

    def close(self) -> None:
        """Close the environments."""
        for side in self.sides:
            side.close()


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _added(domain: int, matrix: Array, filled: Array, rows: Array, at: Array) -> tuple[Array, Array]:
    """The matrix with these rows of a domain from row `at` on, and the new number of rows of each domain.

    One compiled call: two would cost more than the work.
    """
    return written(matrix, rows, at), filled.at[domain].add(len(rows))


def _said(data: Data, domain: Domain) -> Packed | None:
    """What the rule's models say of the rows of a domain."""
    return data.columns if domain == "source" else data.target_columns


def _with_matrix(data: Data, domain: Domain, said: Packed | None) -> Data:
    """The data with that in its place."""
    return data._replace(columns=said) if domain == "source" else data._replace(target_columns=said)


def _said_at(data: Data, domain: Domain, rows: Array, at: int) -> Data:
    """The data with what the models say of some rows of a domain; its matrix is used up."""
    said = _said(data, domain)
    assert said is not None
    matrix = written(said.matrix, rows, np.int32(at))
    return _with_matrix(data, domain, said._replace(matrix=matrix))


class InteractingUpdates:
    """The compiled program of a run that takes steps; `tabb.training.stretches` calls it as any other."""

    def __init__(
        self, program: Program, interaction: Interaction, data: Data, models: Any, key: PRNGKeyArray, state: Any
    ) -> None:
        """Compiles for the shapes of the state. `data` have room for the steps, and are used up."""
        sums = no_sums(program, models, data, key, state)
        self._nothing = jax.tree.map(np.asarray, sums)
        bound = jnp.zeros((), jnp.int32)
        self._compiled = compiled_sums.lower(program, models, data, key, state, sums, bound, bound).compile()
        self._interaction, self._data = interaction, data

    def __call__(
        self, models: Any, rows: Any, key: PRNGKeyArray, state: Any, first: Array, last: Array
    ) -> tuple[Any, dict[str, Any]]:
        """Updates `first` to `last` - 1 with the steps between them, and the mean of each metric over them.

        Metrics say as well how many steps have been taken in all. Raises `Interrupted` where the run was stopped and
        no further step may be taken.
        """
        del rows
        begun, sums = int(first), jax.tree.map(jnp.array, self._nothing)
        done = begun
        for end in self._interaction.ends(begun, int(last)):
            self._data = self._interaction.step(self._data, state, done)
            if self._interaction.stopped:
                raise Interrupted(state, done)
            self._data = self._interaction.refitted(self._data, done)
            if self._interaction.refits is not None:
                models = self._interaction.refits.models
            bounds = np.int32(done), np.int32(end)
            state, sums = self._compiled(models, self._data, key, state, sums, *bounds)
            done = end
        count = jnp.asarray(done - begun, jnp.float32)
        steps = {f"{side.domain}_steps": np.float32(side.taken) for side in self._interaction.sides}
        return state, {name: total / count for name, total in sums.items()} | steps
