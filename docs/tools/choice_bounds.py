"""What a better choice between the source's policy and the target's could gain: bounds with hindsight.

    python docs/tools/choice_bounds.py          prints them for the committed cells

A rule of the form of `tabb.evaluation.choice` has four numbers. The best of a grid of them, chosen on the very cells
that it is judged on, bounds what other numbers could do. The better one of both policies bounds every choice.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

import extraction

KEEPS = np.linspace(0.0, 1.2, 25)
AHEAD = np.linspace(-0.2, 1.0, 25)
SHARES = np.linspace(0.0, 1.0, 9)
"""of episodes that the model may lose, of either policy"""


def columns(cells: list[dict[str, Any]]) -> dict[str, NDArray[np.float64]]:
    """True scores, those in the model, and shares of lost episodes of both policies, an entry per cell."""
    found = {name: extraction.scores_of(cells, name) for name in ("alone", "source", "held")}
    for name in ("logged", "target_model", "target_lost", "source_model", "source_lost"):
        found[name] = np.array([cell["judged"][name] for cell in cells])
    return found


def far_below(found: dict[str, NDArray[np.float64]], takes_source: NDArray[np.bool_]) -> int:
    """How many of the policies that are taken are more than 10 below the better one of two controls."""
    taken = np.where(takes_source, found["source"], found["held"])
    return int((taken < np.maximum(found["alone"], found["source"]) - 10).sum())


def best_rule(found: dict[str, NDArray[np.float64]]) -> int:
    """`far_below` of the best rule of the grid."""
    size = np.abs(found["logged"])
    least = len(size)
    for keeps, ahead in itertools.product(KEEPS, AHEAD):
        short = found["target_model"] < found["logged"] - (1 - keeps) * size
        leads = found["source_model"] > found["target_model"] + ahead * size
        for followed, lost in itertools.product(SHARES, SHARES):
            takes = short & leads & (found["target_lost"] <= followed) & (found["source_lost"] <= lost)
            least = min(least, far_below(found, takes))
    return least


def sentence(cells: list[dict[str, Any]]) -> str:
    """The bounds in words."""
    found = columns(cells)
    never = np.zeros(len(cells), np.bool_)
    better = found["source"] > found["held"]
    return (
        f"The target's policy alone would be so on {far_below(found, never)}. With hindsight the best numbers of the "
        f"rule (of a grid of {len(KEEPS) * len(AHEAD) * len(SHARES) ** 2:,}) leave {best_rule(found)}, and always "
        f"taking the better one of both policies leaves {far_below(found, better)}."
    )


def taken() -> str:
    """What the policies that are taken score, and how much better a choice could be."""
    cells = [cell for quality in extraction.CHOICES for cell in extraction.with_taken(quality)]
    return f"{extraction.taken()} {sentence(cells)}"


if __name__ == "__main__":
    print(taken())
