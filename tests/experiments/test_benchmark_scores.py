"""Scores of a benchmark, read back from its runs or from the scores.csv of its report."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark_runs import write
from tabb.commands.methods import methods_of
from tabb.errors import RunError
from tabb.experiments.benchmark import Comparison, Place, gather
from tabb.experiments.benchmark_scores import methods_in, read_benchmark, read_scores_csv


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
