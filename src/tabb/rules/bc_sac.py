"""BC-SAC (the ODRL benchmark): soft actor-critic whose policy also imitates the source's actions.

    L_π = λ / mean|V(s)| · (SAC's loss) + mean over source rows of ‖a' - a‖² / A,  a' ~ π(. | s)

Adam does not see the scale of a loss, so the whole is multiplied by mean|V| / λ: SAC's loss stays as it is. V(s), the
smaller slow critic at the mean action, takes the place of Q at a drawn one.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tabb.errors import UsageError
from tabb.rules.rule import Rule, Step


def cloning_weight(value: Float[Array, " b"], value_weight: float) -> Float[Array, ""]:
    """mean|V| / λ, without a gradient: what imitation weighs against SAC's loss."""
    return jax.lax.stop_gradient(jnp.mean(jnp.abs(value))) / value_weight


@dataclasses.dataclass(frozen=True)
class BCSAC(Rule):
    """Soft actor-critic on both domains, whose policy also imitates source rows."""

    name: ClassVar[str] = "bc-sac"
    backbone: ClassVar[str] = "sac"
    neutral: ClassVar[dict[str, Any] | None] = {"cloning": 0.0}

    cloning: float = 1.0
    """weight of imitation; 0 is SAC on both domains [ODRL: 1]"""
    value_weight: float = 2.5
    """λ, the weight of SAC's loss in units of the mean value [ODRL: 2.5]"""

    def __post_init__(self) -> None:
        if not 0 <= self.cloning < math.inf:
            raise UsageError(f"cloning={self.cloning} must be a number, zero or more")
        if not 0 < self.value_weight < math.inf:
            raise UsageError(f"value_weight={self.value_weight} must be a positive number")

    def actor_term(self, step: Step, action: Float[Array, "b a"]) -> Float[Array, ""]:
        batch, count = step.batch, step.batch.source_rows
        if not self.cloning or not count:
            return super().actor_term(step, action)
        distance = jnp.mean((action[:count] - batch.action[:count]) ** 2)
        return self.cloning * cloning_weight(step.value(step.features.now), self.value_weight) * distance
