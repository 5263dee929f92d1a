"""How well do a finished run's own scores (`tabb score`) predict the oracle Bellman error of its source rows?

`tabb figure oracle` compares rankings that use the V of a pooled IQL run. A user has the V and the predictor of a run
of TABB. Here the TBM and TBM⁺ of each such run for 3,000 source rows are compared with the rows' oracle Bellman error
by Spearman's rank correlation. V is the run's own in both; the oracle error needs the target's simulator.

    tabb benchmark otdf --sources medium --targets medium --updates 20000 --seeds 0 --out runs/trust \\
        --methods "residual=tabb --preset quick --backbone.no-layer-norm" "agreed=tabb"
    TABB_DATA=... python -m tabb.experiments.own_ranking runs/trust --json benchmarks/results/own-ranking.json
    python -m tabb.experiments.own_ranking benchmarks/results/own-ranking.json      prints the table again
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from tabb.environments.tasks import TASKS, get_task
from tabb.evaluation.oracle import Truth, ask_target, rank_correlation, usable_rows
from tabb.experiments.borne_out import own_error
from tabb.files import read_json, write_json
from tabb.own_files import refuse_others
from tabb.results.row_scores import open_run, scores_of

ROWS = 3_000


def ranking_of(folder: Path, truths: dict[tuple[str, str], tuple[Any, Truth]]) -> dict[str, Any]:
    """The result of a finished run; `truths` caches the simulator's answers by task and source data."""
    run = open_run(folder)
    task = get_task(run.config["task"])
    rows = run.source.transitions
    data = (task.name, run.config["data"]["source"])
    if data not in truths:
        sample = usable_rows(task, rows, ROWS)
        truths[data] = (sample, ask_target(task, rows[sample]))
    sample, truth = truths[data]
    error = own_error(run, task, sample, truth)
    columns = scores_of(run, folder).columns
    settings = run.config["settings"]
    return {
        "task": task.name,
        "method": folder.parent.name,
        "seed": run.config["seed"],
        "updates": settings["updates"],
        "score": read_json(folder / "result.json")["score"],
        "layer_norm": settings["backbone"]["layer_norm"],
        "predictor": run.rule.predictor.name,  # type: ignore[attr-defined]
        "mean_oracle_error": float(error.mean()),
        "tbm": rank_correlation(columns["tbm"][sample], error),
        "tbm+": rank_correlation(columns["tbm_plus"][sample], error),
        "environment": run.config["environment"],
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: TBM⁺'s rank correlation and the score by task and method, means over seeds; then means over tasks."""
    methods = list(dict.fromkeys(run["method"] for run in runs))
    columns = [(number, method) for number in ("tbm+", "score") for method in methods]
    heads = [f"`{method}`: {'TBM⁺' if number == 'tbm+' else number}" for number, method in columns]
    lines = [f"| task | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    complete = []
    for task in TASKS:
        values = [
            [run[number] for run in runs if (run["task"], run["method"]) == (task, method)]
            for number, method in columns
        ]
        if any(values):
            lines.append(f"| {task} | {_cells(columns, values)} |")
        if all(values):
            complete.append([np.mean(numbers) for numbers in values])
    means = [[column] for column in np.mean(complete, axis=0)] if complete else [[] for _ in columns]
    return "\n".join([*lines, f"| *mean of {len(complete)}* | {_cells(columns, means)} |"])


def _cells(columns: list[tuple[str, str]], values: list[list[Any]]) -> str:
    digits = [2 if number == "tbm+" else 1 for number, _ in columns]
    columns_with_digits = zip(digits, values, strict=True)
    return " | ".join(f"{np.mean(numbers):.{places}f}" if numbers else "-" for places, numbers in columns_with_digits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs", nargs="+", type=Path, help="folders with finished runs of tabb, or files that --json wrote"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    runs = [run for place in options.runs if place.is_file() for run in read_json(place)["runs"]]
    folders = [file.parent for root in options.runs for file in sorted(root.rglob("result.json"))]
    folders = [folder for folder in folders if read_json(folder / "config.json")["rule"]["name"] == "tabb"]
    truths: dict[tuple[str, str], tuple[Any, Truth]] = {}
    runs += [ranking_of(folder, truths) for folder in folders]
    print(table(runs))
    if options.json is not None:
        refuse_others(options.json, "own-ranking")
        write_json(options.json, {"rows": ROWS, "runs": runs})


if __name__ == "__main__":
    main()
