"""Behaviour policies of the four robots: clones of source data, improved by random search in a task's simulator.

The unshifted robot comes first; its best policy is where the search in each of its shifts begins. What a search found
is kept in a folder, so that it is done once:

    practice/<task>/<k>.npz         the policies: clones of the source files, the start, those on the way
    practice/<task>/practice.json   settings, and of each policy after how many steps it was kept and its score
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tabb.behaviours.cloned import blank, clones
from tabb.behaviours.kept import EPISODES, LAST_EPISODES, Chosen, Kept, Say, best_of, half_as_good
from tabb.behaviours.random_search import RandomSearch, search
from tabb.behaviours.suite import Recipe, base_of
from tabb.environments.between import robot_between
from tabb.environments.lanes import Lanes, lanes_of
from tabb.environments.rollout import rollout
from tabb.environments.tasks import Task
from tabb.errors import RunError
from tabb.policy import Policy
from tabb.training.folder import read_json, write_json

ENOUGH = 50.0
"""Score of the best policy below which the search is done again, the shift growing from nothing."""


class Found(NamedTuple):
    """What a search in a task left."""

    kept: list[Kept]
    best: Kept
    about: dict[str, Any]


def chosen(out: Path, task: Task, quality: str, recipe: Recipe, say: Say) -> Chosen:
    """The policy of quality `expert` or `medium` from the search in `task`."""
    kept, best, about = in_task(out, task, recipe, say)
    taken = best if quality == "expert" else half_as_good(kept, best, _again(task, recipe))
    place = next(k for k, one in enumerate(kept) if one.policy is taken.policy)
    how = f"random search in the simulator of {task.name}, from {about['start']}"
    return Chosen(
        taken.policy,
        {
            "how": how if taken.after else f"{_name(taken.policy)}, as it was before the search",
            "policy": f"practice/{task.name}/{place}.npz",
            "kept_after_steps": taken.after,
            "kept_score": round(taken.score, 2),
            **about,
        },
    )


def growing(settings: RandomSearch) -> RandomSearch:
    """The second search: twice as long, in rounds half as large, with a shift that grows from nothing."""
    half = {"directions": -(-settings.directions // 2), "best": -(-settings.best // 2)}
    return dataclasses.replace(settings, steps=2 * settings.steps, first_share=0.0, **half)


def in_task(out: Path, task: Task, recipe: Recipe, say: Say) -> Found:
    """What the search in a task left, after that in its unshifted robot; done now, or before."""
    folder = _folder(out, task.name)
    base = base_of(task)
    settings = RandomSearch(
        steps=recipe.first_steps if base is None else recipe.shifted_steps,
        noise=recipe.noise,
    )
    said = {"search": dataclasses.asdict(settings), "seed": recipe.seed, "engine": recipe.engine}
    if (folder / "practice.json").exists():
        told = read_json(folder / "practice.json")
        if told["settings"] != said:
            raise RunError(f"{folder}: is practice with other settings; choose another folder with --out")
        kept = [Kept(n, s, Policy.load(folder / f"{k}.npz")) for k, (n, s) in enumerate(told["kept"])]
        return Found(kept, kept[told["best"]]._replace(score=told["best_score"]), told["about"])
    before, start, about = _before(out, task, base, recipe, say)

    def evaluate(policy: Policy) -> float:
        return score(policy, task, recipe, EPISODES, 0)

    kept = [Kept(0, evaluate(policy), policy) for policy in before]
    begin = dataclasses.replace(start, about={"searched_in": task.name})

    def lanes_at(share: float) -> Lanes:
        return lanes_of(task, recipe.engine, settings.lanes, lambda: robot_between(task, recipe.engine, share))

    def searched(trial: RandomSearch) -> list[Kept]:
        def tell(one: Kept) -> None:
            say(f"{task.name}: {one.after:,}/{trial.steps:,} steps, score {one.score:.1f}")

        return search(trial, lanes_at, task.max_episode_steps, begin, evaluate, seed=recipe.seed, tell=tell)

    kept += searched(settings)
    grown = base is not None and max(one.score for one in kept) < ENOUGH
    if grown:
        say(f"{task.name}: once more, with a shift that grows")
        kept += searched(growing(settings))
    best = best_of(kept, _again(task, recipe))
    folder.mkdir(parents=True, exist_ok=True)
    for k, one in enumerate(kept):
        one.policy.save(folder / f"{k}.npz")
    # Last: a search that was stopped before this is done again.
    about |= {"with_a_growing_shift_too": grown}
    write_json(
        folder / "practice.json",
        {
            "settings": said,
            "about": about,
            "kept": [[one.after, one.score] for one in kept],
            "best": next(k for k, one in enumerate(kept) if one.policy is best.policy),
            "best_score": best.score,
        },
    )
    return Found(kept, best, about)


def _before(
    out: Path, task: Task, base: Task | None, recipe: Recipe, say: Say
) -> tuple[list[Policy], Policy, dict[str, Any]]:
    """The policies that are there before the search, that which it begins with, and what is to be said of it."""
    if base is None:
        cloned = clones(task, recipe.seed)
        if not cloned:
            say(f"{task.name}: no source data at hand (TABB_DATA): the search begins with nothing, and may get nowhere")
            cloned = [blank(task.observation_size, task.action_size, recipe.seed)]
        return cloned, cloned[0], {"start": _name(cloned[0])}
    kept, best, _ = in_task(out, base, recipe, say)
    others = [one.policy for one in kept if one.after == 0 and one.policy is not best.policy]
    start = f"{_name(best.policy)} (score {best.score:.1f} there)"
    return [*others, best.policy], best.policy, {"start": start}


def _name(policy: Policy) -> str:
    if "searched_in" in policy.about:
        return f"the best policy of {policy.about['searched_in']}"
    source = policy.about.get("clone_of")
    return f"a clone of {source}" if source else "random features (no source data)"


def _again(task: Task, recipe: Recipe) -> Callable[[Policy], float]:
    """The score that chooses: of more episodes, and others."""
    return lambda policy: score(policy, task, recipe, LAST_EPISODES, 1_000)


def score(policy: Policy, task: Task, recipe: Recipe, episodes: int, seed: int) -> float:
    """Mean normalised score, with the noise that the data will be collected with."""

    def act(seen: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
        action = policy.act(seen)
        return action + recipe.noise * generator.standard_normal(action.shape, np.float32)

    return float(rollout(act, task, episodes, seed, engine=recipe.engine).scores.mean())


def _folder(out: Path, name: str) -> Path:
    return out / "practice" / name
