"""`tabb train` without a rule: the demo, and its options."""

import pytest

from tabb.cli import main
from tabb.commands import demo
from tabb.running.plan import read_plan


@pytest.fixture
def carried_out(monkeypatch, tmp_path):
    """How the demo's plan was carried out, in place of carrying it out."""
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "run_plan", lambda *words: calls.append(words))
    monkeypatch.setattr(demo, "summarise", lambda root: f"table of {root}")
    return calls


def test_the_demo_without_options(carried_out, tmp_path):
    assert main(["train"]) == 0
    root, _, progress = carried_out[0]
    assert (str(root), progress) == ("runs/demo", "auto")
    cells = read_plan(root)
    assert [(cell.label, cell.folder) for cell in cells] == [
        (name, f"{name}/seed0") for name in ("tabb", "pooled", "target-only")
    ]
    assert {(cell.spec.settings.updates, cell.spec.settings.evaluations) for cell in cells} == {(15_000, 10)}
    assert main(["train"]) == 0
    assert str(carried_out[1][0]) == "runs/demo-2"


def test_the_demo_with_options(carried_out, tmp_path, capsys):
    words = ["--updates", "50", "--evaluations=2", "--episodes", "1", "--seeds", "3", "4", "--jobs", "2"]
    assert main(["train", *words, "--out", "mine", "--progress", "lines"]) == 0
    assert "Three methods, 50 updates each" in capsys.readouterr().out
    root, jobs, progress = carried_out[0]
    assert (str(root), jobs, progress) == ("mine", 2, "lines")
    cells = read_plan(root)
    assert [cell.folder for cell in cells] == [
        f"{name}/seed{seed}" for name in ("tabb", "pooled", "target-only") for seed in (3, 4)
    ]
    assert {(c.spec.settings.updates, c.spec.settings.evaluations, c.spec.settings.episodes) for c in cells} == {
        (50, 2, 1)
    }


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--source", "a.hdf5"], "--source: name the rule first, e.g. `tabb train tabb --source ...`"),
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
