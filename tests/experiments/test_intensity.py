"""The intensity figure: means by level and their intervals, by hand."""

from __future__ import annotations

from pathlib import Path

from tabb.evaluation.statistics import mean_interval
from tabb.experiments.benchmark import Place
from tabb.experiments.benchmark_scores import read_benchmark
from tabb.experiments.intensity import intensity_table, levels_of, same_physics, scores_by_level


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
