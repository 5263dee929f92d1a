"""Practice that is kept in a folder, so that it is done once, and the policies chosen from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tabb.batch import Sizes
from tabb.behaviours.online import Kept, Practice, Trained, choose, practise
from tabb.behaviours.prior import prior_rows
from tabb.behaviours.suite import WALKER, Recipe, base_of
from tabb.environments.engine import Engine
from tabb.environments.lanes import Lanes, OneByOne, lanes_of
from tabb.environments.rollout import rollout
from tabb.environments.tasks import Task
from tabb.errors import RunError
from tabb.networks import Normaliser
from tabb.policy import Policy
from tabb.training.checkpoint import load_tree, save_tree
from tabb.training.config import plain
from tabb.training.folder import read_json, write_json

EPISODES = 5
"""Of each evaluation on the way, reset with seeds 0, 1, ..."""
LAST_EPISODES = 20
"""Of the evaluations that choose, reset with seeds 1000, 1001, ..."""
REWARD_SCALE = 0.1
"""Of the learner's rewards: returns of some thousands become values of some tens, which critics learn sooner."""
WALKER_UPDATES = 40_000
WALKER_STEPS_PER_UPDATE = 3

Say = Callable[[str], None]


class Chosen(NamedTuple):
    """A behaviour policy, and how it came about."""

    policy: Policy
    about: dict[str, Any]


def chosen(out: Path, task: Task, quality: str, recipe: Recipe, say: Say) -> Chosen:
    """The policy of that quality from practice in `task`."""
    kept, _ = in_task(out, task, recipe, say)
    best = choose(kept, quality, lambda policy: _score(policy, task, recipe.engine, LAST_EPISODES, 1_000))
    base = base_of(task)
    how = f"soft actor-critic, online in the simulator of {task.name}"
    how += f", after practice in {base.name}" if base else ""
    about = read_json(_folder(out, task.name) / "practice.json")["about"]
    return Chosen(best.policy, {"how": how, "kept_at_update": best.updates, "kept_score": best.score, **about})


def walker(out: Path, recipe: Recipe, say: Say) -> Chosen:
    """The ant that walks where it is told to."""
    from tabb.behaviours.walker import ACTION_SIZE, EPISODE_STEPS, OBSERVATION_SIZE, OpenField

    def score(policy: Policy, episodes: int = EPISODES, seed: int = 0) -> float:
        found = rollout(
            lambda seen, _: policy.act(seen),
            None,
            episodes,
            seed,
            max_steps=EPISODE_STEPS,
            env_factory=lambda: OpenField(recipe.engine),
        )
        return float(found.returns.mean())

    practice = Practice(updates=WALKER_UPDATES, steps_per_update=WALKER_STEPS_PER_UPDATE)
    place = _Place(
        WALKER,
        lambda: OneByOne(lambda: OpenField(recipe.engine)),
        EPISODE_STEPS,
        Sizes(OBSERVATION_SIZE, ACTION_SIZE),
        score,
    )
    kept, _ = _kept(out, place, practice, recipe, say)
    best = choose(kept, "expert", lambda policy: score(policy, LAST_EPISODES, 1_000))
    how = "shortest route, by an ant that learned to walk where it is told (soft actor-critic, online, open field)"
    about = read_json(_folder(out, WALKER) / "practice.json")["about"]
    return Chosen(best.policy, {"how": how, "kept_at_update": best.updates, "kept_return": best.score, **about})


def in_task(out: Path, task: Task, recipe: Recipe, say: Say) -> tuple[list[Kept], Trained]:
    """Practice in a task, after that in its unshifted robot."""
    base = base_of(task)
    start = None if base is None else in_task(out, base, recipe, say)[1]
    practice = recipe.practice(recipe.first_updates if base is None else recipe.shifted_updates)
    place = _Place(
        task.name,
        lambda: lanes_of(task, recipe.engine, practice.lanes),
        task.max_episode_steps,
        _sizes(task),
        lambda policy: _score(policy, task, recipe.engine),
        task,
    )
    return _kept(out, place, practice, recipe, say, start)


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where practice happens."""

    name: str
    make_lanes: Callable[[], Lanes]
    limit: int
    sizes: Sizes
    score: Callable[[Policy], float]
    task: Task | None = None


def _kept(
    out: Path, place: _Place, practice: Practice, recipe: Recipe, say: Say, start: Trained | None = None
) -> tuple[list[Kept], Trained]:
    """Practice there, or what is kept of it."""
    folder = _folder(out, place.name)
    settings = {"practice": plain(practice), "seed": recipe.seed, "engine": recipe.engine}
    template = jax.eval_shape(lambda: _blank(practice, place.sizes))
    if (folder / "practice.json").exists():
        told = read_json(folder / "practice.json")
        if told["settings"] != settings:
            raise RunError(f"{folder}: is practice with other settings; choose another folder with --out")
        ended, _ = load_tree(folder / "ended.npz", template)
        return [Kept(u, s, Policy.load(folder / f"{u}.npz")) for u, s in told["kept"]], ended
    prior, files = prior_rows(place.task, recipe.engine, recipe.seed) if place.task else (None, ())
    if place.task is not None and prior is None and place.task.namespace == "tabb":
        say(f"{place.name}: no source data at hand (TABB_DATA): practice without logged states, which takes longer")

    def tell(one: Kept) -> None:
        say(f"{place.name}: {one.updates:,}/{practice.updates:,} updates, score {one.score:.1f}")

    lanes = place.make_lanes()
    kept, ended = practise(
        practice,
        lanes,
        place.limit,
        place.sizes,
        place.score,
        prior=prior,
        start=start,
        seed=recipe.seed,
        reward_scale=REWARD_SCALE,
        tell=tell,
    )
    lanes.close()
    folder.mkdir(parents=True, exist_ok=True)
    for one in kept:
        one.policy.save(folder / f"{one.updates}.npz")
    save_tree(folder / "ended.npz", ended, {"place": place.name})
    about = {"updates": practice.updates, "prior": list(files)}
    # Last: practice that was stopped before this is done again.
    write_json(
        folder / "practice.json",
        {"settings": settings, "about": about, "kept": [[one.updates, one.score] for one in kept]},
    )
    return kept, ended


def _blank(practice: Practice, sizes: Sizes) -> Trained:
    state = practice.learner.init(sizes, jax.random.key(0))
    return Trained(state, Normaliser(jnp.zeros(sizes.observation), jnp.ones(sizes.observation)))


def _folder(out: Path, name: str) -> Path:
    return out / "practice" / name


def _score(policy: Policy, task: Task, engine: Engine, episodes: int = EPISODES, seed: int = 0) -> float:
    """Mean normalised score."""
    return float(rollout(lambda seen, _: policy.act(seen), task, episodes, seed, engine=engine).scores.mean())


def _sizes(task: Task) -> Sizes:
    return Sizes(task.observation_size, task.action_size)
