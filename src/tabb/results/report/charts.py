"""Small charts as inline SVG. Their colours are classes of the page's style, so that they follow light and dark mode.

matplotlib's SVG would fix colours and fonts and be ten times as large. The view box is 420 wide, so that text of size
11 is readable on a telephone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tabb.results.report.html import Html, element, number, percent

WIDTH, HEIGHT = 420.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 16.0, 24.0, 40.0
SHADES = 9
"""steps of the colour scale of maps"""
GRAIN = 2.5
"""points nearer than this are drawn as one that is more opaque, so that the page's size does not grow with the data"""


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis, which maps data to coordinates."""

    low: float
    high: float
    label: str
    log: bool = False
    share: bool = False
    """whether ticks are percentages"""

    def place(self, values: ArrayLike, start: float, end: float) -> NDArray[np.float64]:
        """Coordinates between `start` and `end`; values outside the axis are clipped to its ends."""
        x = np.clip(np.asarray(values, np.float64), self.low, self.high)
        low, high = self.low, self.high
        if self.log:
            x, low, high = np.log10(x), math.log10(low), math.log10(high)
        return start + (end - start) * (x - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Position in data units and text of each tick."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            powers = range(first, last + 1, 1 + max(0, last - first) // 5)
            values = [10.0**power for power in powers]
            if len(values) < 3:  # less than two decades: ticks at 2 and 5 as well
                values = [d * 10.0**p for p in range(first - 1, last + 1) for d in (1, 2, 5)]
                values = [value for value in values if self.low <= value <= self.high]
            return [(value, short(value)) for value in values]
        step = nice_step((self.high - self.low) / 5.5)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        values = [i * step for i in range(first, last + 1)]
        digits = max(0, -math.floor(math.log10(step) + 1e-9) - (2 if self.share else 0))
        texts = [f"{100 * v:.{digits}f}%" if self.share else short(v, digits) for v in values]
        if len(set(texts)) < len(texts):  # large numbers that differ by little
            texts = [f"{v:,.{digits}f}" for v in values]
        return list(zip(values, texts, strict=True))


def nice_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10 times a power of ten that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= least * (1 - 1e-9))


def short(value: float, digits: int | None = None) -> str:
    """The text of a tick: 20k for 20,000."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit * (10 if unit == 1e3 else 1):
            return f"{value / unit:g}{letter}"
    return f"{value:g}" if digits is None else f"{value:.{digits}f}"


def padded(low: float, high: float, label: str, *, zero: bool = False, share: bool = False) -> Axis:
    """A linear axis a little wider than its data, or than a single value; `zero` includes zero."""
    low, high = (min(low, 0.0), max(high, 0.0)) if zero else (low, high)
    room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    return Axis(low if zero and low == 0 else low - room, high + room, label, share=share)


