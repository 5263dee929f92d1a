"""What every backbone offers: a frozen dataclass of constants with `init`, `update` and `policy`."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tabb.batch import Batch, Sizes
from tabb.errors import UsageError
from tabb.networks import MLP, Normaliser, Twin
from tabb.policy import Policy
from tabb.rules.rule import Metrics, Models, Rule, Value, Weights

State = Any  # the backbone's own NamedTuple, with a field `learned` for what the rule learns


class Backbone(abc.ABC):
    """A single-domain offline learner, as seen by the training loop."""

    name: ClassVar[str]
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    """Constants of public code that differ from the original's, or that serve one purpose: `--preset NAME`."""
    suite_constants: ClassVar[dict[str, dict[str, Any]]] = {}
    """Constants of ODRL's for a suite: its tasks take them unless told otherwise."""
    batch_size: int

    def check_rule(self, rule: Rule) -> None:
        """Raise `UsageError` if `rule` cannot act on this backbone."""
        rule.check_backbone(self.name)

    @abc.abstractmethod
    def init(self, rule: Rule, sizes: Sizes, updates: int, key: PRNGKeyArray) -> State:
        """Fresh networks and optimisers for a run of `updates` updates."""

    @abc.abstractmethod
    def update(
        self,
        rule: Rule,
        models: Models,
        updates: int,
        state: State,
        batch: Batch,
        key: PRNGKeyArray,
        number: Int[Array, ""],
    ) -> tuple[State, Metrics]:
        """Update `number` (from 0) on one batch, with a key of its own; pure. Metrics hold `critic_loss`."""

    @abc.abstractmethod
    def value_at(self, rule: Rule, models: Models, state: State) -> Value:
        """V of what `rule.see_state` makes of observations, with the networks of this state."""

    def policy(self, state: State, normaliser: Normaliser, about: dict[str, Any]) -> Policy:
        """The policy to deploy, with the normaliser inside."""
        return Policy.from_networks(state.policy, normaliser, about)


def check_common(constants: Any, shares: Sequence[str], amounts: Sequence[str], widths: Sequence[str] = ()) -> None:
    """Raise `UsageError` unless `shares` lie in (0, 1], `amounts` are numbers from 0 on, and sizes are real."""
    for name in shares:
        if not 0 < getattr(constants, name) <= 1:
            raise UsageError(f"backbone {name}={getattr(constants, name)}: must lie in (0, 1]")
    for name in amounts:
        if not 0 <= getattr(constants, name) < math.inf:
            raise UsageError(f"backbone {name}={getattr(constants, name)}: must be a number, zero or more")
    for name in widths or ("hidden",):
        hidden = getattr(constants, name)
        if constants.batch_size < 2 or not hidden or min(hidden) < 1:
            sizes = f"batch_size={constants.batch_size}, {name}={hidden}"
            raise UsageError(f"backbone {sizes}: needs two rows and layers of width 1 at least")


def critic_activation(layer_norm: bool) -> str:
    """What stands between the layers of V and Q."""
    return "normed-relu" if layer_norm else "relu"


def policy_value(rule: Rule, models: Models, policy: MLP, critic: Twin) -> Value:
    """V(s) = min_i Q_i(s, π(s)) for backbones without a network for V: what rules weigh rows by there."""

    def value(observation: Float[Array, "*rows s"]) -> Float[Array, "*rows"]:
        action = jnp.tanh(policy(observation))
        return jnp.min(critic(rule.see_action(models, observation, action)), axis=0)

    return value


def weighted_mean(values: Float[Array, " b"], weights: Float[Array, " b"]) -> Float[Array, ""]:
    """Mean of the rows as they count: Σ w x / Σ w."""
    return jnp.sum(weights * values) / jnp.maximum(jnp.sum(weights), 1e-8)


def cloned_improvement(
    value: Float[Array, " b"], distance: Float[Array, " b"], weights: Float[Array, " b"], weight: float, cloning: float
) -> Float[Array, " b"]:
    """-α Q / mean|Q| + cloning · distance of each row; the mean carries no gradient (TD3+BC, equations 3 and 5).

    In the mean, rows count by their `weights`.
    """
    scale = weight / jnp.maximum(weighted_mean(jnp.abs(jax.lax.stop_gradient(value)), weights), 1e-8)
    return -scale * value + cloning * distance


def critic_error(
    rule: Rule, models: Models, batch: Batch, weights: Weights, values: Float[Array, "2 b"], backup: Float[Array, " b"]
) -> Float[Array, ""]:
    """Σ_i mean_rows w · loss(Q_i - backup), and the rule's extra term: the loss that all backbones share."""
    loss = rule.critic_loss(models, batch, values - backup)
    return jnp.sum(jnp.mean(weights.critic * loss, axis=-1)) + rule.critic_term(models, batch, values)
