"""`tabb report`: what cannot be reported is one line that names the remedy, and leaves no page behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tabb.cli import main


@pytest.fixture
def runs(two_seeds, tmp_path) -> Path:
    return shutil.copytree(two_seeds, tmp_path / "runs", ignore=shutil.ignore_patterns("report.html"))


@pytest.fixture
def refused(capsys) -> Callable[..., str]:
    """`refused(code, *arguments)`: the one line of an error."""

    def run(code: int, *arguments: str) -> str:
        capsys.readouterr()
        assert main(["report", *arguments]) == code
        err = capsys.readouterr().err
        assert err.startswith("tabb: error: ")
        assert len(err.strip().splitlines()) == 1
        return err

    return run


def edit(file: Path, change: Callable[[dict], None]) -> None:
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def test_unfinished_run(runs, refused):
    (runs / "seed3" / "result.json").unlink()
    assert f"seed3: is not finished; finish it with `tabb train --resume {runs / 'seed3'}`" in refused(4, str(runs))
    assert not (runs / "report.html").exists()


def test_no_run(runs, refused, tmp_path):
    assert "no such folder" in refused(4, str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    assert "holds no run" in refused(4, str(tmp_path / "empty"))
    assert f"report one of the runs in it, such as {runs}" in refused(4, str(runs.parent))
    assert "tabb report --help" in refused(2)


def test_moved_data(runs, refused, report_files):
    for seed in ("seed1", "seed3"):
        edit(runs / seed / "config.json", lambda c: c["origin"]["target"].update(files=["/nowhere/target.npz"]))
    assert "/nowhere/target.npz: no such file" in refused(3, str(runs))
    assert main(["report", str(runs), "--target", report_files["target"]]) == 0
    assert "is not the target data that" in refused(2, str(runs), "--target", report_files["source"])


def test_runs_from_arrays_name_their_files(runs, refused):
    for seed in ("seed1", "seed3"):
        edit(runs / seed / "config.json", lambda c: c.update(origin={}))
    assert "was trained from arrays" in refused(2, str(runs))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("result.json", "{", "cannot be read"),
        ("result.json", "[]", "records are damaged"),
        ("result.json", '{"score": null}', "records are damaged"),
        ("config.json", "{}", "records are damaged"),
        ("checkpoint.npz", "x", "is damaged"),
        ("prepared.npz", "x", "is damaged"),
        ("metrics.jsonl", '{"kind": "training", "update": "many", "tbm": 1}\n', "records are damaged"),
    ],
)
def test_damaged_files(name, text, says, runs, refused):
    (runs / "seed1" / name).write_text(text)
    assert says in refused(4, str(runs))
    assert not (runs / "report.html").exists()


def test_seeds_of_different_runs(runs, refused):
    edit(runs / "seed3" / "config.json", lambda c: c["rule"].update(temperature=2.0))
    assert "seed1 and seed3 differ in their rule" in refused(2, str(runs))


def test_where_nothing_can_be_written(runs, refused, tmp_path):
    assert "its folder is missing" in refused(4, str(runs), "--out", str(tmp_path / "no" / "page.html"))
    assert "is a folder" in refused(4, str(runs), "--out", str(tmp_path))
    (runs / "file").write_text("")
    assert "its folder is missing" in refused(4, str(runs), "--out", str(runs / "file" / "page.html"))


def test_an_older_page_stays_if_a_new_one_fails(runs, refused):
    older = "<html><footer>Written by tabb 0.1.0.</footer></html>"
    (runs / "report.html").write_text(older)
    (runs / "seed1" / "checkpoint.npz").write_text("x")
    refused(4, str(runs))
    assert (runs / "report.html").read_text() == older
