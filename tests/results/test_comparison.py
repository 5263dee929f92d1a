"""`tabb report` of several runs: one file without scripts that says what each run's own records say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import tabb
from tabb.cli import main
from tabb.errors import UsageError
from tabb.results.comparison import _root_of, folders_of
from tabb.results.report.rows import rank_correlation
from tabb.results.row_scores import score_rows
from tabb.results.summary import results_in, summarise


@pytest.fixture(scope="module")
def compared(two_seeds, train_small, tmp_path_factory) -> Path:
    """A folder with runs of tabb (two seeds) and of target-only, both with scores, and a film of one seed."""
    root = tmp_path_factory.mktemp("compared")
    shutil.copytree(two_seeds, root / "tabb", ignore=shutil.ignore_patterns("report.html"))
    train_small(root / "target-only", "target-only")
    for folder, score in (("tabb/seed1", 20.0), ("tabb/seed3", 30.0), ("target-only/seed0", 10.0)):
        evaluate_as(root / folder, score)
    (root / "tabb" / "seed1" / "watch.gif").write_bytes(b"GIF89a, or nearly")
    assert main(["report", str(root)]) == 0
    return root


def evaluate_as(run: Path, score: float) -> None:
    file = run / "result.json"
    lines = [
        {"update": at, "mean": score + off, "returns": [score + off] * 2, "lengths": [5, 5], "scores": None,
         "first_seed": 0}
        for at, off in ((5, -1.0), (10, 0.0), (20, 1.0))
    ]  # fmt: skip
    result = json.loads(file.read_text())
    file.write_text(json.dumps(result | {"score": score, "evaluations": lines, "measure": "return"}))


@pytest.fixture(scope="module")
def page(compared, open_page):
    return open_page(compared / "comparison.html")


def of_run(page, name, section):
    """What a section shows of a run, found by the box that hides it."""
    (label,) = (label for label in page.root.iter("label") if "".join(label.itertext()).endswith(name))
    kind = label.get("for").removeprefix("show-")
    return [one for one in page.sections[section].iter() if kind in (one.get("class") or "").split()]


def test_it_is_one_file_without_scripts(page):
    assert not {element.tag for element in page.root.iter()} & {"script", "link", "iframe", "object"}
    for element in page.root.iter():
        assert element.get("src", "data:").startswith("data:")
        assert element.get("href", "#").startswith("#")
    assert set(page.sections) == {"scores", "curves", "regions", "films", "runs"}


def test_a_box_hides_what_belongs_to_its_run(page):
    boxes = [box for box in page.root.iter("input") if box.get("type") == "checkbox"]
    assert len(boxes) == 2
    style = "".join(element.text for element in page.root.iter("style"))
    for box in boxes:
        kind = box.get("id").removeprefix("show-")
        assert f"body:has(#show-{kind}:not(:checked)) .{kind} {{ display: none; }}" in style
    for section, counts in (("scores", (1, 1)), ("curves", None), ("regions", (2, 0)), ("films", (1, 0))):
        shown = [len(of_run(page, name, section)) for name in ("tabb", "target-only")]
        assert tuple(shown) == counts if counts else min(shown) > 1, section


def test_scores_are_those_of_the_runs(page):
    """Student's interval of two seeds' scores, 20 and 30: 25 ± 12.706 · 5."""
    ((tabb_row,), (bar,)) = (of_run(page, name, "scores") for name in ("tabb", "target-only"))
    cells = ["".join(cell.itertext()).strip() for cell in tabb_row]
    assert cells[:3] == ["tabb", "25.0", "-38.5 to 88.5"]
    assert cells[4:] == ["2", "20"]
    assert ["".join(cell.itertext()).strip() for cell in bar][1] == "10.0"
    assert "tabb has the highest score, but intervals overlap" in page.words("scores")


def test_trust_is_that_of_the_rows(page, compared):
    columns = score_rows(compared / "tabb" / "seed1").columns
    (row,) = (one for one in of_run(page, "tabb", "regions") if one.tag == "tr")
    cells = ["".join(cell.itertext()).strip() for cell in row]
    assert float(cells[2]) == pytest.approx(np.median(columns["tbm"]), rel=6e-3)
    titles = [svg.find("title") for svg in page.sections["regions"].iter("svg")]
    assert "Mean weight over state space" in [title.text for title in titles if title is not None]


def test_two_runs_agree_as_their_ranks_do(two_seeds, open_page, tmp_path):
    seeds = [two_seeds / "seed1", two_seeds / "seed3"]
    page = open_page(tabb.write_comparison(seeds, tmp_path / "page.html"))
    mine, theirs = (score_rows(run).columns["weight"] for run in seeds)
    told = page.tables("regions")[-1][0][-1]
    assert float(told) == pytest.approx(rank_correlation(mine, theirs).value, abs=0.006)
    names = ["".join(label.itertext()) for label in page.root.iter("label")]
    assert names == [f"tabb ({run})" for run in seeds]


def test_what_cannot_be_compared(compared, capsys, tmp_path):
    def refused(*arguments):
        capsys.readouterr()
        assert main(["report", *map(str, arguments)]) in (2, 4)
        return capsys.readouterr().err

    assert folders_of([compared]) == [compared / "tabb", compared / "target-only"]
    assert folders_of(str(compared)) == folders_of(compared) == folders_of([compared])
    assert "no such folder" in refused(compared, tmp_path / "nowhere")
    assert "its folder is missing" in refused(compared, "--out", tmp_path / "no" / "page.html")
    with pytest.raises(tabb.errors.UsageError, match="needs two runs"):
        tabb.write_comparison([compared / "tabb"])
    other = shutil.copytree(compared / "target-only", tmp_path / "other")
    file = other / "seed0" / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"measure": "normalised score"}))
    assert "compare runs of one task" in refused(compared / "target-only", other, "--out", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_the_folder_of_runs_some_of_whose_paths_are_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert _root_of([Path("runs/a"), Path("runs/b")]) == Path("runs")
    assert _root_of([Path("runs/a"), tmp_path / "runs" / "b"]) == tmp_path / "runs"


def changed(run: Path, **changes) -> None:
    file = run / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_runs_of_two_environments_are_not_compared(compared, tmp_path):
    """A return in one says nothing of a return in another; a run that was not rolled out has none."""
    for name in ("a", "b"):
        shutil.copytree(compared / "target-only" / "seed0", tmp_path / name / "seed0")
        origin = json.loads((tmp_path / name / "seed0" / "config.json").read_text())["origin"]
        changed(tmp_path / name / "seed0", origin=origin | {"env": f"{name}:{name}-v0"})
    with pytest.raises(UsageError, match="return in a:a-v0 and return in b:b-v0; compare runs of one environment"):
        tabb.write_comparison([tmp_path])
    config = json.loads((tmp_path / "b" / "seed0" / "config.json").read_text())
    unnamed = {key: value for key, value in config["origin"].items() if key != "env"}
    changed(tmp_path / "b" / "seed0", origin=unnamed)  # as of a run from Python, or of an earlier version
    assert "not evaluated" not in tabb.write_comparison([tmp_path]).read_text()
    changed(tmp_path / "b" / "seed0", origin=config["origin"])
    file = tmp_path / "b" / "seed0" / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"score": None, "evaluations": []}))
    assert "not evaluated" in tabb.write_comparison([tmp_path]).read_text()


def test_measures_on_different_held_out_rows_are_not_to_be_compared(compared, open_page, tmp_path):
    policies = [{"update": 20, "value": 1.0, "low": 0.5, "high": 1.5, "action_error": 0.2}]
    for name, episodes in (("a", [0]), ("b", [1])):
        shutil.copytree(compared / "target-only" / "seed0", tmp_path / name / "seed0")
        file = tmp_path / name / "seed0" / "result.json"
        held_out = {"episodes": episodes, "policies": policies}
        file.write_text(json.dumps(json.loads(file.read_text()) | {"held_out": held_out}))
    caution = "Caution: Runs were measured on different rows, so their numbers are not to be compared."
    assert caution in open_page(tabb.write_comparison([tmp_path])).words("held-out")
    file.write_text(file.read_text().replace('"episodes": [1]', '"episodes": [0]'))
    assert "Caution" not in open_page(tabb.write_comparison([tmp_path])).words("held-out")


def test_two_runs_of_one_seed_are_no_two_seeds(compared, tmp_path):
    """They differ in a setting, perhaps: their mean and spread over "seeds" would mean nothing."""
    root = shutil.copytree(compared, tmp_path / "all")
    assert "target-only" in summarise(root)
    shutil.copytree(root / "target-only", root / "again")
    (seed,) = (root / "again").glob("seed*")
    assert summarise(root) == (
        f"{root}: no table, since {seed} and {root / 'target-only' / seed.name} are both seed {seed.name[4:]} of "
        f"target-only; `tabb report {root}` compares them"
    )


def test_files_of_other_programs_are_passed_over(compared, tmp_path):
    """Many programs write a `config.json` or a `result.json`."""
    root = shutil.copytree(compared, tmp_path / "all")
    for place, content in (("model", '{"hidden_size": 8}'), ("tabb/seed1/ray", "[1]"), ("list", '"text"')):
        (root / place).mkdir()
        for name in ("config.json", "result.json"):
            (root / place / name).write_text(content)
    assert folders_of(root) == [root / "tabb", root / "target-only"]
    assert [result["seed"] for result in results_in(root)] == [1, 3, 0]
    with pytest.raises(UsageError, match="no target episodes were held out"):
        tabb.select(root)
    (root / "model" / "config.json").write_text("{ cut")
    assert root / "model" in folders_of(root), "a damaged one may be a run's"
