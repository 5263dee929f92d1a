"""Rows that a model of the target domain makes: short rollouts of the present policy, from logged states on.

    start       states of both domains' rows
    step        a = clip(π(s) + σ ε, ±1), and the outcome of one member of the model, drawn anew at each step
    end         where that member finds the end of the task likely; what follows weighs nothing
    u(s, a)     max_e ‖(ŝ'_e - mean ŝ') / scale‖: how far the members are apart

Every n updates the rows of the last rounds are kept and new ones take the place of the oldest. Before the first update
they are what the model says of logged rows. `mopo`, `combo`, `mobile`, `morel` and `mobody` share this. `generated` 0
is the control without rollouts: target-only on the rule's backbone, but for `mobody`, which draws source rows as well.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Domains, ExtraRows
from tabb.errors import UsageError
from tabb.models.fitting import Report
from tabb.models.target_model import PredictedStep, TargetModel, TargetModelConfig, fit_target_model, init_target_model
from tabb.rules.rule import BackboneTraits, Metrics, Rule, Step, Weights, on_extra
from tabb.rules.step import Acting
from tabb.transitions import Transitions

Predict = Callable[[Float[Array, "b s"], Float[Array, "b a"]], PredictedStep]
"""each member's outcome of (s, a), leading axis of the members"""


class Outcome(NamedTuple):
    """What one member says of a step, and all members beside it."""

    reward: Float[Array, " b"]
    following: Float[Array, "b s"]
    terminal: Float[Array, " b"]
    members: Float[Array, "b k s"]
    """next states of all members"""
    disagreement: Float[Array, " b"]
    """u of the step"""


def disagreement(following: Float[Array, "b k s"], scale: Float[Array, " s"]) -> Float[Array, " b"]:
    """u: the largest distance of a member's next state from the members' mean, in units of `scale`."""
    apart = (following - jnp.mean(following, axis=1, keepdims=True)) / scale
    return jnp.max(jnp.linalg.norm(apart, axis=-1), axis=-1)


def one_outcome(
    predict: Predict,
    scale: Float[Array, " s"],
    observation: Float[Array, "b s"],
    action: Float[Array, "b a"],
    key: PRNGKeyArray,
) -> Outcome:
    """The outcome of a member that is drawn for each row."""
    steps = predict(observation, action)
    members = jnp.moveaxis(observation + steps.change, 0, 1)
    rows = jnp.arange(len(observation))
    member = jax.random.randint(key, rows.shape, 0, members.shape[1])
    terminal = (steps.terminal[member, rows] > 0.5).astype(jnp.float32)
    return Outcome(steps.reward[member, rows], members[rows, member], terminal, members, disagreement(members, scale))


def rollouts(
    predict: Predict,
    scale: Float[Array, " s"],
    act: Acting,
    start: Float[Array, "b s"],
    horizon: int,
    noise: float,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "n s"], Float[Array, "n a"], Outcome, Float[Array, " n"]]:
    """States, actions, outcomes and 0 where the task had ended before: step after step, n = horizon · b rows."""

    def step(carry: tuple[Array, Array], number: Array) -> tuple[tuple[Array, Array], Any]:
        state, alive = carry
        noise_key, member_key = jax.random.split(jax.random.fold_in(key, number))
        action = act(state)
        action = jnp.clip(action + noise * jax.random.normal(noise_key, action.shape), -1.0, 1.0)
        outcome = one_outcome(predict, scale, state, action, member_key)
        return (outcome.following, alive * (1.0 - outcome.terminal)), (state, action, outcome, alive)

    _, made = jax.lax.scan(step, (start, jnp.ones(len(start))), jnp.arange(horizon))
    flat: tuple[Array, Array, Outcome, Array] = jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:]), made)
    return flat


