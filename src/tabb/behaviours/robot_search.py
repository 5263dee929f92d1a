"""Behaviour policies of the four robots: clones of source data, improved by random search in the task's simulator.

The unshifted robot comes first, and the search in each of its shifts starts from its best policy. A search is done
once; its policies are saved in a folder:

    practice/<task>/<k>.npz         the policies that were there before the search, and those that it saved
    practice/<task>/medium.npz      a worse version of the best policy, if none of these is of medium quality
    practice/<task>/practice.json   what the search depends on, and the steps and score of each policy
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tabb.behaviours.behaviour_cloning import blank, clones, sources
from tabb.behaviours.parameter_noise import worse_policies
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
"""If the best policy of a shift scores less, a second search lets the shift grow from nothing."""
PATIENCE = {"halfcheetah": 2}
"""Factor on the recipe's steps. Falls do not end its episodes, so that a round takes 64,000 steps, far above others."""
AHEAD = 10.0
"""A search starts from a clone only if it scores this much more in the shift than the unshifted robot's best policy."""
NEAR = 0.2
"""Largest distance of a medium policy's score from half the best score, as a share of the best score."""
MOVES = 0.1
"""Least reward of a medium policy beyond that for being alive, as a share of the best policy's. If the expert is weak,
a robot that only stands has half its score, and its data teach nothing about the task."""
MADE = "medium"
"""Name of the file of a policy that the search did not save itself."""


class SearchResult(NamedTuple):
    """The policies of a search in a task."""

    policies: list[ScoredPolicy]
    best: ScoredPolicy
    about: dict[str, Any]


def behaviour_policy(out: Path, task: Task, quality: str, recipe: Recipe, say: Say) -> BehaviourPolicy:
    """The policy of quality `expert` or `medium` from the search in `task`."""
    result = search_in_task(out, task, recipe, say)
    if quality == "expert":
        return _described(task, result, result.best)
    medium = _medium(task, result, recipe, say)
    if _file_name(medium, result.policies) == MADE:
        medium.policy.save(out / "practice" / task.name / f"{MADE}.npz")
    return _described(task, result, medium)


def _medium(task: Task, result: SearchResult, recipe: Recipe, say: Say) -> ScoredPolicy:
    """The moving policy whose score is nearest to half the best score: one of the search, or a worse best policy."""
    best = result.best
    again = scored(task, recipe, LAST_EPISODES, 1_000)
    moves = moving(task, recipe, best.policy)
    medium = half_as_good(result.policies, best, again, moves)
    if _far_from_half(medium, best):
        worse = worse_policies(best, scored(task, recipe, EPISODES, 0), recipe.seed)
        other = half_as_good([best, *worse], best, again, moves)
        medium = min(medium, other, key=lambda one: abs(one.score - best.score / 2))
    if _far_from_half(medium, best):
        say(f"{task.name}: no policy scores about half of {best.score:z.1f}; medium scores {medium.score:z.1f}")
    return medium


def _file_name(wanted: ScoredPolicy, policies: list[ScoredPolicy]) -> str:
    """The name of a policy's file, without suffix."""
    return next((str(k) for k, one in enumerate(policies) if one.policy is wanted.policy), MADE)


def _far_from_half(medium: ScoredPolicy, best: ScoredPolicy) -> bool:
    return abs(medium.score - best.score / 2) > NEAR * abs(best.score)


def _described(task: Task, result: SearchResult, selected: ScoredPolicy) -> BehaviourPolicy:
    """A policy of a search with its description for the data set's record."""
    policies, best, about = result
    how = f"random search in the simulator of {task.name}, from {about['start']}"
    if not selected.after:
        how = f"{_name(selected.policy)}, as it was before the search"
    name = _file_name(selected, policies)
    if name == MADE:
        how += f"; its last layer worsened by noise of {selected.policy.about['worsened_by']} of its spread"
    return BehaviourPolicy(
        selected.policy,
        {
            "how": how,
            "policy": f"practice/{task.name}/{name}.npz",
            "kept_after_steps": selected.after,
            "kept_score": round(selected.score, 2),
            "best_score": round(best.score, 2),
            **about,
        },
    )


