"""Soft actor-critic (Haarnoja et al. 2018): a policy that is rewarded for its entropy, learned from steps of its own.

    a' ~ π(. | s'),  b = r + γ (1 - d) (min_i Q_i,slow(s', a') - α ln π(a' | s'))
    L_Q = Σ_i mean (Q_i - b)²
    L_π = mean  α ln π(a | s) - min_i Q_i(s, a),  a ~ π(. | s)
    L_α = -ln α (mean ln π(a | s) + H),  H = -h A the wanted entropy; or α stays as it begins

Its policy is held to no data: on a log alone it goes where its critics know nothing, so it wants steps of its own.
With more than two critics the backup takes the smallest of a few that are drawn anew for each update, and the policy
climbs the mean of all (RLPD, Ball et al. 2023; REDQ, Chen et al. 2021). A rule's weights act on the rows of all three
losses. Where a rule asks for V(s), it gets min_i Q_i,slow at the mean action, without the entropy.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.backbones.backbone import (
    Backbone,
    Inputs,
    check_common,
    critic_activation,
    critic_error,
    edited_backup,
    mean_policy,
    policy_value,
    weighted_mean,
)
from tabb.backbones.squashed import squashed_sample
from tabb.batch import Sizes
from tabb.errors import UsageError
from tabb.networks import MLP, Critics, Normaliser, Twin, critics, mlp, moving_average
from tabb.policy import Policy
from tabb.rules.rule import Learned, Metrics, Models, Rule, Value
from tabb.rules.step import Acting


class State(NamedTuple):
    """All that an update changes."""

    critic: Twin | Critics
    slow_critic: Twin | Critics
    policy: MLP
    """mean and logarithm of the deviation before tanh"""
    log_temperature: Float[Array, ""]
    """ln α"""
    critic_optimiser: optax.OptState
    policy_optimiser: optax.OptState
    temperature_optimiser: optax.OptState
    learned: Learned = ()
    """what the rule learns along the way"""
    extra: Any = ()
    """rows that the rule makes anew along the way"""


def soft_value(
    smallest: Float[Array, " b"], log_density: Float[Array, " b"], temperature: Float[Array, ""]
) -> Float[Array, " b"]:
    """min_i Q_i - α ln π: the value of a state by one action that was drawn there (SAC, equation 3)."""
    return smallest - temperature * log_density


def temperature_gradient(log_density: Float[Array, ""], wanted: float) -> Float[Array, ""]:
    """d L_α / d ln α = -(mean ln π + H): the temperature grows while the entropy is below the wanted one, H."""
    return -(log_density + wanted)


@dataclasses.dataclass(frozen=True)
class SAC(Backbone):
    """Soft actor-critic."""

    name: ClassVar[str] = "sac"
    has_value_network: ClassVar[bool] = False
    imitates: ClassVar[bool] = False
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"policy": ("policy",), "critic": ("critic", "slow_critic")}
    presets: ClassVar[dict[str, dict[str, Any]]] = {"odrl": {"temperature": 0.2, "tuned": False}}

    temperature: float = 1.0
    """α before the first update [original: 1 where it is tuned; ODRL: 0.2]"""
    tuned: bool = True
    """whether α follows the wanted entropy, or stays as it begins [original: yes; ODRL: no]"""
    entropy: float = 1.0
    """h, the wanted entropy is -h per entry of the action, in nats [original: 1; RLPD: 0.5]"""
    entropy_backup: bool = True
    """whether backups hold the entropy of the next state's action [original: yes]"""
    critics: int = 2
    """networks of Q [original: 2; RLPD: 10]"""
    compared: int = 2
    """how many of them, drawn anew for each update, a backup takes the smallest of [original: 2; RLPD: 2]"""
    learning_rate: float = 3e-4
    """Adam's rate for critics, policy and ln α [original: 3e-4]"""
    discount: float = 0.99
    """γ [original: 0.99]"""
    slow_rate: float = 0.005
    """rate of the slow critics [original: 0.005]"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of critics and policy [original: 256, 256]"""
    layer_norm: bool = False
    """layer normalisation in Q: holds its values down off the data [original: no; RLPD: yes]"""
    batch_size: int = 256
    """rows per update, half source and half target unless the rule says otherwise [original: 256]"""

    def __post_init__(self) -> None:
        check_common(self, shares=("discount", "slow_rate"), amounts=("temperature", "entropy", "learning_rate"))
        if not self.temperature and self.tuned:
            raise UsageError("backbone temperature=0 with tuned: what is tuned begins above 0; use tuned=False")
        if not 1 <= self.compared <= self.critics:
            raise UsageError(f"backbone compared={self.compared}: must be 1 to critics, which is {self.critics}")

    @property
    def tuned_numbers(self) -> tuple[str, ...]:
        return ("log_temperature",) if self.tuned else ()

    def without_effect(self) -> dict[str, str]:
        return {} if self.tuned else {"entropy": "tuned"}

    def init(self, rule: Rule, sizes: Sizes, updates: int, key: PRNGKeyArray) -> State:
        del updates
        critic_key, policy_key = jax.random.split(key)
        activation = critic_activation(self.layer_norm)
        critic = critics(critic_key, (rule.widths(sizes)[1], *self.hidden, 1), self.critics, activation)
        policy = mlp(policy_key, (sizes.observation, *self.hidden, 2 * sizes.action))
        log_temperature = jnp.asarray(math.log(self.temperature) if self.temperature else -math.inf, jnp.float32)
        adam = optax.adam(self.learning_rate)
        return State(
            critic,
            jax.tree.map(jnp.copy, critic),
            policy,
            log_temperature,
            adam.init(critic),
            adam.init(policy),
            adam.init(log_temperature),
            rule.init_learned(sizes, jax.random.fold_in(key, 3)),
        )

    def value_at(self, rule: Rule, models: Models, state: State) -> Value:
        return policy_value(rule, models, mean_policy(state.policy), state.slow_critic)

    def acts(self, state: State) -> Acting:
        return lambda observation: jnp.tanh(mean_policy(state.policy)(observation))

    def explores(self, state: State, observation: Float[Array, "*b s"], key: PRNGKeyArray) -> Float[Array, "*b a"]:
        shape = (*observation.shape[:-1], state.policy.biases[-1].shape[-1] // 2)
        return squashed_sample(state.policy, observation, jax.random.normal(key, shape))[0]

    def update(self, state: State, inputs: Inputs) -> tuple[State, Metrics]:
        rule, models, key = inputs.rule, inputs.models, inputs.key
        adam = optax.adam(self.learning_rate)
        step, weights, metrics = self.open_update(state, inputs)
        batch, features = step.batch, step.features
        next_key, policy_key, draw_key = jax.random.split(key, 3)
        temperature = jnp.exp(state.log_temperature)

        # --- Q: regression on the backup ---
        noise = jax.random.normal(next_key, batch.action.shape)
        action, log_density = squashed_sample(state.policy, batch.next_observation, noise)
        values = state.slow_critic(rule.see_action(models, batch.next_observation, action))
        next_value = self._smallest(values, draw_key)
        if self.entropy_backup:
            next_value = soft_value(next_value, log_density, temperature)
        backup = edited_backup(rule, step, next_value)

        def critic_loss(critic: Twin | Critics) -> tuple[Array, Array]:
            values = critic(features.critic)
            return critic_error(rule, step, weights, values, backup), jnp.mean(jnp.min(values, axis=0))

        (q_loss, mean_value), gradient = jax.value_and_grad(critic_loss, has_aux=True)(state.critic)
        change, critic_optimiser = adam.update(gradient, state.critic_optimiser)
        critic = optax.apply_updates(state.critic, change)

        # --- policy: higher values, and entropy at the price of the temperature ---
        noise = jax.random.normal(policy_key, batch.action.shape)

        def policy_loss(policy: MLP) -> tuple[Array, Array]:
            action, log_density = squashed_sample(policy, batch.observation, noise)
            values = critic(rule.see_action(models, batch.observation, action))
            value = jnp.min(values, axis=0) if self.critics <= 2 else jnp.mean(values, axis=0)
            loss = jnp.mean(weights.policy * -soft_value(value, log_density, temperature))
            return loss + rule.actor_term(step, action), weighted_mean(log_density, weights.policy)

        (p_loss, log_density_now), gradient = jax.value_and_grad(policy_loss, has_aux=True)(state.policy)
        change, policy_optimiser = adam.update(gradient, state.policy_optimiser)
        policy = optax.apply_updates(state.policy, change)

        log_temperature, temperature_optimiser = state.log_temperature, state.temperature_optimiser
        if self.tuned:
            slope = temperature_gradient(log_density_now, -self.entropy * batch.action.shape[-1])
            change, temperature_optimiser = adam.update(slope, temperature_optimiser)
            log_temperature = log_temperature + change
        state = State(
            critic,
            moving_average(state.slow_critic, critic, self.slow_rate),
            policy,
            log_temperature,
            critic_optimiser,
            policy_optimiser,
            temperature_optimiser,
            step.learned,
            state.extra,
        )
        losses = {"critic_loss": q_loss, "policy_loss": p_loss, "temperature": temperature, "entropy": -log_density_now}
        return state, metrics | losses | {"mean_value": mean_value, "mean_backup": jnp.mean(backup)}

    def _smallest(self, values: Float[Array, "q b"], key: PRNGKeyArray) -> Float[Array, " b"]:
        """The smallest of the critics that this update compares."""
        if self.compared < self.critics:
            values = values[jax.random.choice(key, self.critics, (self.compared,), replace=False)]
        return jnp.min(values, axis=0)

    def policy(self, state: State, normaliser: Normaliser, about: dict[str, Any]) -> Policy:
        return Policy.from_networks(mean_policy(state.policy), normaliser, about)
