"""`tabb figure quality` and `tabb figure intensity`: pictures, tables, errors."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmark_runs import levels, qualities, write
from tabb.cli import main
from tabb.data.catalogue import find
from tabb.experiments.benchmark import Place
from tabb.experiments.benchmark_scores import as_csv, read_benchmark, read_scores_csv

__all__ = ["levels", "qualities"]


def test_pictures(qualities: Path, levels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert qualities == levels  # one folder: what is there is drawn
    out = qualities / "new" / "figures"
    assert main(["figure", "intensity", str(levels), "--out", str(out), "--methods", "tabb"]) == 0
    assert (out / "intensity.png").stat().st_size > 5_000
    assert "are the same physics" in capsys.readouterr().out
    shutil.rmtree(levels / "hopper-morph" / "medium-expert")
    for folder in levels.glob("hopper-*-*"):
        shutil.rmtree(folder)
    assert main(["figure", "quality", str(qualities)]) == 0
    assert f"picture: {qualities / 'quality-hopper.png'}" in capsys.readouterr().out
    assert (qualities / "quality-hopper.png").stat().st_size > 5_000


def test_a_report_without_its_runs_is_drawn_from_its_scores(
    qualities: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, kept = read_benchmark(qualities), tmp_path / "kept"
    kept.mkdir()
    (kept / "scores.csv").write_text(as_csv(table))
    assert read_benchmark(kept) == read_scores_csv(kept / "scores.csv") == table
    assert main(["figure", "quality", str(kept)]) == 0
    assert "| hopper | `pooled` | expert to medium | 55.0 | +25.0 |" in capsys.readouterr().out
    assert (kept / "quality-hopper.png").stat().st_size > 5_000


@pytest.mark.slow
def test_cells_of_a_real_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    for domain, name in (("source", "hopper"), ("target", "hopper_gravity_0.5")):
        (tmp_path / domain).mkdir()
        for quality in ("medium", "expert"):
            file = find("hopper-gravity-0.5", "bundled", domain)[0]
            (tmp_path / domain / f"{name}_{quality}.hdf5").symlink_to(file)
    monkeypatch.setenv("TABB_DATA", str(tmp_path))
    runs = str(tmp_path / "runs")
    command = ["benchmark", "odrl", "--tasks", "hopper-gravity-0.5", "--sources", "medium", "expert", "--updates", "20"]
    assert (
        main([*command, "--methods", "pooled", "target-only", "--seeds", "0", "--progress", "none", "--out", runs]) == 0
    )
    table = read_benchmark(Path(runs))
    assert {(place.source, method) for place, row in table.items() for method in row} == {
        (source, method) for source in ("medium", "expert") for method in ("pooled", "target-only")
    }
    capsys.readouterr()
    for figure, picture in (("quality", "quality-hopper.png"), ("intensity", "intensity.png")):
        assert main(["figure", figure, runs]) == 0
        assert picture in capsys.readouterr().out
        assert (tmp_path / "runs" / picture).stat().st_size > 5_000


def test_one_line_errors(qualities: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def says(*arguments: str) -> str:
        assert main(["figure", *arguments]) == 4
        err = capsys.readouterr().err
        assert err.startswith("tabb: error: ")
        assert len(err.strip().splitlines()) == 1
        return err

    assert "holds no finished runs of `tabb benchmark`" in says("quality", str(qualities / "nowhere"))
    assert "no run of dara is finished; finished are pooled, tabb, target-only" in says(
        "quality", str(qualities), "--methods", "dara"
    )
    assert "no finished run is of a task with levels" in says("intensity", str(qualities))
    (qualities / "file").write_text("")
    assert "cannot be made" in says("quality", str(qualities), "--out", str(qualities / "file" / "folder"))
    write(qualities, Place("hopper-morph", "medium", "medium"), "dara", [3.0], updates=6)
    unequal = says("quality", str(qualities))
    assert "cannot be compared with" in unequal
    assert {"6", "5"} <= set(unequal.split()) | {word.rstrip(",") for word in unequal.split()}
    file = qualities / "hopper-morph" / "medium-medium" / "dara" / "seed0" / "result.json"
    file.write_text("[]")
    assert f"{file}: is not a result of tabb" in says("quality", str(qualities))
    file.write_text("{")
    assert "cannot be read" in says("quality", str(qualities))
    assert main(["figure", "quality"]) == 2
