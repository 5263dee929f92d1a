"""What is written when a run has finished: the policy, `result.json` and the learning curve."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tabb.files import read_json, write_json
from tabb.plain import plain
from tabb.provenance import environment
from tabb.training.folder import RunFolder
from tabb.training.record import Run
from tabb.training.setup import Setup


def write_results(folder: RunFolder, run: Run, setup: Setup) -> None:
    """Write the policy, `result.json` and the learning curve of a finished run."""
    run.policy.save(folder.policy_file)
    write_json(folder.result_file, result_of(run, setup))
    if run.evaluations:
        from tabb.evaluation.figures import learning_curves

        learning_curves({setup.label: [run.evaluations]}, setup.task, folder.curve_file)


def result_of(run: Run, setup: Setup) -> dict[str, Any]:
    """The `result.json` of a run: what tables and figures are made from."""
    updates = setup.settings.updates
    result = {
        "rule": plain(run.rule),
        "backbone": plain(setup.learner.backbone),
        "task": None if setup.task is None else setup.task.name,
        "seed": run.seed,
        "score": run.score,
        "measure": "normalised score" if setup.task is not None else "return",
        "evaluations": [
            {"update": update, "mean": evaluation.mean} | dataclasses.asdict(evaluation)
            for update, evaluation in run.evaluations
        ],
        "evaluation_episodes": sum(len(evaluation.returns) for _, evaluation in run.evaluations),
        "updates": updates,
        "updates_per_second": updates / max(run.seconds["train"], 1e-9),
        "seconds": run.seconds,
        "environment": environment(),
    }
    if setup.worlds:  # a run that is through has taken all of its steps
        result["steps"] = {domain: setup.settings.online.steps(domain) for domain in setup.worlds}
        if setup.start is not None and "target" in setup.worlds and run.folder is not None:
            before = read_json(setup.start.folder(run.seed).result_file)["evaluations"]
            last = before[-1]["returns"] if before else None
            result["switch"] = switch(RunFolder(run.folder).metrics(), last)
    if setup.held_out is not None:
        result["held_out"] = setup.held_out.about | {"policies": [measures.to_dict() for measures in run.held_out]}
    return result


SWITCH = 10_000
"""steps after the switch from logged rows to steps whose episodes are told"""


def switch(metrics: Sequence[Mapping[str, Any]], before: Sequence[float] | None) -> dict[str, Any]:
    """What a policy that was learned elsewhere returns at first where it goes on with steps.

    Args:
        metrics: the lines of the run that goes on.
        before: returns of the last evaluation of the run that it starts from; None where it has none.
    """
    returns = []
    for line in metrics:
        if line["kind"] == "target-episodes":
            # A run of before does not say after how many steps each ended, but not later than the line was written.
            ends = line.get("ends", [line["steps"]] * len(line["returns"]))
            returns += [value for value, end in zip(line["returns"], ends, strict=True) if end <= SWITCH]

    def mean(values: Sequence[float] | None) -> float | None:
        return sum(values) / len(values) if values else None

    return {"before": mean(before), "first_steps": mean(returns), "episodes": len(returns), "steps": SWITCH}
