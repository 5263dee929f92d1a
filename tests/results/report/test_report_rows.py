"""The numbers of a report, by hand on small cases."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

from tabb.data.report import Loaded
from tabb.environments.tasks import ALL_TASKS
from tabb.evaluation.statistics import Estimate
from tabb.results.comparison_sections import _order
from tabb.results.report.charts import Axis, Chart, log_edges, padded, shares
from tabb.results.report.headline import _how_good, final_estimate, reach, size_of
from tabb.results.report.html import element, number, percent, table
from tabb.results.report.row_sections import _offset
from tabb.results.report.rows import (
    by_episode,
    effective_share,
    extremes,
    on_scale,
    over_time,
    rank_correlation,
    region_map,
    return_to_go,
    steps_of,
)


def test_effective_share():
    assert effective_share(np.full(7, 0.3)) == pytest.approx(1.0)
    assert effective_share([1.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert effective_share([1.0, 2.0]) == pytest.approx(0.9)


def test_return_to_go_stops_at_the_end_of_an_episode():
    np.testing.assert_allclose(return_to_go([1, 2, 4, 8], [0, 0, 0, 1], 0.5), [3.0, 4.0, 4.0, 8.0])


def test_steps_count_dropped_rows(make_pair):
    from tabb.data.report import Report

    report = Report("x", "d4rl", 7, 4, {}, {}, (), (2, 6), (0.0, 0.0), (), 0, 2, kept_rows=np.array([1, 2, 3, 6]))
    assert steps_of(Loaded(make_pair()[0], report)).tolist() == [1, 2, 0, 3]


def test_steps_do_not_count_rows_between_episodes(make_pair):
    """Two episodes, of rows 2 to 4 and 7 to 9; rows 0, 1, 5 and 6 belong to none."""
    from tabb.data.report import Report

    report = Report(
        *("x", "d4rl", 10, 6, {}, {}, (), (4, 9), (0.0, 0.0), (), 0, 2),
        episode_lengths=(3, 3), kept_rows=np.array([2, 3, 4, 7, 8, 9]),
    )  # fmt: skip
    assert steps_of(Loaded(make_pair()[0], report)).tolist() == [0, 1, 2, 0, 1, 2]


def test_a_value_of_the_other_sign_is_not_on_the_scale_of_the_log():
    assert on_scale(-150.0, -100.0)
    assert on_scale(50.0, 100.0)
    assert on_scale(0.0, 0.0)
    assert not on_scale(-100.0, 100.0)
    assert not on_scale(49.0, 100.0)
    assert not on_scale(201.0, 100.0)
    assert not on_scale(1.0, 0.0)


def test_rank_correlation():
    generator = np.random.default_rng(0)
    x = generator.normal(size=200)
    y = np.exp(x) + 0.5 * generator.normal(size=200)
    found = rank_correlation(x, y)
    assert found.value == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert found.low < found.value < found.high
    assert found.entries == 200
    assert rank_correlation(x, x).value == pytest.approx(1.0)
    assert rank_correlation(x[:4], y[:4]) is None
    assert rank_correlation(x, np.ones(200)) is None


def test_the_interval_of_the_correlation_holds_the_truth():
    """Spearman's of two normals with correlation 0.5 is 6/π asin(0.25); 95% intervals hold it about as often."""
    truth, held = 6 / math.pi * math.asin(0.25), 0
    generator = np.random.default_rng(1)
    for _ in range(400):
        x, noise = generator.normal(size=(2, 60))
        found = rank_correlation(x, 0.5 * x + math.sqrt(0.75) * noise)
        held += found.low <= truth <= found.high
    assert 0.91 < held / 400 < 0.985


def test_by_episode():
    found = by_episode([0, 0, 2, 2, 2], [5, 6, 9, 10, 12], [1, 2, 3, 4, 5], {"w": np.array([1.0, 3, 2, 4, 6])})
    assert found.number.tolist() == [0, 2]
    assert found.first_row.tolist() == [5, 9]
    assert found.last_row.tolist() == [6, 12]
    assert found.rows.tolist() == [2, 3]
    assert found.returns.tolist() == [3, 12]
    assert found.means["w"].tolist() == [2, 4]


def test_over_time_leaves_out_bins_of_few_rows():
    step = np.r_[np.zeros(50), np.ones(50), np.full(3, 2)].astype(int)
    values = np.r_[np.arange(50.0), np.arange(100.0, 150), np.zeros(3)]
    course = over_time(step, values)
    np.testing.assert_allclose(course.step, [0.5, 1.5])
    np.testing.assert_allclose(course.median, [24.5, 124.5])
    np.testing.assert_allclose(course.low, np.quantile(values[:50], 0.25) + np.array([0, 100]))
    assert not len(over_time(step[:5], values[:5]).step)


