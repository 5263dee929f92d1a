"""What the scores of source rows are called."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tabb.results.report.gather import Scored


def trust_name(scored: Scored) -> str:
    """What the column of trust is called in tables and on axes."""
    return scored.trust.replace("_", " ")


def main_column(scored: Scored) -> tuple[str, NDArray[np.float64]]:
    """TBM, or a rival's score, with its name: what distributions and courses are drawn of [N]."""
    name = "tbm" if scored.has_mismatch else scored.trust
    label = "TBM" if scored.has_mismatch else trust_name(scored)
    return label, np.asarray(scored.columns[name], np.float64)