@dataclasses.dataclass(frozen=True)
class Rollouts(Rule):
    """Learn from target rows and from rollouts in a model of the target domain."""

    name: ClassVar[str] = "rollouts"
    backbone_constants: ClassVar[dict[str, Any]] = {"extraction": "improvement"}
    neutral: ClassVar[dict[str, Any] | None] = {"generated": 0.0}
    small: ClassVar[dict[str, Any]] = {
        "starts": 8,
        "horizon": 2,
        "rounds": 2,
        "refresh_every": 5,
        "model": TargetModelConfig(hidden=(8,), members=2, updates=40, batch_size=16),
    }
    after_preparation: ClassVar[frozenset[str]] = frozenset(
        {"horizon", "starts", "source_starts", "refresh_every", "rounds", "noise", "improve_generated"}
    )

    generated: float = 0.5
    """share of generated rows in a batch, the rest are target rows; 0 is the control without rollouts [COMBO: 0.5; MOPO
    and MOBILE: 0.95]"""
    horizon: int = 5
    """steps of a rollout [MOPO, COMBO, MOBILE: 1 or 5, by task]"""
    starts: int = 1_000
    """rollouts of each round [theirs: 50,000; a CPU's share]"""
    source_starts: float = 0.5
    """share of them that start from a source state [ours: half; theirs has one domain]"""
    refresh_every: int = 1_000
    """updates from one round to the next [theirs: 1,000]"""
    rounds: int = 5
    """rounds whose rows are kept [theirs: 5]"""
    noise: float = 0.1
    """σ of the noise on the policy's actions [theirs is the noise of a stochastic policy]"""
    improve_generated: float | None = None
    """factor on generated rows in the policy's loss. If not given, 0 on backbones with a value network (IQL), whose
    policy loss holds actions to those of the row, and 1 on the others [ours]"""
    model: TargetModelConfig = dataclasses.field(
        default_factory=lambda: TargetModelConfig(hidden=(200, 200), members=4, updates=4_000)
    )
    """the model of both domains [theirs: 7 members of 4 x 200]"""

    def __post_init__(self) -> None:
        for name in ("generated", "source_starts"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name}={getattr(self, name)} must lie in [0, 1]")
        if self.generated == 1:
            raise UsageError(f"generated={self.generated} leaves no target rows in a batch: give less than 1")
        for name in ("horizon", "starts", "refresh_every", "rounds"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("noise", "improve_generated"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(f"{name}={value} must be a number, zero or more")

    def on(self, backbone: BackboneTraits) -> Rollouts:
        if self.improve_generated is not None:
            return self
        return dataclasses.replace(self, improve_generated=0.0 if backbone.has_value_network else 1.0)

    # --- Rows ---

    def shares(self, batch_size: int) -> tuple[int, int]:
        return 0, batch_size - self.extra_share(batch_size)

    def reads(self, batch_size: int) -> tuple[bool, bool]:
        return self.extra_share(batch_size) > 0, True

    def extra_share(self, batch_size: int) -> int:
        return min(round(self.generated * batch_size), batch_size - 1)

    def refresh_shares(self) -> tuple[int, int]:
        source = round(self.source_starts * self.starts)
        return source, self.starts - source

    def template(self, domains: Domains, key: PRNGKeyArray) -> Any:
        return init_target_model(self.model, domains.source, domains.target, key) if self.generated else ()

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Any:
        if not self.generated:
            return ()
        return fit_target_model(self.model, domains.source, domains.target, key, report)

    def extra_rows(self, models: TargetModel, domains: Domains, key: PRNGKeyArray) -> ExtraRows:
        """What the model says of logged target rows, as many as all rounds have."""
        row_key, member_key = jax.random.split(key)
        count = self.rounds * self.round_rows
        rows = jax.random.randint(row_key, (count,), 0, len(domains.target))
        observation, action = domains.target.observation[rows], domains.target.action[rows]
        outcome = one_outcome(models.steps, models.change_scale, observation, action, member_key)
        return self.made(observation, action, outcome, jnp.ones(count))

    @property
    def round_rows(self) -> int:
        """Rows of a round."""
        return self.horizon * self.starts

    def refresh(self, step: Step, rows: ExtraRows) -> ExtraRows:
        new = self.round(step)
        older: ExtraRows = jax.tree.map(lambda old, part: jnp.concatenate([old[len(part) :], part]), rows, new)
        return older

    def round(self, step: Step) -> ExtraRows:
        """The rows of one round: rollouts from the rows of the step's batch."""
        model: TargetModel = step.models
        start = step.batch.observation
        return self.made(
            *rollouts(model.steps, model.change_scale, step.policy, start, self.horizon, self.noise, step.key)
        )

    def made(
        self, observation: Float[Array, "n s"], action: Float[Array, "n a"], outcome: Outcome, alive: Float[Array, " n"]
    ) -> ExtraRows:
        """The rows of these steps."""
        columns = {"alive": alive} | self.extra_columns(outcome)
        reward = self.made_reward(outcome)
        return ExtraRows(observation, action, reward, outcome.following, outcome.terminal, columns)

    def made_reward(self, outcome: Outcome) -> Float[Array, " n"]:
        """The rewards that generated rows have."""
        return outcome.reward

    def extra_columns(self, outcome: Outcome) -> dict[str, Array]:
        """What a batch carries along for generated rows."""
        del outcome
        return {}

    # --- Where a run is judged ---

    def predict_target(self, models: TargetModel, rows: Transitions) -> tuple[Array, Array, Array] | None:
        if not self.generated:
            return None
        steps = models.steps(rows.observation, rows.action)
        return steps.reward.T, steps.terminal.T, jnp.moveaxis(rows.observation + steps.change, 0, 1)

    # --- One update ---

    def weigh(self, step: Step) -> tuple[Weights, Metrics]:
        batch = step.batch
        plain, metrics = super().weigh(step)
        if not batch.extra_rows:
            return plain, metrics
        alive = batch.extra_columns["alive"]
        weight = on_extra(batch, alive, 1.0)
        policy = on_extra(batch, (self.improve_generated or 0.0) * alive, 1.0)
        return Weights(weight, weight, policy), metrics | {"alive": jnp.mean(alive)}
