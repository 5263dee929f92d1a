"""Implicit Q-learning (Kostrikov et al. 2021) as the cross-domain field runs it, whole.

One update, in this order: V by expectile regression on the slow critic, the twin critic on the backup with the
new V, the slow critic, the policy by advantage-weighted regression with the advantage from before the V update.
Constants: the ODRL benchmark's. A transfer rule acts through its seams (see `tabb.rules.rule`); with none this
is pooled IQL.

The policy can climb Q instead, held to the data's actions as that of TD3+BC is: `extraction="improvement"`, after Park
et al. 2024 (Is Value Learning Really the Main Bottleneck in Offline RL?), who call it DDPG+BC. Or it imitates actions
that were optimised on Q: `extraction="optimised"`, after Mark et al. 2024 (PA-RL).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

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
    sum_of,
)
from tabb.backbones.optimised_actions import OptimisedActions
from tabb.batch import Sizes
from tabb.errors import UsageError
from tabb.networks import MLP, Committee, Twin, committee, members_of, mlp, moving_average, twin
from tabb.rules.rule import Learned, Metrics, Models, Rule, Value
from tabb.rules.step import Acting

OPTIMISED_KEY = 8
"""folded into an update's key for the candidates of optimised actions"""


class State(NamedTuple):
    """All that an update changes."""

    value: MLP
    critic: Twin
    slow_critic: Twin
    policy: MLP | Committee
    value_optimiser: optax.OptState
    critic_optimiser: optax.OptState
    policy_optimiser: optax.OptState
    learned: Learned = ()
    """what the rule learns along the way"""
    extra: Any = ()
    """rows that the rule makes anew along the way"""


def expectile_loss(error: Float[Array, " b"], expectile: float) -> Float[Array, " b"]:
    """|λ - 1{u < 0}| u²: asymmetric square, λ > 0.5 leans to the upper end (IQL, equation 5)."""
    return jnp.where(error < 0, 1.0 - expectile, expectile) * error**2


def advantage_weight(advantage: Float[Array, " b"], temperature: float, largest: float) -> Float[Array, " b"]:
    """min(exp(β A), largest): how much the policy imitates a row (IQL, equation 7)."""
    # The clip comes before exp so that a huge advantage gives `largest` and never inf.
    return jnp.exp(jnp.minimum(temperature * advantage, jnp.log(largest)))


def valued_by(network: MLP) -> Value:
    """V with this network."""
    return lambda seen: network(seen)[..., 0]


