"""Behaviour policies of the four robots: clones of source data, improved by random search in a task's simulator.

The unshifted robot comes first; its best policy is where the search in each of its shifts begins. What a search found
is kept in a folder, so that it is done once:

    practice/<task>/<k>.npz         the policies: those that were there before, and those on the way
    practice/<task>/medium.npz      a worse version of the best, where none of those was of medium quality
    practice/<task>/practice.json   what the search depends on; after how many steps each was kept, and its score
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tabb.behaviours.behaviour_cloning import blank, clones, sources
from tabb.behaviours.parameter_noise import worsened
from tabb.behaviours.random_search import RandomSearch, search
from tabb.behaviours.recipe import Recipe, base_of
from tabb.behaviours.scored_policies import (
    EPISODES,
    LAST_EPISODES,
    BehaviourPolicy,
    Say,
    ScoredPolicy,
    best_of,
    half_as_good,
)
from tabb.environments.lanes import Lanes
from tabb.environments.make_robot import make_robot
from tabb.environments.rollout import Act, rollout
from tabb.environments.task_lanes import lanes_of
from tabb.environments.tasks import Task
from tabb.errors import RunError
from tabb.files import read_json, write_json
from tabb.policy import Policy

ENOUGH = 50.0
"""Score of the best policy below which the search in a shift is done again, the shift growing from nothing."""
PATIENCE = {"halfcheetah": 2}
"""Times the recipe's steps. No fall ends its episodes: a round costs it 64,000 steps, several times what others pay."""
AHEAD = 10.0
"""By how much a clone must be better in the shift than the best policy of the unshifted robot to begin in its place."""
NEAR = 0.2
"""How far from half the best score, as a part of the best score, a medium policy may be."""
MOVES = 0.1
"""Part of what the best policy is paid beyond being alive that a medium policy must be paid, too. Where the expert is
weak, half its score is what a robot gets that only stands, whose data teach nothing about the task."""
MADE = "medium"
"""File of a policy that the search did not keep."""


class Found(NamedTuple):
    """What a search in a task left."""

    kept: list[ScoredPolicy]
    best: ScoredPolicy
    about: dict[str, Any]


def chosen(out: Path, task: Task, quality: str, recipe: Recipe, say: Say) -> BehaviourPolicy:
    """The policy of quality `expert` or `medium` from the search in `task`."""
    kept, best, about = in_task(out, task, recipe, say)
    if quality == "expert":
        return _told(task, kept, best, best, about)
    taken = _medium(task, kept, best, recipe, say)
    if _place(taken, kept) == MADE:
        taken.policy.save(out / "practice" / task.name / f"{MADE}.npz")
    return _told(task, kept, best, taken, about)


def _medium(task: Task, kept: list[ScoredPolicy], best: ScoredPolicy, recipe: Recipe, say: Say) -> ScoredPolicy:
    """The policy that moves and is nearest to half as good as the best: of those kept, or the best one worsened."""
    again = scored(task, recipe, LAST_EPISODES, 1_000)
    moves = moving(task, recipe, best.policy)
    taken = half_as_good(kept, best, again, moves)
    if _off(taken, best):
        worse = worsened(best, scored(task, recipe, EPISODES, 0), recipe.seed)
        other = half_as_good([best, *worse], best, again, moves)
        taken = min(taken, other, key=lambda one: abs(one.score - best.score / 2))
    if _off(taken, best):
        say(f"{task.name}: no policy near half of {best.score:.1f}; medium has {taken.score:.1f}")
    return taken


def _place(taken: ScoredPolicy, kept: list[ScoredPolicy]) -> str:
    """The name of its file."""
    return next((str(k) for k, one in enumerate(kept) if one.policy is taken.policy), MADE)


def _off(medium: ScoredPolicy, best: ScoredPolicy) -> bool:
    return abs(medium.score - best.score / 2) > NEAR * abs(best.score)


