"""`tabb figure quality` and `tabb figure intensity`: cells read back, means by hand, pictures, errors."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tabb.cli import main
from tabb.commands.methods import methods_of
from tabb.data.catalogue import find
from tabb.errors import RunError
from tabb.evaluation.statistics import mean_interval
from tabb.experiments.benchmark import Comparison, Place, as_csv, gather
from tabb.experiments.benchmark_scores import methods_in, read_benchmark, read_scores_csv
from tabb.experiments.intensity import intensity_table, levels_of, same_physics, scores_by_level
from tabb.experiments.quality import quality_grids, quality_table
from tabb.files import write_json
from tabb.training.folder import RunFolder


def write(root: Path, place: Place, method: str, scores: list[float], updates: int = 5) -> None:
    """Results where the cells of a comparison have theirs."""
    comparison = Comparison((place,), methods_of([method]), tuple(range(len(scores))), updates)
    for *_, seed, folder in comparison.runs():
        (root / folder).mkdir(parents=True, exist_ok=True)
        write_json(RunFolder(root / folder).result_file, {"updates": updates, "score": scores[seed]})


@pytest.fixture
def qualities(tmp_path: Path) -> Path:
    """Two tasks, sources medium and expert, target medium; pooled is only there for one seed."""
    for task, more in (("hopper-morph", 0.0), ("hopper-kinematic", 10.0)):
        for source, score in (("expert", 50.0), ("medium", 20.0)):
            place = Place(task, source, "medium")
            write(tmp_path, place, "tabb", [score + more, score + more + 2])
            write(tmp_path, place, "pooled", [score + more])
        write(tmp_path, Place(task, "medium", "medium"), "target-only", [30.0, 36.0])
    return tmp_path


def test_cells_are_read_back_as_the_benchmark_gathers_them(qualities: Path) -> None:
    table = read_benchmark(qualities)
    comparison = Comparison(tuple(table), methods_of(["tabb", "pooled", "target-only"]), (0, 1), 5)
    assert len(table) == 4
    assert gather(comparison, qualities) == table
    assert methods_in(table) == ["pooled", "tabb", "target-only"]
    assert methods_in(table, ["target-only", "tabb"]) == ["tabb", "target-only"]


def test_a_method_without_target_rows_counts_for_every_target(qualities: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for target in ("medium", "expert"):
        write(qualities, Place("hopper-morph", "medium", target), "tabb", [1.0, 2.0])
    write(qualities, Place("hopper-morph", "medium", "medium"), "source-only", [7.0, 9.0])
    assert (qualities / "hopper-morph" / "medium-none" / "source-only" / "seed1").is_dir()
    table = read_benchmark(qualities)
    have = [place for place, row in table.items() if row.get("source-only") == {0: 7.0, 1: 9.0}]
    assert set(have) == {Place("hopper-morph", "medium", "medium"), Place("hopper-morph", "medium", "expert")}
    places = (*have, Place("hopper-morph", "medium", "medium_expert"))
    comparison = Comparison(places, methods_of(["source-only"]), (0, 1), 5)
    monkeypatch.setattr("tabb.experiments.benchmark.resolve", lambda quality, *_: [Path("/data", quality)])
    assert len(comparison.plan()) == 2
    assert comparison.plan()[0].spec.target == (f"/data/{have[0].target}",)
    assert len(gather(comparison, qualities)) == 3


def test_quality_grid_by_hand(qualities: Path) -> None:
    (grid,) = quality_grids(read_benchmark(qualities), ["tabb", "pooled", "target-only"])
    assert (grid.robot, grid.sources, grid.targets) == ("hopper", ["medium", "expert"], ["medium"])
    np.testing.assert_allclose(grid.scores["tabb"], [[26.0], [56.0]])  # (21 + 31) / 2, (51 + 61) / 2
    np.testing.assert_allclose(grid.scores["target-only"], [[33.0], [33.0]])
    np.testing.assert_allclose(grid.gains["tabb"], [[-7.0], [23.0]])
    # Pooled has seed 0 alone: compared with that seed of target-only.
    np.testing.assert_allclose(grid.gains["pooled"], [[25.0 - 30.0], [55.0 - 30.0]])
    assert "| hopper | `pooled` | expert to medium | 55.0 | +25.0 |" in quality_table([grid])


def test_means_are_over_tasks_that_are_whole(qualities: Path) -> None:
    shutil.rmtree(qualities / "hopper-kinematic" / "expert-medium" / "pooled")
    table = read_benchmark(qualities)
    (grid,) = quality_grids(table, ["tabb", "pooled", "target-only"])
    assert grid.tasks == ["hopper-morph"]
    np.testing.assert_allclose(grid.scores["tabb"], [[21.0], [51.0]])
    shutil.rmtree(qualities / "hopper-morph" / "expert-medium" / "pooled")
    with pytest.raises(RunError, match="hopper: no task has tabb, pooled at all its qualities"):
        quality_grids(read_benchmark(qualities), ["tabb", "pooled"])
    assert quality_grids(read_benchmark(qualities), ["tabb"])[0].gains == {}


@pytest.fixture
def levels(tmp_path: Path) -> Path:
    for level, scores in (("5.0", [1.0, 3.0]), ("0.1", [9.0]), ("0.5", [5.0, 6.0])):
        write(tmp_path, Place(f"hopper-friction-{level}", "medium", "medium"), "tabb", scores)
    write(tmp_path, Place("hopper-friction-2.0", "medium", "medium"), "target-only", [4.0, 4.5])
    write(tmp_path, Place("hopper-morph-foot-hard", "medium", "expert"), "tabb", [8.0])
    write(tmp_path, Place("hopper-morph-foot-easy", "medium", "expert"), "tabb", [7.0])
    write(tmp_path, Place("hopper-morph", "medium", "expert"), "tabb", [70.0])  # OTDF's: it has no level
    return tmp_path


def test_intensity_by_hand(levels: Path) -> None:
    table = read_benchmark(levels)
    found = scores_by_level(table, ["tabb", "target-only"])
    friction = found[Place("hopper-friction", "medium", "medium")]
    # target-only draws no source: without a run that does, its cell says so.
    alone = found[Place("hopper-friction", "none", "medium")]
    assert friction["tabb"].levels == ["0.1", "0.5", "5.0"]
    assert friction["tabb"].means == [9.0, 5.5, 2.0]
    assert friction["tabb"].intervals == [None, mean_interval([5.0, 6.0]), mean_interval([1.0, 3.0])]
    assert alone["target-only"].levels == ["2.0"]
    assert levels_of(friction | alone) == ["0.1", "0.5", "2.0", "5.0"]
    assert found[Place("hopper-morph-foot", "medium", "expert")]["tabb"].levels == ["easy", "hard"]
    assert "0.1: 9.0, 0.5: 5.5 [-0.9, 11.9], 5.0: 2.0 [" in intensity_table(found)
    (note,) = same_physics(table)
    assert note.startswith("hopper-friction-0.1 and hopper-friction-0.5 are the same physics (MuJoCo")


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


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "holds no scores"),
        (["hopper-morph,medium,medium,tabb,0"], "line 2: 'hopper-morph,medium,medium,tabb,0' is not a score"),
        (["hopper-morph,medium,medium,tabb,0,1.5,2"], "line 2: .* is not a score"),
        (["hopper-morph,medium,medium,tabb,0,nan"], "line 2: .* is not a score"),
        (["hoper,medium,medium,tabb,0,1.5"], "line 2: .* is not a score of a task"),
        (["hopper-morph,medium,medium,tabb,0,1.5"] * 2, "line 3: seed 0 of tabb stands twice for hopper-morph"),
    ],
)
def test_scores_that_are_none_are_refused(tmp_path: Path, lines: list[str], told: str) -> None:
    file = tmp_path / "scores.csv"
    file.write_text("\n".join(["task,source,target,method,seed,score", *lines]))
    with pytest.raises(RunError, match=told):
        read_scores_csv(file)


def test_another_table_is_not_taken_for_scores(tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    for content in (b"", b"a,b\n1,2\n", b"\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(RunError, match=r"which begins with task,source,|cannot be read"):
            read_benchmark(tmp_path)
    with pytest.raises(RunError, match="cannot be read"):
        read_scores_csv(tmp_path / "none.csv")


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
