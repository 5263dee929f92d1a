"""The steps of one domain: taken in its environments by the present policy, kept as rows, on a log as they come."""

from __future__ import annotations

import dataclasses
import functools
import threading
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from numpy.typing import NDArray

from tabb.backbones.backbone import Backbone
from tabb.batch import FIELDS, on_device
from tabb.data.step_log import StepLog
from tabb.environments.running_episodes import EpisodesState, RunningEpisodes, Steps, World
from tabb.networks import Normaliser
from tabb.training.online import DOMAINS, Domain, StepPlan
from tabb.transitions import Transitions

STEPS = 4_000
"""folded into the key of preparation for the actions of steps in the source, the next number for those in the target"""
SEEDS = 1_000_000
"""reset seeds for each seed of training: apart from those of evaluations and of collected data"""
LARGEST_SEED = 2**32
"""reset seeds stay below it: environments hand them on to NumPy or C, which take 32 bits"""


class SideState(NamedTuple):
    """What the steps of a domain go on from."""

    taken: NDArray[np.int32]
    """Shape []: steps so far."""
    rows: NDArray[np.float32]
    """Shape [steps, width]: their rows with raw observations and rewards; zeros behind those that were taken."""
    numbers: NDArray[np.int32]
    """Shape [steps]: the number of each row's episode."""
    episodes: EpisodesState


class Ended(NamedTuple):
    """An episode that came to its end, or was cut."""

    total: float
    """Undiscounted return, with the environment's own rewards."""
    length: int
    steps: int
    """Steps of the domain, of all lanes, up to its last one."""


