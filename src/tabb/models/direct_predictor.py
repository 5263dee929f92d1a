"""The direct predictor: target heads predict the outcome of (s, a) alone, as in the paper of TABB."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from tabb.models.heads import HeadPredictor, Heads
from tabb.models.target_predictor import Outcome
from tabb.transitions import Transitions


@dataclasses.dataclass(frozen=True)
class DirectPredictor(HeadPredictor):
    """Target heads predict the outcome of (s, a) alone, whatever the source row's own outcome was.

    The source head is fitted and not asked, so that runs of all predictors with heads have files of one form.
    """

    name: ClassVar[str] = "direct"

    def base(self, models: Heads, trunk: Float[Array, "b u"]) -> Float[Array, " 1"]:
        """Nothing."""
        del models
        return jnp.zeros(1, trunk.dtype)

    def outcomes(self, models: Heads, rows: Transitions) -> Outcome:
        """The outcomes that the heads predict from (s, a)."""
        return self.target_outcomes(models, rows)
