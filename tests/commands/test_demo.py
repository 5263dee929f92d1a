"""`tabb train` without a rule: the demo, and its options."""

import pytest

from tabb.backbones import IQL
from tabb.cli import main
from tabb.commands import demo, train
from tabb.rules import TABB
from tabb.running.plan import read_plan


@pytest.fixture
def carried_out(monkeypatch, tmp_path):
    """How the demo's plan was carried out, in place of carrying it out."""
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "run_plan", lambda *words: calls.append(words))
    monkeypatch.setattr(demo, "summarise", lambda root: f"table of {root}")
    monkeypatch.setattr(demo, "_found", lambda root, seed: f"trust of {root}")
    return calls


def test_the_demo_without_options(carried_out, tmp_path):
    assert main(["train"]) == 0
    root, _, progress = carried_out[0]
    assert (str(root), progress) == ("runs/demo", "auto")
    cells = read_plan(root)
    assert [(cell.label, cell.folder) for cell in cells] == [
        (name, f"{name}/seed0") for name in ("tabb", "target-only", "source-only", "pooled")
    ]
    assert {(cell.spec.settings.updates, cell.spec.settings.evaluations) for cell in cells} == {(6_000, 6)}
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
        f"{name}/seed{seed}" for name in ("tabb", "target-only", "source-only", "pooled") for seed in (3, 4)
    ]
    assert {(c.spec.settings.updates, c.spec.settings.evaluations, c.spec.settings.episodes) for c in cells} == {
        (50, 2, 1)
    }


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--source", "a.hdf5"], "--source: name the rule first, e.g. `tabb train tabb --source ...`"),
        (["--target", "a.hdf5", "--jobs", "1"], "or your own data with --source and --target"),
        (["--progress", "lines", "--backbone.hidden", "8"], "--backbone.hidden: name the rule first"),
        (["--preset", "trust"], "--preset: name the rule first"),
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


@pytest.mark.slow
def test_the_demo_ends_with_a_table_and_two_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--updates", "30", "--evaluations", "1", "--episodes", "1", "--progress", "none"]) == 0
    told = capsys.readouterr().out
    assert {"comparison.png", "trust.png", "tabb"} <= {place.name for place in (tmp_path / "runs" / "demo").iterdir()}
    assert "The half of the source rows that TABB trusts most has " in told
    assert "The target's log itself has 38.0 in the mean of its episodes." in told


def test_without_a_rule_own_data_get_all_candidates(monkeypatch, tmp_path):
    """What follows is `tabb train` of four rules, which has its own tests."""
    calls = []
    monkeypatch.setattr(train, "_train", lambda learners, options: calls.append((learners, options)) or 0)
    assert main(["train", "--source", "a.hdf5", "--target=b.hdf5", "--updates", "9"]) == 0
    ((learners, options),) = calls
    assert [learner.name for learner in learners] == ["tabb", "target-only", "source-only", "pooled"]
    assert (options.source, options.target, options.updates) == ("a.hdf5", "b.hdf5", 9)
    assert learners[0].rule == TABB(**TABB.presets["trust"])
    assert {learner.backbone for learner in learners} == {IQL(layer_norm=True)}
