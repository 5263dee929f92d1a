"""How well do the rankings of `tabb select`, which need no rollouts, agree with the true scores of policies?

    for task in hopper-gravity-0.5 hopper-kinematic walker2d-gravity-0.5 walker2d-kinematic; do
        tabb train tabb target-only pooled --task $task --source medium --target medium --seeds 0 1 \\
            --updates 20000 --evaluations 10 --held-out 0.2 --out runs/select/$task
    done
    python -m tabb.experiments.policy_rankings runs/select/* --json benchmarks/results/selection.json

The runs rolled every policy out for 10 episodes, so its true score is known. The estimates are computed here from the
policies and the target data alone.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tabb.evaluation.fqe import estimate
from tabb.evaluation.oracle import rank_correlation
from tabb.files import read_json, write_json
from tabb.own_files import refuse_others
from tabb.policy import Policy
from tabb.provenance import environment
from tabb.results.row_scores import run_data
from tabb.results.summary import learner_of
from tabb.training.folder import RunFolder
from tabb.training.held_out import action_error, split

RANKINGS = {
    "value": "off-policy value",
    "low": "lower end of its interval",
    "actions": "near the held-out actions",
    "td": "small TD error",
}


def policies_in(folder: Path) -> list[dict[str, Any]]:
    """Every saved policy of the runs below `folder`, with its score and its measures on target rows."""
    policies = []
    for file in sorted(folder.rglob("result.json")):
        run, result = RunFolder(file.parent), read_json(file)
        config = run.config()
        target = run_data(config, "target", None, str(folder)).transitions
        held_out = split(target, config["settings"]["held_out"]).held_out
        truth = {line["update"]: line["mean"] for line in result["evaluations"]}
        measures = result["held_out"]["policies"]
        loaded = [Policy.load(run.policy_at(measured["update"])) for measured in measures]
        started = time.monotonic()
        values = estimate(loaded, target)
        seconds = (time.monotonic() - started) / len(loaded)
        print(f"{file.parent}: {len(loaded)} policies, {seconds:.1f} s each", file=sys.stderr)
        for measured, policy, value in zip(measures, loaded, values, strict=True):
            policies.append(
                {
                    "learner": learner_of(result),
                    "seed": result["seed"],
                    "update": measured["update"],
                    "score": truth[measured["update"]],
                    "value": value.value,
                    "low": value.low,
                    "actions": -action_error(policy, held_out),
                    "td": -measured.get("td_error", math.inf),
                }
            )
    return policies


def judge(policies: list[dict[str, Any]]) -> dict[str, Any]:
    """For each ranking its rank correlation with the scores, over all and within learners, and its choices."""
    scores = np.array([policy["score"] for policy in policies])
    learners = np.array([policy["learner"] for policy in policies])
    judgement: dict[str, Any] = {"policies": len(policies), "best": scores.max(), "mean": scores.mean(), "rankings": {}}
    for name in RANKINGS:
        ranking = np.array([policy[name] for policy in policies])
        within = [rank_correlation(ranking[learners == one], scores[learners == one]) for one in np.unique(learners)]
        judgement["rankings"][name] = {
            "rank_correlation": rank_correlation(ranking, scores),
            "within_learners": float(np.mean(within)),
            "chosen": float(scores[np.argmax(ranking)]),
            "best_five": float(scores[np.argsort(-ranking)[:5]].mean()),
        }
    return judgement


def table(tasks: dict[str, dict[str, Any]]) -> Table:
    """One row per task and ranking."""
    shown = Table(title="rankings of policies without rollouts, against their scores")
    for name in ("task", "ranking", "rank correlation", "within a method"):
        shown.add_column(name)
    for name in ("its choice", "its best five", "mean", "best"):
        shown.add_column(name)
    for task, judgement in tasks.items():
        for name, values in judgement["rankings"].items():
            numbers = [values["rank_correlation"], values["within_learners"]]
            scores = [values["chosen"], values["best_five"], judgement["mean"], judgement["best"]]
            cells = [f"{number:+z.2f}" for number in numbers] + [f"{score:z.1f}" for score in scores]
            shown.add_row(f"{task} ({judgement['policies']})", RANKINGS[name], *cells)
        shown.add_section()
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="a folder of runs for each task")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    options = parser.parse_args()
    policies = {folder.name: policies_in(folder) for folder in options.folders}
    tasks = {task: judge(of_task) for task, of_task in policies.items()}
    Console(width=140).print(table(tasks))
    if options.json:
        results = {"environment": environment(), "tasks": tasks, "policies": policies}
        refuse_others(options.json, "rankings")
        write_json(options.json, results)


if __name__ == "__main__":
    main()