def search_in_task(out: Path, task: Task, recipe: Recipe, say: Say) -> SearchResult:
    """The result of the search in a task, read from its folder or computed now, after that in its unshifted robot.

    Raises:
        RunError: the folder's search had other settings or other data, or the search diverged.
    """
    folder = out / "practice" / task.name
    if (folder / "practice.json").exists():
        return _load(folder, depends_on(task, recipe))
    before, usual, about = _before(out, task, recipe, say)
    evaluate = scored(task, recipe, EPISODES, 0)
    scored_before = [ScoredPolicy(0, evaluate(policy), policy) for policy in before]
    first = start_of(scored_before, usual)
    policies, again = _search(task, recipe, scored_before, first.policy, before[usual], say)
    about["with_a_growing_shift_too"] = again
    if first.policy is not before[usual]:
        start = f"{_name(first.policy)} (score {first.score:z.1f} in {task.name})"
        about["start"] = f"{start}, then from {about['start']}" if again else start
    best = best_of(policies, scored(task, recipe, LAST_EPISODES, 1_000))
    result = SearchResult(policies, best, about)
    _save(folder, depends_on(task, recipe), result)
    return result


def start_of(before: list[ScoredPolicy], usual: int) -> ScoredPolicy:
    """The policy that a search starts from: the usual one, unless another scores far more in the task."""
    best = max(before, key=lambda one: one.score)
    return best if best.score >= before[usual].score + AHEAD else before[usual]


def settings_of(task: Task, recipe: Recipe) -> RandomSearch:
    """The first search in a task."""
    steps = recipe.first_steps if task.shift is None else recipe.shifted_steps
    patience = PATIENCE.get(task.robot, 1)
    return RandomSearch(patience * steps, noise=recipe.noise, rounds_between=2 if patience == 1 else 1)


