"""The choice of behaviour policies among those that a search saved."""

import numpy as np
import pytest

from tabb.behaviours.behaviour_cloning import blank
from tabb.behaviours.parameter_noise import worse_policies
from tabb.behaviours.random_search import last_layer, with_last_layer
from tabb.behaviours.recipe import Recipe
from tabb.behaviours.robot_search import (
    AHEAD,
    NEAR,
    behaviour_policy,
    depends_on,
    moving,
    scored,
    settings_of,
    start_of,
)
from tabb.behaviours.scored_policies import LAST_EPISODES, ScoredPolicy
from tabb.environments.tasks import get_task
from tabb.files import write_json
from tabb.policy import Policy

TASK = get_task("hopper-morph")
RECIPE = Recipe(first_steps=24, shifted_steps=16)


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """`searched(policies)`: the folder of a search that saved these, the first the best; and their scores."""
    monkeypatch.delenv("TABB_DATA", raising=False)
    score = scored(TASK, RECIPE, LAST_EPISODES, 1_000)

    def keep(*policies):
        folder = tmp_path / "practice" / TASK.name
        folder.mkdir(parents=True)
        scores = [score(policy) for policy in policies]
        for k, policy in enumerate(policies):
            policy.save(folder / f"{k}.npz")
        record = {
            "depends_on": depends_on(TASK, RECIPE),
            "about": {"start": "nothing", "with_a_growing_shift_too": False},
            "kept": [[16, one] for one in scores],
            "best": 0,
            "best_score": scores[0],
        }
        write_json(folder / "practice.json", record)
        return tmp_path, scores

    return keep


def _standing(seed=3):
    """A policy that leans for a while: with seed 3 against falling, with 4 backwards, with 0 and 6 forwards."""
    policy = blank(TASK.observation_size, TASK.action_size)
    generator = np.random.default_rng(seed)
    return with_last_layer(policy, 0.3 * generator.standard_normal(last_layer(policy).shape).astype(np.float32))


def test_where_none_is_half_as_good_the_best_is_worsened(searched):
    out, (best,) = searched(_standing())
    said = []
    expert, medium = (behaviour_policy(out, TASK, quality, RECIPE, said.append) for quality in ("expert", "medium"))
    assert expert.about["policy"] == "practice/hopper-morph/0.npz"
    assert medium.about["policy"] == "practice/hopper-morph/medium.npz"
    assert "; its last layer worsened by noise of " in medium.about["how"]
    assert "worsened" not in expert.about["how"]
    assert abs(medium.about["kept_score"] - best / 2) <= NEAR * best
    assert said == []
    # What the record names is the policy, and is found again the same.
    saved = Policy.load(out / medium.about["policy"])
    assert np.array_equal(last_layer(saved), last_layer(medium.policy))
    assert behaviour_policy(out, TASK, "medium", RECIPE, said.append).about == medium.about


@pytest.mark.slow
def test_where_one_is_half_as_good_it_is_taken(searched):
    better = _standing()
    again = scored(TASK, RECIPE, LAST_EPISODES, 1_000)
    made = worse_policies(ScoredPolicy(16, again(better), better), again)
    half = min(made, key=lambda one: abs(one.score - again(better) / 2)).policy
    out, scores = searched(better, half)
    medium = behaviour_policy(out, TASK, "medium", RECIPE, print)
    assert medium.about["policy"] == "practice/hopper-morph/1.npz"
    assert medium.about["kept_score"] == pytest.approx(scores[1], abs=0.01)
    assert not (out / "practice" / TASK.name / "medium.npz").exists()


def test_half_as_good_by_being_alive_alone_is_not_medium(searched):
    """Nearest to half the score is a policy that is paid for staying up and gets nowhere."""
    best, backwards, forwards = (_standing(seed) for seed in (6, 4, 0))
    out, (good, one, other) = searched(best, backwards, forwards)
    assert abs(one - good / 2) < abs(other - good / 2) <= NEAR * good
    assert [moving(TASK, RECIPE, best)(policy) for policy in (best, backwards, forwards)] == [True, False, True]
    assert behaviour_policy(out, TASK, "medium", RECIPE, print).about["policy"] == "practice/hopper-morph/2.npz"
    # Where the best gets nowhere either, half its score is all that can be asked.
    assert moving(TASK, RECIPE, backwards)(forwards)
    assert moving(TASK, RECIPE, _standing(3))(backwards)


def test_a_search_begins_with_what_is_far_better_in_the_shift():
    clone, usual, other = (ScoredPolicy(0, score, _standing()) for score in (30.0 + AHEAD, 30.0, 35.0))
    assert start_of([clone, usual, other], 1) is clone
    assert start_of([clone._replace(score=29.9 + AHEAD), usual, other], 1) is usual  # may be luck
    assert start_of([other, usual], 1) is usual


def test_a_robot_that_never_falls_gets_more_steps():
    """A round of 64 whole episodes of 1,000 steps would else use up a fifth of the search."""
    halfcheetah, hopper = (settings_of(get_task(name), Recipe()) for name in ("halfcheetah-gravity-0.5", "hopper"))
    assert (halfcheetah.steps, halfcheetah.rounds_between) == (600_000, 1)
    assert (hopper.steps, hopper.rounds_between) == (300_000, 2)
