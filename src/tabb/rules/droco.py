"""DROCO: a robust backup for source rows alone.

    V_inf(s, a) = min_e V(ŝ'_e)                      ŝ'_e: an ensemble of the target domain's dynamics
    u = max(0, β (V(s') - V_inf))
    b = r + γ (1 - d) (V(s') - u)                    source rows; target rows keep b = r + γ (1 - d) V(s')
    loss = Huber_δ(Q - b) for source rows, (Q - b)² / 2 for target rows

The ensemble is fitted before training and then frozen: its next states are columns per source row. The losses here are
twice those above and their mean is over both domains' rows together: at equal shares the sum of two means above.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Domains
from tabb.errors import UsageError
from tabb.models.ensemble import Ensemble, EnsembleConfig, fit_ensemble, init_ensemble
from tabb.models.fitting import Report, scores
from tabb.rules.rule import Rule, Step, on_source, row_by_row
from tabb.transitions import Transitions


def robust_penalty(own: Float[Array, " b"], predicted: Float[Array, "b e"], scale: float) -> Float[Array, " b"]:
    """u = max(0, β (V(s') - min_e V(ŝ'_e))): how much worse the target domain may end."""
    return jnp.maximum(0.0, scale * (own - jnp.min(predicted, axis=-1)))


def huber(error: Float[Array, "*b"], largest: float) -> Float[Array, "*b"]:
    """Twice Huber's loss: e² up to |e| = δ, and the line 2 δ |e| - δ² beyond; δ = inf is e² itself."""
    if math.isinf(largest):
        return error**2
    size = jnp.abs(error)
    return jnp.where(size <= largest, error**2, largest * (2.0 * size - largest))


@dataclasses.dataclass(frozen=True)
class DROCO(Rule):
    """Back source rows up with the worst next value that a target-domain ensemble deems possible."""

    name: ClassVar[str] = "droco"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"code": {"penalty_scale": 1.0, "huber_threshold": 50.0}}
    neutral: ClassVar[dict[str, Any] | None] = {"penalty_scale": 0.0, "huber_threshold": math.inf}
    small: ClassVar[dict[str, Any]] = {
        "ensemble": EnsembleConfig(members=3, elites=2, updates=40, batch_size=16, hidden=(16, 16))
    }
    after_preparation: ClassVar[frozenset[str]] = frozenset({"penalty_scale", "huber_threshold"})

    penalty_scale: float = 0.3
    """β; 0 keeps the source's own backup [run script: 0.3; code's default: 1.0]"""
    huber_threshold: float = 30.0
    """δ, in units of return; inf is the squared error [run script: 30; code's default: 50]"""
    ensemble: EnsembleConfig = dataclasses.field(default_factory=EnsembleConfig)
    """the target domain's dynamics"""

    def __post_init__(self) -> None:
        if not 0 <= self.penalty_scale < math.inf:
            raise UsageError(f"penalty_scale={self.penalty_scale} must be a number, zero or more")
        if not self.huber_threshold > 0:
            raise UsageError(f"huber_threshold={self.huber_threshold} must be positive (inf is the squared error)")

    def template(self, domains: Domains, key: PRNGKeyArray) -> Ensemble:
        return init_ensemble(self.ensemble, domains.target, key, self.ensemble.elites)

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Ensemble:
        return fit_ensemble(self.ensemble, domains.target, key, report)

    @row_by_row
    def columns(self, models: Ensemble, domains: Domains) -> dict[str, Array]:
        def predict(rows: Transitions) -> Array:
            return models.following(rows.observation, rows.action)

        return {"next": scores(predict, domains.source)}

    def next_value(self, step: Step, next_value: Float[Array, " b"]) -> Float[Array, " b"]:
        batch = step.batch
        # Both by the same function: a backbone's own next value may hold noise, of which the penalty is not to be made.
        following = batch.next_observation[: batch.source_rows, None]
        values = step.value(jnp.concatenate([following, batch.columns["next"]], axis=1))
        penalty = robust_penalty(values[:, 0], values[:, 1:], self.penalty_scale)
        return next_value - on_source(batch, penalty, 0.0)

    def critic_loss(self, step: Step, error: Float[Array, "2 b"]) -> Float[Array, "2 b"]:
        if math.isinf(self.huber_threshold):
            return super().critic_loss(step, error)
        from_source = jnp.arange(len(step.batch)) < step.batch.source_rows
        return jnp.where(from_source, huber(error, self.huber_threshold), error**2)
