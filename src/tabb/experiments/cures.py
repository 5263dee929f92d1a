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
    alone: bool
    """whether half of its rollouts are in a model of target rows alone"""
    advantages: bool
    """whether rows count by their advantage weights"""
    networks: int


def cure_of(name: str) -> Cure:
    """The cure of this name. Raises `UsageError` for an unknown one."""
    match = re.fullmatch(
        r"(?:(best)(?:\+(?P<others>0?\.\d+))? )?(?P<rows>logged|clone|noisy|corrective)"
        r"(?P<matched> matched(?:/(?P<rollouts>[1-9]\d*))?)?"
        r"(?::(?P<alone>alone\+)?(?P<source>\w+))?(?: ?x(?P<networks>\d+))?",
        name,
    )
    needless = (
        match and not match["matched"] and (match["alone"] or (match["source"] and match["rows"] != "corrective"))
    )
    if match is None or needless:
        raise UsageError(
            f"policy {name!r} is unknown: use logged, clone, noisy, corrective or corrective:QUALITY, matched or "
            "matched:QUALITY after them (matched/16 for 16 rollouts in an update, matched:alone+QUALITY for half of "
            "them in a model of target rows alone), and x5; best or best+0.1 before them"
        )
    imitation = Imitation(
        rows="logged" if match["rows"] == "clone" else match["rows"],  # type: ignore[arg-type]
        best=0.8 if match[1] else 0.0,
        others=float(match["others"] or 0),
        matching=MATCHING if match["matched"] else 0.0,
        rollouts=int(match["rollouts"] or Imitation.rollouts),
    )
    networks = int(match["networks"] or 1)
    return Cure(imitation, match["source"], match["alone"] is not None, match["rows"] != "clone", networks)
