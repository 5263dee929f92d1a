"""MOBILE (Sun et al., ICML 2023) on a model of the target domain: backups pay for what the model does not know of them.

    b = r̂ + γ (1 - d) V(ŝ') - λ std_e γ (1 - d) V(ŝ'_e)                 generated rows; ŝ'_e: the model's members

The spread of the backups is what matters, not that of the states ("model-Bellman inconsistency"). The published method
has min Q at the policy's action where V stands here.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from tabb.errors import UsageError
from tabb.rules.rollouts import Outcome, Rollouts
from tabb.rules.rule import Step, on_extra


def inconsistency(values: Float[Array, "b k"], terminal: Float[Array, " b"], discount: float) -> Float[Array, " b"]:
    """std_e γ (1 - d) V(ŝ'_e) of each row."""
    return discount * (1.0 - terminal) * jnp.std(values, axis=-1)


@dataclasses.dataclass(frozen=True)
class MOBILE(Rollouts):
    """Learn from rollouts whose backups are lowered where the model's members lead to unlike values."""

    name: ClassVar[str] = "mobile"
    after_preparation: ClassVar[frozenset[str]] = Rollouts.after_preparation | {"penalty"}

    penalty: float = 1.0
    """λ [published: 0.1 to 2 by task; ours]"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.penalty < math.inf:
            raise UsageError(f"penalty={self.penalty} must be a number, zero or more")

    def extra_columns(self, outcome: Outcome) -> dict[str, Array]:
        return {"next": outcome.members}

    def backup(self, step: Step, backup: Float[Array, " b"]) -> Float[Array, " b"]:
        batch = step.batch
        if not batch.extra_rows:
            return backup
        values = step.value(self.see_state(step.models, batch.extra_columns["next"]))
        spread = inconsistency(values, batch.terminal[-batch.extra_rows :], step.discount)
        return backup - on_extra(batch, self.penalty * spread, 0.0)
