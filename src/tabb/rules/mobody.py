"""MOBODY (ICLR 2026) on a model of the target domain: generated rows, and cloning that prefers what Q prefers.

    logged      half source, half target rows; a source reward pays for what the target would do otherwise:
                r - k mean ((s' - ŝ'_T) / scale)²
    generated   one step of the policy from logged states, and source rows' own actions, both as the target model has
                them: r̃ = r̂ - c u(s, a), rows of u above a limit weigh nothing        u: how far members are apart
    policy      L_π = -α mean Q / mean|Q| + κ mean over logged rows ω ‖π(s) - a‖² / A
    ω           min(exp(β Q(s, a) / mean|Q|), largest)

The published dynamics have an encoder of states that the domains share, and one of actions each; here the model is
`tabb.models.target_model`, which shares all but what target rows ask for. `generated` 0 is the control without
rollouts: cloning and source rewards stay. ω is the code's; the paper prints Q at the policy's own action, which weighs
all actions of a state alike.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Domains, ExtraRows
from tabb.errors import UsageError
from tabb.models.fitting import Report, outcome_scales, scores
from tabb.models.target_model import TargetModel, fit_target_model, init_target_model
from tabb.rules.rollouts import Outcome, Predict, Rollouts, one_outcome
from tabb.rules.rule import Step, on_source
from tabb.transitions import Transitions

RELABEL = 1
"""folded into a refresh's key for the members that say what source actions lead to"""


def cloning_weight(q: Float[Array, " b"], temperature: float, largest: float) -> Float[Array, " b"]:
    """ω = min(exp(β Q / mean|Q|), largest): how much the policy imitates a row."""
    size = jnp.maximum(jnp.mean(jnp.abs(q)), 1e-8)
    # The clip comes before exp so that a huge value gives `largest` and never inf.
    return jnp.exp(jnp.minimum(temperature * q / size, math.log(largest)))


def mismatches(predict: Predict, scale: Float[Array, " s"], data: Transitions) -> Float[Array, " n"]:
    """mean ((s' - ŝ'_T) / scale)² of each row; of a terminal row, which has no next state, the mean of the others."""

    def score(rows: Transitions) -> Array:
        expected = rows.observation + jnp.mean(predict(rows.observation, rows.action).change, axis=0)
        return jnp.mean(((rows.next_observation - expected) / scale) ** 2, axis=-1)

    mismatch, alive = scores(score, data), 1.0 - data.terminal
    mismatch = jnp.where(alive > 0, mismatch, 0.0)
    return jnp.where(alive > 0, mismatch, jnp.sum(mismatch) / jnp.maximum(jnp.sum(alive), 1.0))


