"""Behaviour cloning: the policy imitates the actions of its rows, and nothing is valued.

    L_π = mean over rows of  ‖π(s) - a‖² / A

The control that says what imitation alone is worth: `target-only@clone` imitates target rows, `source-only@clone`
source rows, `pooled@clone` both. It is IQL's policy with β = 0, without V and Q. Its loss does not look at rewards and
next states, so only rules that say which rows are drawn act on it. Which episodes of the target are imitated is decided
by their returns, as for all learners (`--imitation.best 0`: all of them).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.backbones.backbone import Backbone, Inputs, check_common, held_to_paths, sum_of
from tabb.batch import Sizes
from tabb.errors import UsageError
from tabb.networks import MLP, Committee, committee, members_of
from tabb.rules.rule import Learned, Metrics, Models, Rule, Value
from tabb.rules.step import Acting


class State(NamedTuple):
    """All that an update changes."""

    policy: MLP | Committee
    policy_optimiser: optax.OptState
    learned: Learned = ()
    extra: Any = ()


def cloning_loss(action: Float[Array, "b a"], wanted: Float[Array, "b a"]) -> Float[Array, " b"]:
    """‖π(s) - a‖² / A of each row."""
    return jnp.mean((action - wanted) ** 2, axis=-1)


@dataclasses.dataclass(frozen=True)
class Clone(Backbone):
    """Behaviour cloning."""

    name: ClassVar[str] = "clone"
    has_value_network: ClassVar[bool] = False
    has_critics: ClassVar[bool] = False
    takes_seams: ClassVar[bool] = False
    matches: ClassVar[bool] = True
    takes_policy_optimiser: ClassVar[bool] = True
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"policy": ("policy",), "critic": ()}

    learning_rate: float = 3e-4
    """Adam's rate; it falls to 0 as a cosine over the run [as IQL's policy here]"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers [as IQL's policy here]"""
    discount: float = 0.99
    """γ by which the policy is valued on held-out episodes; cloning itself has none [as IQL here]"""
    policies: int = 5
    """networks of the policy, which act together as their mean; each learns as the only one would [as IQL here]"""
    batch_size: int = 256
    """rows per update, half source and half target unless the rule says otherwise [as IQL here]"""

    def __post_init__(self) -> None:
        check_common(self, shares=("discount",), amounts=("learning_rate",))

    def optimiser(self, updates: int) -> optax.GradientTransformation:
        """Adam with the cosine schedule over `updates`."""
        return optax.adam(optax.cosine_decay_schedule(self.learning_rate, max(updates, 1)))

    def init(self, rule: Rule, sizes: Sizes, updates: int, key: PRNGKeyArray) -> State:
        # The first weights are those of IQL's policy of the same seed.
        policy = committee(jax.random.split(key, 3)[2], (sizes.observation, *self.hidden, sizes.action), self.policies)
        learned = rule.init_learned(sizes, jax.random.fold_in(key, 3))
        return State(policy, rule.policy_optimiser(self.optimiser(updates)).init(policy), learned)

    def value_at(self, rule: Rule, models: Models, state: State) -> Value:
        """A function that raises `UsageError`: there is no V."""
        del rule, models, state

        def value(observation: Array) -> Array:
            del observation
            raise UsageError("backbone clone estimates no values: use one that does, such as iql")

        return value

    def acts(self, state: State) -> Acting:
        return lambda observation: jnp.tanh(state.policy(observation))

    def update(self, state: State, inputs: Inputs) -> tuple[State, Metrics]:
        rule = inputs.rule
        step, weights, metrics = self.open_update(state, inputs)
        observation, wanted = step.batch.to_imitate()
        weight = step.batch.imitation_weight(weights.policy)

        def policy_loss(policy: MLP) -> Array:
            distance = cloning_loss(jnp.tanh(policy(observation)), wanted)
            return jnp.mean(weight * distance)

        def loss_of_all(policy: MLP | Committee) -> Array:
            loss = sum_of(policy_loss(one) for one in members_of(policy))
            return held_to_paths(loss, policy, step.batch, jnp.mean(weight))

        loss, gradient = jax.value_and_grad(loss_of_all)(state.policy)
        optimiser = rule.policy_optimiser(self.optimiser(inputs.updates))
        change, policy_optimiser = optimiser.update(gradient, state.policy_optimiser)
        policy = optax.apply_updates(state.policy, change)
        return State(policy, policy_optimiser, step.learned, state.extra), metrics | {"policy_loss": loss}
