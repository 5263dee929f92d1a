"""Where to take target steps: choices and the table by hand, and a short run."""

import json

import numpy as np
import pytest

from tabb.data.catalogue import resolve
from tabb.experiments import where_to_sample
from tabb.experiments.where_to_sample import WAYS, Sampling, doubtful_rows, main, most_doubted, table
from tabb.rules import ResidualPredictor


def test_choices_by_hand():
    assert most_doubted({0.0: 1.0, 0.3: 3.0, 1.0: 2.0}) == 0.3
    assert doubtful_rows(np.array([1.0, 5.0, 3.0, 4.0]), 0.5).tolist() == [1, 3]
    assert doubtful_rows(np.array([1.0, 5.0, 3.0]), 0.01).tolist() == [1]


def test_the_table_by_hand():
    def result(task, errors):
        ways = {
            way: [{"error": 9.0, "rank": 0.0}, {"error": e, "rank": e / 10}]
            for way, e in zip(WAYS, errors, strict=True)
        }
        return {"task": task, "first": {"error": 8.0, "rank": 0.25, "mismatch": 0.5}, "ways": ways}

    rows = table([result("a", [2.0, 1.0, 4.0, 5.0]), result("a", [2.0, 3.0, 4.0, 3.0]), result("b", [1.0] * 4)])
    assert rows.splitlines() == [
        "| steps | a | b | smaller error than |",
        "|---|---|---|---|",
        "| none: the source's own backups | 0.50 | 0.50 |  |",
        "| first round | 8.00 / 0.25 | 8.00 / 0.25 |  |",
        "| in turn | 2.00 / 0.20 | 1.00 / 0.10 |  |",
        "| steered | 2.00 / 0.20 | 1.00 / 0.10 | in turn: 1 of 3 |",
        "| random starts | 4.00 / 0.40 | 1.00 / 0.10 |  |",
        "| doubtful starts | 4.00 / 0.40 | 1.00 / 0.10 | random starts: 1 of 3 |",
    ]


def test_each_robot_has_its_own_source(tmp_path, monkeypatch):
    cases = []

    def measured(case):
        cases.append((case.task.name, case.source, case.value))
        return {"ways": {}}

    monkeypatch.setattr(where_to_sample, "resolve", lambda quality, task, side: task.partition("-")[0])
    monkeypatch.setattr(where_to_sample, "load", lambda robot: robot)
    monkeypatch.setattr(where_to_sample, "taught", lambda sampling, source: (None, f"V of {source}", None))
    monkeypatch.setattr(where_to_sample, "fingerprint", lambda source: source)
    monkeypatch.setattr(where_to_sample, "measured", measured)
    monkeypatch.setattr(where_to_sample, "table", lambda results: "")
    tasks = ["hopper-gravity-0.5", "walker2d-kinematic", "hopper-kinematic"]
    main(["--tasks", *tasks, "--seeds", "0", "--out", str(tmp_path)])
    robots = [task.partition("-")[0] for task in tasks]
    assert cases == [(task, robot, f"V of {robot}") for task, robot in zip(tasks, robots, strict=True)]


@pytest.mark.slow
def test_a_short_run_and_its_table(tmp_path, monkeypatch, capsys):
    bundled = resolve("bundled", "hopper-gravity-0.5", "source")
    monkeypatch.setattr(where_to_sample, "resolve", lambda quality, task, side: bundled)
    small = ResidualPredictor(heads=2, updates=20, batch_size=16, hidden=16)
    tiny = Sampling(
        source_rows=400, first=60, rounds=1, steps=40, horizon=5, rows=30, asked=30, updates=5, predictor=small
    )
    monkeypatch.setattr(where_to_sample, "Sampling", lambda: tiny)
    words = ["--tasks", "hopper-gravity-0.5", "--seeds", "0", "--out", str(tmp_path)]
    main(words)
    found = json.loads((tmp_path / "hopper-gravity-0.5-seed0.json").read_text())
    assert {way: [one["steps"] for one in rounds] for way, rounds in found["ways"].items()} == {
        way: [100] for way in WAYS
    }
    said = capsys.readouterr().out
    main([*words, "--table"])
    assert capsys.readouterr().out in said


def test_a_folder_without_results_has_no_table(tmp_path):
    with pytest.raises(SystemExit, match="holds no results of these tasks and seeds"):
        main(["--out", str(tmp_path), "--table"])
