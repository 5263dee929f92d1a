"""The choice of finished runs, told beside their scores."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tabb.errors import UsageError
from tabb.evaluation.choice import STARTS, InModel
from tabb.experiments import choice
from tabb.models.predictors import PREDICTORS
from tabb.results.answer import Answer


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """`judged(target, source)`: what is told of runs of these returns in the model, where the log has 10."""
    for name, score in (("tabb", 30.04), ("source-only", 41.26)):
        (tmp_path / name / "seed0").mkdir(parents=True)
        result = {"task": "hopper-gravity-0.5", "score": score}
        (tmp_path / name / "seed0" / "result.json").write_text(json.dumps(result))
    settings = SimpleNamespace(target_rows=1500)
    monkeypatch.setattr(choice, "settings_from", lambda config: settings)
    monkeypatch.setattr(choice.RunFolder, "config", lambda self: {})

    def told(target: float, source: float, seen: float | None = 3.333):
        found = Answer("tabb", Path("policy.npz"), 10.0, target, source, (2 / STARTS, 0.0), False, seen)
        monkeypatch.setattr(choice, "answer_of", lambda folder: found)
        return choice.of_runs(tmp_path)

    return told


def test_it_is_chosen_from_numbers_as_they_are(judged):
    """The target's fails below 0.6 of the log's return: 5.96 does, though it is told as 6.0."""
    told = judged(5.96, 20.0)
    assert told["chosen"] == "source"
    assert (told["regret"], told["regret_of_target"], told["regret_of_source"]) == (0.0, 11.2, 0.0)
    assert told["policies"] == [
        {"name": "target", "true": 30.0, "model": 6.0, "seen": None, "steps": None, "lost": 0.125},
        {"name": "source", "true": 41.3, "model": 20.0, "seen": 3.3, "steps": None, "lost": 0.0},
    ]
    assert (told["task"], told["target"], told["logged"]) == ("hopper-gravity-0.5", "1,500 rows", 10.0)
    assert judged(6.04, 20.0)["chosen"] == "target"
    assert "Mean regret over 1 targets: 0.0; always the target's policy 11.2" in choice.table([told])


def test_the_candidate_knows_the_source_that_the_choice_is_about():
    """The policy of a model that knows this source is judged last, before the source's; other sources' are left out."""
    names = ["logged", "clone matched x5", "clone matched:medium x5", "clone matched:medium_expert x5"]
    assert choice.with_candidate_last(names, "medium") == ["logged", "clone matched x5", "clone matched:medium x5"]
    assert choice.with_candidate_last(names, "medium_expert")[-1] == "clone matched:medium_expert x5"
    assert choice.with_candidate_last(["clone matched x5", "logged"], "expert") == ["clone matched x5", "logged"]


def test_true_scores_are_from_as_many_episodes(monkeypatch, tmp_path):
    """A cell's are means over three evaluations of ten episodes: the source's policy acts in thirty."""
    cell = {"task": "hopper-gravity-0.5", "target": "medium", "returns": 10.0}
    cell |= {"curves": {"logged": [[5, 7.0]]}, "scores": {"logged": 7.0}}
    (tmp_path / "cell.json").write_text(json.dumps(cell))
    asked = []

    def evaluate(policy, task, episodes):
        asked.append((task, episodes))
        return SimpleNamespace(mean=4.0)

    monkeypatch.setattr(choice, "evaluate", evaluate)
    monkeypatch.setattr(choice, "load", lambda *where: [])
    for name in ("make_domains", "with_source", "fit_target_model"):
        monkeypatch.setattr(choice, name, lambda *given: SimpleNamespace(source=None, target=None))
    monkeypatch.setattr(choice.Policy, "load", lambda place: None)
    monkeypatch.setattr(choice, "in_model", lambda *given: InModel(0.0, 1.0, 0.0, 0.0))
    told = choice.run_cell(tmp_path / "cell.json", tmp_path, tmp_path, "medium")
    assert asked == [("hopper-gravity-0.5", 30)]
    assert [policy["true"] for policy in told["policies"]] == [7.0, 4.0]


def test_runs_that_say_too_little_are_one_line(judged):
    with pytest.raises(UsageError, match="needs runs of tabb and source-only"):
        judged(5.96, 20.0, None)


def test_a_predictor_of_an_experiment_is_none_of_the_others():
    """Reading the module is no reason to offer it."""
    import tabb.experiments.upper_bounds

    assert tabb.experiments.upper_bounds.GivenOutcomes.name not in PREDICTORS
