"""The sections on the distribution of source rows: units, distributions, episodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tabb.environments.tasks import get_task
from tabb.results.report.charts import Axis, Chart, figure, legend, log_edges, padded, shares
from tabb.results.report.gather import Gathered, Scored
from tabb.results.report.html import Html, element, number, percent, say, table
from tabb.results.report.place_sections import along, files_of, listed, regions
from tabb.results.report.records import Record
from tabb.results.report.rows import by_episode, on_scale, rank_correlation
from tabb.results.report.words import main_column, trust_name

BEST = 5
"""episodes listed, of the best and of the worst"""
BINS = 48

Section = tuple[str, str, list[Any]]
"""id, heading, contents"""


def row_sections(gathered: Gathered) -> Iterator[Section]:
    """The sections on source rows; none for runs whose rule has no scores per row."""
    scored = gathered.scored
    if scored is None:
        return
    record = gathered.records[0]
    if scored.has_mismatch:
        yield "units", "TBM in units of return", units(gathered, scored, record)
    yield "distributions", "Distributions over rows", distributions(scored, record)
    yield "episodes", "By episode", episodes(gathered, scored)
    yield "time", "Along an episode", along(scored)
    yield "regions", "By region of state space", regions(gathered, scored)
    yield "rows", "Rows that transfer best and worst", listed(gathered, scored)


def units(gathered: Gathered, scored: Scored, record: Record) -> list[Any]:
    tbm, own = (np.asarray(scored.columns[name], np.float64) for name in ("tbm", "own_backup"))
    reward = np.asarray(gathered.data["source"].transitions.reward, np.float64)
    mean, spread, step = abs(own.mean()), own.std(), np.abs(reward).mean()
    discount = float(record.backbone.discount)
    logged = gathered.logged_value
    assert logged is not None

    def row(name: str, value: float) -> list[str]:
        parts = [percent(value / unit) if unit > 0 else "–" for unit in (mean, spread)]
        return [name, number(value), *parts, number(value / step if step > 0 else float("nan"))]

    lines = [row(f"TBM, {name}", float(np.quantile(tbm, q))) for name, q in (("lowest tenth below", 0.1),
             ("median", 0.5), ("highest tenth above", 0.9))]  # fmt: skip
    lines.insert(2, row("TBM, mean", float(tbm.mean())))
    if scored.yardstick is not None:
        lines.append(row("error of the predictor on target rows, median", float(np.median(scored.yardstick.error))))
    lines += [
        ["mean own backup", number(own.mean()), "", "", ""],
        ["spread (standard deviation) of own backups", number(spread), "", "", ""],
        ["rest of the episode as logged, discounted, mean", number(logged), "", "", ""],
        [f"mean size of a step's reward{_offset(gathered)}", number(step), "", "", ""],
    ]
    middle = float(np.median(tbm))
    heads = ["", "in return", "of the mean value", "of the spread of values", "in steps of mean reward"]
    scale = (
        "The mean own backup is the value that the run gives a row. It is near what the logged episodes earned, so the "
        "scale of TBM is right."
        if on_scale(float(own.mean()), logged)
        else "The mean own backup is far from what the logged episodes earned: the run was short, episodes are cut "
        "early, or V has diverged. Compare TBM with the spread of values, not with rewards."
    )
    return [
        say(
            "TBM is |predicted target-domain backup − own backup| of a source row: the error, in discounted return, "
            "that the row would teach the critic about the target domain. ",
            element("strong", f"Median TBM {number(middle)}"),
            f": {percent(middle / mean) if mean > 0 else '–'} of the mean value {number(own.mean())}, "
            f"{percent(middle / spread) if spread > 0 else '–'} of the spread of values {number(spread)}, and "
            f"{number(middle / step if step > 0 else float('nan'))} steps of mean reward (discount {discount:g}).",
        ),
        table(heads, lines),
        say(scale),
    ]


def distributions(scored: Scored, record: Record) -> list[Any]:
    label, values = main_column(scored)
    if not scored.has_mismatch:
        return [say(f"The distribution of the {label} of source rows: {scored.meaning}."), _histogram(values, label)]
    parts = [say(
        "TBM of source rows on a logarithmic axis, and the weights that follow from it. Rows far to the left teach the "
        "critic what the predictor expects of the target domain; a second hump on the right is a part of the source "
        "that does not transfer. The first bar also holds what lies below the axis, such as a TBM of 0."
    )]  # fmt: skip
    error = None if scored.yardstick is None else scored.yardstick.error
    edges = log_edges([values] if error is None else [values, error], BINS)
    pictures = []
    if edges is not None:
        heights = [shares(values, edges)] + ([] if error is None else [shares(error, edges)])
        top = max(float(height.max()) for height in heights)
        x = Axis(edges[0], edges[-1], "TBM (units of discounted return)", log=True)
        chart = Chart("Histogram of TBM", x, padded(0, top, "share of rows", zero=True, share=True))
        chart.bars(edges, heights[0], "s", "of source rows")
        keys = [("f s", "source rows")]
        if error is not None:
            chart.outline(edges, heights[1], "t")
            keys.append(("k t", "predictor's error on target rows"))
        pictures.append(figure(chart, legend(*keys)))
    pictures.append(_histogram(np.asarray(scored.columns["weight"], np.float64), "weight"))
    parts.append(say(weight_formula(record.rule)))
    return [*parts, element("div", *pictures, class_="pair"), *yardstick_words(scored, record)]


def weight_formula(rule: Any) -> str:
    """The formula of the weights with the rule's constants, as a sentence."""
    unit = "mean TBM⁺ of the source" if rule.scale == "source" else "mean error on target rows"
    return (
        f"Weight = {rule.least_weight:g} + {1 - rule.least_weight:g} exp(−TBM⁺ / ({rule.temperature:g} × {unit})), "
        f"where TBM⁺ is TBM plus {rule.doubt_factor:g} times the predictor's doubt (how far its answers may be off)."
    )


