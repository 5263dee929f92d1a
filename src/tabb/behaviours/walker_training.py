"""The ant of the mazes: its practice, kept in a folder so that it is done once, and the policy chosen from it."""

from __future__ import annotations

from pathlib import Path

from tabb.batch import Sizes
from tabb.behaviours.online_training import Practice, practise
from tabb.behaviours.open_field import ACTION_SIZE, EPISODE_STEPS, OBSERVATION_SIZE, OpenField
from tabb.behaviours.recipe import WALKER, Recipe
from tabb.behaviours.scored_policies import EPISODES, LAST_EPISODES, BehaviourPolicy, Say, ScoredPolicy, best_of
from tabb.environments.lanes import OneByOne
from tabb.environments.rollout import rollout
from tabb.errors import RunError
from tabb.files import read_json, write_json
from tabb.plain import plain
from tabb.policy import Policy

REWARD_SCALE = 0.1
"""Of the learner's rewards: returns of some thousands become values of some tens, which critics learn sooner."""
UPDATES = 40_000
STEPS_PER_UPDATE = 3


def walker(out: Path, recipe: Recipe, say: Say) -> BehaviourPolicy:
    """The ant that walks where it is told to."""

    def score(policy: Policy, episodes: int, seed: int) -> float:
        found = rollout(
            lambda seen, _: policy.act(seen),
            None,
            episodes,
            seed,
            max_steps=EPISODE_STEPS,
            env_factory=lambda: OpenField(recipe.engine),
        )
        return float(found.returns.mean())

    def tell(one: ScoredPolicy) -> None:
        say(f"{WALKER}: {one.after:,}/{practice.updates:,} updates, score {one.score:.1f}")

    practice = Practice(updates=UPDATES, steps_per_update=STEPS_PER_UPDATE)
    folder = out / "practice" / WALKER
    settings = {"practice": plain(practice), "seed": recipe.seed, "engine": recipe.engine}
    if (folder / "practice.json").exists():
        told = read_json(folder / "practice.json")
        if told["settings"] != settings:
            raise RunError(f"{folder}: is practice with other settings; choose another folder with --out")
        kept = [
            ScoredPolicy(updates, kept_score, Policy.load(folder / f"{updates}.npz"))
            for updates, kept_score in told["kept"]
        ]
    else:
        lanes = OneByOne(lambda: OpenField(recipe.engine))
        kept = practise(
            practice,
            lanes,
            EPISODE_STEPS,
            Sizes(OBSERVATION_SIZE, ACTION_SIZE),
            lambda policy: score(policy, EPISODES, 0),
            seed=recipe.seed,
            reward_scale=REWARD_SCALE,
            tell=tell,
        )
        lanes.close()
        folder.mkdir(parents=True, exist_ok=True)
        for one in kept:
            one.policy.save(folder / f"{one.after}.npz")
        # Last: practice that was stopped before this is done again.
        write_json(folder / "practice.json", {"settings": settings, "kept": [[one.after, one.score] for one in kept]})
    best = best_of(kept, lambda policy: score(policy, LAST_EPISODES, 1_000))
    how = "shortest route, by an ant that learned to walk where it is told (soft actor-critic, online, open field)"
    told_of = {"how": how, "updates": UPDATES, "kept_at_update": best.after, "kept_return": best.score}
    return BehaviourPolicy(best.policy, told_of)
