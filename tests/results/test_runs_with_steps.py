"""Finished runs all of whose target rows were steps: scored and reported from the data set of their steps."""

from types import SimpleNamespace

import numpy as np
import pytest

import tabb
from cart import cart
from command_line import told
from tabb.errors import UsageError
from tabb.provenance import fingerprint
from tabb.results.comparison_sections import _same_source
from tabb.results.row_scores import run_data, steps_alone


def logs(rows, **cart_of):
    log = cart(rows, **cart_of)
    names, ends = ("observations", "actions", "rewards"), ("terminals", "timeouts", "next_observations")
    return tabb.from_arrays(*(log[name] for name in names), **{name: log[name] for name in ends})


def test_its_steps_are_its_data_where_there_were_no_others(tmp_path):
    rows = logs(100)
    tabb.data.save_npz(tmp_path / "target-steps.npz", rows)
    config = {
        "task": None,
        "origin": {"env": "Cart-v0"},
        "data": {"steps": {"target": "Cart-v0"}, "target": fingerprint(rows[:0])},
    }
    assert steps_alone(config, "target", tmp_path) == tmp_path / "target-steps.npz"
    assert steps_alone(config, "source", tmp_path) is None
    found = run_data(config, "target", None, str(tmp_path)).transitions
    np.testing.assert_array_equal(found.observation, rows.observation)
    arrays = config | {"data": config["data"] | {"target": fingerprint(rows[:7])}}  # there were arrays beside
    with pytest.raises(UsageError, match="was trained from arrays"):
        run_data(arrays, "target", None, str(tmp_path))


def test_runs_are_not_asked_whether_they_agree_on_steps_of_their_own(tmp_path):
    """Row 7 of one run's steps is another row than row 7 of the other's."""
    stepped, logged = ({"origin": {}, "data": {"source": "s"} | steps} for steps in ({"steps": {"source": "C"}}, {}))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        tabb.data.save_npz(tmp_path / name / "source-steps.npz", logs(20))

    def same(one, other):
        first = SimpleNamespace(config=one, folder=tmp_path / "a")
        return _same_source(first, SimpleNamespace(config=other, folder=tmp_path / "b"))

    assert same(logged, logged)
    assert not same(stepped, stepped)


@pytest.mark.slow
def test_tabb_with_target_steps_alone_is_scored_and_reported(tmp_path, capsys):
    """Its weights are those of the last models, with observations as they were normalised in the run."""
    file = tmp_path / "simulator.npz"
    tabb.data.save_npz(file, logs(300))
    online = ["--online.target-steps", "60", "--online.warm-up", "20", "--online.refits", "1"]
    small = ["--backbone.hidden", "8", "--backbone.batch-size", "8", "--updates", "20", "--evaluations", "0"]
    rule = ["--rule.predictor", "residual", "--rule.predictor.updates", "40", "--rule.predictor.hidden", "16"]
    words = ["--source", file, "--env", "cart:Cart-v0", *online, *small, *rule, "--progress", "none"]
    told(capsys, "train", "tabb", *words, "--out", tmp_path / "runs")
    run = tmp_path / "runs" / "seed0"
    scores = tabb.score_rows(run)
    assert len(scores.columns["weight"]) == len(tabb.load(file))
    assert np.isfinite(scores.columns["tbm"]).all()
    page = told(capsys, "report", run)
    assert "report" in page
    assert "steps of the run" in (run / "report.html").read_text()
