"""Conservative Q-learning (Kumar et al. 2020), CQL(H) on soft actor-critic: push Q down on sampled actions, up on data.

    P_i = mean over rows of  ln Σ exp{Q_i(s, a) - ln p(a)}  -  Q_i(s, a_data)
          over n actions each of the uniform density, of π(. | s) and of π(. | s'), all valued at s (where s' does
          not exist, behind a terminal row, twice as many of π(. | s))
    L_Q = Σ_i mean (Q_i - b)² + α_cql P_i          b = r + γ (1 - d) min_i Q_i,slow(s', a'),  a' ~ π(. | s')
    L_π = mean  α ln π(a | s) - min_i Q_i(s, a)    α tuned to the entropy -A; not backed up

Every gradient is taken at the networks from before the update, and each loss is a mean over rows: a rule's weights act
on the rows of all of them. A row of no weight is not pushed either, else its Q would rise with nothing to hold it.
Where a rule asks for V(s), it gets min_i Q_i,slow at the mean action. The most expensive backbone: 31 actions per row.
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
    edited_backup,
    mean_policy,
    policy_value,
    row_losses,
    weighted_mean,
)
from tabb.backbones.squashed import squashed_sample
from tabb.batch import Batch, Sizes
from tabb.errors import UsageError
from tabb.networks import MLP, Normaliser, Twin, mlp, moving_average, twin
from tabb.policy import Policy
from tabb.rules.rule import Learned, Metrics, Models, Rule, Value
from tabb.rules.step import Acting


class State(NamedTuple):
    """All that an update changes."""

    critic: Twin
    slow_critic: Twin
    policy: MLP
    """mean and logarithm of the deviation before tanh"""
    log_entropy_weight: Float[Array, ""]
    """ln α"""
    critic_optimiser: optax.OptState
    policy_optimiser: optax.OptState
    entropy_optimiser: optax.OptState
    learned: Learned = ()
    """what the rule learns along the way"""
    extra: Any = ()
    """rows that the rule makes anew along the way"""


def conservative_gap(
    sampled: Float[Array, "2 b n"], log_density: Float[Array, "b n"], data: Float[Array, "2 b"]
) -> Float[Array, "2 b"]:
    """ln Σ_n exp{Q(s, a_n) - ln p(a_n)} - Q(s, a_data) of each row and critic (CQL, equation 4 and appendix F)."""
    return jax.nn.logsumexp(sampled - log_density, axis=-1) - data


@dataclasses.dataclass(frozen=True)
class CQL(Backbone):
    """Conservative Q-learning."""

    name: ClassVar[str] = "cql"
    has_value_network: ClassVar[bool] = False
    imitates: ClassVar[bool] = False
    takes_policy_optimiser: ClassVar[bool] = True
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"policy": ("policy",), "critic": ("critic", "slow_critic")}

    conservatism: float = 10.0
    """α_cql, the weight of the gap [CORL and ODRL's hybrid: 10; original: 5 or 10]"""
    actions: int = 10
    """n, sampled actions of each of the three kinds per row [original: 10]"""
    policy_learning_rate: float = 1e-4
    """Adam's rate for the policy and the entropy's weight [original: 1e-4]"""
    learning_rate: float = 3e-4
    """Adam's rate for the critic [original: 3e-4]"""
    discount: float = 0.99
    """γ [original: 0.99]"""
    slow_rate: float = 0.005
    """rate of the slow critic [original: 0.005]"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of critic and policy [ODRL's hybrid: 256, 256; original: 3 of 256]"""
    layer_norm: bool = False
    """layer normalisation in Q: holds its values down off the data [original: no; Ball et al. 2023: yes]"""
    batch_size: int = 256
    """rows per update, half source and half target unless the rule says otherwise [original: 256]"""

    def __post_init__(self) -> None:
        check_common(
            self,
            shares=("discount", "slow_rate"),
            amounts=("conservatism", "policy_learning_rate", "learning_rate"),
        )
        if self.actions < 1:
            raise UsageError(f"backbone actions={self.actions}: must be at least 1")

    @property
    def tuned_numbers(self) -> tuple[str, ...]:
        return ("log_entropy_weight",)

    def init(self, rule: Rule, sizes: Sizes, updates: int, key: PRNGKeyArray) -> State:
        del updates
        critic_key, policy_key = jax.random.split(key)
        critic = twin(critic_key, (rule.widths(sizes)[1], *self.hidden, 1), critic_activation(self.layer_norm))
        policy = mlp(policy_key, (sizes.observation, *self.hidden, 2 * sizes.action))
        log_weight = jnp.zeros((), jnp.float32)
        policy_adam = optax.adam(self.policy_learning_rate)
        return State(
            critic,
            jax.tree.map(jnp.copy, critic),
            policy,
            log_weight,
            optax.adam(self.learning_rate).init(critic),
            rule.policy_optimiser(policy_adam).init(policy),
            policy_adam.init(log_weight),
            rule.init_learned(sizes, jax.random.fold_in(key, 3)),
        )

    def value_at(self, rule: Rule, models: Models, state: State) -> Value:
        return policy_value(rule, models, mean_policy(state.policy), state.slow_critic)

    def acts(self, state: State) -> Acting:
        return lambda observation: jnp.tanh(mean_policy(state.policy)(observation))

    def update(self, state: State, inputs: Inputs) -> tuple[State, Metrics]:
        rule, models, key = inputs.rule, inputs.models, inputs.key
        adam, policy_adam = optax.adam(self.learning_rate), optax.adam(self.policy_learning_rate)
        step, weights, metrics = self.open_update(state, inputs)
        batch, features = step.batch, step.features
        sample_key, next_key, policy_key = jax.random.split(key, 3)

        # --- Q: regression on the backup, and the conservative gap ---
        action, _ = squashed_sample(
            state.policy, batch.next_observation, jax.random.normal(next_key, batch.action.shape)
        )
        next_value = jnp.min(state.slow_critic(rule.see_action(models, batch.next_observation, action)), axis=0)
        backup = edited_backup(rule, step, next_value)
        actions, log_density = self._candidates(state.policy, batch, sample_key)
        states = jnp.broadcast_to(batch.observation[:, None], (*actions.shape[:2], batch.observation.shape[-1]))
        candidates = rule.see_action(models, states, actions)

        def critic_loss(critic: Twin) -> tuple[Array, tuple[Array, Array]]:
            # One pass over the data's action and all sampled ones.
            values = critic(jnp.concatenate([features.critic[:, None], candidates], axis=1))
            data = values[..., 0]
            gap = conservative_gap(values[..., 1:], log_density, data)
            loss = row_losses(rule, step, data - backup) + self.conservatism * gap
            loss = jnp.sum(jnp.mean(weights.critic * loss, axis=-1)) + rule.critic_term(step, data)
            return loss, (jnp.mean(gap), jnp.mean(jnp.min(data, axis=0)))

        (q_loss, (gap, mean_value)), gradient = jax.value_and_grad(critic_loss, has_aux=True)(state.critic)
        change, critic_optimiser = adam.update(gradient, state.critic_optimiser)
        critic = optax.apply_updates(state.critic, change)

        # --- policy: higher values, as much entropy as asked for ---
        noise = jax.random.normal(policy_key, batch.action.shape)
        entropy_weight = jnp.exp(state.log_entropy_weight)

        def policy_loss(policy: MLP) -> tuple[Array, Array]:
            action, log_density = squashed_sample(policy, batch.observation, noise)
            value = jnp.min(state.critic(rule.see_action(models, batch.observation, action)), axis=0)
            loss = jnp.mean(weights.policy * (entropy_weight * log_density - value))
            return loss + rule.actor_term(step, action), weighted_mean(log_density, weights.policy)

        (p_loss, log_density_now), gradient = jax.value_and_grad(policy_loss, has_aux=True)(state.policy)
        change, policy_optimiser = rule.policy_optimiser(policy_adam).update(gradient, state.policy_optimiser)
        policy = optax.apply_updates(state.policy, change)

        # d/d(ln α) of -ln α (ln π + wanted entropy), with wanted entropy -A
        wanted = batch.action.shape[-1] - log_density_now
        change, entropy_optimiser = policy_adam.update(wanted, state.entropy_optimiser)
        state = State(
            critic,
            moving_average(state.slow_critic, critic, self.slow_rate),
            policy,
            state.log_entropy_weight + change,
            critic_optimiser,
            policy_optimiser,
            entropy_optimiser,
            step.learned,
            state.extra,
        )
        losses = {"critic_loss": q_loss, "policy_loss": p_loss, "conservative_gap": gap, "mean_value": mean_value}
        return state, metrics | losses | {"entropy_weight": entropy_weight, "mean_backup": jnp.mean(backup)}

    def _candidates(self, policy: MLP, batch: Batch, key: PRNGKeyArray) -> tuple[Array, Array]:
        """3 n actions per row, [b, 3 n, a], and the logarithm of the density each was drawn with."""
        uniform_key, now_key, next_key = jax.random.split(key, 3)
        shape = (len(batch), self.actions, batch.action.shape[-1])
        uniform = jax.random.uniform(uniform_key, shape, minval=-1.0, maxval=1.0)
        kinds = [(uniform, jnp.full(shape[:2], shape[-1] * math.log(0.5)))]
        # A terminal row has no next state: what its file holds there is no place to draw actions from.
        following = jnp.where(batch.terminal[:, None] > 0, batch.observation, batch.next_observation)
        for drawn_key, states in ((now_key, batch.observation), (next_key, following)):
            states = jnp.broadcast_to(states[:, None], (*shape[:2], states.shape[-1]))
            kinds.append(squashed_sample(policy, states, jax.random.normal(drawn_key, shape)))
        actions, log_densities = zip(*kinds, strict=True)
        return jnp.concatenate(actions, axis=1), jnp.concatenate(log_densities, axis=1)

    def policy(self, state: State, normaliser: Normaliser, about: dict[str, Any]) -> Policy:
        return Policy.from_networks(mean_policy(state.policy), normaliser, about)
