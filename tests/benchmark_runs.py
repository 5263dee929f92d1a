"""Folders of finished benchmark runs, for the tests of what reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tabb.commands.methods import methods_of
from tabb.experiments.benchmark import Comparison, Place
from tabb.files import write_json
from tabb.training.folder import RunFolder


def write(root: Path, place: Place, method: str, scores: list[float], updates: int = 5) -> None:
    """Write results as the runs of a benchmark do."""
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


@pytest.fixture
def levels(tmp_path: Path) -> Path:
    for level, scores in (("5.0", [1.0, 3.0]), ("0.1", [9.0]), ("0.5", [5.0, 6.0])):
        write(tmp_path, Place(f"hopper-friction-{level}", "medium", "medium"), "tabb", scores)
    write(tmp_path, Place("hopper-friction-2.0", "medium", "medium"), "target-only", [4.0, 4.5])
    write(tmp_path, Place("hopper-morph-foot-hard", "medium", "expert"), "tabb", [8.0])
    write(tmp_path, Place("hopper-morph-foot-easy", "medium", "expert"), "tabb", [7.0])
    write(tmp_path, Place("hopper-morph", "medium", "expert"), "tabb", [70.0])  # OTDF's: it has no level
    return tmp_path