def growing(settings: RandomSearch) -> RandomSearch:
    """The second search: twice as long, with half the directions and a shift that grows from nothing."""
    directions, best = -(-settings.directions // 2), -(-settings.best // 2)
    return dataclasses.replace(settings, steps=2 * settings.steps, directions=directions, best=best, levels=10)


def depends_on(task: Task, recipe: Recipe) -> dict[str, Any]:
    """Everything that the outcome of a search depends on; `from` is the search in the unshifted robot, or the data."""
    base = base_of(task)
    return {
        "search": dataclasses.asdict(settings_of(task, recipe)),
        "seed": recipe.seed,
        "engine": recipe.engine,
        "from": [path.name for path in sources(task)] if base is None else depends_on(base, recipe),
    }


def scored(task: Task, recipe: Recipe, episodes: int, seed: int) -> Callable[[Policy], float]:
    """A function that gives a policy's mean normalised score, with the noise of the collection."""

    def score(policy: Policy) -> float:
        return float(rollout(noisy(policy, recipe.noise), task, episodes, seed, engine=recipe.engine).scores.mean())

    return score


def noisy(policy: Policy, noise: float) -> Act:
    """The policy's actions plus Gaussian noise of standard deviation `noise`."""

    def act(seen: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
        action = policy.act(seen)
        return action + noise * generator.standard_normal(action.shape, np.float32)

    return act


def moving(task: Task, recipe: Recipe, best: Policy) -> Callable[[Policy], bool]:
    """A function that says whether a policy moves: its reward beyond that for being alive is `MOVES` of `best`'s.

    If `best` has no such reward itself, every policy moves.
    """
    robot = make_robot(task, recipe.engine)
    alive = float(getattr(robot, "_healthy_reward", 0.0))  # halfcheetah has none
    robot.close()

    def reward_of_moving(policy: Policy) -> float:
        episodes = rollout(noisy(policy, recipe.noise), task, EPISODES, 0, engine=recipe.engine)
        return float((episodes.returns - alive * episodes.lengths).mean())

    least = MOVES * reward_of_moving(best)
    return lambda policy: least <= 0 or reward_of_moving(policy) >= least


def _before(out: Path, task: Task, recipe: Recipe, say: Say) -> tuple[list[Policy], int, dict[str, Any]]:
    """The policies before the search, the index of the usual start, and a description of the start."""
    base = base_of(task)
    if base is None:
        policies = clones(task, recipe.seed)
        if not policies:
            say(f"{task.name}: no source data at hand (TABB_DATA); the search starts from a blank policy and may fail")
            policies = [blank(task.observation_size, task.action_size, recipe.seed)]
        return policies, 0, {"start": _name(policies[0])}
    unshifted, best, _ = search_in_task(out, base, recipe, say)
    others = [one.policy for one in unshifted if one.after == 0 and one.policy is not best.policy]
    start = f"{_name(best.policy)} (score {best.score:z.1f} there)"
    return [*others, best.policy], len(others), {"start": start}


def _search(
    task: Task, recipe: Recipe, before: list[ScoredPolicy], first: Policy, unshifted: Policy, say: Say
) -> tuple[list[ScoredPolicy], bool]:
    """`before` with the policies that a search from `first` saved, and whether there was a second search.

    The second search starts without the shift, so from `unshifted`, the best policy there.
    """
    evaluate = scored(task, recipe, EPISODES, 0)
    policies = list(before)

    def search_from(start: Policy, settings: RandomSearch) -> None:
        steps_before = policies[-1].after
        start = dataclasses.replace(start, about={"searched_in": task.name})

        def lanes_at(share: float) -> Lanes:
            return lanes_of(task, recipe.engine, settings.lanes, share)

        def tell(one: ScoredPolicy) -> None:
            say(f"{task.name}: {one.after:,}/{settings.steps:,} steps, score {one.score:z.1f}")

        limit = task.max_episode_steps
        saved = search(settings, lanes_at, limit, start, evaluate, seed=recipe.seed, tell=tell)
        policies.extend(one._replace(after=steps_before + one.after) for one in saved)

    settings = settings_of(task, recipe)
    search_from(first, settings)
    again = task.shift is not None and best_of(policies, scored(task, recipe, LAST_EPISODES, 1_000)).score < ENOUGH
    if again:
        say(f"{task.name}: second search, with a shift that grows")
        search_from(unshifted, growing(settings))
    return policies, again


def _load(folder: Path, depends: dict[str, Any]) -> SearchResult:
    record = read_json(folder / "practice.json")
    if record["depends_on"] != depends:
        raise RunError(
            f"{folder}: was searched with other settings or from other source data; choose another folder with --out"
        )
    policies = [
        ScoredPolicy(after, score, Policy.load(folder / f"{k}.npz")) for k, (after, score) in enumerate(record["kept"])
    ]
    best = policies[record["best"]]._replace(score=record["best_score"])
    return SearchResult(policies, best, record["about"])


def _save(folder: Path, depends: dict[str, Any], result: SearchResult) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k, one in enumerate(result.policies):
        one.policy.save(folder / f"{k}.npz")
    # Last, so that a search that was stopped before this is done again.
    write_json(
        folder / "practice.json",
        {
            "depends_on": depends,
            "about": result.about,
            "kept": [[one.after, one.score] for one in result.policies],
            "best": next(k for k, one in enumerate(result.policies) if one.policy is result.best.policy),
            "best_score": result.best.score,
        },
    )


def _name(policy: Policy) -> str:
    if "searched_in" in policy.about:
        return f"the best policy of {policy.about['searched_in']}"
    source = policy.about.get("clone_of")
    return f"a clone of {source}" if source else "random features (no source data)"
