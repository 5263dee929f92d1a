"""MOPO (Yu et al., NeurIPS 2020) on a model of the target domain: generated rows pay for what the model does not know.

    r̃ = r̂ - λ u(s, a)                 u: how far the model's members are apart

The published u is the largest predicted standard deviation of a member; members here predict no variance.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

from jaxtyping import Array, Float

from tabb.errors import UsageError
from tabb.rules.rollouts import Outcome, Rollouts


@dataclasses.dataclass(frozen=True)
class MOPO(Rollouts):
    """Learn from rollouts whose rewards are lowered where the model is unsure."""

    name: ClassVar[str] = "mopo"
    after_preparation: ClassVar[frozenset[str]] = Rollouts.after_preparation | {"penalty"}

    penalty: float = 1.0
    """λ, in reward per unit of disagreement, whose unit is the spread of a step's change [published: 0.5 to 5 by task,
    on standard deviations; ours]"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.penalty < math.inf:
            raise UsageError(f"penalty={self.penalty} must be a number, zero or more")

    def made_reward(self, outcome: Outcome) -> Float[Array, " n"]:
        return outcome.reward - self.penalty * outcome.disagreement
