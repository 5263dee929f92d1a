"""The quality figure: means and gains by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tabb.errors import RunError
from tabb.experiments.benchmark_scores import read_benchmark
from tabb.experiments.quality import quality_grids, quality_table


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