@dataclasses.dataclass(frozen=True)
class MOBODY(Rollouts):
    """Learn from both domains and from what a target model makes of them, and clone what Q prefers."""

    name: ClassVar[str] = "mobody"
    backbone: ClassVar[str] = "td3-bc"
    backbone_constants: ClassVar[dict[str, Any]] = {
        "cloning": 0.0,
        "slow_policy": False,
        "noise": 0.0,
        "policy_delay": 1,
        "smaller_critic": True,
    }
    trust: ClassVar[str | None] = "likeness"
    trust_meaning: ClassVar[str] = "minus the squared distance from what the target would do: higher is more like it"
    neutral: ClassVar[dict[str, Any] | None] = {"generated": 0.0, "cloning": 0.0, "mismatch_penalty": 0.0}
    after_preparation: ClassVar[frozenset[str]] = Rollouts.after_preparation | frozenset(
        {"penalty", "largest_disagreement", "cloning", "cloning_temperature", "largest_cloning_weight"}
    )

    generated: float = 0.2
    """share of generated rows in a batch, the rest are half source, half target rows; 0 is the control without
    rollouts [authors: 64 of 320 rows]"""
    horizon: int = 1
    """steps of a rollout [authors: 1]"""
    source_starts: float = 0.96
    """share of rollouts that start from a source state; as many source rows are made anew with their own actions
    [authors: 50,000 source and 2,000 target states]"""
    refresh_every: int = 5_000
    """updates from one round to the next [authors: 5,000]"""
    rounds: int = 10
    """rounds whose rows are kept [authors: the last million rows, which are ten rounds]"""
    noise: float = 0.0
    """σ of the noise on the policy's actions [ours: none]"""
    penalty: float = 0.1
    """c, what a generated row's reward loses per unit of disagreement, whose unit is the spread of a step's change
    [authors: 0.1, in the units of states]"""
    largest_disagreement: float = 10.0
    """disagreement of the model's members above which a generated row weighs nothing [authors: 10, in the units of
    states]"""
    mismatch_penalty: float = 0.1
    """k, what a source row's reward loses per squared unit of its distance from the target's step; the unit is the
    spread of a step's change in the source [authors: 0.1, in the units of states]"""
    cloning: float = 1.0
    """κ, weight of the cloning term; that of the backbone is 0 [authors: 1]"""
    cloning_temperature: float = 3.0
    """β: the larger, the more cloning prefers actions of a large Q [authors: 3; paper: 1]"""
    largest_cloning_weight: float = 100.0
    """largest weight of a row in the cloning term [authors: 100]"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("penalty", "mismatch_penalty", "cloning", "cloning_temperature"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name}={getattr(self, name)} must be a number, zero or more")
        for name in ("largest_disagreement", "largest_cloning_weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name}={getattr(self, name)} must be a positive number")

    # --- Rows ---

    def shares(self, batch_size: int) -> tuple[int, int]:
        logged = batch_size - self.extra_share(batch_size)
        return logged // 2, logged - logged // 2

    def reads(self, batch_size: int) -> tuple[bool, bool]:
        return True, True

    @property
    def has_model(self) -> bool:
        """Whether anything asks for the target model."""
        return self.generated > 0 or self.mismatch_penalty > 0

    def template(self, domains: Domains, key: PRNGKeyArray) -> Any:
        return init_target_model(self.model, domains.source, domains.target, key) if self.has_model else ()

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Any:
        if not self.has_model:
            return ()
        return fit_target_model(self.model, domains.source, domains.target, key, report)

    def columns(self, models: Any, domains: Domains) -> dict[str, Array]:
        return {"mismatch": self.mismatches(models, domains)} if self.mismatch_penalty else {}

    def row_scores(self, models: Any, domains: Domains, value: Any, discount: float) -> dict[str, Array]:
        """`likeness` [N]: minus the mismatch of each source row; nothing without a model."""
        del value, discount
        return {"likeness": -self.mismatches(models, domains)} if self.has_model else {}

    def mismatches(self, models: TargetModel, domains: Domains) -> Float[Array, " n"]:
        """How far each source row is from what the target would do, in units of the source's own changes.

        In the model's units, the target's, a joint that the target hardly moves would make all source rows strangers.
        """
        scale, _ = outcome_scales(domains.source, domains.target)
        return mismatches(models.steps, scale, domains.source)

    @property
    def round_rows(self) -> int:
        return self.horizon * self.starts + self.refresh_shares()[0]

    def round(self, step: Step) -> ExtraRows:
        """Rollouts, and the source rows of the batch with their own actions as the target model has them."""
        model, batch = step.models, step.batch
        source = slice(0, batch.source_rows)
        observation, action = batch.observation[source], batch.action[source]
        key = jax.random.fold_in(step.key, RELABEL)
        outcome = one_outcome(model.steps, model.change_scale, observation, action, key)
        relabelled = self.made(observation, action, outcome, jnp.ones(len(observation)))
        new: ExtraRows = jax.tree.map(lambda *parts: jnp.concatenate(parts), super().round(step), relabelled)
        return new

    def made(
        self, observation: Float[Array, "n s"], action: Float[Array, "n a"], outcome: Outcome, alive: Float[Array, " n"]
    ) -> ExtraRows:
        sure = (outcome.disagreement <= self.largest_disagreement).astype(jnp.float32)
        return super().made(observation, action, outcome, alive * sure)

    def made_reward(self, outcome: Outcome) -> Float[Array, " n"]:
        return outcome.reward - self.penalty * outcome.disagreement

    # --- One update ---

    def reward(self, step: Step) -> Float[Array, " b"]:
        batch = step.batch
        if not self.mismatch_penalty:
            return super().reward(step)
        return batch.reward - on_source(batch, self.mismatch_penalty * batch.columns["mismatch"], 0.0)

    def actor_term(self, step: Step, action: Float[Array, "b a"]) -> Float[Array, ""]:
        if not self.cloning:
            return super().actor_term(step, action)
        batch = step.batch
        assert step.action_value is not None
        logged = slice(0, len(batch) - batch.extra_rows)
        q = step.action_value(step.features.critic)[logged]
        weight = cloning_weight(q, self.cloning_temperature, self.largest_cloning_weight)
        imitated = batch.imitation_weight(jnp.ones(len(batch)))[logged]
        distance = jnp.mean((action[logged] - batch.action[logged]) ** 2, axis=-1)
        return self.cloning * jnp.mean(imitated * weight * distance)