def _told(
    task: Task, kept: list[ScoredPolicy], best: ScoredPolicy, taken: ScoredPolicy, about: dict[str, Any]
) -> BehaviourPolicy:
    """The policy with what is to be said of it."""
    how = f"random search in the simulator of {task.name}, from {about['start']}"
    if not taken.after:
        how = f"{_name(taken.policy)}, as it was before the search"
    place = _place(taken, kept)
    if place == MADE:
        how += f"; its last layer worsened by noise of {taken.policy.about['worsened_by']} of its spread"
    return BehaviourPolicy(
        taken.policy,
        {
            "how": how,
            "policy": f"practice/{task.name}/{place}.npz",
            "kept_after_steps": taken.after,
            "kept_score": round(taken.score, 2),
            "best_score": round(best.score, 2),
            **about,
        },
    )


def in_task(out: Path, task: Task, recipe: Recipe, say: Say) -> Found:
    """What the search in a task left, after that in its unshifted robot; done now, or before.

    Raises:
        RunError: what is there was found with other settings or from other data, or the search diverged.
    """
    folder = out / "practice" / task.name
    if (folder / "practice.json").exists():
        return _load(folder, depends_on(task, recipe))
    before, usual, about = _before(out, task, recipe, say)
    evaluate = scored(task, recipe, EPISODES, 0)
    kept = [ScoredPolicy(0, evaluate(policy), policy) for policy in before]
    first = begins_with(kept, usual)
    kept, again = _searched(task, recipe, kept, first.policy, before[usual], say)
    about["with_a_growing_shift_too"] = again
    if first.policy is not before[usual]:
        begun = f"{_name(first.policy)} (score {first.score:.1f} in {task.name})"
        about["start"] = f"{begun}, then from {about['start']}" if again else begun
    best = best_of(kept, scored(task, recipe, LAST_EPISODES, 1_000))
    _save(folder, depends_on(task, recipe), Found(kept, best, about))
    return Found(kept, best, about)


def begins_with(before: list[ScoredPolicy], usual: int) -> ScoredPolicy:
    """The policy that a search begins with: the usual one, unless another is far better where the search will be."""
    best = max(before, key=lambda one: one.score)
    return best if best.score >= before[usual].score + AHEAD else before[usual]


def settings_of(task: Task, recipe: Recipe) -> RandomSearch:
    """The first search in a task."""
    steps = recipe.first_steps if task.shift is None else recipe.shifted_steps
    patience = PATIENCE.get(task.robot, 1)
    return RandomSearch(patience * steps, noise=recipe.noise, rounds_between=2 if patience == 1 else 1)


