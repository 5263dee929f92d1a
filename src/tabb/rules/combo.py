"""COMBO (Yu et al., NeurIPS 2021) on a model of the target domain: CQL, which doubts generated rows and trusts logged.

    L_Q = Σ_i mean w (Q_i - b)² + α_cql (mean over all rows w ln Σ exp{Q_i - ln p} - w̄ mean over target rows Q_i(s, a))

w is 0 for rows after the end of a rollout, else 1; w̄ is its mean.

CQL's term lifts Q at the action of each row. Here it is lifted at logged rows alone, by as much in all, and so pushed
down where only the model says how good an action is. Rewards of generated rows are not changed.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from tabb.errors import UsageError
from tabb.rules.rollouts import Rollouts
from tabb.rules.rule import BackboneTraits, Step


def lifted_less(values: Float[Array, "2 b"], weights: Float[Array, " b"], generated: int) -> Float[Array, ""]:
    """Σ_i (mean over all rows w Q_i - w̄ mean over logged rows Q_i); the last `generated` rows are not logged.

    Rows are pushed down by w̄, the mean of w, in all. They are lifted by as much: else all values would drift upwards.
    """
    logged = values[:, : values.shape[1] - generated]
    return jnp.sum(jnp.mean(weights * values, axis=-1) - jnp.mean(weights) * jnp.mean(logged, axis=-1))


@dataclasses.dataclass(frozen=True)
class COMBO(Rollouts):
    """Learn from rollouts with conservative critics, which trust logged rows more."""

    name: ClassVar[str] = "combo"
    backbone: ClassVar[str] = "cql"
    backbone_constants: ClassVar[dict[str, Any]] = {"conservatism": 5.0}
    after_preparation: ClassVar[frozenset[str]] = Rollouts.after_preparation | {"conservatism"}

    conservatism: float | None = None
    """α_cql, which is the backbone's and need not be given [published: 0.5 or 5 by task; 5 on the rule's backbone]"""

    def on(self, backbone: BackboneTraits) -> COMBO:
        rule = super().on(backbone)
        assert isinstance(rule, COMBO)
        if rule.conservatism is not None:
            return rule
        return dataclasses.replace(rule, conservatism=getattr(backbone, "conservatism", None))

    def check_backbone(self, backbone: BackboneTraits) -> None:
        weight = getattr(backbone, "conservatism", None)
        if weight is None:
            raise UsageError(
                f"rule {self.name} needs a backbone with a conservative term, such as cql, not {backbone.name}"
            )
        if self.conservatism not in (None, weight):
            raise UsageError(
                f"conservatism={self.conservatism} is not the backbone's {weight}: give it to the backbone"
            )

    def critic_term(self, step: Step, values: Float[Array, "2 b"]) -> Float[Array, ""]:
        batch = step.batch
        if not batch.extra_rows:
            return super().critic_term(step, values)
        weights = jnp.concatenate([jnp.ones(len(batch) - batch.extra_rows), batch.extra_columns["alive"]])
        return (self.conservatism or 0.0) * lifted_less(values, weights, batch.extra_rows)