class Chart:
    """A chart to which marks are added; `svg` draws it."""

    def __init__(self, title: str, x: Axis, y: Axis, height: float = HEIGHT) -> None:
        self.title, self.x, self.y, self.height = title, x, y, height
        self.marks: list[Html] = []

    def _x(self, values: ArrayLike) -> NDArray[np.float64]:
        return self.x.place(values, LEFT, WIDTH - RIGHT)

    def _y(self, values: ArrayLike) -> NDArray[np.float64]:
        return self.y.place(values, self.height - BOTTOM, TOP)

    def bars(self, edges: ArrayLike, heights: ArrayLike, kind: str, what: str) -> None:
        """A histogram; the tooltip of each bar says its range and its share of rows; `what` names the rows."""
        borders = np.asarray(edges, float)
        places, floor = self._x(borders), float(self._y(0.0))
        for i, (share, top) in enumerate(zip(np.asarray(heights), self._y(heights), strict=True)):
            if share > 0:
                tooltip = f"{number(borders[i])} to {number(borders[i + 1])}: {percent(float(share))} {what}"
                size = {"width": _c(places[i + 1] - places[i]), "height": _c(floor - top)}
                self.marks.append(
                    element("rect", element("title", tooltip), x=_c(places[i]), y=_c(top), **size, class_=f"f {kind}")
                )

    def outline(self, edges: ArrayLike, heights: ArrayLike, kind: str) -> None:
        """A histogram as a line along the tops of its bars."""
        places, tops = self._x(edges), self._y(heights)
        self._path(np.repeat(places, 2)[1:-1], np.repeat(tops, 2), f"l {kind}")

    def line(self, x: ArrayLike, y: ArrayLike, kind: str) -> None:
        """A line through the points that are finite."""
        points = np.stack([np.asarray(x, np.float64), np.asarray(y, np.float64)])
        across, up = points[:, np.isfinite(points).all(axis=0)]
        if across.size:
            self._path(self._x(across), self._y(up), f"l {kind}")

    def level(self, y: float, kind: str) -> None:
        """A horizontal line across the chart."""
        self.line([self.x.low, self.x.high], [y, y], kind)

    def band(self, x: ArrayLike, low: ArrayLike, high: ArrayLike, kind: str) -> None:
        places = self._x(x)
        self._path(np.r_[places, places[::-1]], np.r_[self._y(low), self._y(high)[::-1]], f"b {kind}")

    def points(self, x: ArrayLike, y: ArrayLike, kind: str) -> None:
        spots = np.round(np.stack([self._x(x), self._y(y)], axis=1) / GRAIN) * GRAIN
        for (a, b), count in zip(*np.unique(spots, axis=0, return_counts=True), strict=True):
            opacity = f"{min(1.0, 0.45 + 0.15 * (count - 1)):.2f}"
            self.marks.append(element("circle", cx=_c(a), cy=_c(b), r="2.6", fill_opacity=opacity, class_=f"f {kind}"))

    def cells(self, x: ArrayLike, y: ArrayLike, values: NDArray[np.float64], low: float, high: float) -> None:
        """A map of `values` [X, Y] between the edges x [X + 1] and y [Y + 1] in SHADES colours; NaN stays empty."""
        across, up = self._x(x), self._y(y)
        shade = np.clip((values - low) / ((high - low) or 1.0) * SHADES, 0, SHADES - 1)
        for i, j in np.argwhere(np.isfinite(values)):
            size = {"width": _c(across[i + 1] - across[i]), "height": _c(up[j] - up[j + 1])}
            tooltip = element("title", number(values[i, j]))
            kind = f"f c{int(shade[i, j])}"
            self.marks.append(element("rect", tooltip, x=_c(across[i]), y=_c(up[j + 1]), **size, class_=kind))

    def border(self, x: ArrayLike, y: ArrayLike, inside: NDArray[np.bool_], kind: str) -> None:
        """The outline of the cells of a map that are `inside` [X, Y]."""
        across, up = self._x(x), self._y(y)
        wide = np.pad(inside, 1)
        parts = []
        for i, j in np.argwhere(wide[:, 1:-1][:-1] != wide[:, 1:-1][1:]):
            parts.append(f"M{_c(across[i])} {_c(up[j])}V{_c(up[j + 1])}")
        for i, j in np.argwhere(wide[1:-1][:, :-1] != wide[1:-1][:, 1:]):
            parts.append(f"M{_c(across[i])} {_c(up[j])}H{_c(across[i + 1])}")
        # A wider line of the paper's colour below makes the border visible on every shade.
        self.marks += [element("path", d="".join(parts), class_=name) for name in ("seam", f"l {kind}")]

    def _path(self, x: NDArray[np.float64], y: NDArray[np.float64], kind: str) -> None:
        points = "L".join(f"{_c(a)} {_c(b)}" for a, b in zip(x, y, strict=True))
        self.marks.append(element("path", d=f"M{points}", class_=kind))

    def svg(self) -> Html:
        """The chart with its axes as SVG; its title is the text for screen readers."""
        floor, middle = self.height - BOTTOM, (LEFT + WIDTH - RIGHT) / 2
        frame: list[Html] = [element("path", d=f"M{LEFT} {floor}H{WIDTH - RIGHT}", class_="axis")]
        for value, text in self.x.ticks():
            across = _c(self._x(value))
            frame.append(element("path", d=f"M{across} {floor}v4", class_="axis"))
            frame.append(element("text", text, x=across, y=_c(floor + 16), text_anchor="middle"))
        for value, text in self.y.ticks():
            up = float(self._y(value))
            frame.append(element("path", d=f"M{LEFT} {_c(up)}H{WIDTH - RIGHT}", class_="grid"))
            frame.append(element("text", text, x=_c(LEFT - 5), y=_c(up + 4), text_anchor="end"))
        frame.append(element("text", self.x.label, x=_c(middle), y=_c(self.height - 6), text_anchor="middle"))
        frame.append(element("text", self.y.label, x="4", y="12"))
        box = f"0 0 {WIDTH:g} {self.height:g}"
        return element("svg", element("title", self.title), *frame, *self.marks, viewBox=box, role="img")


def legend(*entries: tuple[str, str]) -> Html:
    """The legend: (kind of mark, its meaning)."""
    signs = [element("span", element("span", class_=f"key {kind}"), words) for kind, words in entries]
    return element("p", *signs, class_="legend")


def shades(low: float, high: float, words: str) -> Html:
    """The colour scale of a map."""
    steps = [element("span", class_=f"key c{i}") for i in range(SHADES)]
    scale = element("span", f"{words} {number(low)}", element("span", *steps, class_="scale"), number(high))
    return element("p", scale, class_="legend")


def figure(chart: Chart, *below: Any) -> Html:
    """A chart with its legend."""
    return element("figure", chart.svg(), *below)


def log_edges(columns: Sequence[NDArray[Any]], bins: int) -> NDArray[np.float64] | None:
    """Edges of logarithmic bins over the positive values (the least thousandth left out); None without any."""
    positive = np.concatenate([np.asarray(c, np.float64)[np.asarray(c) > 0] for c in columns])
    if not positive.size:
        return None
    low, high = float(np.quantile(positive, 0.001)), float(positive.max())
    if high < 2 * low:
        low, high = low / 2, high * 2
    return np.geomspace(low, high, bins + 1)


def shares(values: NDArray[Any], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the values in each bin; values outside count in the first or last bin."""
    counts, _ = np.histogram(np.clip(np.asarray(values, np.float64), edges[0], edges[-1]), edges)
    return counts / max(len(values), 1)


def _c(value: Any) -> str:
    """A coordinate, rounded to a tenth."""
    return f"{round(float(value), 1):g}"
