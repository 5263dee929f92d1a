"""The sections of a comparison: which policy to take, scores, curves, held-out rows, trust by region, films."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tabb.evaluation.statistics import Estimate
from tabb.results.answer import SOURCE, TARGET, Answer, reason, size_among
from tabb.results.report.charts import Chart, figure, padded
from tabb.results.report.gather import Gathered
from tabb.results.report.headline import final_estimate, reach, size_of, small_shares, target_score
from tabb.results.report.html import Html, element, number, percent, say, wide
from tabb.results.report.place_sections import state_figure
from tabb.results.report.records import Curve, Record
from tabb.results.report.rows import effective_share, rank_correlation
from tabb.results.report.run_sections import HELD_OUT, SHOWN_METRICS
from tabb.results.report.words import main_column
from tabb.results.row_scores import steps_alone
from tabb.shown import tenths

COLOURS = 8
"""colours of runs; a ninth run has that of the first with other dashes"""
DASHES = ("", "7 3", "2 3", "9 3 2 3")
LARGEST_FILM = 30_000_000
"""bytes of a film that is still put into the page"""
FILMS = {".mp4": "video/mp4", ".gif": "image/gif"}


@dataclasses.dataclass(frozen=True, eq=False)
class Contender:
    """A run, or the runs of several seeds, beside others."""

    name: str
    number: int
    gathered: Gathered

    @property
    def records(self) -> list[Record]:
        return self.gathered.records

    @property
    def kind(self) -> str:
        """The class of what belongs to it, which its box hides."""
        return f"run{self.number}"

    @property
    def key(self) -> Html:
        """Its line, as in the charts, before its name."""
        line = element("path", d="M0 6H28", class_=f"l {self.line}")
        return element("svg", line, viewBox="0 0 28 12", class_="line", aria_hidden="true")

    @property
    def line(self) -> str:
        return f"q{self.number % COLOURS} d{(self.number + self.number // COLOURS) % len(DASHES)}"


def answer_section(found: Answer) -> list[Any]:
    """The policy to take, what the model said of both, and what that is worth."""
    size = size_among(found)
    heads = ["policy", "in the model of the target", "episodes that the model could not follow"]
    lines = [
        ("", [TARGET, tenths(found.target, size), percent(found.lost[0])]),
        ("", [SOURCE, tenths(found.source, size), percent(found.lost[1])]),
        *(
            []
            if found.source_seen is None
            else [("", [f"{SOURCE}, where the target's rows are", tenths(found.source_seen, size), ""])]
        ),
        ("", ["the target's log itself, each episode counted by its rows", tenths(found.logged, size), ""]),
    ]
    parts = [say(element("strong", f"{found.learner}. "), reason(found)), _rows(heads, lines)]
    if found.close:
        parts.append(say("It is a close call: a tenth of the log's return more or less would have changed it."))
    parts.append(
        say(
            "Both policies acted in the model of the target that TABB was trained with, from the starts of the log's "
            "episodes. Such returns are no scores: they tell whether a policy does what the log did."
        )
    )
    return parts


def scores(contenders: Sequence[Contender]) -> list[Any]:
    """A row per run: its score with its interval, drawn on a common axis."""
    estimates = {one.name: final_estimate(one.records) for one in contenders}
    known = {name: told[0] for name, told in estimates.items() if told is not None}
    references = {score for one in contenders if (score := target_score(one.gathered)) is not None}
    lines = []
    ends = [end for one in known.values() for end in one if np.isfinite(end)] + list(references)
    size = size_of(contenders[0].records[0].measure, ends)
    for one in contenders:
        told = estimates[one.name]
        cells: list[Any] = [[one.key, " ", one.name]]
        if told is None:
            cells += ["–", "not evaluated", ""]
        else:
            value, meaning = told
            cells += [tenths(value.value, size), reach(value, size) or "–"]
            cells.append(_interval(value, min(ends), max(ends), one.line, meaning))
        lines.append((one.kind, [*cells, str(len(one.records)), f"{one.records[0].settings.updates:,}"]))
    heads = ["run", contenders[0].records[0].measure, "95% interval", "", "seeds", "updates"]
    parts: list[Any] = [say(_order(known)), _rows(heads, lines)]
    if not known:
        return parts
    if len(references) == 1:
        parts.append(
            say(
                f"The target data themselves have {tenths(references.pop(), size)}, the mean of their episodes, each "
                "counted by its rows."
            )
        )
    parts.append(
        say(
            "The interval of several seeds is a t interval over them. That of one seed is over the starts of its "
            "episodes alone, and other seeds may differ far more."
        )
    )
    return parts


def _order(known: dict[str, Estimate]) -> str:
    """What the scores say of the order of the runs, as far as the intervals bear it out."""
    if not known:
        return "No run was evaluated: they had no task or no evaluations."
    if len(known) < 2:
        return "Fewer than two of the runs were evaluated, so their scores do not order them."
    best = max(known, key=lambda name: known[name].value)
    near = [name for name, one in known.items() if name != best and one.high >= known[best].low]
    if not near:
        return f"{best} has the highest score, and its interval lies above all others."
    return (
        f"{best} has the highest score, but intervals overlap: that it is better than {', '.join(near)} is not shown."
    )


def _interval(value: Estimate, low: float, high: float, line: str, meaning: str) -> Html:
    """A point with its interval on an axis from `low` to `high`; the row beside it says the same in numbers."""
    room = (high - low) or 1.0
    shown = value if np.isfinite(value.low) else Estimate(value.value, value.value, value.value)
    left, middle, right = (8 + 184 * (at - low) / room for at in (shown.low, shown.value, shown.high))
    marks = [
        element("title", meaning),
        element("path", d="M8 12H192", class_="grid"),
        element("path", d=f"M{left:.1f} 12H{right:.1f}", class_=f"l {line.split()[0]}"),
        element("circle", cx=f"{middle:.1f}", cy="12", r="4.5", class_=f"f {line.split()[0]}"),
    ]
    return element("svg", *marks, viewBox="0 0 200 24", class_="interval", role="img")


def _rows(heads: Sequence[str], lines: Iterable[tuple[str, Sequence[Any]]], words: int = 1) -> Html:
    """A table whose rows belong to runs; the first `words` columns are text, the others numbers."""
    kinds = [None if at < words else "n" for at in range(len(heads))]
    head = element(
        "tr", *(element("th", text, scope="col", class_=kind) for text, kind in zip(heads, kinds, strict=True))
    )
    body = []
    for kind, (name, *cells) in lines:
        numbers = [element("td", cell, class_=its) for cell, its in zip(cells, kinds[1:], strict=True)]
        body.append(element("tr", element("th", name, scope="row"), *numbers, class_=kind))
    whole = element("table", element("thead", head), element("tbody", *body), class_="runs")
    return wide(whole, heads)


def curves(contenders: Sequence[Contender]) -> list[Any]:
    """Scores and training metrics against updates; a line per run, the mean over its seeds."""
    pictures = []
    evaluated = {one: [record.evaluations for record in one.records if record.evaluations[0]] for one in contenders}
    pictures.append(_lines(contenders[0].records[0].measure, evaluated))
    for name in SHOWN_METRICS:
        found = {one: [r.metrics[name] for r in one.records if name in r.metrics] for one in contenders}
        pictures.append(_lines("TBM⁺" if name == "tbm" else name.replace("_", " "), found))
    drawn = [picture for picture in pictures if picture is not None]
    if not drawn:
        return [say("The runs have no curves.")]
    return [say("Means over the seeds of each run, the seeds as thin lines."), element("div", *drawn, class_="pair")]


def _lines(name: str, found: dict[Contender, list[Curve]]) -> Html | None:
    every = [value for several in found.values() for _, values in several for value in values if np.isfinite(value)]
    if not every:
        return None
    last = max(at for several in found.values() for points, _ in several for at in points)
    chart = Chart(
        f"{name} against updates", padded(0, last, "updates", zero=True), padded(min(every), max(every), name)
    )
    for one, several in found.items():
        for points, values in several if len(several) > 1 else ():
            chart.line(points, values, f"thin {one.line} {one.kind}")
        if several and all(points == several[0][0] for points, _ in several):
            chart.line(several[0][0], np.mean([values for _, values in several], axis=0), f"{one.line} {one.kind}")
    keys = [element("span", one.key, one.name, class_=one.kind) for one, several in found.items() if several]
    return figure(chart, element("p", *keys, class_="legend"))


def held_out(contenders: Sequence[Contender]) -> list[Any]:
    """What the final policies are worth on target rows that the runs did not learn from, as means over seeds."""
    lines = []
    shown: list[str] = []
    for one in contenders:
        last = [{n: v[-1] for n, (_, v) in r.held_out_curves.items()} for r in one.records if r.held_out_curves]
        if last:
            shown = shown or [name for name in HELD_OUT if name in last[0]]
            means = [float(np.mean([seed[name] for seed in last])) if name in last[0] else None for name in shown]
            lines.append((one.kind, [[one.key, " ", one.name], *(number(mean) for mean in means)]))
    if not lines:
        return []
    measured = [one.records[0] for one in contenders if one.records[0].held_out]
    unlike = len({(record.config["data"]["target"], record.held_out) for record in measured}) > 1
    discounts = {getattr(record.backbone, "discount", None) for record in measured}
    notes = ["Runs were measured on different rows, so their numbers are not to be compared."] if unlike else []
    notes += ["Discounts differ, so values have different scales."] if len(discounts) > 1 else []
    return [
        *([say(element("strong", "Caution: "), " ".join(notes))] if notes else []),
        say(
            "Measures on target episodes that the runs did not learn from; only the value is estimated from all target "
            "rows. None of them was good enough to choose a policy by itself where true scores were at hand; ",
            element("code", "tabb select"),
            " ranks all policies of the runs by one of them.",
        ),
        _rows(["run", *(HELD_OUT[name][0] for name in shown)], lines),
    ]


def regions(contenders: Sequence[Contender]) -> list[Any]:
    """Maps of mean trust side by side, and how far the runs agree on rows."""
    maps, lines = [], []
    scored = [(one, one.gathered.scored) for one in contenders]
    shown = [(one, its) for one, its in scored if its is not None]
    for one, its in shown:
        picture, _ = state_figure(one.gathered, its)
        if picture is not None:
            maps.append(element("div", element("h3", one.key, " ", one.name), picture, class_=one.kind))
        label, values = main_column(its)
        weight = percent(effective_share(its.columns["weight"])) if its.has_mismatch else "–"
        small = percent(small_shares(its)[1]) if its.has_mismatch else "–"
        lines.append((one.kind, [[one.key, " ", one.name], label, number(float(np.median(values))), small, weight]))
    if not maps:
        return []
    parts = [
        say(
            "The source's states on their first two principal components, coloured by the mean trust of their rows, "
            "and numbers of these rows: those of the first seed of each run. The outline is where 90% of the target "
            "rows are. Each map has its own scale of colours."
        ),
        element("div", *maps, class_="pair"),
        _rows(["run", "score of a row", "median", "rows of small TBM", "effective sample size"], lines, words=2),
    ]
    pairs = []
    for at, (one, its) in enumerate(shown):
        for other, theirs in shown[at + 1 :]:
            if _same_source(one.records[0], other.records[0]):
                found = rank_correlation(its.columns[its.trust], theirs.columns[theirs.trust])
                cells = [f"{one.name} and {other.name}", "–" if found is None else f"{found.value:z.2f}"]
                pairs.append((f"{one.kind} {other.kind}", cells))
    if pairs:
        parts.append(say("How far two runs agree on which source rows to trust:"))
        parts.append(_rows(["runs", "rank correlation of their trust"], pairs))
    return parts


def _same_source(one: Record, other: Record) -> bool:
    """Whether two runs score the same source rows; steps of their own are not the same."""
    own = any(steps_alone(record.config, "source", record.folder) for record in (one, other))
    return not own and bool(one.config["data"]["source"] == other.config["data"]["source"])


def films(contenders: Sequence[Contender]) -> list[Any]:
    """The films in the folders of the runs and their seeds, inside the page."""
    shown: list[Html] = []
    large: list[str] = []
    for one in contenders:
        places = {one.gathered.root, *(record.folder for record in one.records)}
        for film in sorted(file for place in places for file in place.iterdir() if file.suffix in FILMS):
            if film.stat().st_size > LARGEST_FILM:
                large.append(str(film))
                continue
            data = f"data:{FILMS[film.suffix]};base64,{base64.b64encode(film.read_bytes()).decode()}"
            told = f"Film of {one.name}: {film.parent.name}/{film.name}"
            if film.suffix == ".gif":
                moving = element("img", src=data, alt=told)
            else:
                moving = element(
                    "video", src=data, controls="controls", muted="muted", loop="loop", playsinline="playsinline",
                    preload="auto", aria_label=told,
                )  # fmt: skip
            caption = element("figcaption", one.key, " ", one.name)
            shown.append(element("figure", moving, caption, class_=f"film {one.kind}"))
    parts: list[Any] = [element("div", *shown, class_="films")] if shown else []
    if large:
        parts.append(say(f"Left out because of their size: {', '.join(large)}."))
    return parts


def provenance(contenders: Sequence[Contender]) -> list[Any]:
    """Where each run lies, and whether they learned from the same rows."""
    lines = []
    for one in contenders:
        record = one.records[0]
        data = [record.config["data"][domain][:12] if domain == "target" or record.uses_source else "–"
                for domain in ("source", "target")]  # fmt: skip
        lines.append((one.kind, [[one.key, " ", one.name], str(one.gathered.root.resolve()), *data]))
    targets = {one.records[0].config["data"]["target"] for one in contenders}
    same = "All runs learned from the same target rows."
    if len(targets) > 1:
        same = "The runs did not learn from the same target rows, so differences may be those of the data."
    return [say(same), _rows(["run", "folder", "source rows (SHA-256)", "target rows (SHA-256)"], lines, words=4)]
