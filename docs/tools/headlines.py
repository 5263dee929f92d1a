"""Sentences with the numbers of a table, for pages that tell what a table on another page, or below, shows.

A page has them between marks `measured: headline NAME`, as it has tables, and `pages.py` writes them anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import extraction
from findings import error_of_half
from scores import RESULTS
from tabb.experiments.cells import merged
from tabb.files import read_json


def headline(name: str) -> str:
    """The sentences of one headline."""
    return HEADLINES[name]()


def audit() -> str:
    """How many planted faults the audit finds, and its false alarms."""
    results = read_json(RESULTS / "planted-faults.json")
    found = [one["found"] for robot in results["planted"].values() for one in robot.values()]
    alarmed = [bool(one["alarms"]) for one in results["clean"]]
    return (
        f"The audit finds {sum(found)} of {len(found)} planted faults, with false alarms in {sum(alarmed)} of "
        f"{len(alarmed)} logs ([table](#how-much-it-finds))."
    )


def cures() -> str:
    """What IQL on target rows scores as the field trains it, and with the first two cures."""
    cells = extraction.cells_of(None, merged([extraction.MAIN]))
    plain, cured = (extraction.scores_of(cells, name).mean() for name in ("logged", "best logged x5"))
    return (
        f"IQL on target rows alone scores {plain:.1f} over {len(cells)} targets, as the field trains it. It scores "
        f"{cured:.1f} if its policy\nimitates the log's best episodes, with five networks that act as their mean."
    )


def trust() -> str:
    """The error of the half of the source rows that TBM keeps, and of the half that likeness keeps."""
    trusted, likely = error_of_half("oracle-agreed-normed", "tbm+"), error_of_half("oracle-normed", "nearest")
    return (
        f"The half of the source rows that TABB trusts most has {trusted:.2f} times the mean error in the target's "
        f"simulator. The half most\nlike target rows has {likely:.2f} times."
    )


def taken() -> str:
    """What the policy scores that `tabb train` takes, and how far its choice is below the better policy."""
    cells = extraction.with_taken()
    given, target, source = (extraction.scores_of(cells, name).mean() for name in ("taken", "alone", "source"))
    medium, expert = (regrets(folder) for folder in ("choice", "choice-expert"))
    return (
        f"- **The policy that `tabb train` takes scores {given:.1f}** in the mean of {len(cells)} targets. Target rows "
        f"alone have {target:.1f} with the same cures,\n  and the source's policy {source:.1f} "
        "([table](#what-the-policy-that-is-taken-scores)).\n"
        f"- **The choice is {medium['regret']:.1f} below the better policy** over {medium['targets']} targets with "
        f"medium source data, and {expert['regret']:.1f} over {expert['targets']} with expert\n  source data "
        "([all targets](#how-good-the-choice-is))."
    )


def choice() -> str:
    """How far the choice, and the target's policy alone, are below the better policy."""
    medium = regrets("choice")
    return (
        f"On the {medium['targets']} targets tried with medium source data, {medium['mild']} of them mild shifts, the "
        f"choice is {medium['regret']:.1f} below the better of the two\npolicies in the mean. The target's policy "
        f"alone is {medium['regret_of_target']:.1f} below."
    )


def regrets(folder: str) -> dict[str, Any]:
    """The number of targets of a folder of choices, of mild shifts (few rows of `tabb collect`), and mean regrets."""
    results = [read_json(file) for file in sorted((RESULTS / folder).iterdir())]
    means = {name: float(np.mean([one[name] for one in results])) for name in ("regret", "regret_of_target")}
    mild = sum(one["target"].endswith("rows") for one in results)
    return {"targets": len(results), "mild": mild, **means}


def model() -> str:
    """Scores without a model, with one of target rows and with one of both domains; what the source adds by robot."""
    cells = extraction.cells_of(None, merged([extraction.MAIN, extraction.MATCHING]), extraction.HELD)
    without, alone, both = (extraction.scores_of(cells, name) for name in extraction.HELD)
    robots = np.array([cell["task"].split("-")[0] for cell in cells])
    by_robot = {robot: float((both - alone)[robots == robot].mean()) for robot in dict.fromkeys(robots.tolist())}
    words = [f"{added:+z.1f} on {robot.replace('halfcheetah', 'half-cheetah')}" for robot, added in by_robot.items()]
    return (
        f"On {len(cells)} targets it scores {without.mean():.1f} without a model, {alone.mean():.1f} with one of "
        f"target rows alone, and {both.mean():.1f} with one of both domains.\nThe source adds {', '.join(words)}."
    )


HEADLINES: dict[str, Callable[[], str]] = {
    "audit": audit,
    "cures": cures,
    "trust": trust,
    "taken": taken,
    "choice": choice,
    "model": model,
}