def yardstick_words(scored: Scored, record: Record) -> list[Html]:
    yardstick = scored.yardstick
    if yardstick is None:
        return [say("This predictor shifts a row's own outcome and cannot predict a target row without it, "
                    "so there is no error on target rows to compare with.")]  # fmt: skip
    rows_used = (
        f"The {len(yardstick.error):,} target rows are of episodes that were held out, so the error is unbiased."
        if yardstick.held_out
        else f"The predictor was trained on these {len(yardstick.error):,} target rows, so the error is optimistic: "
        "on rows it has not seen it is larger."
    )
    predictor = record.rule.predictor  # type: ignore[attr-defined]
    comparison = (
        " TBM of this run adds a learned difference of the domains to the row's own outcome (predictor "
        f"{predictor.name}), so errors that both domains share cancel; in the yardstick they do not. So TBM may lie "
        "below the yardstick, and a TBM above it is a mismatch larger than the predictor's whole error."
        if predictor.moves_own_outcome
        else " TBM would have this size without any shift; only a larger TBM is evidence of one."
    )
    middle = float(np.median(yardstick.error))
    above = float(np.mean(np.asarray(scored.columns["tbm"]) > middle))
    return [
        say(
            f"The yardstick is |predicted − own backup| of target rows, predicted from (s, a) alone. Its median is "
            f"{number(middle)}; {percent(above)} of the source rows have a larger TBM. {rows_used}{comparison}"
        )
    ]


def _histogram(values: NDArray[np.float64], label: str) -> Html:
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    heights = shares(values, edges)
    y = padded(0, float(heights.max()), "share of rows", zero=True, share=True)
    chart = Chart(f"Histogram of the {label} of source rows", Axis(low, high, label), y)
    chart.bars(edges, heights, "s", "of source rows")
    return figure(chart, legend(("f s", "source rows")))


def episodes(gathered: Gathered, scored: Scored) -> list[Any]:
    label, values = main_column(scored)
    trust = np.asarray(scored.columns[scored.trust], np.float64)
    reward = gathered.data["source"].transitions.reward
    rows_of = scored.columns.get("row_in_file", scored.columns["file_row"])
    whole = by_episode(scored.columns["episode"], rows_of, reward, {"main": values, "trust": trust})
    file_of = files_of(gathered, scored)
    order = np.argsort(-whole.means["trust"], kind="stable")
    name = trust_name(scored)
    heads = ["", *(["file"] if file_of else []), "episode", "file rows", "rows", "return", f"mean {label}"] + (
        [f"mean {name}"] if scored.has_mismatch else []
    )

    def line(i: int, rank: str) -> list[str]:
        means = [number(whole.means[key][i]) for key in (("main", "trust") if scored.has_mismatch else ("main",))]
        span = f"{whole.first_row[i]}–{whole.last_row[i]}"
        file = [file_of[int(whole.first[i])]] if file_of else []
        return [rank, *file, str(whole.number[i]), span, f"{whole.rows[i]:,}", number(whole.returns[i]), *means]

    count = min(BEST, len(order) // 2)
    lines = [line(i, f"best\u00a0{k + 1}") for k, i in enumerate(order[:count])]
    lines += [line(i, f"worst\u00a0{k + 1}") for k, i in enumerate(order[::-1][:count])]
    correlation = rank_correlation(whole.returns, whole.means["main"])
    relation = "There are too few episodes for a correlation." if correlation is None else (
        f"Spearman's rank correlation of return and mean {label} over {correlation.entries:,} episodes is "
        f"{two(correlation.value)} (95% interval about {two(correlation.low)} to {two(correlation.high)}): "
        + _direction(correlation.low, correlation.high, scored.has_mismatch)
    )  # fmt: skip
    x = padded(float(whole.returns.min()), float(whole.returns.max()), "return of the episode (undiscounted)")
    y = padded(
        float(whole.means["main"].min()), float(whole.means["main"].max()), f"mean {label}", zero=scored.has_mismatch
    )
    chart = Chart(f"Mean {label} of each source episode against its return", x, y)
    chart.points(whole.returns, whole.means["main"], "s")
    best = "highest mean weight" if scored.has_mismatch else f"highest mean {label}"
    return [
        say(
            f"Each point is one of {len(order):,} source episodes; if the points rise or fall, transfer depends on the "
            f"return of the episode. {relation} The return is the sum over the rows that are used{_offset(gathered)}."
        ),
        figure(chart, legend(("f s", "source episode"))),
        say(
            f"The {count} episodes with the {best} and the {count} with the lowest: the first to keep, and the first "
            "to inspect or leave out. File rows count from 0."
            if count
            else "There is only one episode, so there is nothing to rank."
        ),
        table(heads, lines, words=1 + bool(file_of)) if count else None,
    ]


def _offset(gathered: Gathered) -> str:
    """What to say of rewards that are not the files': the task's constant is added to each."""
    task = gathered.records[0].task
    offset = 0.0 if task is None else get_task(task).reward_offset
    return f", of rewards as the run learned from them: {offset:+g} in each row" if offset else ""


def two(value: float) -> str:
    """Two decimals, without a negative zero."""
    return f"{value:z.2f}"


def _direction(low: float, high: float, mismatch: bool) -> str:
    if low <= 0 <= high:
        return "no clear relation between return and transfer."
    less = (low > 0) == mismatch
    return f"better episodes transfer {'less' if less else 'more'}."
