"""`tabb train` without a rule: the demo, and its options."""

import json
from pathlib import Path

import pytest

from tabb.backbones import IQL
from tabb.cli import main
from tabb.commands import demo, train
from tabb.evaluation.scores import Evaluation
from tabb.rules import TABB
from tabb.running.plan import read_plan


@pytest.fixture
def carried_out(monkeypatch, tmp_path):
    """How the demo's plan was carried out, in place of carrying it out."""
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "run_plan", lambda *words, watch: calls.append(words))
    monkeypatch.setattr(demo, "summarise", lambda root, levels: f"table of {root}, {levels}")
    monkeypatch.setattr(demo, "_found", lambda root, seed: f"trust of {root}")
    return calls


def test_the_demo_without_options(carried_out, tmp_path):
    assert main(["train"]) == 0
    root, _, progress = carried_out[0]
    assert (str(root), progress) == ("runs/demo", "auto")
    cells = read_plan(root)
    assert [(cell.label, cell.folder) for cell in cells] == [
        (name, f"{name}/seed0") for name in ("tabb", "target-only", "pooled", "source-only")
    ]
    assert {(cell.spec.settings.updates, cell.spec.settings.evaluations) for cell in cells} == {(5_000, 5)}
    assert main(["train"]) == 0
    assert str(carried_out[1][0]) == "runs/demo-2"


def test_the_demo_with_options(carried_out, tmp_path, capsys):
    words = ["--updates", "50", "--evaluations=2", "--episodes", "1", "--seeds", "3", "4", "--jobs", "2"]
    assert main(["train", *words, "--out", "mine", "--progress", "lines"]) == 0
    assert "Four learners, 50 updates each" in capsys.readouterr().out
    root, jobs, progress = carried_out[0]
    assert (str(root), jobs, progress) == ("mine", 2, "lines")
    cells = read_plan(root)
    assert [cell.folder for cell in cells] == [
        f"{name}/seed{seed}" for name in ("tabb", "target-only", "pooled", "source-only") for seed in (3, 4)
    ]
    assert {(c.spec.settings.updates, c.spec.settings.evaluations, c.spec.settings.episodes) for c in cells} == {
        (50, 2, 1)
    }


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--source", "a.hdf5"], "--source without --target: name the data of the domain that matters too"),
        (["--target", "a.hdf5", "--jobs", "1"], "--target without --source: name the data of the other domain too"),
        (["--task", "walker"], "unknown task 'walker'"),
        (["--progress", "lines", "--backbone.hidden", "8"], "--backbone.hidden: the demo does not take it, but --up"),
        (["--preset=quick"], "name a rule before it, as in `tabb train tabb --preset ...`, or your own data with"),
        (["--no-store"], "--no-store: the demo does not take it"),
        (["--udpates", "5"], "unknown option --udpates; perhaps you meant --updates"),
        (["--updates", "0"], "updates=0: must be at least 1"),
        (["--jobs", "0"], "--jobs 0: must be at least 1"),
        (["--seeds", "1", "1"], "seeds="),
        (["--progress", "loud"], "--progress"),
    ],
)
def test_what_the_demo_does_not_take(carried_out, words, says, capsys):
    assert main(["train", *words]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
    assert not carried_out


def test_the_picture_of_the_scores_grows_with_the_evaluations(carried_out, tmp_path, monkeypatch):
    assert main(["train", "--updates", "50", "--seeds", "3", "4", "--out", "mine"]) == 0
    drawn = []
    monkeypatch.setattr(demo, "learning_curves", lambda curves, task, picture, **others: drawn.append((curves, others)))
    watch = demo.LiveCurves(Path("mine"), read_plan(Path("mine")))

    def add(run, kind, update, **more):
        folder = Path("mine") / run
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "update": update} | more) + "\n")

    evaluation = {"returns": [1.0], "lengths": [1], "scores": [2.0], "first_seed": 0}
    assert watch() is None  # nothing is there
    add("tabb/seed3", "training", 1)
    assert watch() is None  # no evaluation
    assert not drawn
    add("tabb/seed3", "evaluation", 10, **evaluation)
    assert watch() == f"first picture: {Path('mine') / 'comparison.png'}, drawn again at each evaluation"
    assert watch() is None
    add("tabb/seed3", "evaluation", 20, **evaluation)
    add("tabb/seed4", "evaluation", 10, **evaluation)
    add("pooled/seed3", "evaluation", 10, **evaluation)
    assert watch() is None
    one = (10, Evaluation((1.0,), (1,), (2.0,), 0))
    assert [curves for curves, _ in drawn] == [{"tabb": [[one]]}, {"tabb": [[one], [one]], "pooled": [[one]]}]
    (_, others) = drawn[-1]
    assert others["updates"] == 50
    assert round(others["levels"]["the log itself"], 1) == 38.0


def test_another_task_is_not_the_demo(carried_out, capsys):
    assert main(["train", "--task", "walker2d-kinematic"]) == 3
    assert "no bundled target data for walker2d-kinematic" in capsys.readouterr().err
    assert not carried_out


@pytest.mark.slow
@pytest.mark.usefixtures("optimised_children")  # TABB's predictor takes 8,000 updates
def test_the_demo_ends_with_a_table_and_two_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--updates", "30", "--evaluations", "1", "--episodes", "1", "--progress", "none"]) == 0
    told = capsys.readouterr().out
    assert {"comparison.png", "trust.png", "tabb"} <= {place.name for place in (tmp_path / "runs" / "demo").iterdir()}
    assert "The half of the source rows that TABB trusts most has " in told
    assert "The target's log itself has 38.0, the mean of its episodes, each counted by its rows." in told


def test_without_a_rule_own_data_get_all_candidates(monkeypatch, tmp_path):
    """What follows is `tabb train` of four rules, which has its own tests."""
    calls = []
    monkeypatch.setattr(train, "_train", lambda learners, options: calls.append((learners, options)) or 0)
    assert main(["train", "--source", "a.hdf5", "--target=b.hdf5", "--updates", "9"]) == 0
    ((learners, options),) = calls
    assert [learner.name for learner in learners] == ["tabb", "target-only", "source-only", "pooled"]
    assert (options.source, options.target, options.updates) == ("a.hdf5", "b.hdf5", 9)
    assert learners[0].rule == TABB()
    assert {learner.backbone for learner in learners} == {IQL()}