def growing(settings: RandomSearch) -> RandomSearch:
    """The second search: twice as long, in rounds half as large, with a shift that grows from nothing."""
    directions, best = -(-settings.directions // 2), -(-settings.best // 2)
    return dataclasses.replace(settings, steps=2 * settings.steps, directions=directions, best=best, levels=10)


def depends_on(task: Task, recipe: Recipe) -> dict[str, Any]:
    """What decides the outcome of the search in a task: the search in its unshifted robot, or the data, among it."""
    base = base_of(task)
    return {
        "search": dataclasses.asdict(settings_of(task, recipe)),
        "seed": recipe.seed,
        "engine": recipe.engine,
        "from": [path.name for path in sources(task)] if base is None else depends_on(base, recipe),
    }


def scored(task: Task, recipe: Recipe, episodes: int, seed: int) -> Callable[[Policy], float]:
    """Mean normalised score of a policy, with the noise that the data will be collected with."""

    def score(policy: Policy) -> float:
        return float(rollout(noisy(policy, recipe.noise), task, episodes, seed, engine=recipe.engine).scores.mean())

    return score


def noisy(policy: Policy, noise: float) -> Act:
    """The policy with Gaussian noise of that standard deviation on its actions."""

    def act(seen: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
        action = policy.act(seen)
        return action + noise * generator.standard_normal(action.shape, np.float32)

    return act


def moving(task: Task, recipe: Recipe, best: Policy) -> Callable[[Policy], bool]:
    """Whether a policy moves on: is paid `MOVES` of what `best` is, less the reward for being alive.

    Every policy does where `best` itself is paid nothing beyond that reward.
    """
    robot = make_robot(task, recipe.engine)
    alive = float(getattr(robot, "_healthy_reward", 0.0))  # halfcheetah has none
    robot.close()

    def paid(policy: Policy) -> float:
        seen = rollout(noisy(policy, recipe.noise), task, EPISODES, 0, engine=recipe.engine)
        return float((seen.returns - alive * seen.lengths).mean())

    least = MOVES * paid(best)
    return lambda policy: least <= 0 or paid(policy) >= least


def _before(out: Path, task: Task, recipe: Recipe, say: Say) -> tuple[list[Policy], int, dict[str, Any]]:
    """The policies that are there before the search, which of them it usually begins with, and what that one is."""
    base = base_of(task)
    if base is None:
        cloned = clones(task, recipe.seed)
        if not cloned:
            say(f"{task.name}: no source data at hand (TABB_DATA): the search begins with nothing, and may get nowhere")
            cloned = [blank(task.observation_size, task.action_size, recipe.seed)]
        return cloned, 0, {"start": _name(cloned[0])}
    kept, best, _ = in_task(out, base, recipe, say)
    others = [one.policy for one in kept if one.after == 0 and one.policy is not best.policy]
    start = f"{_name(best.policy)} (score {best.score:.1f} there)"
    return [*others, best.policy], len(others), {"start": start}


def _searched(
    task: Task, recipe: Recipe, before: list[ScoredPolicy], first: Policy, unshifted: Policy, say: Say
) -> tuple[list[ScoredPolicy], bool]:
    """The policies from before and on the way of a search from `first`, and whether there was a second search.

    That one begins without the shift, so with `unshifted`, the policy that is best there.
    """
    evaluate = scored(task, recipe, EPISODES, 0)
    kept = list(before)

    def go(settings: RandomSearch, start: Policy) -> None:
        gone = kept[-1].after
        start = dataclasses.replace(start, about={"searched_in": task.name})

        def lanes_at(share: float) -> Lanes:
            return lanes_of(task, recipe.engine, settings.lanes, share)

        def tell(one: ScoredPolicy) -> None:
            say(f"{task.name}: {one.after:,}/{settings.steps:,} steps, score {one.score:.1f}")

        limit = task.max_episode_steps
        found = search(settings, lanes_at, limit, start, evaluate, seed=recipe.seed, tell=tell)
        kept.extend(one._replace(after=gone + one.after) for one in found)

    settings = settings_of(task, recipe)
    go(settings, first)
    again = task.shift is not None and best_of(kept, scored(task, recipe, LAST_EPISODES, 1_000)).score < ENOUGH
    if again:
        say(f"{task.name}: once more, with a shift that grows")
        go(growing(settings), unshifted)
    return kept, again


def _load(folder: Path, wanted: dict[str, Any]) -> Found:
    told = read_json(folder / "practice.json")
    if told["depends_on"] != wanted:
        raise RunError(
            f"{folder}: was searched with other settings or from other source data; choose another folder with --out"
        )
    kept = [
        ScoredPolicy(after, score, Policy.load(folder / f"{k}.npz")) for k, (after, score) in enumerate(told["kept"])
    ]
    return Found(kept, kept[told["best"]]._replace(score=told["best_score"]), told["about"])


def _save(folder: Path, depends: dict[str, Any], found: Found) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k, one in enumerate(found.kept):
        one.policy.save(folder / f"{k}.npz")
    # Last: a search that was stopped before this is done again.
    write_json(
        folder / "practice.json",
        {
            "depends_on": depends,
            "about": found.about,
            "kept": [[one.after, one.score] for one in found.kept],
            "best": next(k for k, one in enumerate(found.kept) if one.policy is found.best.policy),
            "best_score": found.best.score,
        },
    )


def _name(policy: Policy) -> str:
    if "searched_in" in policy.about:
        return f"the best policy of {policy.about['searched_in']}"
    source = policy.about.get("clone_of")
    return f"a clone of {source}" if source else "random features (no source data)"
