"""State-transition correction (STC, arXiv 2602.05776): source rows with the action that the target would need for them.

    a'      f⁻¹(s, s')                                   inverse model of the target domain
    r'      r + clip(∂r̂/∂a · (a' - a), ±c)               to first order, by a model of the target's rewards
    e(a)    mean over entries of ((ŝ'(s, a) - s') / scale)²        a forward model of the target domain
    row     (s, a', r', s') where e(a') < (1 - m) e(a), else as it is

A row that is rewritten with an a' outside of what the robot can do weighs nothing. A terminal row has no next state: it
stays as it is. The models are fitted before training; all that follows from them is a column per source row.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Batch, Domains
from tabb.errors import UsageError
from tabb.models.fitting import Report, outcome_scales, scores
from tabb.models.inverse import Inverse, InverseConfig, fit_inverse, init_inverse
from tabb.models.target_model import TargetModel, TargetModelConfig, fit_target_model, init_target_model
from tabb.rules.rule import Metrics, Rule, Step, Value, Weights, on_source, row_by_row
from tabb.transitions import Transitions


class Models(eqx.Module):
    """What a step of the target domain leads to, and which action leads to a step."""

    forward: TargetModel
    inverse: Inverse
    scale: Float[Array, " s"]
    """spread of a step's change in the source, whose rows are judged; the model's own unit is the target's"""


class Correction(NamedTuple):
    """What becomes of source rows."""

    action: Float[Array, "b a"]
    reward: Float[Array, " b"]
    possible: Float[Array, " b"]
    """0 where no action of the target does the step, else 1"""
    corrected: Float[Array, " b"]
    """1 where the row is rewritten"""
    error: Float[Array, " b"]
    """e of the action that it ends with"""


def step_error(
    change: Float[Array, "b s"], wanted: Float[Array, "b s"], scale: Float[Array, " s"]
) -> Float[Array, " b"]:
    """e: mean squared error of a predicted change of state, entry by entry in units of `scale`."""
    return jnp.mean(((change - wanted) / scale) ** 2, axis=-1)


def corrections(
    predict: Callable[[Array, Array], tuple[Array, Array]],
    proposed: Float[Array, "b a"],
    rows: Transitions,
    scale: Float[Array, " s"],
    rule: Correct,
) -> Correction:
    """The correction of rows by `predict`, (s, a) -> (s' - s, r), and the actions that the inverse model proposes."""
    within = jnp.clip(proposed, -1.0, 1.0)
    wanted = rows.next_observation - rows.observation
    before, after = (step_error(predict(rows.observation, a)[0], wanted, scale) for a in (rows.action, within))
    better = (rows.terminal == 0) & (after < (1.0 - rule.margin) * before)
    _, slope = jax.jvp(lambda a: predict(rows.observation, a)[1], (rows.action,), (within - rows.action,))
    change = jnp.clip(slope, -rule.largest_change, rule.largest_change)
    beyond = jnp.max(jnp.abs(proposed), axis=-1) > 1.0 + rule.tolerance
    return Correction(
        jnp.where(better[:, None], within, rows.action),
        jnp.where(better, rows.reward + change, rows.reward),
        jnp.where(better & beyond, 0.0, 1.0),
        better.astype(jnp.float32),
        jnp.where(better, after, before),
    )


@dataclasses.dataclass(frozen=True)
class Correct(Rule):
    """Give source rows the action that the target would need for the same step."""

    name: ClassVar[str] = "correct"
    trust: ClassVar[str | None] = "fit"
    trust_meaning: ClassVar[str] = "minus the error of the target's model for the row as it is used: higher fits better"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"both": {"inverse": InverseConfig(domains="both")}}
    neutral: ClassVar[dict[str, Any] | None] = {"margin": 1.0}
    small: ClassVar[dict[str, Any]] = {
        "inverse": InverseConfig(hidden=(8,), updates=40, batch_size=16),
        "model": TargetModelConfig(hidden=(8,), updates=40, batch_size=16),
    }
    after_preparation: ClassVar[frozenset[str]] = frozenset({"margin", "largest_change", "tolerance"})

    margin: float = 0.0
    """m, by which share the rewritten row must fit better than the row itself; 1 rewrites none [paper: 0]"""
    largest_change: float = 1.0
    """c, the largest change of a reward [searched per task in the paper, not published; ours]"""
    tolerance: float = 0.1
    """how far an entry of a' may lie outside of [-1, 1], where it is cut, before the row is dropped; inf drops none
    [ours: the inverse model errs that much near the bounds]"""
    inverse: InverseConfig = dataclasses.field(default_factory=InverseConfig)
    """the inverse model of the target domain [paper: fitted to target rows; `--preset both`: to both domains']"""
    model: TargetModelConfig = dataclasses.field(default_factory=TargetModelConfig)
    """the model of both domains that gives ŝ' and r̂ in the target domain [ours]"""

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 1:
            raise UsageError(f"margin={self.margin} must lie in [0, 1]")
        if not 0 <= self.largest_change < math.inf:
            raise UsageError(f"largest_change={self.largest_change} must be a number, zero or more")
        if not self.tolerance >= 0:
            raise UsageError(f"tolerance={self.tolerance} must be zero or more (inf drops no row)")

    def template(self, domains: Domains, key: PRNGKeyArray) -> Models:
        return Models(
            init_target_model(self.model, domains.source, domains.target, key),
            init_inverse(self.inverse, domains.source, domains.target, key),
            outcome_scales(domains.source, domains.target)[0],
        )

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Models:
        forward_key, inverse_key = jax.random.split(key)
        return Models(
            fit_target_model(self.model, domains.source, domains.target, forward_key, report),
            fit_inverse(self.inverse, domains.source, domains.target, inverse_key, report),
            outcome_scales(domains.source, domains.target)[0],
        )

    def corrected(self, models: Models, domains: Domains) -> Correction:
        """What becomes of every source row."""

        def predict(observation: Array, action: Array) -> tuple[Array, Array]:
            step = models.forward(observation, action)
            return step.change, step.reward

        def of_rows(rows: Transitions) -> Correction:
            proposed = models.inverse(rows.observation, rows.next_observation)
            return corrections(predict, proposed, rows, models.scale, self)

        found: Correction = scores(of_rows, domains.source)
        return found

    @row_by_row
    def columns(self, models: Models, domains: Domains) -> dict[str, Array]:
        found = self.corrected(models, domains)
        return {name: getattr(found, name) for name in ("action", "reward", "possible", "corrected")}

    def row_scores(self, models: Models, domains: Domains, value: Value, discount: float) -> dict[str, Array]:
        """`fit` [N], minus e of the row as it is used, and `possible` and `corrected` [N], 0 or 1."""
        del value, discount
        found = self.corrected(models, domains)
        return {"fit": -found.error, "possible": found.possible, "corrected": found.corrected}

    def select(self, step: Step) -> Batch:
        batch, count = step.batch, step.batch.source_rows
        action = jnp.concatenate([batch.columns["action"], batch.action[count:]])
        reward = jnp.concatenate([batch.columns["reward"], batch.reward[count:]])
        return dataclasses.replace(batch, action=action, reward=reward)

    def weigh(self, step: Step) -> tuple[Weights, Metrics]:
        columns = step.batch.columns
        weight = on_source(step.batch, columns["possible"], 1.0)
        metrics = {"corrected": jnp.mean(columns["corrected"]), "dropped": 1.0 - jnp.mean(columns["possible"])}
        return Weights(weight, weight, weight), metrics
