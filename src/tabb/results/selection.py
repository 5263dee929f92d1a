"""Ranks the policies of finished runs without rollouts, by their actions on held-out rows or their off-policy values.

docs/selection.md compares the rankings with true scores.
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
from tabb.files import paths_of, quoted, read_json
from tabb.plain import rule_from_plain
from tabb.results.summary import learner_of
from tabb.training.config import backbone_of, settings_from
from tabb.training.folder import RunFolder, runs_below

By = Literal["value", "low", "actions"]


class Candidate(NamedTuple):
    """A policy that was saved during a run, or at its end."""

    run: Path
    learner: str
    seed: int
    update: int
    policy: Path
    estimate: Estimate
    """Off-policy value from all target rows, in units of discounted return."""
    td_error: float | None
    predictor_error: float | None
    action_error: float
    truth: float | None
    """Score (or return) of the policy, if the run rolled it out."""


class Selection(NamedTuple):
    """A ranking of policies."""

    ranked: list[Candidate]
    """The best first."""
    unfinished: list[Path]
    """Folders of unfinished runs, which were left out."""
    rank_correlation: float | None
    """Spearman's rank correlation of ranking and truth; None if the truth of fewer than three policies is known, if all
    truths are equal, or if the runs were not rolled out in the same environment."""


def select(folders: str | Path | Sequence[str | Path], by: By = "actions", last: bool = False) -> Selection:
    """Rank the policies of finished runs by measures on held-out target episodes.

    Args:
        folders: one or more folders of runs, or folders that contain them.
        by: "value", the estimated value; "low", the lower end of its interval; or "actions", the distance from the
            logged actions.
        last: rank only the final policy of each run.

    Raises:
        RunError: there is no finished run, or one is damaged.
        UsageError: a run has no held-out target episodes, or two runs differ in their data and cannot be compared.
    """
    if by not in ("value", "low", "actions"):
        raise UsageError(f"by={by!r} is unknown: use value, low or actions")
    places = paths_of(folders, "folders")
    if not places:
        raise UsageError("folders is empty: give one or more folders of runs")
    runs, unfinished = _runs(places)
    candidates: list[Candidate] = []
    first: tuple[Path, dict[str, Any]] | None = None
    rolled_out_in: set[Any] = set()
    for run in runs:
        config, result = RunFolder(run).config(), read_json(run / "result.json")
        if not result.get("held_out"):
            raise UsageError(f"{run}: {_why_not(config)}")
        key = {name: config["data"].get(name) for name in ("target", "held_out")}
        if by != "actions":  # another discount gives values another scale
            key["discount"] = (config["settings"].get("backbone") or {}).get("discount")
        if first is not None and key != first[1]:
            same_data = key | {"discount": 0} == first[1] | {"discount": 0}
            differ = "discounts" if same_data else "target data or held-out episodes"
            raise UsageError(f"{run} and {first[0]}: {differ} differ; rank them separately")
        first = first or (run, key)
        if result["evaluations"]:  # scores of one task and returns of another have no order
            rolled_out_in.add((config["task"], (config.get("origin") or {}).get("env")))
        candidates += _candidates(run, result)[-1:] if last else _candidates(run, result)

    def worth(one: Candidate) -> float:
        return -one.action_error if by == "actions" else float(getattr(one.estimate, by))

    ranked = sorted(candidates, key=worth, reverse=True)
    known = [(worth(one), one.truth) for one in ranked if one.truth is not None]
    correlation = None
    if len(rolled_out_in) == 1 and len(known) >= 3 and all(len(set(column)) > 1 for column in zip(*known, strict=True)):
        correlation = float(spearmanr(*np.transpose(known)).statistic)
    return Selection(ranked, unfinished, correlation)


def _why_not(config: dict[str, Any]) -> str:
    """Why the policies of a run without held-out episodes cannot be ranked, and what to do."""
    settings = settings_from(config)
    backbone = backbone_of(settings, rule_from_plain(config["rule"]))
    if backbone.remembers:
        return (
            f"a policy of backbone {backbone.name} remembers its episode, so held-out rows cannot judge it; leave the "
            "run out, and judge its policy by rollouts (`tabb evaluate`)"
        )
    if settings.online.domains:
        return (
            "took steps in an environment, which are not held out; leave the run out, and judge its policy by rollouts "
            "(`tabb evaluate`)"
        )
    return (
        "no target episodes were held out, so its policies cannot be compared; train with --held-out 0.2 and one or "
        "more --evaluations, on target data of two episodes or more"
    )


def _runs(folders: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The finished and the unfinished run folders in or below these folders, without repetition."""
    configs: dict[Path, None] = {}
    for folder in folders:
        below = runs_below(folder)
        if not below:
            raise RunError(f"{folder}: holds no run (no config.json); name run folders or a folder of runs")
        configs |= dict.fromkeys(below)
    finished = [run for run in configs if (run / "result.json").exists()]
    unfinished = [run for run in configs if run not in finished]
    if not finished:
        raise RunError(
            f"{unfinished[0]}: is not finished; finish it with `tabb train --resume {quoted(unfinished[0])}`"
        )
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
                line.get("td_error"),
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
    document = {
        "ranked": lines,
        "unfinished": list(map(str, selection.unfinished)),
        "rank_correlation": selection.rank_correlation,
    }
    return json.dumps(document, indent=2)