class Side:
    """The steps of one domain."""

    def __init__(
        self,
        domain: Domain,
        world: World,
        plan: StepPlan,
        lanes: int,
        seed: int,
        key: PRNGKeyArray,
        stop: threading.Event,
    ) -> None:
        self.domain, self.world, self.plan = domain, world, plan
        self.taken = 0
        self._key = jax.random.fold_in(key, STEPS + DOMAINS.index(domain))
        first_seed = SEEDS * (seed + 1) + (SEEDS // 2 if domain == "source" else 0)
        if not world.repeats:
            first_seed %= LARGEST_SEED - SEEDS
        self._episodes, self._lanes = RunningEpisodes(world, lanes, first_seed), lanes
        size, actions = world.observation_size, world.action_size
        widths = {"observation": size, "action": actions, "reward": 1, "next_observation": size, "terminal": 1}
        self._widths = {name: widths[name] for name in FIELDS}
        self._rows = np.zeros((plan.steps, sum(self._widths.values())), np.float32)
        self._numbers = np.zeros(plan.steps, np.int32)
        self._ended: list[Ended] = []
        self._stop = stop
        self._log: StepLog | None = None

    @property
    def stopped(self) -> bool:
        """Whether no further step is to be taken: asked for, and this may be a robot. Simulators wait for nobody."""
        return self._stop.is_set() and not self.world.repeats

    def logged_in(self, file: Path) -> None:
        """Keep a log of all steps in this file, in a world whose steps cannot be taken again; go on after those in it.

        The episodes that have ended in them are told by `finished`.

        Raises `RunError` where the file cannot be used.
        """
        if self.world.repeats:
            return
        world = self.world
        self._log = StepLog(file, self.plan.steps, world.observation_size, world.action_size, world.action_bounds)
        known = len(self._log)
        if known < self.taken:
            self._log.add(self._columns(slice(known, self.taken)))
        elif known > self.taken:
            added = self._log.rows(slice(self.taken, known))
            columns = [added[name].reshape(known - self.taken, -1) for name in self._widths]
            self._rows[self.taken : known] = np.concatenate(columns, axis=1)
            self._numbers[self.taken : known] = added["episode"]
            first, self.taken = self.taken, known
            self._episodes.begin_after(int(self._numbers[:known].max()))
            for place in self._log.ends(slice(first, known)):
                of_episode = np.flatnonzero(self._numbers[:known] == self._numbers[place])
                total = self._columns(of_episode)["reward"].sum(dtype=np.float64)
                self._ended.append(Ended(float(total), len(of_episode), int(place) + 1))

    def take(self, total: int, backbone: Backbone, state: Any, normaliser: Normaliser, at_random: bool) -> slice:
        """Take steps until there are `total`, by the policy of this state or at random; where their rows lie.

        There are fewer where the run was stopped.
        """
        first = self.taken
        while self.taken < total and not self.stopped:
            observation = self._episodes.observe()  # begins episodes, which may take long
            if self.stopped:
                break
            number = np.uint32(self.taken)
            if at_random:
                actions = random_actions((self._lanes, self.world.action_size), self._key, number)
            else:
                actions = exploring(backbone, state, normaliser, observation, self._key, number)
            self._keep(self._episodes.step(np.asarray(actions)[: total - self.taken]))
        return slice(first, self.taken)

    def _keep(self, steps: Steps) -> None:
        columns = [getattr(steps, name).reshape(len(steps.reward), -1) for name in self._widths]
        places = slice(self.taken, self.taken + len(steps.reward))
        self._rows[places], self._numbers[places] = np.concatenate(columns, axis=1), steps.episode
        self.taken += len(steps.reward)
        ends = places.start + np.flatnonzero(steps.last) + 1
        for episode, end in zip(self._episodes.finished(), ends.tolist(), strict=True):
            self._ended.append(Ended(episode.total, episode.length, end))
        if self._log is not None:
            self._log.add(self._columns(places), steps.last)

    def log(self) -> Transitions:
        """All steps so far as a data set, episode after episode, in the world's own rewards."""
        order = np.argsort(self._numbers[: self.taken], kind="stable")
        return Transitions(**self._columns(order), action_bounds=self.world.action_bounds)

    def cut(self) -> set[int]:
        """Numbers of the episodes that did not come to their end: they were broken off, or still go on."""
        numbers = self._numbers[: self.taken]
        terminal = self._columns(slice(0, self.taken))["terminal"] == 1
        ended = {*numbers[terminal].tolist(), *np.flatnonzero(np.bincount(numbers) >= self.world.limit).tolist()}
        if self._log is not None:  # it knows of ends that the environment made
            ended |= set(numbers[self._log.ends(slice(0, self.taken))].tolist())
        return set(numbers.tolist()) - ended

    def _columns(self, places: Any) -> dict[str, Any]:
        """The columns of the rows at these places, raw, with the numbers of their episodes."""
        ends = np.cumsum(list(self._widths.values()))[:-1]
        parts = np.split(self._rows[places], ends, axis=1)
        columns: dict[str, Any] = dict(zip(self._widths, parts, strict=True))
        for name in ("reward", "terminal"):
            columns[name] = columns[name][:, 0]
        return columns | {"episode": self._numbers[places]}

    def observations(self) -> NDArray[np.float32]:
        """Those of all steps so far, raw."""
        return self._rows[: self.taken, : self._widths["observation"]]

    def learned_from(self, normaliser: Normaliser) -> Transitions:
        """All steps so far as rules are given rows: normalised, with the reward's unit and offset of training."""
        log = self.log()
        reward = log.reward * np.float32(self.world.reward_scale) + np.float32(self.world.reward_offset)
        return on_device(dataclasses.replace(log, reward=reward), normaliser)

    def rows(self, places: slice, normaliser: Normaliser) -> NDArray[np.float32]:
        """The rows at these places as batches have them: normalised, and with the reward's offset."""
        rows, at = self._rows[places].copy(), 0
        mean, scale = np.asarray(normaliser.mean), np.asarray(normaliser.scale)
        for name, width in self._widths.items():
            columns = rows[:, at : at + width]
            if name in ("observation", "next_observation"):
                columns[:] = (columns - mean) / scale
            elif name == "reward":
                columns *= np.float32(self.world.reward_scale)
                columns += np.float32(self.world.reward_offset)
            at += width
        return rows

    def finished(self) -> list[Ended]:
        """The episodes that have ended since this was asked the last time."""
        ended, self._ended = self._ended, []
        return ended

    def state(self) -> SideState:
        if self._log is not None:
            self._log.keep()
        taken = np.asarray(self.taken, np.int32)
        return SideState(taken, self._rows.copy(), self._numbers.copy(), self._episodes.state())

    def recall(self, state: SideState) -> None:
        """Know the steps of a state, and go on with none."""
        self.taken, self._rows, self._numbers = int(state.taken), np.array(state.rows), np.array(state.numbers)

    def restore(self, state: SideState) -> bool:
        """Go on from a state; whether its episodes go on where they were."""
        self.recall(state)
        return self._episodes.restore(jax.tree.map(np.asarray, state.episodes))

    def close(self) -> None:
        self._episodes.close()


@functools.partial(jax.jit, static_argnums=0)
def exploring(
    backbone: Backbone, state: Any, normaliser: Normaliser, observation: Array, key: PRNGKeyArray, number: Array
) -> Array:
    """Actions [L, A] that gather steps, at raw observations [L, S]; `number` is folded into the key."""
    return backbone.explores(state, normaliser(observation), jax.random.fold_in(key, number))


@functools.partial(jax.jit, static_argnums=0)
def random_actions(shape: tuple[int, int], key: PRNGKeyArray, number: Array) -> Array:
    """Uniform actions; `number` is folded into the key."""
    return jax.random.uniform(jax.random.fold_in(key, number), shape, minval=-1.0, maxval=1.0)