@dataclasses.dataclass(frozen=True)
class IQL(Backbone):
    """Implicit Q-learning."""

    name: ClassVar[str] = "iql"
    has_value_network: ClassVar[bool] = True
    matches: ClassVar[bool] = True
    takes_policy_optimiser: ClassVar[bool] = True
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"policy": ("policy",), "critic": ("value", "critic", "slow_critic")}
    suite_constants: ClassVar[dict[str, dict[str, Any]]] = {
        "adroit": {"temperature": 0.5},
        "antmaze": {"expectile": 0.9, "temperature": 10.0},
    }

    expectile: float = 0.7
    """λ of the value loss; 0.5 is the mean, 1 the maximum over the data's actions [ODRL MuJoCo: 0.7]"""
    temperature: float = 0.5
    """β of the advantage weight exp(β A), A in raw rewards [paper: 3, of rewards times 1000 / (best - worst return),
    which is about 0.5 in raw ones; ODRL MuJoCo: 3 in raw rewards, which did worse: docs/measured-policies.md]"""
    largest_advantage_weight: float = 100.0
    """upper clip of exp(β A) [ODRL: 100]"""
    extraction: Literal["imitation", "improvement", "optimised"] = "imitation"
    """how the policy comes from V and Q: `imitation` of the data's actions by their advantage weights [paper],
    `improvement` of min Q, held to those actions [Park et al. 2024: DDPG+BC], or imitation of actions that were
    `optimised` on Q [Mark et al. 2024: PA-RL]"""
    value_weight: float = 0.5
    """α of `improvement`, the weight of Q against cloning [TD3+BC: 2.5, with which it fell on hopper; ours]"""
    optimised: OptimisedActions = OptimisedActions()  # noqa: RUF009  # frozen
    """how actions are optimised for the policy to imitate"""
    discount: float = 0.99
    """γ [ODRL: 0.99]"""
    slow_rate: float = 0.005
    """rate of the slow critic, τ [ODRL: 0.005]"""
    learning_rate: float = 3e-4
    """Adam's rate for V, Q and the policy; the policy's falls to 0 as a cosine over the run [ODRL: 3e-4]"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of V, Q and the policy [ODRL: 256, 256]"""
    layer_norm: bool = True
    """layer normalisation in V and Q: holds their values down off the data, and TABB ranks rows far better by such a V
    [ODRL: no; Ball et al. 2023: yes; measured: docs/measured-rows.md]"""
    policies: int = 5
    """networks of the policy, which act as their mean; each learns as if it were alone [ODRL: 1; with few rows one
    network drifts, and the mean far less: docs/few-rows.md]"""
    batch_size: int = 256
    """rows per update, half source and half target unless the rule says otherwise [ODRL: 128 + 128]"""

    def __post_init__(self) -> None:
        check_common(
            self,
            shares=("expectile", "discount", "slow_rate"),
            amounts=("temperature", "learning_rate", "value_weight"),
        )
        if not self.largest_advantage_weight > 0:
            raise UsageError(f"backbone largest_advantage_weight={self.largest_advantage_weight}: must be positive")

    def without_effect(self) -> dict[str, str]:
        counts = {
            "imitation": ["temperature", "largest_advantage_weight"],
            "improvement": ["value_weight"],
            "optimised": [f"optimised.{field.name}" for field in dataclasses.fields(self.optimised)],
        }
        others = {way: names for way, names in counts.items() if way != self.extraction}
        return {name: f"extraction {way}" for way, names in others.items() for name in names}

    def optimisers(self, updates: int) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
        """Adam for V and Q, and Adam with the cosine schedule over `updates` for the policy."""
        schedule = optax.cosine_decay_schedule(self.learning_rate, max(updates, 1))
        return optax.adam(self.learning_rate), optax.adam(schedule)

    def init(self, rule: Rule, sizes: Sizes, updates: int, key: PRNGKeyArray) -> State:
        """Fresh networks and optimisers."""
        value_key, critic_key, policy_key = jax.random.split(key, 3)
        value_width, critic_width = rule.widths(sizes)
        value = mlp(value_key, (value_width, *self.hidden, 1), critic_activation(self.layer_norm))
        critic = twin(critic_key, (critic_width, *self.hidden, 1), critic_activation(self.layer_norm))
        policy = committee(policy_key, (sizes.observation, *self.hidden, sizes.action), self.policies)
        adam, policy_adam = self.optimisers(updates)
        # A copy, not an alias: the state is donated to the compiled loop, and a buffer can be given away once.
        slow_critic = jax.tree.map(jnp.copy, critic)
        return State(
            value,
            critic,
            slow_critic,
            policy,
            adam.init(value),
            adam.init(critic),
            rule.policy_optimiser(policy_adam).init(policy),
            rule.init_learned(sizes, jax.random.fold_in(key, 3)),
        )

    def value_at(self, rule: Rule, models: Models, state: State) -> Value:
        del rule, models
        return valued_by(state.value)

    def acts(self, state: State) -> Acting:
        return lambda observation: jnp.tanh(state.policy(observation))

    def update(self, state: State, inputs: Inputs) -> tuple[State, Metrics]:
        """One update of V, Q, slow Q and the policy on one batch; pure."""
        rule, models, key = inputs.rule, inputs.models, inputs.key
        adam, policy_adam = self.optimisers(inputs.updates)
        step, weights, metrics = self.open_update(state, inputs)
        batch, features = step.batch, step.features

        # --- V: expectile regression on the slow critic ---
        slow_q = jnp.min(state.slow_critic(features.critic), axis=0)

        def value_loss(value: MLP) -> tuple[Array, Array]:
            advantage = slow_q - value(features.now)[..., 0]
            return jnp.mean(weights.value * expectile_loss(advantage, self.expectile)), advantage

        (v_loss, advantage), gradient = jax.value_and_grad(value_loss, has_aux=True)(state.value)
        change, value_optimiser = adam.update(gradient, state.value_optimiser)
        value: MLP = optax.apply_updates(state.value, change)
        step = dataclasses.replace(step, value=valued_by(value))

        # --- Q: regression on the backup with the new V ---
        backup = edited_backup(rule, step, step.value(features.following))

        def critic_loss(critic: Twin) -> Array:
            return critic_error(rule, step, weights, critic(features.critic), backup)

        q_loss, gradient = jax.value_and_grad(critic_loss)(state.critic)
        change, critic_optimiser = adam.update(gradient, state.critic_optimiser)
        critic = optax.apply_updates(state.critic, change)
        slow_critic: Twin = moving_average(state.slow_critic, critic, self.slow_rate)

        # --- policy: advantage-weighted regression on the data's actions, or Q held to them ---
        policy_weight = batch.imitation_weight(weights.policy)
        imitation = policy_weight * advantage_weight(advantage, self.temperature, self.largest_advantage_weight)

        observation, wanted = batch.to_imitate()
        if self.extraction == "optimised":
            imitation = policy_weight
            wanted = self._optimised(rule, models, critic, state.policy, observation, wanted, key)

        def policy_loss(policy: MLP) -> Array:
            action = jnp.tanh(policy(observation))
            distance = jnp.mean((action - wanted) ** 2, axis=-1)
            term = rule.actor_term(step, action_at_rows(policy, batch, action))
            if self.extraction != "improvement":
                return jnp.mean(imitation * distance) + term
            q = jnp.min(critic(rule.see_action(models, observation, action)), axis=0)
            loss = cloned_improvement(q, distance, policy_weight, self.value_weight, 1.0)
            return jnp.mean(policy_weight * loss) + term

        def loss_of_all(policy: MLP | Committee) -> Array:
            loss = sum_of(policy_loss(one) for one in members_of(policy))
            unit = jnp.mean(policy_weight if self.extraction == "improvement" else imitation)
            return held_to_paths(loss, policy, batch, unit)

        p_loss, gradient = jax.value_and_grad(loss_of_all)(state.policy)
        change, policy_optimiser = rule.policy_optimiser(policy_adam).update(gradient, state.policy_optimiser)
        policy = optax.apply_updates(state.policy, change)

        state = State(
            value,
            critic,
            slow_critic,
            policy,
            value_optimiser,
            critic_optimiser,
            policy_optimiser,
            step.learned,
            state.extra,
        )
        return state, metrics | {
            "value_loss": v_loss,
            "critic_loss": q_loss,
            "policy_loss": p_loss,
            "mean_value": jnp.mean(slow_q - advantage),
            "mean_backup": jnp.mean(backup),
        }

    def _optimised(
        self,
        rule: Rule,
        models: Models,
        critic: Twin,
        policy: MLP | Committee,
        observation: Float[Array, "b s"],
        logged: Float[Array, "b a"],
        key: PRNGKeyArray,
    ) -> Float[Array, "b a"]:
        """Actions that the policy imitates in place of the logged ones, by the mean of both critics."""

        def value(actions: Float[Array, "b k a"]) -> Float[Array, "b k"]:
            states = jnp.broadcast_to(observation[:, None], (*actions.shape[:2], observation.shape[-1]))
            return jnp.mean(critic(rule.see_action(models, states, actions)), axis=0)

        count, size = logged.shape
        noise = jax.random.normal(jax.random.fold_in(key, OPTIMISED_KEY), (count, self.optimised.candidates - 1, size))
        return self.optimised.best(value, jnp.tanh(policy(observation)), logged, noise)