def test_map_of_state_space():
    generator = np.random.default_rng(0)
    source = generator.normal(size=(4000, 3)) * [5.0, 2.0, 0.1]
    target = generator.normal(size=(500, 3)) * [1.0, 1.0, 0.1] + [5.0, 0, 0]
    found = region_map(source, target, (source[:, 0] > 0).astype(float))
    assert found.loads[0][0] == 0
    assert found.loads[1][0] == 1
    assert found.explained[0] == pytest.approx(25 / 29.01, abs=0.02)
    middles = (found.x_edges[1:] + found.x_edges[:-1]) / 2
    right, left = found.mean[middles > 1], found.mean[middles < -1]
    assert np.nanmin(right) == 1.0
    assert np.nanmax(left) == 0.0
    assert np.isnan(found.mean).any()
    held = [_inside(found, x, y) for x, y in (target - source.mean(axis=0))[:, :2]]
    assert 0.85 < np.mean(held) <= 1.0
    assert found.target.mean() < 0.3


def _inside(found, x: float, y: float) -> bool:
    i, j = (int(np.searchsorted(edges, v)) - 1 for edges, v in ((found.x_edges, x), (found.y_edges, y)))
    return 0 <= i < found.target.shape[0] and 0 <= j < found.target.shape[1] and bool(found.target[i, j])


@pytest.mark.parametrize("size", [1, 2])
def test_map_of_few_dimensions(size):
    source = np.random.default_rng(0).normal(size=(300, size))
    found = region_map(source, source[:50], np.ones(300))
    assert np.nanmin(found.mean) == np.nanmax(found.mean) == 1.0


def test_extremes_find_the_end_that_transfers_worst():
    generator = np.random.default_rng(0)
    source = np.c_[generator.normal(size=(1000, 2)), np.ones(1000)]
    weight = np.where(source[:, 1] > np.quantile(source[:, 1], 0.9), 0.2, 0.8)
    found = extremes(source, source[:100], weight)
    assert (found[0].entry, found[0].low) == (1, False)
    assert found[0].mean == pytest.approx(0.2, abs=0.01)
    assert found[0].elsewhere == pytest.approx(0.8, abs=0.01)
    assert {end.entry for end in found} == {0, 1}  # a constant entry has no ends


def test_numbers_in_words():
    assert [number(x) for x in (0, 1.2345, 123.4, 1234.5, 0.00012345, -0.5, float("nan"), float("inf"))] == [
        "0", "1.23", "123", "1,234", "0.000123", "-0.500", "–", "inf",
    ]  # fmt: skip
    shares = [percent(share) for share in (0.0, 0.0004, 0.054, 0.25, 0.996, 0.9999, 1.0)]
    assert shares == [f"{told}%" for told in ("0.0", "< 0.1", "5.4", "25", "99.6", "> 99.9", "100")]


def test_text_is_never_markup():
    assert element("p", '<b>&"', title='"<') == '<p title="&quot;&lt;">&lt;b&gt;&amp;&quot;</p>'
    assert element("p", element("b", "x"), None, ["y", element("i")]) == "<p><b>x</b>y<i></i></p>"
    assert element("p", "a\x00\x1b\udcffb") == "<p>a\ufffd\ufffd?b</p>"
    assert "<td>&lt;script&gt;</td>" in table(["<"], [["<script>"]])


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0, 100, "x"), ["0", "20", "40", "60", "80", "100"]),
        (Axis(0, 100_000, "x"), ["0", "20k", "40k", "60k", "80k", "100k"]),
        (Axis(0, 0.11, "x", share=True), ["0%", "2%", "4%", "6%", "8%", "10%"]),
        (Axis(0.002, 30, "x", log=True), ["0.01", "0.1", "1", "10"]),
        (Axis(0.7, 3, "x", log=True), ["1", "2"]),
        (Axis(-0.003, 0.003, "x"), ["-0.002", "0.000", "0.002"]),
    ],
)
def test_ticks(axis, ticks):
    assert [text for _, text in axis.ticks()] == ticks
    places = axis.place([value for value, _ in axis.ticks()], 0.0, 1.0)
    assert ((places >= 0) & (places <= 1)).all()
    assert (np.diff(places) > 0).all()


def test_places_on_axes():
    np.testing.assert_allclose(Axis(1, 100, "x", log=True).place([1, 10, 100, 1e9], 0, 10), [0, 5, 10, 10])
    flat = padded(2.0, 2.0, "x")
    assert flat.low < 2.0 < flat.high


