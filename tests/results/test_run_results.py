"""Finished runs as rows: what they are, what they scored, and which settings tell them apart."""

from __future__ import annotations

import dataclasses
import json

import pytest

import tabb
from tabb.data import save_npz
from tabb.errors import HeldOutWarning, RunError, RunWarning
from tabb.provenance import fingerprint
from tabb.results.run_results import method_names

SMALL = tabb.IQL(policies=1, hidden=(8,), batch_size=16)


@pytest.fixture(scope="module")
def folder(pair, tmp_path_factory):
    """Pooled at two settings of the backbone, two seeds each, and a run that is not finished."""
    root = tmp_path_factory.mktemp("runs")
    for name, data in zip(("source", "target"), pair, strict=True):
        save_npz(root / f"{name}.npz", data)
    files = root / "source.npz", root / "target.npz"
    tabb.Learner(tabb.Pooled(), SMALL, updates=4, evaluations=0, seeds=(0, 1)).fit(*files, folder=root / "a")
    faster = dataclasses.replace(SMALL, discount=0.9)
    with pytest.warns(HeldOutWarning, match="no policy is judged by them"):
        tabb.Learner(tabb.Pooled(), faster, updates=4, evaluations=0, held_out=0.2).fit(*pair, folder=root / "b")
    (root / "c" / "seed0").mkdir(parents=True)
    (root / "c" / "seed0" / "config.json").write_text("{}")
    return root


def test_a_row_says_what_the_run_is(folder, pair):
    rows = tabb.results(folder)
    assert [row.path for row in rows] == [folder / "a" / "seed0", folder / "a" / "seed1", folder / "b" / "seed0"]
    first, _, last = rows
    assert (first.rule, first.backbone, first.learner, first.seed, first.updates) == ("pooled", "iql", "pooled", 0, 4)
    assert (first.source, first.target, last.source) == ("source.npz", "target.npz", None)
    assert first.source_sha256 == last.source_sha256 == fingerprint(pair[0])
    assert first.settings == {
        "backbone.hidden": [8], "backbone.policies": 1, "backbone.batch_size": 16, "evaluations": 0,
    }  # fmt: skip
    assert last.settings == first.settings | {"backbone.discount": 0.9}
    assert [row.method for row in rows] == ["pooled", "pooled", "pooled backbone.discount=0.9"]
    assert (first.task, first.score, first.measure, first.evaluations) == (None, None, "return", ())
    assert (first.held_out, last.held_out) == (0.0, 0.2)
    assert first.seconds["train"] > 0
    assert "jax" in first.versions


def test_rows_are_json(folder):
    values = tabb.results(folder)[0].to_dict()
    assert json.loads(json.dumps(values)) == values
    assert values["path"] == str(folder / "a" / "seed0")
    assert {"task", "method", "settings", "seed", "score"} <= set(values)


def test_runs_that_cannot_be_read_are_left_out(folder, tmp_path):
    (tmp_path / "result.json").write_text("{}")
    (tmp_path / "config.json").write_text("{}")
    with pytest.warns(RunWarning, match="left out: .*damaged or of another version") as caught:
        assert tabb.results(tmp_path) == []
    assert caught[0].filename == __file__
    with pytest.raises(RunError, match="no such folder"):
        tabb.results(tmp_path / "nowhere")
    assert tabb.results(folder / "c") == []


def test_methods_are_told_apart_within_their_learner():
    learners = ["tabb", "tabb", "tabb", "igdf"]
    settings = [{"a": 1}, {"a": 1, "b": 2}, {"a": 1, "b": 3}, {"c": 1}]
    assert method_names(learners, settings) == ["tabb", "tabb b=2", "tabb b=3", "igdf"]
