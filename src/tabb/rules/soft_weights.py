"""Soft weights of source rows: what TABB and similarity share, which differ in what they doubt a row for.

    weight    w = f + (1 - f) exp(-x / (c · u))      x: the doubt about a source row, zero or more; u: its unit

Target rows weigh 1. With c = inf and source rows imitated, the rule is the plain backbone bit for bit.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tabb.errors import UsageError
from tabb.float32 import LEAST
from tabb.rules.rule import BackboneTraits, Metrics, Rule, Step, Weights, on_source


def soft_weight(
    doubt: Float[Array, " b"], temperature: float, unit: Float[Array, ""], least: float = 0.0
) -> Float[Array, " b"]:
    """w = f + (1 - f) exp(-x / (c · u)) with c = `temperature`, u = `unit`, f = `least`; c = inf gives exactly 1."""
    # The bound on the unit is inside: with c = inf and no doubt at all, inf * 0 would be NaN.
    trust = jnp.exp(-doubt / (temperature * jnp.maximum(unit, LEAST)))
    return trust + least * (1.0 - trust)


@dataclasses.dataclass(frozen=True)
class SoftWeights(Rule):
    """Weigh source rows softly in the losses; which rows are doubted is up to the rule."""

    after_preparation: ClassVar[frozenset[str]] = frozenset(
        {"temperature", "least_weight", "weigh_value", "weigh_policy", "imitate_source", "source_share"}
    )
    neutral: ClassVar[dict[str, Any] | None] = {"temperature": math.inf, "imitate_source": 1.0}
    trust: ClassVar[str | None] = "weight"
    trust_meaning: ClassVar[str] = "the weight of the row in the losses, from the least weight of the rule to 1"

    temperature: float = 1.0
    """c, how many units of mismatch lower the weight to 1/e (above the least weight); inf weighs all rows alike
    [ours]"""
    least_weight: float = 0.1
    """f, the weight that the least trusted source row keeps; with 0 (the paper) V drifted far above all returns in long
    runs [ours, measured: docs/methods/tabb.md]"""
    weigh_value: bool = True
    """whether the weights enter the value loss too [ours]"""
    weigh_policy: bool = True
    """whether the weights enter the policy loss too [ours]"""
    imitate_source: float | None = None
    """factor on source rows in the policy loss: with 1 the policy learns from them as far as they are trusted, with 0
    from target rows alone, so that the source acts through the critic. If not given, 0 on backbones with a value
    network (IQL) [ours by measurement] and 1 on the others [paper], whose critics bootstrap from the policy at source
    states too"""
    source_share: float = 0.5
    """share of source rows in a batch [field: 0.5]; rows of no weight only cost time [ours]"""

    def __post_init__(self) -> None:
        if math.isnan(self.temperature) or self.temperature <= 0:
            raise UsageError(f"temperature={self.temperature} must be positive (inf weighs all source rows alike)")
        if not 0 < self.source_share < 1:
            raise UsageError(f"source_share={self.source_share} must lie between 0 and 1")
        if not 0 <= self.least_weight <= 1:
            raise UsageError(f"least_weight={self.least_weight} must lie in [0, 1]")
        if self.imitate_source is not None:
            check_factor("imitate_source", self.imitate_source)

    def on(self, backbone: BackboneTraits) -> SoftWeights:
        if self.imitate_source is not None:
            return self
        return dataclasses.replace(self, imitate_source=0.0 if backbone.has_value_network else 1.0)

    def without_effect(self) -> dict[str, str]:
        silent = {"least_weight": "temperature below inf"} if math.isinf(self.temperature) else {}
        return silent | ({"weigh_policy": "imitate-source above 0"} if self.imitate_source == 0 else {})

    def shares(self, batch_size: int) -> tuple[int, int]:
        source = min(max(round(self.source_share * batch_size), 1), batch_size - 1)
        return source, batch_size - source

    def weight(self, doubt: Float[Array, " n"], unit: Float[Array, ""]) -> Float[Array, " n"]:
        """The weights of source rows."""
        return soft_weight(doubt, self.temperature, unit, self.least_weight)

    def in_losses(self, step: Step, source: Float[Array, " s"]) -> tuple[Weights, Metrics]:
        """The weights of all rows in each loss, from those of the source rows."""
        weights = on_source(step.batch, source, 1.0)
        ones = jax.lax.optimization_barrier(jnp.ones_like(weights))
        imitation = jnp.where(jnp.arange(len(step.batch)) < len(source), self.imitate_source or 0.0, 1.0)
        return (
            Weights(
                weights,
                weights if self.weigh_value else ones,
                imitation * (weights if self.weigh_policy else ones),
            ),
            {"source_weight": jnp.mean(source)},
        )


def check_factor(name: str, value: float) -> None:
    """Raise `UsageError` unless a factor is finite and not negative."""
    if not 0 <= value < math.inf:
        raise UsageError(f"{name}={value} must be a number, zero or more")
