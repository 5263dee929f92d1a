"""TD3+BC (Fujimoto and Gu 2021): TD3, whose policy is held to the data's actions by a cloning term.

    a'  = clip(π_slow(s') + clip(ε, ±c), ±1),  ε ~ N(0, σ²)
    b   = r + γ (1 - d) min_i Q_i,slow(s', a')
    L_π = mean over rows of  -α Q_1(s, π(s)) / mean|Q_1|  +  ‖π(s) - a‖² / A            every second update

Defaults: the original's. The ODRL benchmark's form lacks the slow policy, the noise and the delay, and takes the
smaller critic in L_π: preset `odrl`. A rule's weights act on the rows of both losses; where it asks for V(s), it gets
min_i Q_i,slow(s, π(s)).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.backbones.backbone import (
    Backbone,
    Inputs,
    action_at_rows,
    check_common,
    cloned_improvement,
    critic_activation,
    critic_error,
    edited_backup,
    held_to_paths,
    policy_value,
    sum_of,
)
from tabb.batch import Sizes
from tabb.errors import UsageError
from tabb.networks import MLP, Committee, Twin, committee, members_of, moving_average, twin
from tabb.rules.rule import Learned, Metrics, Models, Rule, Value
from tabb.rules.step import Acting


class State(NamedTuple):
    """All that an update changes."""

    critic: Twin
    slow_critic: Twin
    policy: MLP | Committee
    slow_policy: MLP | Committee
    critic_optimiser: optax.OptState
    policy_optimiser: optax.OptState
    learned: Learned = ()
    """what the rule learns along the way"""
    extra: Any = ()
    """rows that the rule makes anew along the way"""


def smoothed_action(
    action: Float[Array, "b a"], noise: Float[Array, "b a"], deviation: float, largest: float
) -> Float[Array, "b a"]:
    """clip(a + clip(σ ε, ±c), ±1) with standard normal ε: near actions get near values (TD3)."""
    return jnp.clip(action + jnp.clip(deviation * noise, -largest, largest), -1.0, 1.0)


@dataclasses.dataclass(frozen=True)
class TD3BC(Backbone):
    """TD3 with behaviour cloning."""

    name: ClassVar[str] = "td3-bc"
    has_value_network: ClassVar[bool] = False
    matches: ClassVar[bool] = True
    takes_policy_optimiser: ClassVar[bool] = True
    parts: ClassVar[dict[str, tuple[str, ...]]] = {
        "policy": ("policy", "slow_policy"),
        "critic": ("critic", "slow_critic"),
    }
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "odrl": {"slow_policy": False, "noise": 0.0, "policy_delay": 1, "smaller_critic": True},
        "steady": {"layer_norm": True},
    }

    value_weight: float = 2.5
    """α, the weight of Q in the policy's loss against cloning [paper: 2.5]"""
    cloning: float = 1.0
    """weight of the cloning term; 0 is TD3 alone [paper: 1]"""
    noise: float = 0.2
    """σ of the noise on the next action [TD3: 0.2]"""
    largest_noise: float = 0.5
    """c, the clip of that noise [TD3: 0.5]"""
    policy_delay: int = 2
    """updates of the critic per update of the policy and the slow networks [TD3: 2]"""
    slow_policy: bool = True
    """whether the slow policy takes the next action, or the policy itself [TD3: yes; ODRL: no]"""
    smaller_critic: bool = False
    """whether the policy improves on min(Q_1, Q_2), or on Q_1 [TD3: Q_1; ODRL: the smaller]"""
    discount: float = 0.99
    """γ [paper: 0.99]"""
    slow_rate: float = 0.005
    """rate of the slow networks [paper: 0.005]"""
    learning_rate: float = 3e-4
    """Adam's rate for critic and policy [paper: 3e-4]"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of critic and policy [paper: 256, 256]"""
    layer_norm: bool = False
    """layer normalisation in Q: holds its values down off the data [original: no; Ball et al. 2023: yes]"""
    policies: int = 1
    """networks of the policy, which act together as their mean [original: 1]"""
    batch_size: int = 256
    """rows per update, half source and half target unless the rule says otherwise [paper: 256]"""

    def __post_init__(self) -> None:
        check_common(
            self,
            shares=("discount", "slow_rate"),
            amounts=("value_weight", "cloning", "noise", "largest_noise", "learning_rate"),
        )
        if self.policy_delay < 1:
            raise UsageError(f"backbone policy_delay={self.policy_delay}: must be at least 1")

    @property
    def clones(self) -> bool:
        return self.cloning > 0

    def init(self, rule: Rule, sizes: Sizes, updates: int, key: PRNGKeyArray) -> State:
        del updates
        critic_key, policy_key = jax.random.split(key)
        critic = twin(critic_key, (rule.widths(sizes)[1], *self.hidden, 1), critic_activation(self.layer_norm))
        policy = committee(policy_key, (sizes.observation, *self.hidden, sizes.action), self.policies)
        adam = optax.adam(self.learning_rate)
        return State(
            critic,
            jax.tree.map(jnp.copy, critic),
            policy,
            jax.tree.map(jnp.copy, policy),
            adam.init(critic),
            rule.policy_optimiser(adam).init(policy),
            rule.init_learned(sizes, jax.random.fold_in(key, 3)),
        )

    def value_at(self, rule: Rule, models: Models, state: State) -> Value:
        return policy_value(rule, models, state.policy, state.slow_critic)

    def acts(self, state: State) -> Acting:
        return lambda observation: jnp.tanh(state.policy(observation))

    def update(self, state: State, inputs: Inputs) -> tuple[State, Metrics]:
        rule, models, key = inputs.rule, inputs.models, inputs.key
        adam = optax.adam(self.learning_rate)
        step, weights, metrics = self.open_update(state, inputs)
        batch, features = step.batch, step.features

        # --- Q: regression on the backup with the slow networks' value of the next state ---
        ahead = state.slow_policy if self.slow_policy else state.policy
        noise = jax.random.normal(key, batch.action.shape)
        action = smoothed_action(jnp.tanh(ahead(batch.next_observation)), noise, self.noise, self.largest_noise)
        next_value = jnp.min(state.slow_critic(rule.see_action(models, batch.next_observation, action)), axis=0)
        backup = edited_backup(rule, step, next_value)

        def critic_loss(critic: Twin) -> tuple[Array, Array]:
            values = critic(features.critic)
            return critic_error(rule, step, weights, values, backup), jnp.mean(jnp.min(values, axis=0))

        (q_loss, mean_value), gradient = jax.value_and_grad(critic_loss, has_aux=True)(state.critic)
        change, critic_optimiser = adam.update(gradient, state.critic_optimiser)
        critic = optax.apply_updates(state.critic, change)

        # --- policy and slow networks: every `policy_delay` updates ---
        observation, wanted = batch.to_imitate()
        policy_weight = batch.imitation_weight(weights.policy)

        def policy_loss(policy: MLP) -> Array:
            action = jnp.tanh(policy(observation))
            seen_action = rule.see_action(models, observation, action)
            value = jnp.min(critic(seen_action), 0) if self.smaller_critic else critic.first(seen_action)[..., 0]
            distance = jnp.mean((action - wanted) ** 2, axis=-1)
            loss = cloned_improvement(value, distance, policy_weight, self.value_weight, self.cloning)
            return jnp.mean(policy_weight * loss) + rule.actor_term(step, action_at_rows(policy, batch, action))

        def loss_of_all(policy: MLP | Committee) -> Array:
            loss = sum_of(policy_loss(one) for one in members_of(policy))
            return held_to_paths(loss, policy, batch, self.cloning * jnp.mean(policy_weight))

        def improve(state: State) -> tuple[State, Array]:
            p_loss, gradient = jax.value_and_grad(loss_of_all)(state.policy)
            change, policy_optimiser = rule.policy_optimiser(adam).update(gradient, state.policy_optimiser)
            policy = optax.apply_updates(state.policy, change)
            # Counted so often that the mean over a stretch of updates is the mean over those of the policy.
            return state._replace(
                slow_critic=moving_average(state.slow_critic, critic, self.slow_rate),
                policy=policy,
                slow_policy=moving_average(state.slow_policy, policy, self.slow_rate),
                policy_optimiser=policy_optimiser,
            ), self.policy_delay * p_loss

        state = state._replace(critic=critic, critic_optimiser=critic_optimiser, learned=step.learned)
        if self.policy_delay == 1:
            state, p_loss = improve(state)
        else:
            due = (inputs.number + 1) % self.policy_delay == 0
            state, p_loss = jax.lax.cond(due, improve, lambda state: (state, jnp.zeros(())), state)
        losses = {"critic_loss": q_loss, "policy_loss": p_loss}
        return state, metrics | losses | {"mean_value": mean_value, "mean_backup": jnp.mean(backup)}
