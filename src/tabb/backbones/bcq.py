"""Batch-constrained Q-learning (Fujimoto et al. 2019): choose by Q among actions that the data could have taken.

    candidates   a_k = clip(ã_k + φ tanh(ξ(s, ã_k)), ±1),  ã_k = decoder(s, z_k),  z_k ~ N(0, 1) clipped to ±1/2
    b            = r + γ (1 - d) max_k {λ min_i Q_i,slow(s', a'_k) + (1 - λ) max_i Q_i,slow(s', a'_k)}
    L_ξ          = -mean Q_1(s, a_1)
    act          the best of 100 candidates by Q_1

The autoencoder of actions, the critics and the perturbation ξ learn side by side. There is no value of a state apart
from the candidates, and rows are not weighed: only rules that say which rows are drawn, such as the baselines, act on
this backbone.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.backbones.backbone import Backbone, Inputs, check_common, critic_error, edited_backup, soft_clipped_value
from tabb.batch import Sizes
from tabb.errors import UsageError
from tabb.models.cvae import CVAE, CVAEConfig, cvae_loss, init_cvae
from tabb.networks import MLP, Normaliser, Twin, mlp, moving_average, twin
from tabb.policy.candidates import CandidatePolicy
from tabb.rules.rule import Learned, Metrics, Models, Rule, Value
from tabb.rules.step import Acting

LARGEST_LATENT = 0.5
ACTING_CANDIDATES = 100


class State(NamedTuple):
    """All that an update changes, and the latents that the deployed policy decodes."""

    cvae: CVAE
    critic: Twin
    slow_critic: Twin
    perturbation: MLP
    slow_perturbation: MLP
    cvae_optimiser: optax.OptState
    critic_optimiser: optax.OptState
    perturbation_optimiser: optax.OptState
    latents: Float[Array, "k z"]
    learned: Learned = ()
    extra: Any = ()


def perturbed(
    perturbation: MLP, observation: Float[Array, "*b s"], action: Float[Array, "*b a"], reach: float
) -> Float[Array, "*b a"]:
    """clip(a + φ tanh(ξ(s, a)), ±1)."""
    change = jnp.tanh(perturbation(jnp.concatenate([observation, action], axis=-1)))
    return jnp.clip(action + reach * change, -1.0, 1.0)


@dataclasses.dataclass(frozen=True)
class BCQ(Backbone):
    """Batch-constrained Q-learning."""

    name: ClassVar[str] = "bcq"
    has_value_network: ClassVar[bool] = False
    parts: ClassVar[dict[str, tuple[str, ...]]] = {
        "policy": ("cvae", "perturbation", "slow_perturbation"),
        "critic": ("critic", "slow_critic"),
    }
    takes_seams: ClassVar[bool] = False
    weighs_imitation: ClassVar[bool] = False

    reach: float = 0.05
    """φ, how far an action may be moved from what the data would do [original: 0.05]"""
    pessimism: float = 0.75
    """λ, weight of the smaller critic in the backup [original: 0.75]"""
    candidates: int = 10
    """actions per next state [original: 10]"""
    discount: float = 0.99
    """γ [original: 0.99]"""
    slow_rate: float = 0.005
    """rate of the slow networks [original: 0.005]"""
    learning_rate: float = 1e-3
    """Adam's rate for all networks [original: 1e-3]"""
    hidden: tuple[int, ...] = (400, 300)
    """widths of the hidden layers of critics and perturbation [original: 400, 300]"""
    cvae_hidden: tuple[int, ...] = (750, 750)
    """widths of the hidden layers of the autoencoder [original: 750, 750]"""
    divergence: float = 0.5
    """weight of the autoencoder's Kullback-Leibler term [original: 0.5]"""
    batch_size: int = 256
    """rows per update, half source and half target unless the rule says otherwise [original: 100]"""

    def __post_init__(self) -> None:
        check_common(
            self,
            shares=("discount", "slow_rate"),
            amounts=("reach", "learning_rate", "divergence"),
            widths=("hidden", "cvae_hidden"),
        )
        if not 0 <= self.pessimism <= 1:
            raise UsageError(f"backbone pessimism={self.pessimism}: must lie in [0, 1]")
        if self.candidates < 1:
            raise UsageError(f"backbone candidates={self.candidates}: must be at least 1")

    def init(self, rule: Rule, sizes: Sizes, updates: int, key: PRNGKeyArray) -> State:
        del updates
        cvae_key, critic_key, perturbation_key, latent_key = jax.random.split(key, 4)
        pair = sizes.observation + sizes.action
        cvae = init_cvae(CVAEConfig(hidden=self.cvae_hidden), sizes.observation, sizes.action, cvae_key)
        critic = twin(critic_key, (rule.widths(sizes)[1], *self.hidden, 1))
        perturbation = mlp(perturbation_key, (pair, *self.hidden, sizes.action))
        adam = optax.adam(self.learning_rate)
        return State(
            cvae,
            critic,
            jax.tree.map(jnp.copy, critic),
            perturbation,
            jax.tree.map(jnp.copy, perturbation),
            adam.init(cvae),
            adam.init(critic),
            adam.init(perturbation),
            clipped_latents(latent_key, (ACTING_CANDIDATES, 2 * sizes.action)),
            rule.init_learned(sizes, jax.random.fold_in(key, 3)),
        )

    def value_at(self, rule: Rule, models: Models, state: State) -> Value:
        """V(s) = the softly clipped value of the best candidate, decoded from the first of the kept latents."""
        latents = state.latents[: self.candidates]

        def value(observation: Array) -> Array:
            flat = observation.reshape(-1, observation.shape[-1])
            shape = (len(flat), len(latents))
            states = jnp.broadcast_to(flat[:, None], (*shape, flat.shape[-1]))
            decoded = state.cvae.decode(states, jnp.broadcast_to(latents, (*shape, latents.shape[-1])))
            actions = perturbed(state.slow_perturbation, states, decoded, self.reach)
            values = soft_clipped_value(state.slow_critic(rule.see_action(models, states, actions)), self.pessimism)
            return values.reshape(observation.shape[:-1])

        return value

    def acts(self, state: State) -> Acting:
        """The best candidate by the first critic, as `CandidatePolicy` acts."""

        def act(observation: Array) -> Array:
            shape = (*observation.shape[:-1], len(state.latents))
            states = jnp.broadcast_to(observation[..., None, :], (*shape, observation.shape[-1]))
            decoded = state.cvae.decode(states, jnp.broadcast_to(state.latents, (*shape, state.latents.shape[-1])))
            actions = perturbed(state.perturbation, states, decoded, self.reach)
            values = state.critic.first(jnp.concatenate([states, actions], axis=-1))[..., 0]
            best = jnp.argmax(values, axis=-1)[..., None, None]
            return jnp.take_along_axis(actions, best, axis=-2)[..., 0, :]

        return act

    def update(self, state: State, inputs: Inputs) -> tuple[State, Metrics]:
        rule, models, key = inputs.rule, inputs.models, inputs.key
        adam = optax.adam(self.learning_rate)
        noise_key, next_key, now_key = jax.random.split(key, 3)
        # The rules it takes weigh all rows alike; the weights keep this backbone's losses those of the others.
        step, weights, metrics = self.open_update(state, inputs)
        batch, features = step.batch, step.features
        latent_shape = (len(batch), 2 * batch.action.shape[-1])

        # --- what the data would do ---
        noise = jax.random.normal(noise_key, latent_shape)
        loss, gradient = jax.value_and_grad(cvae_loss)(state.cvae, *batch.to_imitate(), noise, self.divergence)
        change, cvae_optimiser = adam.update(gradient, state.cvae_optimiser)
        cvae = optax.apply_updates(state.cvae, change)

        # --- Q: regression on the best candidate's backup ---
        states = jnp.broadcast_to(
            batch.next_observation[:, None], (len(batch), self.candidates, batch.observation.shape[-1])
        )
        latent = clipped_latents(next_key, (len(batch), self.candidates, latent_shape[-1]))
        actions = perturbed(state.slow_perturbation, states, cvae.decode(states, latent), self.reach)
        next_value = soft_clipped_value(state.slow_critic(rule.see_action(models, states, actions)), self.pessimism)
        backup = edited_backup(rule, step, next_value)

        def critic_loss(critic: Twin) -> tuple[Array, Array]:
            values = critic(features.critic)
            return critic_error(rule, step, weights, values, backup), jnp.mean(jnp.min(values, axis=0))

        (q_loss, mean_value), gradient = jax.value_and_grad(critic_loss, has_aux=True)(state.critic)
        change, critic_optimiser = adam.update(gradient, state.critic_optimiser)
        critic = optax.apply_updates(state.critic, change)

        # --- perturbation: uphill on the first critic ---
        decoded = cvae.decode(batch.observation, clipped_latents(now_key, latent_shape))

        def perturbation_loss(perturbation: MLP) -> Array:
            action = perturbed(perturbation, batch.observation, decoded, self.reach)
            return -jnp.mean(weights.policy * critic.first(rule.see_action(models, batch.observation, action))[..., 0])

        p_loss, gradient = jax.value_and_grad(perturbation_loss)(state.perturbation)
        change, perturbation_optimiser = adam.update(gradient, state.perturbation_optimiser)
        perturbation = optax.apply_updates(state.perturbation, change)
        state = State(
            cvae,
            critic,
            moving_average(state.slow_critic, critic, self.slow_rate),
            perturbation,
            moving_average(state.slow_perturbation, perturbation, self.slow_rate),
            cvae_optimiser,
            critic_optimiser,
            perturbation_optimiser,
            state.latents,
            step.learned,
            state.extra,
        )
        losses = {"critic_loss": q_loss, "policy_loss": p_loss, "cvae_loss": loss, "mean_value": mean_value}
        return state, metrics | losses | {"mean_backup": jnp.mean(backup)}

    def policy(self, state: State, normaliser: Normaliser, about: dict[str, Any]) -> CandidatePolicy:
        return CandidatePolicy.from_candidates(
            state.cvae.decoder, state.perturbation, state.critic.first, state.latents, self.reach, normaliser, about
        )


def clipped_latents(key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
    """Standard normal numbers clipped to ±1/2: what is decoded stays near the data's usual actions."""
    return jnp.clip(jax.random.normal(key, shape), -LARGEST_LATENT, LARGEST_LATENT)
