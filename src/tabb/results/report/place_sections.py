"""The sections on where source rows lie: along episodes, in state space, and row by row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tabb.results.report.charts import Axis, Chart, figure, legend, padded, shades
from tabb.results.report.gather import Gathered, Scored
from tabb.results.report.html import Html, number, percent, say, table
from tabb.results.report.rows import FEWEST, extremes, over_time, region_map
from tabb.results.report.words import main_column, trust_name

LISTED = 10
"""rows listed, of the best and of the worst"""
WORST_ENDS = 8
"""ends of state dimensions that are listed"""


def along(scored: Scored) -> list[Any]:
    label, values = main_column(scored)
    course = over_time(scored.step, values)
    if len(course.step) < 2:
        return [say("The episodes are too short or too few to show transfer along them.")]
    top, bottom = float(course.high.max()), float(course.low.min())
    x = Axis(0, float(scored.step.max()) + 1, "step of the episode")
    chart = Chart(f"{label} along an episode", x, padded(bottom, top, label, zero=scored.has_mismatch))
    chart.band(course.step, course.low, course.high, "s")
    chart.line(course.step, course.median, "s")
    return [
        say(
            f"Median and quartiles of {label} over all source episodes at each step: a "
            f"{'hump' if scored.has_mismatch else 'dip'} "
            "is a phase of the motion that transfers less; one at the start means that the domains differ from the "
            "first states on. Late steps come from long episodes only."
        ),
        figure(chart, legend(("k s", "median"), ("b s", "quartiles"))),
    ]


def regions(gathered: Gathered, scored: Scored) -> list[Any]:
    trust, name = np.asarray(scored.columns[scored.trust], np.float64), trust_name(scored)
    if len(trust) < FEWEST:
        return [say("There are too few source rows to compare regions.")]
    picture, entries = state_figure(gathered, scored)
    parts: list[Any] = []
    if picture is not None:
        parts = [
            say(
                f"The source's states on their first two principal components ({entries}), coloured by the mean {name} "
                "of their rows. Low values inside the outline suggest a difference between the domains. Outside it "
                "there are hardly any target data to compare with, so trust there is extrapolated."
            ),
            picture,
        ]
    source, target = (gathered.data[domain].transitions.observation for domain in ("source", "target"))
    ends = extremes(source, target, trust)[:WORST_ENDS]
    heads = ["entry of the observation", f"mean {name} there", "elsewhere", "target rows there"]
    lines = [
        [f"{end.entry}: {'at most' if end.low else 'at least'} {number(end.bound)}", number(end.mean),
         number(end.elsewhere), percent(end.target)]
        for end in ends
    ]  # fmt: skip
    return [
        *parts,
        say(
            "The ends of state dimensions (the lowest or highest tenth of the source rows, in the file's units) that "
            "transfer worst. If few target rows are there, collect some or leave these source rows out; if many are "
            "there, the dynamics differ."
        ),
        table(heads, lines),
    ]


def files_of(gathered: Gathered, scored: Scored) -> list[str] | None:
    """The name of the file of each source row, where several files were read as one; else None."""
    if "file" not in scored.columns:
        return None
    names = [Path(name).name for name, _ in gathered.data["source"].report.parts]
    return [names[which] for which in scored.columns["file"]]


def state_figure(gathered: Gathered, scored: Scored) -> tuple[Html | None, str]:
    """The map of mean trust over state space, and what its axes are made of; None where there are too few rows."""
    trust, name = np.asarray(scored.columns[scored.trust], np.float64), trust_name(scored)
    if len(trust) < FEWEST:
        return None, ""
    domains = scored.domains
    state_map = region_map(domains.source.observation, domains.target.observation, trust)
    means = state_map.mean[np.isfinite(state_map.mean)]
    entries = "; ".join(
        f"the {which} is mostly entries {', '.join(map(str, loads))}"
        for which, loads in zip(("first", "second"), state_map.loads, strict=True)
    )
    if not means.size:
        return None, entries
    low, high = float(means.min()), float(means.max())
    labels = [
        f"{which} component ({percent(share)} of the variance)"
        for which, share in zip(("first", "second"), state_map.explained, strict=True)
    ]
    edges = (state_map.x_edges, state_map.y_edges)
    x, y = (Axis(axis[0], axis[-1], label) for axis, label in zip(edges, labels, strict=True))
    chart = Chart(f"Mean {name} over state space", x, y, height=300)
    chart.cells(*edges, state_map.mean, low, high)
    chart.border(*edges, state_map.target, "o")
    keys = legend(("k o", "where 90% of the target rows are"))
    return figure(chart, shades(low, high, f"mean {name}"), keys), entries


def listed(gathered: Gathered, scored: Scored) -> list[Any]:
    trust, name = np.asarray(scored.columns[scored.trust], np.float64), trust_name(scored)
    count = min(LISTED, len(trust) // 2)
    # By TBM⁺, of which the weight is a function: for a large TBM⁺ all weights are equal to the last bit.
    order = np.argsort(scored.columns["tbm_plus"] if scored.has_mismatch else -trust, kind="stable")
    terminal = np.asarray(gathered.data["source"].transitions.terminal) > 0
    rule: Any = gathered.records[0].rule
    groups: Sequence[tuple[str, Any]] = (("best", order[:count]), ("worst", order[::-1][:count]))
    file_of = files_of(gathered, scored)
    heads = ["", *(["file"] if file_of else []), "file row", "episode", "step", "terminal"]
    heads += ["TBM", "weight", "own backup", "predicted backup", "predictor's doubt"] if scored.has_mismatch else [name]

    def line(i: int, rank: str) -> list[str]:
        columns = scored.columns
        row = columns.get("row_in_file", columns["file_row"])[i]
        cells = [rank, *([file_of[i]] if file_of else []), str(row), str(columns["episode"][i]), str(scored.step[i])]
        cells.append("yes" if terminal[i] else "")
        if not scored.has_mismatch:
            return [*cells, number(trust[i])]
        predicted = np.asarray(columns["predicted_backup"][i], np.float64)
        own = np.asarray(columns["own_backup"][i], np.float64)
        middle = rule.predictor.predicted_backup(predicted[None])[0]
        doubt = rule.predictor.doubt(predicted[None], own[None])[0]
        numbers = (columns["tbm"][i], trust[i], own, middle, doubt)
        return [*cells, *(number(float(value)) for value in numbers)]

    lines = [line(i, f"{which}\u00a0{k + 1}") for which, rows in groups for k, i in enumerate(rows)]
    ended = int(terminal[order[::-1][:count]].sum())
    extra = (
        f" Of the worst {count}, {ended} are terminal: the run predicts that the target robot would continue there."
        if ended
        else ""
    )
    if scored.has_mismatch:
        extra += " They are sorted by weight, which depends on the predictor's uncertainty as well as on TBM."
    return [
        say(
            f"The {count} source rows with the highest and the lowest {name}, by their row in the file. Replay the "
            f"worst ones in the simulator to see what the target robot would do differently.{extra}"
        ),
        table(heads, lines, words=1 + bool(file_of)),
    ]
