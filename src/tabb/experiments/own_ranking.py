"""How well do a finished run's own scores (`tabb score`) foresee which source rows mislead it?

`tabb figure oracle` compares rankings with the V of one pooled IQL run. A user has the V and the predictor of a run of
TABB. Here the TBM and TBM⁺ that each such run gives 3,000 source rows are compared with their oracle Bellman error,
which the target's simulator tells and no user has, by Spearman's rank correlation; V is the run's own in both.

    tabb benchmark otdf --sources medium --targets medium --updates 20000 --seeds 0 --out runs/trust \\
        --methods tabb "trust=tabb --preset trust"
    TABB_DATA=... python -m tabb.experiments.own_ranking runs/trust --json benchmarks/results/own-ranking.json
    python -m tabb.experiments.own_ranking benchmarks/results/own-ranking.json      prints the table again
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tabb.environments.tasks import TASKS, get_task
from tabb.evaluation.oracle import Truth, ask_target, oracle_error, rank_correlation, usable_rows
from tabb.files import read_json, write_json
from tabb.results.row_scores import open_run, scores_of

ROWS = 3_000


def ranking_of(folder: Path, truths: dict[tuple[str, str], tuple[Any, Truth]]) -> dict[str, Any]:
    """What one finished run's scores foresee; `truths` keeps the simulator's answers of data seen before."""
    run = open_run(folder)
    task = get_task(run.config["task"])
    rows = run.source.transitions
    data = (task.name, run.config["data"]["source"])
    if data not in truths:
        chosen = usable_rows(task, rows, ROWS)
        truths[data] = (chosen, ask_target(task, rows[chosen]))
    chosen, truth = truths[data]
    see = run.rule.see_state
    value = jax.jit(lambda states: run.value(see(run.models, run.domains.normaliser(states))))
    discount: float = run.backbone.discount
    error = oracle_error(lambda states: np.asarray(value(jnp.asarray(states))), rows[chosen], truth, discount)
    columns = scores_of(run, folder).columns
    settings = run.config["settings"]
    return {
        "task": task.name,
        "method": folder.parent.name,
        "seed": run.config["seed"],
        "updates": settings["updates"],
        "score": read_json(folder / "result.json")["score"],
        "layer_norm": settings["backbone"]["layer_norm"],
        "predictor": run.config["rule"]["predictor"]["form"],
        "mean_oracle_error": float(error.mean()),
        "tbm": rank_correlation(columns["tbm"][chosen], error),
        "tbm+": rank_correlation(columns["tbm_plus"][chosen], error),
        "environment": run.config["environment"],
    }


def table(runs: list[dict[str, Any]]) -> str:
    """TBM⁺'s rank correlation and the policy's score by task and method: means over seeds, then over tasks all have."""
    methods = list(dict.fromkeys(run["method"] for run in runs))
    columns = [(number, method) for number in ("tbm+", "score") for method in methods]
    heads = [f"`{method}`: {'TBM⁺' if number == 'tbm+' else number}" for number, method in columns]
    lines = [f"| task | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    whole = []
    for task in TASKS:
        found = [
            [run[number] for run in runs if (run["task"], run["method"]) == (task, method)]
            for number, method in columns
        ]
        if any(found):
            lines.append(f"| {task} | {_cells(columns, found)} |")
        if all(found):
            whole.append([np.mean(numbers) for numbers in found])
    means = [[column] for column in np.mean(whole, axis=0)] if whole else [[] for _ in columns]
    return "\n".join([*lines, f"| *mean of {len(whole)}* | {_cells(columns, means)} |"])


def _cells(columns: list[tuple[str, str]], found: list[list[Any]]) -> str:
    digits = [2 if number == "tbm+" else 1 for number, _ in columns]
    told = zip(digits, found, strict=True)
    return " | ".join(f"{np.mean(numbers):.{places}f}" if numbers else "-" for places, numbers in told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders with finished runs of tabb, or what --json wrote")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    runs = [run for place in options.runs if place.is_file() for run in read_json(place)["runs"]]
    folders = [file.parent for root in options.runs for file in sorted(root.rglob("result.json"))]
    folders = [folder for folder in folders if read_json(folder / "config.json")["rule"]["name"] == "tabb"]
    truths: dict[tuple[str, str], tuple[Any, Truth]] = {}
    runs += [ranking_of(folder, truths) for folder in folders]
    print(table(runs))
    if options.json is not None:
        write_json(options.json, {"rows": ROWS, "runs": runs})


if __name__ == "__main__":
    main()
