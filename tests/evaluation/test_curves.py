"""Pictures of learning: what their bands mean is said, and long names leave room for the curves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tabb.evaluation.figures import (
    band_meaning,
    columns_for,
    draw_legend,
    learning_curves,
    new_figure,
    width_for,
    wrapped,
)
from tabb.evaluation.scores import Evaluation

LONG = "sharp-temperature-with-a-name-of-many-words-0.3"


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ([1], "bands: ± 1 standard deviation over episodes"),
        ([3, 2], "bands: lowest to highest run"),
        ([3, 1], "bands: lowest to highest run, of a single run ± 1 standard deviation over episodes"),
    ],
)
def test_bands_are_explained(runs: list[int], says: str) -> None:
    assert band_meaning(runs) == says


def drawn(names: list[str]) -> tuple[object, object]:
    figure = new_figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for name in names:
        axes.plot([0, 1], [0, 1], label=name)
    draw_legend(figure, axes, "bands: x")
    return figure, axes


def test_short_names_stand_beside_the_curves_and_long_or_many_below() -> None:
    figure, axes = drawn(["tabb", "pooled"])
    assert axes.get_legend().get_title().get_text() == "bands: x"
    assert not figure.legends
    for names in (["tabb", LONG], [f"method {k}" for k in range(9)]):
        figure, axes = drawn(names)
        assert axes.get_legend() is None
        (legend,) = figure.legends
        assert [text.get_text().replace("\n", "") for text in legend.get_texts()] == [
            wrapped(name).replace("\n", "") for name in names
        ]
        assert legend.get_title().get_text() == "bands: x"


def test_long_names_are_wrapped_and_get_room() -> None:
    assert max(map(len, wrapped(LONG).splitlines())) <= 40
    assert wrapped("tabb") == "tabb"
    assert wrapped("") == ""
    assert width_for(["tabb"], 6.4) == 6.4
    assert width_for([LONG], 6.4) > 7
    figure = new_figure(figsize=(6, 4))
    assert columns_for(figure, ["x" * 200]) == 1
    assert columns_for(figure, ["tabb"]) == 5


def test_curves_of_any_names_are_drawn(tmp_path: Path) -> None:
    curve = [(update, Evaluation((1.0, 2.0), (1, 1), None, 0)) for update in (10, 20)]
    learning_curves({"tabb": [curve], LONG: [curve, curve]}, None, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 5_000


def test_returns_stand_on_the_axis_as_they_are(tmp_path: Path, monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr("tabb.evaluation.figures.save_png", lambda figure, path: drawn.append(figure))
    curve = [(update, Evaluation((-1121.0 - update / 100,), (1,), None, 0)) for update in (10, 90)]
    learning_curves({"tabb": [curve]}, None, tmp_path / "curve.png")
    (axes,) = drawn[0].axes
    drawn[0].draw_without_rendering()
    assert axes.yaxis.get_offset_text().get_text() == ""


def test_levels_are_lines_and_the_axis_spans_the_run(tmp_path: Path, monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr("tabb.evaluation.figures.save_png", lambda figure, path: drawn.append(figure))
    curve = [(1_000, Evaluation((3.0,), (1,), None, 0))]
    learning_curves({"tabb": [curve]}, None, tmp_path / "curve.png", levels={"the log": 7.0}, updates=5_000)
    (axes,) = drawn[0].axes
    assert [(line.get_label(), set(line.get_ydata())) for line in axes.get_lines()] == [
        ("tabb", {3.0}),
        ("the log", {7.0}),
    ]
    assert axes.get_xlim() == (0, 5.25)
