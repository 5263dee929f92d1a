"""The gain of a policy over the data by hand, and a short run."""

import json

import pytest

from tabb.experiments import value_drift


def test_gains_by_hand():
    assert value_drift.relative_gain(103.0, 100.0) == pytest.approx(0.03)
    # r + γ (1 + ε) Q has the fixed point r / (1 - γ (1 + ε)) while that is positive.
    assert value_drift.largest_gain(0.5) == 1.0
    assert value_drift.largest_gain(0.99) == pytest.approx(0.0101, abs=1e-4)


@pytest.mark.slow
def test_a_short_run(domains, pair, monkeypatch, tmp_path):
    monkeypatch.setattr(value_drift, "resolve", lambda quality, task, side: ("source", "target").index(side))
    monkeypatch.setattr(value_drift, "load", lambda place: pair[place])
    out = tmp_path / "drift.json"
    value_drift.main(["--updates", "4", "--every", "2", "--json", str(out)])
    found = json.loads(out.read_text())
    assert set(found["runs"]) == {"plain", "normed"}
    assert [point["update"] for point in found["runs"]["plain"]] == [2, 4]
    said = found["runs"]["normed"][1]["target"]
    assert said["gain"] == pytest.approx(said["ahead"] / said["here"] - 1)
