"""DARC (Eysenbach et al., ICLR 2021): learn in the source, where rewards pay for steps that the target would not take.

    Δr(s, a, s') = ln P_T(s' | s, a) - ln P_S(s' | s, a)         from two classifiers that learn along the way
    r <- r + η Δr                                                for source rows, from update n on

The critics and the policy learn from source rows alone; target rows teach the classifiers. It is the online ancestor of
`dara`, whose classifiers are fitted once.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Batch, Sizes
from tabb.errors import UsageError
from tabb.models.step_classifiers import StepClassifierConfig, StepClassifiers
from tabb.rules.rule import Metrics, Rule, Step, Weights, on_source


def side_weights(batch: Batch, target_weight: float) -> Float[Array, " b"]:
    """Weights of source and target rows in proportion 1 to `target_weight`, whose mean over the batch is 1."""
    other = len(batch) - batch.source_rows
    unit = len(batch) / (batch.source_rows + target_weight * other)
    return on_source(batch, jnp.full(batch.source_rows, unit), target_weight * unit)


@dataclasses.dataclass(frozen=True)
class DARC(Rule):
    """Learn in the source, with rewards corrected by the log-ratio of target and source dynamics."""

    name: ClassVar[str] = "darc"
    backbone: ClassVar[str] = "sac"
    neutral: ClassVar[dict[str, Any] | None] = {"bonus_scale": 0.0, "target_weight": 1.0}
    small: ClassVar[dict[str, Any]] = {"after": 0.0, "classifiers": StepClassifierConfig(hidden=(16,))}

    bonus_scale: float = 1.0
    """η, the weight of Δr in source rewards; 0 leaves them [paper: 1]"""
    target_weight: float = 0.0
    """weight of target rows in the losses of critics and policy, against 1 of source rows [paper: 0]"""
    after: float = 0.1
    """share of the run before rewards are corrected: the classifiers know nothing yet [ODRL: 100,000 of 1,000,000]"""
    classifiers: StepClassifierConfig = dataclasses.field(default_factory=StepClassifierConfig)
    """the two classifiers"""

    def __post_init__(self) -> None:
        for name in ("bonus_scale", "target_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name}={getattr(self, name)} must be a number, zero or more")
        if not 0 <= self.after <= 1:
            raise UsageError(f"after={self.after}: a share of the run's updates lies in [0, 1]")

    def init_learned(self, sizes: Sizes, key: PRNGKeyArray) -> StepClassifiers:
        return self.classifiers.init(sizes, key)

    def observe(self, step: Step) -> tuple[StepClassifiers, Metrics]:
        learned, loss = self.classifiers.learn(step.learned, step.batch, step.key)
        return learned, {"classifier_loss": loss}

    def weigh(self, step: Step) -> tuple[Weights, Metrics]:
        if self.target_weight == 1.0:
            return super().weigh(step)
        weight = side_weights(step.batch, self.target_weight)
        return Weights(weight, weight, weight), {}

    def reward(self, step: Step) -> Float[Array, " b"]:
        if not self.bonus_scale:  # 0 times a network still changes how the compiler rounds what follows
            return super().reward(step)
        batch, scale = step.batch, self.bonus_scale * step.is_past(self.after)
        ratio = step.learned.log_ratio(batch)[: batch.source_rows]
        return batch.reward + on_source(batch, scale * ratio, 0.0)
