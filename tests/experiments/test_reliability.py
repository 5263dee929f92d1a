"""What a model's predicted errors are worth: the fit of its parts, the groups of rows, and the parts of a row."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.batch import make_domains
from tabb.experiments import reliability
from tabb.experiments.reliability import draw, fit_error, groups, parts_of, results_in, table
from tabb.models.target_model import TargetModelConfig, init_target_model


def test_the_parts_of_the_error_are_found_and_none_is_negative():
    spread = np.array([1.0, 4.0, 9.0, 16.0])
    parts = np.stack([spread, spread[::-1], np.ones(4)], axis=1)
    assert fit_error(parts, 2 * spread + 0.5, (0, 2)) == pytest.approx([2.0, 0.0, 0.5])
    assert fit_error(parts, 3 * spread[::-1], (0, 1, 2)) == pytest.approx([0.0, 3.0, 0.0], abs=1e-9)
    falls = fit_error(parts, 20 - spread, (0, 2))
    assert falls[0] == 0.0, "an error that falls with the spread is predicted by the constant alone"
    assert falls[2] > 0


def test_groups_go_from_small_to_large_predictions():
    predicted = np.repeat(np.arange(10.0, 0.0, -1.0), 2)
    of_prediction, of_error = groups(predicted, predicted * 4)
    assert of_prediction == pytest.approx(np.sqrt(np.arange(1.0, 11.0)), abs=1e-4)
    assert of_error == pytest.approx(2 * np.sqrt(np.arange(1.0, 11.0)), abs=1e-4)


def test_the_parts_of_a_row_are_those_of_the_networks(pair):
    source, target = pair
    domains = make_domains(source, target)
    model = init_target_model(
        TargetModelConfig(hidden=(4,), members=2), domains.source, domains.target, jax.random.key(0)
    )
    parts, error = parts_of(model, domains.target)
    rows = domains.target[np.flatnonzero(np.asarray(domains.target.terminal) == 0)]
    one, other = np.asarray(model.outputs(rows.observation, rows.action), np.float64)[..., :-2]
    assert parts[:, 0] == pytest.approx(((one - other) ** 2 / 2).mean(axis=1), rel=1e-3)
    assert not parts[:, 1].any(), "a fresh model knows one domain"
    goal = np.asarray((rows.next_observation - rows.observation) / model.change_scale, np.float64)
    assert error == pytest.approx((((one + other) / 2 - goal) ** 2).mean(axis=1), rel=1e-3)
    assert jnp.all(parts[:, 2] == 1)


def test_what_a_folder_holds_is_not_computed_again(tmp_path):
    asked = []

    def run(task):
        asked.append(task)
        return {"task": task}

    folder = tmp_path / "new"
    assert results_in(folder, ["b"], run) == [{"task": "b"}]
    assert results_in(folder, ["b", "a"], run) == [{"task": "a"}, {"task": "b"}]
    assert results_in(folder, [], run) == [{"task": "a"}, {"task": "b"}]
    with pytest.raises(SystemExit, match="nowhere: holds no results"):
        results_in(folder / "nowhere", [], run)
    assert asked == ["b", "a"]


def test_the_table_and_the_picture(tmp_path):
    of_rows = {"groups": ([0.1, 0.2], [0.1, 0.4]), "rank_correlation": 0.5, "predicted": 0.15, "real": 0.3}
    form = {"expert": of_rows, "held out": of_rows}
    results = [{"task": "hopper-kinematic", "forms": {"spread": form, "spread and shift": form}}]
    assert "| hopper-kinematic | spread | 0.50 | 0.150 | 0.300 | 0.150, 0.300 |" in table(results)
    draw(results, tmp_path / "reliability.png")
    assert (tmp_path / "reliability.png").stat().st_size > 5_000


def test_the_picture_has_all_tasks(monkeypatch):
    form = {"expert": {"groups": ([0.1, 0.2], [0.1, 0.4])}}
    drawn = []
    monkeypatch.setattr(reliability, "save_png", lambda figure, path: drawn.append(figure))
    draw([{"task": f"task {k}", "forms": {"spread": form, "spread and shift": form}} for k in range(6)], None)
    assert drawn[0].axes[0].get_legend_handles_labels()[1] == [f"task {k}" for k in range(6)]
