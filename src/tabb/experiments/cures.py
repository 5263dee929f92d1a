"""Cures of few rows by name: what a policy of `tabb.experiments.extraction` imitates, and how."""

from __future__ import annotations

import re
from typing import NamedTuple

from tabb.errors import UsageError
from tabb.models.imitation import MATCHING, Imitation


class Cure(NamedTuple):
    """A policy of the experiment: what it imitates, and how."""

    imitation: Imitation
    source: str | None
    """quality of the source data that its model knows; None for none"""
    advantages: bool
    """whether rows count by their advantage weights"""
    networks: int


def cure_of(name: str) -> Cure:
    """The cure of this name. Raises `UsageError` for an unknown one."""
    match = re.fullmatch(
        r"(?:(best)(?:\+(?P<others>0?\.\d+))? )?(?P<rows>logged|clone|noisy|corrective)"
        r"(?P<matched> matched(?:/(?P<rollouts>[1-9]\d*))?)?(?::(?P<source>\w+))?(?: ?x(?P<networks>\d+))?",
        name,
    )
    if match is None or (match["source"] and match["rows"] != "corrective" and not match["matched"]):
        raise UsageError(
            f"policy {name!r} is unknown: use logged, clone, noisy, corrective or corrective:QUALITY, matched or "
            "matched:QUALITY after them (matched/16 for 16 rollouts in an update), and x5; best or best+0.1 before them"
        )
    imitation = Imitation(
        rows="logged" if match["rows"] == "clone" else match["rows"],  # type: ignore[arg-type]
        best=0.8 if match[1] else 0.0,
        others=float(match["others"] or 0),
        matching=MATCHING if match["matched"] else 0.0,
        rollouts=int(match["rollouts"] or Imitation.rollouts),
    )
    return Cure(imitation, match["source"], match["rows"] != "clone", int(match["networks"] or 1))
