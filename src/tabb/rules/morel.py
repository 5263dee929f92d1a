"""MOReL (Kidambi et al., NeurIPS 2020) on a model of the target domain: a rollout ends where the model does not know.

    u(s, a)   max over pairs of members ‖ŝ'_i - ŝ'_j‖ / scale
    limit     a quantile of u over the target's logged rows
    unknown   u above the limit: the row ends the task, its reward is r̂ + h, and no row follows it

The published limit is a share of the largest u of all rows, which one odd row decides. There a policy is learned by
natural gradients from rollouts alone; here the rows join the target's in whatever the backbone does.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Domains, ExtraRows
from tabb.errors import UsageError
from tabb.models.fitting import Report, scores
from tabb.models.target_model import TargetModel
from tabb.rules.rollouts import Predict, Rollouts, rollouts
from tabb.rules.rule import Step
from tabb.transitions import Transitions


class LimitedModel(TargetModel):
    """The model of both domains, and the disagreement above which it knows nothing."""

    limit: Float[Array, ""] = eqx.field(kw_only=True)


def pairwise(following: Float[Array, "b k s"], scale: Float[Array, " s"]) -> Float[Array, " b"]:
    """u: the largest distance between two members' next states, in units of `scale`."""
    apart = (following[:, :, None] - following[:, None, :]) / scale
    return jnp.max(jnp.linalg.norm(apart, axis=-1), axis=(1, 2))


def not_yet(happened: Float[Array, "h b"]) -> Float[Array, "h b"]:
    """1 up to and with the first step at which it happened, 0 after it."""
    return jnp.concatenate([jnp.ones_like(happened[:1]), jnp.cumprod(1.0 - happened[:-1], axis=0)])


def limit_of(predict: Predict, scale: Float[Array, " s"], data: Transitions, quantile: float) -> Float[Array, ""]:
    """That quantile of u over the rows."""

    def score(rows: Transitions) -> Array:
        following = rows.observation + predict(rows.observation, rows.action).change
        return pairwise(jnp.moveaxis(following, 0, 1), scale)

    return jnp.quantile(scores(score, data), quantile)


@dataclasses.dataclass(frozen=True)
class MOReL(Rollouts):
    """Learn from rollouts that end the task where the model is unsure."""

    name: ClassVar[str] = "morel"
    after_preparation: ClassVar[frozenset[str]] = Rollouts.after_preparation | {"halt_reward"}

    quantile: float = 0.99
    """share of the target's rows whose disagreement is below the limit [authors: the largest of all rows, divided by
    0.5 or 3; ours]"""
    halt_reward: float = 0.0
    """h, the reward for going where the model is unsure [public code: 0; paper: a large negative number]"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.quantile <= 1:
            raise UsageError(f"quantile={self.quantile} must lie in (0, 1]")
        if not math.isfinite(self.halt_reward):
            raise UsageError(f"halt_reward={self.halt_reward} must be a number")

    def template(self, domains: Domains, key: PRNGKeyArray) -> Any:
        return limited(super().template(domains, key), jnp.zeros(())) if self.generated else ()

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Any:
        model = super().prepare(domains, key, report)
        if not self.generated:
            return model
        return limited(model, limit_of(model.steps, model.change_scale, domains.target, self.quantile))

    def round(self, step: Step) -> ExtraRows:
        model: LimitedModel = step.models
        states, actions, outcome, alive = rollouts(
            model.steps, model.change_scale, step.policy, step.batch.observation, self.horizon, self.noise, step.key
        )
        unknown = (pairwise(outcome.members, model.change_scale) > model.limit).astype(jnp.float32)
        alive = alive * not_yet(unknown.reshape(self.horizon, -1)).reshape(-1)
        halted = outcome._replace(
            reward=outcome.reward + self.halt_reward * unknown, terminal=jnp.maximum(outcome.terminal, unknown)
        )
        return self.made(states, actions, halted, alive)


def limited(model: TargetModel, limit: Float[Array, ""]) -> LimitedModel:
    """The model with this limit."""
    parts = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    return LimitedModel(**parts, limit=limit)
