"""What the numbers of each rule are called, and what they mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tabb.results.report.gather import Scored

SCORES = {
    "igdf": "the cosine of the encodings of (s, a) and s': higher is more like the target",
    "dvdf": "the cosine of the encodings of (s, a) and s': higher is more like the target",
    "otdf": "minus the transport cost to the target's rows: higher is nearer to the target",
    "dara": "the change of reward for dynamics that the target does not have: higher is more like the target",
    "bosa": "the log likelihood of s' under the target's dynamics: higher is more like the target",
}


def trust_name(scored: Scored) -> str:
    """What the column of trust is called in tables and on axes."""
    return scored.trust.replace("_", " ")


def trust_meaning(scored: Scored, rule: str) -> str:
    if scored.is_tabb:
        return "the weight of the row in the losses, from the least weight of the rule to 1"
    return SCORES.get(rule, "the number that the rule keeps for each source row")


def main_column(scored: Scored) -> tuple[str, NDArray[np.float64]]:
    """TBM, or a rival's score, with its name: what distributions and courses are drawn of [N]."""
    name = "tbm" if scored.is_tabb else scored.trust
    label = "TBM" if scored.is_tabb else trust_name(scored)
    return label, np.asarray(scored.columns[name], np.float64)
