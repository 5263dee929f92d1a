"""A finding of the audit: how bad, where, what, and how to mend it."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
"""Most harmful first: data that cannot be used as they are, data that look wrong, what a user should know."""
HARM = (
    *("unreadable", "nan", "inf", "action-range", "no-pair", "identical-files", "identical-rows"),
    *(
        "engine",
        "wrong-next",
        "outlier",
        "doubt",
        "reward-timing",
        "reward-sums",
        "action-timing",
        "units",
        "sign",
        "offset",
        "order",
        "rate",
        "rewards",
        "actions",
        "misfit",
        "physics",
    ),
    *(
        "shared-rows",
        "duplicated-rows",
        "action-scale",
        "constant",
        "duplicated-column",
        "pair",
        "same-physics",
        "coverage",
        "mixture",
    ),
)
"""Codes in the order in which they harm, within a level; others come after these."""
SHOWN = 8
"""row numbers listed in text"""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that an audit found."""

    level: Level
    code: str
    """Short name, the same in every audit: `nan`, `wrong-next`, ..."""
    where: str
    """File and key."""
    what: str
    fix: str
    rows: tuple[int, ...] = ()
    """Rows of the file that it concerns, from 0; empty where it concerns the file."""

    @property
    def rank(self) -> tuple[int, int, int]:
        """Findings in this order come most harmful first."""
        code = HARM.index(self.code) if self.code in HARM else len(HARM)
        return LEVELS.index(self.level), code, -len(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return dataclasses.asdict(self) | {"rows": list(self.rows)}

    def __str__(self) -> str:
        listed = ""
        if self.rows:
            more = ", ..." if len(self.rows) > SHOWN else ""
            listed = f" (row {', '.join(str(row) for row in self.rows[:SHOWN])}{more})"
        return f"{self.level:7}  {self.where}: {self.what}{listed}\n         fix: {self.fix}"


def row_numbers(mask: ArrayLike) -> tuple[int, ...]:
    """Where a mask over rows is true."""
    return tuple(np.flatnonzero(np.asarray(mask)).tolist())
