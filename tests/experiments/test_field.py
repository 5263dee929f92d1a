"""Cells of the field's methods: what each is, which are run, and what the tables make of them."""

import pytest

from tabb.errors import RunError, Stopped, UsageError
from tabb.experiments import field
from tabb.experiments.field import (
    CONTROLS,
    METHODS,
    bar,
    best_controls,
    cell_of,
    finished,
    picking,
    rank_table,
    ranks,
    run_all,
    score_table,
    spec_of,
)
from tabb.files import read_json, write_json
from tabb.models.imitation import LOGGED
from tabb.plain import plain

TASK = "hopper-gravity-0.5"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Empty files in the places of a task's data."""
    for place in ("source/hopper_medium.hdf5", "target/hopper_gravity_0.5_medium.hdf5"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).touch()
    monkeypatch.setenv("TABB_DATA", str(tmp_path))


def cell(spec, name="pooled", score=1.0):
    settings = plain(spec.full_settings()) | {"held_out": 0.0}
    about = {"rule": plain(spec.rule), "settings": settings, "data": {"target": "t"}}
    points = [{"update": 10 * at, "mean": mean} for at, mean in enumerate((90.0, 0.0, score, score + 3.0))]
    result = {"task": spec.task, "seed": 0, "evaluations": points, "seconds": {"train": 2.04}, "environment": {}}
    return cell_of(name, result, about | {"task": spec.task})


def test_all_imitate_as_the_field_does_but_for_the_two_that_are_as_they_are(files):
    for name, entry in METHODS.items():
        spec = spec_of(name, TASK)
        plainly = spec.settings.imitation == LOGGED and getattr(spec.backbone, "policies", 1) == 1
        assert plainly != entry.as_it_is, name
        climbs = getattr(spec.backbone, "extraction", "") == "improvement"
        assert getattr(spec.backbone, "layer_norm", False) == climbs or entry.as_it_is, name
        assert spec.settings.updates == entry.updates
    assert spec_of("target-only", TASK).source is None
    assert spec_of("igdf", TASK).rule.keep == 0.25  # the authors' for hopper
    assert spec_of("finetune-rank-8", TASK).rule.rank == 8
    with pytest.raises(UsageError, match="unknown method 'igdff'"):
        spec_of("igdff", TASK)


def test_a_cell_counts_its_last_evaluations_and_knows_its_constants(files, tmp_path):
    spec = spec_of("pooled", TASK)
    kept = cell(spec)
    assert (kept["score"], kept["curve"]) == (pytest.approx(5 / 3, abs=0.01), [90.0, 0.0, 1.0, 4.0])
    file = tmp_path / "cells" / TASK / "pooled.json"
    assert not finished(file, spec)
    file.parent.mkdir(parents=True)
    write_json(file, kept)
    assert finished(file, spec)
    assert not finished(file, spec_of("dara", TASK))
    assert picking({TASK: {"pooled": kept, "log": {"score": 50.0}}}) == (
        "Over 1 runs the best of 10 evaluations is 88.3 above the mean of the last 3 on average, and 88.3 at most."
    )


def test_what_is_missing_is_run_and_a_failure_stops_nothing(files, tmp_path, monkeypatch, capsys):
    begun = []

    def run_cell(name, spec, runs):
        begun.append(name)
        if name == "dara":
            raise RunError("out of luck")
        return cell(spec, name)

    monkeypatch.setattr(field, "run_cell", run_cell)
    monkeypatch.setattr(field, "log_cell", lambda task: {"task": task, "method": "log", "score": 50.0})
    names = ["pooled", "dara", "tabb"]
    assert run_all([TASK], names, tmp_path / "out", tmp_path / "runs") == [f"{TASK} dara"]
    assert begun == names
    assert read_json(tmp_path / "out" / TASK / "log.json")["score"] == 50.0
    assert "hopper-gravity-0.5 dara: failed: out of luck" in capsys.readouterr().out
    assert run_all([TASK], names, tmp_path / "out", tmp_path / "runs") == [f"{TASK} dara"]
    assert begun == [*names, "dara"]


def test_a_signal_stops_all_cells(files, tmp_path, monkeypatch, capsys):
    def run_cell(name, spec, runs):
        raise Stopped("stopped and saved")

    monkeypatch.setattr(field, "run_cell", run_cell)
    monkeypatch.setattr(field, "log_cell", lambda task: {"task": task, "method": "log", "score": 50.0})
    words = ["field", "--tasks", TASK, "--methods", "pooled", "dara", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", words)
    assert field.main() == Stopped.exit_code
    told = capsys.readouterr().out
    assert "the same command goes on" in told
    assert "dara" not in told


def test_tables_by_hand():
    controls = dict(zip(CONTROLS, (50.0, 40.0, 55.0, 10.0), strict=True))
    scores = {TASK: controls | {"tabb": 60.0, "pooled": 10.0}, "hopper-morph": {"tabb": 70.0}}
    assert bar(scores[TASK]) == 55.0
    assert bar(scores["hopper-morph"]) is None
    assert ranks({"a": 3.0, "b": 1.0, "c": 3.0}) == {"a": 1.5, "b": 3.0, "c": 1.5}
    lines = score_table(scores).splitlines()
    assert lines[0] == "| | hopper-gravity-0.5 | hopper-morph |"
    assert "| `tabb` | **60.0** | 70.0 |" in lines
    assert "| `log` | 50.0 | - |" in lines
    assert "| `igdf` | - | - |" in lines
    assert rank_table(scores).splitlines()[2:] == [
        "| `tabb` | 1 | 1.0 | 60.0 | +5.0 | 1 | 1 |",
        "| `target-only` | 1 | 2.0 | 55.0 | +0.0 | 0 | - |",
        "| `log` | 1 | 3.0 | 50.0 | -5.0 | 0 | - |",
        "| `clone` | 1 | 4.0 | 40.0 | -15.0 | 0 | - |",
        "| `source-only` | 1 | 5.5 | 10.0 | -45.0 | 0 | - |",
        "| `pooled` | 1 | 5.5 | 10.0 | -45.0 | 0 | 0 |",
    ]
    assert best_controls(scores) == (
        "The best of the four controls, over 1 task: `target-only` on 1, `log` on 0, `clone` on 0, `source-only` on 0."
    )
    for table in (score_table, rank_table, best_controls, picking):
        assert table({}) == "Not measured yet."
