"""Writes the tables of measured results into the README and docs, between their `measured` marks.

    python docs/tools/pages.py             rewrite the pages
    python docs/tools/pages.py --check     fail if a page differs from the results

The results are committed files in benchmarks/results:

    scores/                                 `docs/tools/scores.py --gather`
    demo/                                   `tabb train` and `... --seeds 1 2`: RULE-seed0.json, ..., trust.json
    costs-cpu.json                          `benchmarks/costs.py --json`
    selection.json                          `python -m tabb.experiments.policy_rankings --json`
    planted-faults.json                     `python -m tabb.experiments.planted_faults --json`
    own-ranking.json                        `python -m tabb.experiments.own_ranking --json`
    sampling/                               `python -m tabb.experiments.where_to_sample`
    extraction/main/                        `python -m tabb.experiments.extraction`
    collected/                              manifests of `tabb collect SUITE`
    field/                                  `python -m tabb.experiments.field`
    ablations/imitation-temperature.json    `docs/tools/curves.py --json`
    benchmarks/, oracle*/                   see comparison_tables.py
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np

import choice_bounds
import extraction
from comparison_tables import oracle, side_by_side, targets
from findings import better_source, error_of_half
from headlines import headline
from scores import RESULTS, SCORES, cell, gathered
from tabb.environments.tasks import ALL_TASKS
from tabb.experiments.benchmark import SCORES as SCORES_CSV
from tabb.experiments.benchmark import Table
from tabb.experiments.benchmark_scores import read_scores_csv
from tabb.experiments.cells import gain_interval, merged
from tabb.experiments.choice import table as choice
from tabb.experiments.field import Cells, best_controls, picking, rank_table, read_cells, score_table, scores_of
from tabb.experiments.model_fit import table as model_fit
from tabb.experiments.own_ranking import table as own_ranking
from tabb.experiments.planted_faults import table as planted_faults
from tabb.experiments.policy_rankings import RANKINGS
from tabb.experiments.reliability import table as reliability
from tabb.experiments.where_to_sample import table as sampling
from tabb.files import read_json

DOCS = Path(__file__).resolve().parents[1]
WITH_TABLES = (
    *("audit", "few-rows", "field", "selection", "collected-data", "measured-rows", "measured-policies"),
    *("online", "results", "measured-few-rows"),
)
README = DOCS.parent / "README.md"
PAGES = [README, *sorted((DOCS / "methods").glob("*.md")), *(DOCS / f"{name}.md" for name in WITH_TABLES)]
COLLECTED_QUALITIES = {"adroit": "expert", "antmaze": "diverse"}
BEGIN, END = "<!-- measured: {} -->", "<!-- /measured -->"
RANKING_NUMBERS = ("rank_correlation", "within_learners", "chosen", "best_five")
SCORES_LENGTH, SCORES_BETA = 100_000, 3.0
"""updates and β of the runs in scores/, the defaults of their time"""
IMITATING = ", imitating source rows too"
BESIDE = ("target-only", "pooled")
"""learners that every page shows beside its own"""


def measured(learners: list[str], scores: dict[str, dict[str, list[Any]]], costs: dict[str, Any]) -> str:
    """Scores and costs of these learners: a row for each, as Markdown."""
    tasks = [task for task, row in scores.items() if set(learners) & set(row)]
    shown = [*learners, *(name for name in BESIDE if name not in learners)]
    shown = [name for name in shown if name in costs or any(name in scores[task] for task in tasks)]
    if not shown:
        return "Not measured yet."
    lines = [f"| | {' | '.join((*tasks, 'update / pooled', 'preparation', 'memory'))} |"]
    lines.append("|---" * (len(tasks) + 4) + "|")
    for name in shown:
        cells = [cell([result["score"] for result in scores[task].get(name, [])]) for task in tasks]
        lines.append(f"| `{name}` | {' | '.join([*cells, *_cost(costs.get(name))])} |")
    return "\n".join(lines)


def selection(results: dict[str, Any]) -> str:
    """Agreement of rankings of policies with true scores: a row for each task and ranking, and the means."""
    heads = (
        "ranking",
        "rank correlation",
        "within a method",
        "its choice",
        "its best five",
        "mean policy",
        "best policy",
    )
    lines = [f"| task | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    rows = [
        (task, name, [*(ranking[key] for key in RANKING_NUMBERS), judgement["mean"], judgement["best"]])
        for task, judgement in results["tasks"].items()
        for name, ranking in judgement["rankings"].items()
    ]
    for name in dict.fromkeys(name for _, name, _ in rows):
        every = [numbers for _, one, numbers in rows if one == name]
        rows.append(("*mean*", name, [sum(column) / len(column) for column in zip(*every, strict=True)]))
    for task, name, numbers in rows:
        cells = [f"{number:.2f}" for number in numbers[:2]] + [f"{number:.1f}" for number in numbers[2:]]
        lines.append(f"| {task} | {RANKINGS[name]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def collected() -> str:
    """The data sets of hands and mazes: a row for each."""
    lines = ["| data set | rows | episodes | score | MB |", "|---" * 5 + "|"]
    for suite in COLLECTED_QUALITIES:
        for one in _sets(suite):
            size = f"{one['bytes'] / 1e6:.1f}"
            lines.append(f"| `{one['file']}` | {one['rows']:,} | {one['episodes']} | {_score(one)} | {size} |")
    return "\n".join(lines)


def collected_robots(suite: str) -> str:
    """The target data sets of the robots: a row for each shift with the scores of rows and policy of each quality."""
    sets = {(one["task"], one["quality"]): one for one in _sets(suite)}
    heads = ("task", "`medium`", "its policy", "where from", "`expert`", "its policy", "after steps")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for task in dict.fromkeys(task for task, _ in sets):
        medium, expert = (sets.get((task, quality)) for quality in ("medium", "expert"))
        after = "-" if expert is None else f"{expert['behaviour']['kept_after_steps']:,}"
        lines.append(f"| {task} | {_rows_and_policy(medium)} | {_who(medium)} | {_rows_and_policy(expert)} | {after} |")
    return "\n".join(lines) if sets else "Not made yet."


def _rows_and_policy(one: dict[str, Any] | None) -> str:
    """Two cells: the score of the rows (number of episodes), and that of the policy over twenty episodes."""
    return "- | -" if one is None else f"{_score(one)} ({one['episodes']}) | {one['behaviour']['kept_score']:.1f}"


def _who(one: dict[str, Any] | None) -> str:
    """Where the policy of a data set comes from, in a word or two."""
    if one is None:
        return "-"
    behaviour = one["behaviour"]
    if behaviour["policy"].endswith("/medium.npz"):
        return "the expert, with noise"
    return "the search" if behaviour["kept_after_steps"] else "before it"


def _sets(suite: str) -> list[dict[str, Any]]:
    """The records in the manifest of a suite; those of robots in the order of the tasks."""
    file = RESULTS / "collected" / f"{suite}.json"
    sets: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["sets"] if file.exists() else []
    order = list(ALL_TASKS)
    return sets if suite in COLLECTED_QUALITIES else sorted(sets, key=lambda one: order.index(one["task"]))


def _score(one: dict[str, Any]) -> str:
    return "-" if one["score"] is None else f"{one['score']:.1f}"


def suite_rows(suite: str, updates: int) -> str:
    """Scores of runs of so many updates on collected data of a suite: a row for each task."""
    quality = COLLECTED_QUALITIES[suite]
    scores = gathered(SCORES, source=quality, target=quality, updates=updates)
    rows = {task: row for task, row in scores.items() if suite in ALL_TASKS[task].suites}
    shown = sorted({name for row in rows.values() for name in row}, key=lambda name: (name in BESIDE, name))
    lines = [f"| task | {' | '.join(f'`{name}`' for name in shown)} |", "|---" * (len(shown) + 1) + "|"]
    for task, row in rows.items():
        cells = [cell([result["score"] for result in row.get(name, [])]) for name in shown]
        lines.append(f"| {task} | {' | '.join(cells)} |")
    return "\n".join(lines) if rows else "Not measured yet."


def temperatures(runs: list[dict[str, Any]], scores: dict[str, dict[str, list[Any]]]) -> str:
    """Scores of runs by task, source data and temperature of IQL's policy, with a column for each method.

    `scores` are those of runs of 100,000 updates with the default temperature; a task among `runs` gets a row of them.
    """
    rows: dict[tuple[Any, ...], dict[str, list[float]]] = {}
    for run in runs:
        source = next(iter(run["data"].get("source", [])), None)
        imitates = bool(run["rule"].get("imitate_source"))
        name = run["rule"]["name"] + (IMITATING if imitates else "")
        key = (run["task"], run["settings"]["backbone"]["temperature"], run["settings"]["updates"])
        quality = None if source is None else Path(source).stem.removeprefix(f"{ALL_TASKS[run['task']].robot}_")
        last = [point["score"] for point in run["points"][-3:]]
        rows.setdefault((*key, quality), {}).setdefault(name, []).append(sum(last) / len(last))
    for task in {key[0] for key in rows if key[2] == SCORES_LENGTH}:
        for name, results in scores.get(task, {}).items():
            place = (task, SCORES_BETA, SCORES_LENGTH, "medium")
            rows.setdefault(place, {})[name] = [result["score"] for result in results]
    shown = ("source-only", "pooled", f"tabb{IMITATING}", "tabb", "target-only")
    lines = [f"| task | source | β | updates | {' | '.join(shown)} |"]
    lines.append("|---" * (len(shown) + 4) + "|")
    for (task, beta, updates, quality), row in sorted(rows.items(), key=lambda item: (item[0][2], *item[0][:2])):
        if quality is not None:
            row = rows.get((task, beta, updates, None), {}) | row  # target-only has no source
            cells = " | ".join(cell(row.get(name, [])) for name in shown)
            lines.append(f"| {task} | {quality} | {beta:g} | {updates:,} | {cells} |")
    return "\n".join(lines)


def by_task(learners: list[str], scores: dict[str, dict[str, list[Any]]]) -> str:
    """Scores of these learners: a row for each task in which all of them have at least three seeds."""
    lines = [f"| task | {' | '.join(learners)} |", "|---" * (len(learners) + 1) + "|"]
    for task, row in scores.items():
        scores_of_learners = [[result["score"] for result in row.get(name, [])] for name in learners]
        if min(map(len, scores_of_learners)) >= 3:
            lines.append(f"| {task} | {' | '.join(map(cell, scores_of_learners))} |")
    return "\n".join(lines)


def _cost(cost: dict[str, Any] | None) -> list[str]:
    if cost is None:
        return ["-", "-", "-"]
    seconds = sum(cost["prepare_seconds"].values())
    preparation = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return [f"{cost['time_relative_to_pooled']['median']:.2f}", preparation, f"{cost['peak_memory_mib']:,.0f} MiB"]


def rewritten(text: str, scores: dict[str, dict[str, list[Any]]], costs: dict[str, Any]) -> str:
    """The page with fresh tables between its marks; a mark is the name of a table, or the learners that it shows."""
    every = [name for name in costs if name != "pooled"]
    every += sorted({name for row in scores.values() for name in row} - set(every))
    tables: dict[str, Callable[..., str]] = {
        "planted-faults": lambda: planted_faults(_read("planted-faults.json")),
        "selection": lambda: selection(_read("selection.json")),
        "own-ranking": lambda: own_ranking(_read("own-ranking.json")["runs"]),
        "oracle": lambda: oracle(),
        "oracle-normed": lambda: oracle("-normed"),
        "temperatures": lambda: temperatures(_read("ablations/imitation-temperature.json")["runs"], scores),
        "targets": lambda name: targets(_comparison(name)),
        "side-by-side": lambda *names: side_by_side([_comparison(name) for name in names]),
        "by-task": lambda *learners: by_task(list(learners), scores),
        "collected": lambda *suite: collected_robots(*suite) if suite else collected(),
        "suite": lambda suite, updates: suite_rows(suite, int(updates)),
        "all": lambda: measured(every, scores, costs),
        "demo": demo,
        "found": found,
        "headline": headline,
        "field": lambda: score_table(scores_of(_field())),
        "field-ranks": lambda: rank_table(scores_of(_field())),
        "field-controls": lambda: best_controls(scores_of(_field())),
        "field-picking": lambda: picking(_field()),
        "sampling": lambda: sampling(
            [_read(f"sampling/{file.name}") for file in sorted((RESULTS / "sampling").iterdir())]
        ),
        "choice": lambda: choice([read_json(file) for file in sorted((RESULTS / "choice").iterdir())]),
        "choice-expert": lambda: choice([read_json(file) for file in sorted((RESULTS / "choice-expert").iterdir())]),
        "reliability": lambda: reliability(
            [read_json(file) for file in sorted((RESULTS / "reliability").glob("*.json"))]
        ),
        "model-fit": lambda: model_fit([read_json(file) for file in sorted((RESULTS / "model-fit").glob("*.json"))]),
        "model-alone": lambda: model_fit(
            [read_json(file) for file in sorted((RESULTS / "model-alone").glob("*.json"))]
        ),
        "refitted": extraction.refitted,
        "online": online,
        "extraction": extraction.summary,
        "corrective": extraction.corrective,
        "matching": extraction.matching,
        "fewer": extraction.fewer,
        "others": extraction.others,
        "rollouts": extraction.rollouts,
        "taken": choice_bounds.taken,
        "units": extraction.units,
        "two-models": extraction.two_models,
    }

    def table(match: re.Match[str]) -> str:
        mark = match[1].strip()
        name, *arguments = mark.split()
        rows = tables[name](*arguments) if name in tables else measured(mark.split(), scores, costs)
        return f"{BEGIN.format(mark)}\n\n{rows}\n\n{END}"

    return re.sub(r"<!-- measured: ([^>]*?)-->.*?<!-- /measured -->", table, text, flags=re.DOTALL)


def online() -> str:
    """Scores of learners that took steps in the target, the best last."""
    lines = ["| task | learner | score | along the run |", "|---|---|---|---|"]
    for folder in sorted((RESULTS / "online").iterdir()):
        runs = sorted((read_json(file)["score"], file.stem, read_json(file)) for file in folder.glob("*.json"))
        for score, name, run in runs:
            along = ", ".join(f"{one['mean']:z.0f}" for one in run["evaluations"])
            lines.append(f"| {folder.name} | `{name}` | {score:z.1f} | {along} |")
    return "\n".join(lines)


def demo() -> str:
    """The demo's scores and those of more seeds beside its log's own, and what its trust is worth."""
    trust = _read("demo/trust.json")
    half = trust["shares"].index(0.5)
    names = ("tabb", "target-only", "pooled", "source-only")
    scores = np.array([[_read(f"demo/{name}-seed{seed}.json")["score"] for name in names] for seed in range(3)])
    rows = [("the demo", scores[0]), ("mean of three seeds", scores.mean(axis=0))]
    lines = [f"| {about} | {' | '.join(f'{x:z.0f}' for x in row)} | {trust['logged']:.0f} |" for about, row in rows]
    return (
        "| | TABB | target rows alone | both pooled | source rows alone | the log itself |\n|---|---|---|---|---|---|\n"
        + "\n".join(lines)
        + "\n\n"
        f"The half of the source rows that TABB trusts most has {trust['trust'][half]:.2f} times the mean error in the "
        f"target's simulator.\nThe half most like target rows has {trust['likeness'][half]:.2f} times."
    )


def found() -> str:
    """What was found, losses included, in sentences for the README."""
    cells = extraction.cells_of(None, merged([extraction.MAIN, extraction.MATCHING]), extraction.PICTURED)
    field, imitating, alone, both = (extraction.scores_of(cells, name) for name in extraction.PICTURED)
    added, low, high = gain_interval(both - alone)
    robots = np.array([cell["task"].split("-")[0] for cell in cells])
    by_robot = {robot: float((both - alone)[robots == robot].mean()) for robot in set(robots.tolist())}
    trusted, likely = error_of_half("oracle-agreed-normed", "tbm+"), error_of_half("oracle-normed", "nearest")
    alike, little = extraction.with_others("clone x5")
    more = float((little - alike).mean())
    targets = better_source()
    better = sum(theirs > mine for mine, theirs in targets)
    judged = extraction.with_taken()
    given, target, source = (extraction.scores_of(judged, name).mean() for name in ("taken", "alone", "source"))
    return (
        f"- **Few target rows are the bottleneck, and tabb eases it.** On {len(cells)} of OTDF's 36 targets, "
        f"IQL on target rows\n  scores {field.mean():.1f} as the field trains it. It scores "
        f"{imitating.mean():.1f} when five networks imitate the log's best episodes,\n"
        f"  as on IQL under every rule here. A hundredth of the other episodes' weight adds {more:z.1f} on "
        f"{len(alike)} mixed logs ([few target rows](docs/few-rows.md)).\n"
        "- **A model of the target's dynamics helps.** A policy held to the log's good paths, in a model of both "
        f"domains, scores {both.mean():.1f}.\n  With a model of target rows alone it scores {alone.mean():.1f}. The "
        f"source adds {added:z.1f}, with a 95% interval from {low:z.1f} to {high:z.1f}:\n"
        f"  {by_robot['walker2d']:+z.1f} on walker2d, {by_robot['hopper']:+z.1f} on hopper, "
        f"{by_robot['halfcheetah']:+z.1f} on half-cheetah, {by_robot['ant']:+z.1f} on ant "
        "([one seed](docs/few-rows.md#held-to-the-logged-paths)).\n"
        "- **TABB finds the source rows that hold in the target.** The half that it trusts most has "
        f"{trusted:.2f} times the mean error in the\n  target's simulator. The half most like target rows has "
        f"{likely:.2f} times ([how it was measured](docs/measured-rows.md#with-a-smoother-v)).\n"
        "- **Weighting source rows has lifted no policy above the target's own rows yet.** TABB avoided the cost of "
        "pooling and equalled them.\n"
        f"  On {better} of {len(targets)} targets the source's policy, as it is, was better than both "
        "([losses included](docs/results.md)).\n"
        "- **`tabb train` takes TABB's policy, or the source's as it is where TABB's fails in a model.** "
        f"On {len(judged)} of OTDF's\n  targets the one that it takes scores {given:.1f}. Target rows alone have "
        f"{target:.1f} with the same cures, the source's policy {source:.1f}\n"
        "  ([the choice](docs/selection.md#the-sources-policy-or-the-targets), made on some of the same targets)."
    )


def _read(name: str) -> Any:
    return read_json(RESULTS / name)


def _field() -> Cells:
    return read_cells(RESULTS / "field")


def _comparison(name: str) -> Table:
    """The scores of a comparison, from the report that `tabb benchmark --report` wrote."""
    return read_scores_csv(RESULTS / "benchmarks" / name / SCORES_CSV)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a page is out of date")
    options = parser.parse_args()
    scores = gathered(SCORES)
    costs = _read("costs-cpu.json")["learners"]
    stale = []
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = rewritten(old, scores, costs)
        if new != old:
            stale.append(page.name)
            if not options.check:
                page.write_text(new, encoding="utf-8")
    print(f"{'out of date' if options.check else 'rewritten'}: {', '.join(stale) or 'none'}")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
