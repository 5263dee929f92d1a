"""Choosing among policies without rolling them out: those along finished runs, ranked by their off-policy value.

What the ranking is worth was measured where the truth is known: docs/selection.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from tabb.errors import RunError, UsageError
from tabb.evaluation.statistics import Estimate
from tabb.files import read_json
from tabb.results.summary import learner_of
from tabb.training.folder import RunFolder

By = Literal["value", "low", "actions"]


class Candidate(NamedTuple):
    """One policy along a run."""

    run: Path
    learner: str
    seed: int
    update: int
    policy: Path
    estimate: Estimate
    """Off-policy value, in units of discounted return."""
    td_error: float
    predictor_error: float | None
    action_error: float
    truth: float | None
    """Score (or return) of this very policy, where the run rolled it out."""


class Selection(NamedTuple):
    """Candidates, the best first."""

    ranked: list[Candidate]
    unfinished: list[Path]
    """Run folders that were left out."""
    rank_correlation: float | None
    """Spearman's, between the estimates and the truth; None where the truth is not known of three policies."""


def select(folders: str | Path | Sequence[str | Path], by: By = "actions", last: bool = False) -> Selection:
    """Rank the policies of finished runs by what held-out target episodes say of them.

    Args:
        folders: run folders, or folders that hold runs; or one of them.
        by: the estimated value, the lower end of its interval, or how near the policy is to the logged actions.
        last: only the policy that each run ended with.

    Raises:
        RunError: no finished run, or a damaged one.
        UsageError: a run held no target episodes out, or two runs have different data, which cannot be compared.
    """
    if by not in ("value", "low", "actions"):
        raise UsageError(f"by={by!r} is unknown: use value, low or actions")
    runs, unfinished = _runs([folders] if isinstance(folders, str | Path) else folders)
    found: list[Candidate] = []
    first: tuple[Path, dict[str, Any]] | None = None
    for run in runs:
        config, result = RunFolder(run).config(), read_json(run / "result.json")
        if not result.get("held_out"):
            raise UsageError(
                f"{run}: no target episodes were held out, so nothing can judge its policies; train it with "
                "--held-out 0.2 and one or more --evaluations, on target data of two episodes or more"
            )
        key = {name: config["data"].get(name) for name in ("target", "held_out")}
        if by != "actions":  # values of other discounts are on other scales
            key["discount"] = (config["settings"].get("backbone") or {}).get("discount")
        if first is not None and key != first[1]:
            same_data = key | {"discount": 0} == first[1] | {"discount": 0}
            differ = "discounts" if same_data else "target data or held-out episodes"
            raise UsageError(f"{run} and {first[0]}: {differ} differ; rank them apart")
        first = first or (run, key)
        found += _candidates(run, result)[-1:] if last else _candidates(run, result)

    def worth(one: Candidate) -> float:
        return -one.action_error if by == "actions" else float(getattr(one.estimate, by))

    ranked = sorted(found, key=worth, reverse=True)
    known = [(worth(one), one.truth) for one in ranked if one.truth is not None]
    correlation = None
    if len(known) >= 3 and all(len(set(column)) > 1 for column in zip(*known, strict=True)):
        correlation = float(spearmanr(*np.transpose(known)).statistic)
    return Selection(ranked, unfinished, correlation)


def _runs(folders: Iterable[str | Path]) -> tuple[list[Path], list[Path]]:
    """Finished and unfinished run folders in or below these, each once."""
    configs: dict[Path, None] = {}
    for folder in map(Path, folders):
        below = [file.parent for file in sorted(folder.rglob("config.json"))]
        if not below:
            raise RunError(f"{folder}: holds no run (no config.json); give run folders, or a folder of them")
        configs |= dict.fromkeys(below)
    finished = [run for run in configs if (run / "result.json").exists()]
    unfinished = [run for run in configs if run not in finished]
    if not finished:
        raise RunError(f"{unfinished[0]}: is not finished; finish it with `tabb train --resume {unfinished[0]}`")
    return finished, unfinished


def _candidates(run: Path, result: dict[str, Any]) -> list[Candidate]:
    truth = {line["update"]: line["mean"] for line in result["evaluations"]}
    try:
        return [
            Candidate(
                run,
                learner_of(result),
                result["seed"],
                line["update"],
                RunFolder(run).policy_at(line["update"]),
                Estimate(line["value"], line["low"], line["high"]),
                line["td_error"],
                line.get("predictor_error"),
                line["action_error"],
                truth.get(line["update"]),
            )
            for line in result["held_out"]["policies"]
        ]
    except (KeyError, TypeError) as error:
        raise RunError(f"{run / 'result.json'}: lacks {error}; the run must be trained again") from None


def as_json(selection: Selection) -> str:
    """The ranking as JSON."""
    lines = []
    for one in selection.ranked:
        values = one._asdict() | {"run": str(one.run), "policy": str(one.policy)} | one.estimate._asdict()
        del values["estimate"]
        lines.append(values)
    told = {
        "ranked": lines,
        "unfinished": list(map(str, selection.unfinished)),
        "rank_correlation": selection.rank_correlation,
    }
    return json.dumps(told, indent=2)