def test_bins_hold_every_row():
    columns = [np.array([0.0, 1e-9, 1.0, 10.0, 1000.0]), np.array([5.0])]
    edges = log_edges(columns, 12)
    assert edges[-1] == pytest.approx(1000.0)
    assert [shares(column, edges).sum() for column in columns] == [pytest.approx(1.0)] * 2
    assert log_edges([np.zeros(3)], 12) is None
    assert log_edges([np.full(3, 2.0)], 12) is not None


def test_many_points_make_no_large_picture():
    generator = np.random.default_rng(0)
    chart = Chart("t", padded(-4, 4, "x"), padded(-4, 4, "y"))
    chart.points(*generator.normal(size=(2, 100_000)), "s")
    assert len(chart.marks) < 8_000
    assert len(chart.svg()) < 700_000


def test_a_log_axis_within_one_power_has_ticks():
    from tabb.results.report.charts import Axis

    for low, high in ((1.2, 1.9), (2.1, 9.0), (0.5, 2000.0)):
        ticks = Axis(low, high, "x", log=True).ticks()
        assert all(low <= at <= high * (1 + 1e-9) for at, _ in ticks)


def record_of(score, starts):
    return SimpleNamespace(score=score, last_episodes=starts)


def test_interval_of_one_seed_is_over_the_starts_of_its_episodes():
    # Of 16 and 24: mean 20, deviation 4 √2, error 4; t of one degree of freedom is 12.7062.
    found, meaning = final_estimate([record_of(20.0, (16.0, 24.0))])
    assert found == pytest.approx((20.0, 20.0 - 4 * 12.7062, 20.0 + 4 * 12.7062), abs=1e-3)
    assert meaning.startswith("95% t interval over 2 starts")
    found, meaning = final_estimate([record_of(None, ()), record_of(20.0, (16.0, 24.0))])
    assert found.value == 20.0
    assert found.high > 70


def test_one_episode_has_no_interval():
    """One number is no range: neither above nor below what the log has."""
    found, meaning = final_estimate([record_of(20.0, (20.0,))])
    assert found == (20.0, -math.inf, math.inf)
    assert reach(found, 1.0) == ""
    assert meaning == "one episode of one seed, which says nothing of others"
    first = SimpleNamespace(evaluations=((5, 10), (20.0, 20.0)), held_out=None)
    assert _how_good((found, meaning), 12.0, first, 1.0) == (
        "How good is the policy? It scores 20.0, the mean over a run's two evaluations. The target data have 12.0; one "
        "episode does not show a gain or a loss."
    )
    assert "intervals overlap" in _order({"a": found, "b": Estimate(10.0, 9.0, 11.0)})


def test_small_returns_are_not_shown_as_nothing():
    """A score of 0.04 of 100 is hardly any; a return of 0.04 may be all there is."""
    first = SimpleNamespace(evaluations=((5,), (0.012,)), held_out=None)
    estimate = Estimate(0.012, 0.011, 0.013)
    size = size_of("return", [*estimate, 0.004, None, -math.inf])
    assert reach(estimate, size) == "0.011 to 0.013"
    assert _how_good((estimate, ""), 0.004, first, size) == (
        "How good is the policy? It scores 0.012, the mean over a run's only evaluation. That is above the 0.004 of "
        "the target data."
    )
    assert size_of("normalised score", estimate) == 1.0
    assert reach(estimate, 1.0) == "0.0 to 0.0"


def test_curves_leave_out_what_is_not_finite():
    chart = Chart("t", padded(0, 3, "x"), padded(0, 1, "y"))
    chart.line([0, 1, 2, 3], [0.0, np.nan, np.inf, 1.0], "s")
    chart.line([0, 1], [np.nan, np.nan], "s")
    (path,) = chart.marks
    assert path.count("L") == 1
    assert "nan" not in path


def test_rewards_that_are_not_the_files_are_told():
    (maze, *_) = (name for name, task in ALL_TASKS.items() if task.reward_offset)

    def told(task):
        return _offset(SimpleNamespace(records=[SimpleNamespace(task=task)]))

    assert told(maze) == ", of rewards as the run learned from them: -1 in each row"
    assert told("hopper-gravity-0.5") == told(None) == ""


def test_ticks_of_large_numbers_that_differ_by_little_are_told_apart():
    texts = [text for _, text in Axis(2_500_000, 2_500_010, "x").ticks()]
    assert texts == ["2,500,000", "2,500,002", "2,500,004", "2,500,006", "2,500,008", "2,500,010"]
    assert [text for _, text in Axis(0, 20_000, "x").ticks()] == ["0", "5000", "10k", "15k", "20k"]
