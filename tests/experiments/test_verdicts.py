"""What is said of a comparison: tables and verdicts by hand, and runs that count once."""

from __future__ import annotations

import csv

import pytest

from tabb.experiments.benchmark import Place
from tabb.experiments.benchmark_scores import as_csv
from tabb.experiments.verdicts import as_markdown, verdicts, verdicts_as_markdown

HOPPER = Place("hopper-morph", "medium", "medium")
TABLE = {
    HOPPER: {"tabb": {0: 10.0, 1: 12.0, 2: 11.0}, "target-only": {0: 9.0, 1: 9.5, 2: 9.1}, "pooled": {0: 1.0}},
    Place("ant-morph", "medium", "medium"): {"tabb": {0: 50.0, 1: 51.0}, "target-only": {0: 52.0, 1: 52.0}},
}


def test_tables_by_hand():
    text = as_markdown(TABLE, ["tabb", "target-only", "pooled"])
    assert "| hopper-morph medium to medium | **11.0 ± 1.0 (3)** | 9.2 ± 0.3 (3) | 1.0 (1) |" in text
    # t = -1.5 / 0.5 with one degree of freedom: p = 0.10 is not significant, so both are marked.
    assert "| ant-morph medium to medium | **50.5 ± 0.7 (2)** | **52.0 ± 0.0 (2)** | - |" in text
    rows = list(csv.DictReader(as_csv(TABLE).splitlines()))
    assert len(rows) == 11
    assert list(rows[0].values()) == ["hopper-morph", "medium", "medium", "tabb", "0", "10.0000"]


def test_verdicts_by_hand():
    found = verdicts(TABLE, ["tabb", "target-only", "pooled"], "tabb")
    assert found["tabb"]["rows"] == 2
    assert found["tabb"]["runs"] == 5
    assert found["tabb"]["share_of_rows_above_target_only"]["value"] == 0.5
    assert found["tabb"]["probability_of_improvement_over_target_only"]["value"] == 0.5  # all of one, none of the other
    # Five pairs: 1, 2.5, 1.9, -2, -1
    assert found["target-only"]["tabb_less_this"]["difference"] == pytest.approx(0.48)
    assert found["target-only"]["tabb_less_this"]["pairs"] == 5
    assert "tabb_less_this" not in found["pooled"]  # one common run: nothing to test
    assert "share_of_rows_above_target_only" not in found["target-only"]
    # A single run says nothing of other seeds: a value without an interval.
    assert found["pooled"]["interquartile_mean"] == {"value": 1.0, "low": None, "high": None}
    assert found["target-only"]["interquartile_mean"]["low"] is not None
    lines = verdicts_as_markdown(found, "tabb").splitlines()
    assert "| `pooled` | 1 | 1 | 1.0 † | 0% | 0% | - |" in lines
    assert lines[-1] == " † over fewer rows than 2: not to be compared with means over all of them."
    assert not any("†" in line for line in verdicts_as_markdown({"tabb": found["tabb"]}, "tabb").splitlines())
    assert "| `target-only` | 2 | 5 | 23.5 [" in lines[3]  # the middle three of 9, 9.1, 9.5, 52, 52


def test_runs_of_a_method_with_options_count_once() -> None:
    run = {0: 7.0, 1: 9.0}
    table = {
        HOPPER: {"tabb": {0: 10.0, 1: 12.0}, "alone": run},
        HOPPER._replace(source="expert"): {"tabb": {0: 20.0, 1: 24.0}, "alone": run},
    }
    found = verdicts(table, ["tabb", "alone"], "tabb", {"alone": "target-only"})
    assert found["alone"]["runs"] == 2
    assert found["alone"]["tabb_less_this"]["pairs"] == 2


def test_runs_without_source_count_once():
    """The same target-only run stands in the rows of two source qualities."""
    rows = {"tabb": ({0: 4.0, 1: 6.0}, {0: 8.0, 1: 2.0}), "target-only": ({0: 5.0, 1: 1.0}, {0: 5.0, 1: 1.0})}
    table = {
        Place("hopper-morph", source, "medium"): {method: scores[k] for method, scores in rows.items()}
        for k, source in enumerate(("medium", "expert"))
    }
    told = verdicts(table, ["tabb", "target-only"], "tabb")["target-only"]
    assert told["runs"] == 2
    # Means over the qualities: 6 and 4, against 5 and 1.
    assert told["tabb_less_this"]["pairs"] == 2
    assert told["tabb_less_this"]["difference"] == pytest.approx(2.0)


def test_a_run_that_counts_for_several_targets_is_counted_once() -> None:
    run = {0: 7.0, 1: 9.0}
    table = {
        HOPPER: {"tabb": {0: 10.0, 1: 12.0}, "source-only": run},
        HOPPER._replace(target="expert"): {"tabb": {0: 20.0, 1: 24.0}, "source-only": run},
    }
    found = verdicts(table, ["tabb", "source-only"], "tabb")
    assert [found[name]["runs"] for name in ("tabb", "source-only")] == [4, 2]
    assert found["source-only"]["rows"] == 2
    # Of each seed: 15 - 7 and 18 - 9
    less = found["source-only"]["tabb_less_this"]
    assert (less["difference"], less["pairs"]) == (8.5, 2)


def test_the_bootstrap_draws_a_run_once_for_all_rows_that_it_stands_in() -> None:
    """One target-only of 0 and 10 stands in three rows: in each draw TABB's 5 beats it in all rows alike."""
    bar = {0: 0.0, 1: 10.0}
    table = {
        HOPPER._replace(source=source): {"tabb": {0: 5.0, 1: 5.0}, "target-only": bar}
        for source in ("medium", "medium_expert", "expert")
    }
    found = verdicts(table, ["tabb", "target-only"], "tabb")["tabb"]
    # Drawn are (0, 0), (0, 10), (10, 0) and (10, 10), a quarter each, so that all and none are in the interval. Were
    # the rows drawn apart, all three would have the same extreme in 1 of 64 draws only, which 95% leave out.
    for name in ("share_of_rows_above_target_only", "probability_of_improvement_over_target_only"):
        assert found[name] == {"value": 0.5, "low": 0.0, "high": 1.0}
