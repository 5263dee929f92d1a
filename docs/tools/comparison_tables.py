"""Tables of whole comparisons in the pages of docs, from committed results: `python docs/tools/pages.py` writes them.

In benchmarks/results, scores come from the scores.csv of `tabb benchmark --report` in benchmarks/, rank correlations
with the oracle Bellman error from `tabb figure oracle` in oracle/ and oracle-agreed/, and in oracle-normed/ and
oracle-agreed-normed/ where V has layer normalisation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from scores import RESULTS, cell
from tabb.environments.tasks import ALL_TASKS
from tabb.experiments.benchmark import BAR, Place, Table
from tabb.experiments.verdicts import verdicts, verdicts_as_markdown

SIMULATED = "true one-step error (needs the simulator)"
ORACLE_ROWS = {
    "TBM⁺, predictor `agreed`": ("oracle-agreed", "tbm+"),
    "TBM⁺, predictor `residual`": ("oracle", "tbm+"),
    "DARA's classifiers": ("oracle", "dara"),
    "IGDF's encoders": ("oracle", "igdf"),
    "nearest neighbour": ("oracle", "nearest"),
    SIMULATED: ("oracle", "one-step"),
}
"""rankings in the table of oracle Bellman errors: folder of results, and name in it"""


def oracle(suffix: str = "") -> str:
    """Rank correlations with the oracle Bellman error: a row for each ranking, means over seeds of V, the best bold.

    Only seeds that all tasks have count. The names of the folders end with `suffix`; rankings that they lack are left
    out.
    """
    correlations: dict[str, dict[str, dict[int, float]]] = {}
    for name, (folder, key) in ORACLE_ROWS.items():
        for file in sorted((RESULTS / f"{folder}{suffix}").glob("*-seed*.json")):
            one = json.loads(file.read_text(encoding="utf-8"))
            if key in one["rank_correlation"]:
                correlations.setdefault(name, {}).setdefault(one["task"], {})[one["seed"]] = one["rank_correlation"][
                    key
                ]
    tasks = sorted(next(iter(correlations.values())), key=list(ALL_TASKS).index)
    seeds = {name: sorted(set.intersection(*(set(row[task]) for task in tasks))) for name, row in correlations.items()}
    means = {
        name: [float(np.mean([row[task][seed] for seed in seeds[name]])) for task in tasks]
        for name, row in correlations.items()
    }
    without_simulator = np.array([row for name, row in means.items() if name != SIMULATED])
    best = [*without_simulator.max(axis=0), without_simulator.mean(axis=1).max()]
    lines = [
        f"| ranking | {' | '.join(map(_short, tasks))} | mean | mean of each seed |",
        "|---" * (len(tasks) + 3) + "|",
    ]
    for name, row in means.items():
        cells = [
            f"**{value:.2f}**" if name != SIMULATED and f"{value:.2f}" == f"{top:.2f}" else f"{value:.2f}"
            for value, top in zip([*row, float(np.mean(row))], best, strict=True)
        ]
        each = ", ".join(f"{np.mean([correlations[name][task][seed] for task in tasks]):.2f}" for seed in seeds[name])
        lines.append(f"| {name} | {' | '.join(cells)} | {each} |")
    return "\n".join(lines)


def _short(task: str) -> str:
    """A short name of a task, for a narrow column."""
    short = {"hopper": "hop", "halfcheetah": "hc", "walker2d": "walk", "gravity": "grav", "kinematic": "kin"}
    return " ".join(short.get(part, part) for part in task.removesuffix("-0.5").split("-"))


def targets(table: Table) -> str:
    """Scores by task and quality of the target data, the gain over target-only, and the verdicts."""
    qualities = list(dict.fromkeys(place.target for place in table))
    tasks = list(dict.fromkeys(place.task for place in table))
    source = next(iter(table)).source
    heads = [f"{quality}: {name}" for quality in qualities for name in (BAR, "tabb")] + ["source-only"]
    lines = [f"| task | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for task in tasks:
        rows = [table.get(Place(task, source, quality), {}) for quality in qualities]
        cells = [cell(list(row.get(name, {}).values())) for row in rows for name in (BAR, "tabb")]
        lines.append(f"| {task} | {' | '.join(cells)} | {cell(list(rows[0].get('source-only', {}).values()))} |")
    gains = []
    for quality in qualities:
        gains += ["", _gain_on_bar((row for place, row in table.items() if place.target == quality), "tabb")]
    lines.append(f"| *tabb less target-only* | {' | '.join(gains)} | |")
    methods = ("tabb", BAR, "source-only")
    return "\n".join(lines) + "\n\n" + verdicts_as_markdown(verdicts(table, methods, "tabb"), "tabb")


def side_by_side(tables: Sequence[Table]) -> str:
    """Scores by task and quality of the target data, with a column for each method of all comparisons.

    Rows are those of the first comparison. The last row is each method's mean gain over target-only, in rows with both.
    """
    table = {place: {name: runs for one in tables for name, runs in one.get(place, {}).items()} for place in tables[0]}
    names = list(dict.fromkeys(name for one in reversed(tables) for row in one.values() for name in row))
    names = [name for name in names if any(name in row for row in table.values())]
    lines = [f"| task | target data | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for place, row in table.items():
        scores = " | ".join(cell(list(row.get(name, {}).values())) for name in names)
        lines.append(f"| {place.task} | {place.target} | {scores} |")
    gains = ["" if name == BAR else _gain_on_bar(table.values(), name) for name in names]
    return "\n".join([*lines, f"| *less target-only* | | {' | '.join(gains)} |"])


def _gain_on_bar(rows: Iterable[Mapping[str, dict[int, float]]], name: str) -> str:
    """The mean gain of a method over target-only, in the rows that have both, and how often it is positive."""
    both = [(row[name], row[BAR]) for row in rows if {name, BAR} <= set(row)]
    means = [np.mean(list(ours.values())) - np.mean(list(bar.values())) for ours, bar in both]
    return f"{np.mean(means):+.1f}, above in {sum(mean > 0 for mean in means)} of {len(means)}" if means else "-"
