"""The walking ant of the mazes: its training, which is saved so that it is done once, and the choice of its policy."""

from __future__ import annotations

from pathlib import Path

from tabb.batch import Sizes
from tabb.behaviours.online_training import OnlineTraining, train_online
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
"""Factor on the learner's rewards: returns of some thousands become values of some tens, which critics learn sooner."""
UPDATES = 40_000
STEPS_PER_UPDATE = 3


def walker(out: Path, recipe: Recipe, say: Say) -> BehaviourPolicy:
    """The ant that walks in a given direction, from its folder or trained now."""

    def score(policy: Policy, episodes: int, seed: int) -> float:
        episodes_of_policy = rollout(
            lambda observations, _: policy.act(observations),
            None,
            episodes,
            seed,
            max_steps=EPISODE_STEPS,
            env_factory=lambda: OpenField(recipe.engine),
        )
        return float(episodes_of_policy.returns.mean())

    def tell(one: ScoredPolicy) -> None:
        say(f"{WALKER}: {one.after:,}/{training.updates:,} updates, score {one.score:z.1f}")

    training = OnlineTraining(updates=UPDATES, steps_per_update=STEPS_PER_UPDATE)
    folder = out / "practice" / WALKER
    settings = {"practice": plain(training), "seed": recipe.seed, "engine": recipe.engine}
    if (folder / "practice.json").exists():
        record = read_json(folder / "practice.json")
        if record["settings"] != settings:
            raise RunError(f"{folder}: was trained with other settings; choose another folder with --out")
        policies = [
            ScoredPolicy(updates, reached, Policy.load(folder / f"{updates}.npz"))
            for updates, reached in record["kept"]
        ]
    else:
        lanes = OneByOne(lambda: OpenField(recipe.engine))
        policies = train_online(
            training,
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
        for one in policies:
            one.policy.save(folder / f"{one.after}.npz")
        # Last, so that training that was stopped before this is done again.
        write_json(
            folder / "practice.json", {"settings": settings, "kept": [[one.after, one.score] for one in policies]}
        )
    best = best_of(policies, lambda policy: score(policy, LAST_EPISODES, 1_000))
    how = "shortest route, by an ant that learned to walk where it is told (soft actor-critic, online, open field)"
    about = {"how": how, "updates": UPDATES, "kept_at_update": best.after, "kept_return": best.score}
    return BehaviourPolicy(best.policy, about)
