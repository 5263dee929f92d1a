"""The summary of a folder of runs: a table and a picture."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tabb.environments.tasks import get_task
from tabb.evaluation.figures import learning_curves
from tabb.evaluation.scores import Evaluation, averaged
from tabb.files import quoted
from tabb.shown import tenths


def results_in(root: str | Path) -> list[dict[str, Any]]:
    """Every run's `result.json` below `root`, sorted by learner and seed; those of other programs are left out."""
    results = [result for _, result in _finished(root)]
    return sorted(results, key=lambda result: (learner_of(result), result["seed"]))


def _finished(root: str | Path) -> list[tuple[Path, dict[str, Any]]]:
    """The finished runs below `root`, by path, with their results; files of other programs are left out."""
    found = []
    for file in sorted(Path(root).rglob("result.json")):
        try:
            result = json.loads(file.read_text(encoding="utf-8"))
            if isinstance(learner_of(result), str) and isinstance(result["seed"], int):
                found.append((file.parent, result))
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
    return found


def learner_of(result: dict[str, Any]) -> str:
    """The name of a result's learner in tables: `tabb`, `tabb@cql`."""
    from tabb.registry import learner_name

    return learner_name(result["rule"]["name"], result.get("backbone", {}).get("name"))


def by_rule(results: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Results grouped by learner: the best mean score first, learners without scores last."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault(learner_of(result), []).append(result)

    def order(item: tuple[str, list[dict[str, Any]]]) -> float:
        scores = [result["score"] for result in item[1] if result["score"] is not None]
        return -float(np.mean(scores)) if scores else float("inf")

    return dict(sorted(groups.items(), key=order))


def table(groups: Mapping[str, list[dict[str, Any]]]) -> str:
    """A row per learner: score (mean ± standard deviation over seeds), seeds, updates, speed and time."""
    rows = [("rule", "score", "seeds", "each seed", "updates", "updates/s", "minutes")]
    for rule, results in groups.items():
        scores = [result["score"] for result in results if result["score"] is not None]
        # A score of 0.4 of 100 is hardly any; a return of 0.4 may be all there is.
        size = max(map(abs, scores), default=0.0) if results[0].get("measure") == "return" else 1.0
        spread = f" ± {tenths(float(np.std(scores, ddof=1)), size)}" if len(scores) > 1 else ""
        rows.append(
            (
                rule,
                f"{tenths(float(np.mean(scores)), size)}{spread}" if scores else "-",
                str(len(results)),
                " ".join(tenths(score, size) for score in scores) or "-",
                f"{results[0]['updates']:,}",
                f"{np.mean([result['updates_per_second'] for result in results]):,.0f}",
                f"{np.mean([sum(result['seconds'].values()) for result in results]) / 60:.1f}",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def summarise(root: Path, levels: Mapping[str, float] | None = None) -> str:
    """The table of all finished runs below `root`; draws `comparison.png` there for more than one run.

    `levels` are scores to compare with, which the picture has as lines.
    """
    results = results_in(root)
    if not results:
        return f"{root}: no finished runs"
    # A benchmark's runs are in <task>/<data>/<method>/seed<k>; a mean over tasks, data or variants has no meaning.
    tasks = Counter(result["task"] or "own environment" for result in results)
    if len(tasks) > 1 or any(root.glob("*/*/*/*/result.json")):
        lines = [f"{task}: {count} finished runs" for task, count in sorted(tasks.items())]
        return "\n".join(
            [
                *lines,
                f"{root}: for the table, add --report to the command (`tabb benchmark` or `tabb ablate`) that made it",
            ]
        )
    if again := _twice(root):
        return again
    groups = by_rule(results)
    first = results[0]
    where = first["task"] or "own environment"
    measure = first["measure"]
    episodes = sum(result["evaluation_episodes"] for result in results)
    lines = ["", table(groups), ""]
    if first["score"] is not None:
        lines.append(
            f"{measure} in {where}, mean of a run's {averaged(len(first['evaluations']))}; {episodes} evaluation "
            "episodes in all"
        )
    lines += _held_out(groups, root)
    evaluated = {
        rule: [curve_of(result["evaluations"]) for result in runs]
        for rule, runs in groups.items()
        if runs[0]["evaluations"]
    }
    if len(results) > 1 and evaluated:
        picture = root / "comparison.png"
        task = get_task(first["task"]) if first["task"] else None
        learning_curves(evaluated, task, picture, levels=levels)
        lines.append(f"picture: {picture}")
    lines.append(f"runs: {root}")
    if first["score"] is None:
        lines.append(
            f"next: `tabb report {quoted(root)}` shows on one page what was learned, and from which source rows"
        )
    return "\n".join(lines)


def _twice(root: Path) -> str | None:
    """What to say where two runs below `root` are of one learner and seed; they differ in what no table shows."""
    seen: dict[tuple[str, int], Path] = {}
    for folder, result in _finished(root):
        one = learner_of(result), result["seed"]
        if one in seen:
            return (
                f"{root}: no table, since {seen[one]} and {folder} are both seed {one[1]} of {one[0]}; "
                f"`tabb report {quoted(root)}` compares them"
            )
        seen[one] = folder
    return None


ERRORS = {"td_error": "TD error", "predictor_error": "predictor error", "action_error": "off actions"}
"""measures on held-out rows, in words"""


def _held_out(groups: Mapping[str, list[dict[str, Any]]], root: Path) -> list[str]:
    """Measures of the final policies on held-out target episodes, if any were held out."""
    lines = []
    for rule, runs in groups.items():
        for result in runs:
            last = (result.get("held_out") or {}).get("policies", [])[-1:]
            for measures in last:
                shown = ("td_error", "predictor_error") if "td_error" in measures else ("action_error",)
                errors = ", ".join(f"{ERRORS[name]} {measures[name]:.3g}" for name in shown if name in measures)
                size = max(abs(measures["low"]), abs(measures["high"]))
                of, low, high = (tenths(measures[name], size) for name in ("value", "low", "high"))
                value = f"value {of} ({low} to {high})"
                rows = f"{result['held_out']['rows']:,} held-out target rows"
                lines.append(f"{rule} seed {result['seed']}: {value}, {errors} on {rows}")
    if lines:
        lines.append(
            "values are off-policy estimates from all target rows; "
            f"`tabb select {quoted(root)}` ranks all policies of the runs"
        )
    return lines


def curve_of(evaluations: Sequence[Mapping[str, Any]]) -> list[tuple[int, Evaluation]]:
    """(updates done, evaluation) of the evaluations of a run, as its result or its metrics have them."""
    return [
        (
            line["update"],
            Evaluation(
                tuple(line["returns"]),
                tuple(line["lengths"]),
                None if line["scores"] is None else tuple(line["scores"]),
                line["first_seed"],
            ),
        )
        for line in evaluations
    ]
