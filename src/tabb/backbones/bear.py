"""BEAR (Kumar et al. 2019): climb Q with a policy whose actions stay within the support of the data's.

    a'     k actions of the slow policy at s'
    b      r + γ (1 - d) max_k {λ min_i Q_i,slow(s', a'_k) + (1 - λ) max_i Q_i,slow(s', a'_k)}
    L_π    mean over rows of  -min_i Q_i(s, a) + e^ν MMD(π(s), p̂(s)),  a ~ π(s)        MMD alone in the first updates
    L_ν    -e^ν (mean MMD - ε):  ν rises while the policy is further from the data than ε

MMD compares n samples of the policy with n of an autoencoder of the data's actions, which learns along, before both are
squashed into [-1, 1]. A rule's weights act on the rows of all losses; V(s) is min_i Q_i,slow(s, π(s)) at the policy's
mean action, which is also what is deployed.
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
    check_common,
    critic_error,
    edited_backup,
    mean_policy,
    policy_value,
    soft_clipped_value,
    weighted_mean,
)
from tabb.batch import Sizes
from tabb.errors import UsageError
from tabb.models.cvae import CVAE, CVAEConfig, init_cvae
from tabb.networks import MLP, Normaliser, Twin, mlp, moving_average, twin
from tabb.policy import Policy
from tabb.rules.rule import Learned, Metrics, Models, Rule, Value
from tabb.rules.step import Acting

LEAST_LOG_DEVIATION, LARGEST_LOG_DEVIATION = -4.0, 2.0
LEAST_MULTIPLIER, LARGEST_MULTIPLIER = -5.0, 10.0
"""bounds of ν"""
LARGEST_LATENT = 0.5
"""latents of the autoencoder are cut there: its usual actions"""


class State(NamedTuple):
    """All that an update changes."""

    cvae: CVAE
    critic: Twin
    slow_critic: Twin
    policy: MLP
    slow_policy: MLP
    log_multiplier: Float[Array, ""]
    cvae_optimiser: optax.OptState
    critic_optimiser: optax.OptState
    policy_optimiser: optax.OptState
    multiplier_optimiser: optax.OptState
    learned: Learned = ()
    extra: Any = ()


def gaussian_sample(
    policy: MLP, observation: Float[Array, "*b s"], noise: Float[Array, "*b a"]
) -> Float[Array, "*b a"]:
    """μ + σ ε, before it is squashed."""
    mean, log_deviation = jnp.split(policy(observation), 2, axis=-1)
    return mean + jnp.exp(jnp.clip(log_deviation, LEAST_LOG_DEVIATION, LARGEST_LOG_DEVIATION)) * noise


def kernel_mean(
    first: Float[Array, "b n a"], second: Float[Array, "b m a"], kernel: str, bandwidth: float
) -> Float[Array, " b"]:
    """Mean over all pairs of k(x, y) = exp(-d / 2σ), d the sum of |x - y| (laplacian) or of its square (gaussian)."""
    difference = first[:, :, None] - second[:, None]
    distance = jnp.abs(difference) if kernel == "laplacian" else difference**2
    return jnp.mean(jnp.exp(-jnp.sum(distance, axis=-1) / (2.0 * bandwidth)), axis=(1, 2))


def discrepancy(
    first: Float[Array, "b n a"], second: Float[Array, "b m a"], kernel: str, bandwidth: float
) -> Float[Array, " b"]:
    """MMD of two sets of samples, row by row (BEAR, equation 4)."""
    alike = kernel_mean(first, first, kernel, bandwidth) + kernel_mean(second, second, kernel, bandwidth)
    return jnp.sqrt(jnp.maximum(alike - 2.0 * kernel_mean(first, second, kernel, bandwidth), 0.0) + 1e-6)


@dataclasses.dataclass(frozen=True)
class BEAR(Backbone):
    """Bootstrapping error accumulation reduction."""

    name: ClassVar[str] = "bear"
    has_value_network: ClassVar[bool] = False
    takes_policy_optimiser: ClassVar[bool] = True
    parts: ClassVar[dict[str, tuple[str, ...]]] = {
        "policy": ("cvae", "policy", "slow_policy"),
        "critic": ("critic", "slow_critic"),
    }
    presets: ClassVar[dict[str, dict[str, Any]]] = {"gaussian": {"kernel": "gaussian", "bandwidth": 20.0}}

    threshold: float = 0.05
    """ε, the discrepancy that the policy is held to [authors: 0.05]"""
    samples: int = 5
    """n, actions of the policy and of the data per row [authors' run lines: 5; default 10]"""
    kernel: Literal["laplacian", "gaussian"] = "laplacian"
    """of the discrepancy [authors: laplacian for Hopper, gaussian for Walker2d]"""
    bandwidth: float = 10.0
    """σ of the kernel [authors: 10 with laplacian, 20 with gaussian]"""
    warm_share: float = 0.02
    """share of the run in which the policy does not climb Q yet [authors: 20 of 1,000 epochs]"""
    pessimism: float = 0.75
    """λ, weight of the smaller critic in the backup [authors: 0.75]"""
    candidates: int = 10
    """k, actions per next state [authors: 10]"""
    discount: float = 0.99
    """γ [authors: 0.99]"""
    slow_rate: float = 0.005
    """rate of the slow networks [authors: 0.005]"""
    learning_rate: float = 1e-3
    """Adam's rate for all networks and ν [authors: 1e-3]"""
    hidden: tuple[int, ...] = (400, 300)
    """widths of the hidden layers of critics and policy [as BCQ, on whose code it is built]"""
    cvae_hidden: tuple[int, ...] = (750, 750)
    """widths of the hidden layers of the autoencoder [authors: 750, 750]"""
    divergence: float = 0.5
    """weight of the autoencoder's Kullback-Leibler term [authors: 0.5]"""
    batch_size: int = 256
    """rows per update, half source and half target unless the rule says otherwise [authors: 100]"""

    def __post_init__(self) -> None:
        check_common(
            self,
            shares=("discount", "slow_rate"),
            amounts=("threshold", "learning_rate", "divergence"),
            widths=("hidden", "cvae_hidden"),
        )
        if self.kernel not in ("laplacian", "gaussian"):
            raise UsageError(f"backbone kernel={self.kernel!r} is unknown: use laplacian or gaussian")
        if not self.bandwidth > 0:
            raise UsageError(f"backbone bandwidth={self.bandwidth}: must be positive")
        for name in ("warm_share", "pessimism"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"backbone {name}={getattr(self, name)}: must lie in [0, 1]")
        for name in ("samples", "candidates"):
            if getattr(self, name) < 1:
                raise UsageError(f"backbone {name}={getattr(self, name)}: must be at least 1")

    def init(self, rule: Rule, sizes: Sizes, updates: int, key: PRNGKeyArray) -> State:
        del updates
        cvae_key, critic_key, policy_key = jax.random.split(key, 3)
        cvae = init_cvae(CVAEConfig(hidden=self.cvae_hidden), sizes.observation, sizes.action, cvae_key)
        critic = twin(critic_key, (rule.widths(sizes)[1], *self.hidden, 1))
        policy = mlp(policy_key, (sizes.observation, *self.hidden, 2 * sizes.action))
        log_multiplier = jnp.zeros((), jnp.float32)
        adam = optax.adam(self.learning_rate)
        return State(
            cvae,
            critic,
            jax.tree.map(jnp.copy, critic),
            policy,
            jax.tree.map(jnp.copy, policy),
            log_multiplier,
            adam.init(cvae),
            adam.init(critic),
            rule.policy_optimiser(adam).init(policy),
            adam.init(log_multiplier),
            rule.init_learned(sizes, jax.random.fold_in(key, 3)),
        )

    def value_at(self, rule: Rule, models: Models, state: State) -> Value:
        return policy_value(rule, models, mean_policy(state.policy), state.slow_critic)

    def acts(self, state: State) -> Acting:
        return lambda observation: jnp.tanh(mean_policy(state.policy)(observation))

    def update(self, state: State, inputs: Inputs) -> tuple[State, Metrics]:
        rule, models, key = inputs.rule, inputs.models, inputs.key
        adam = optax.adam(self.learning_rate)
        noise_key, next_key, latent_key, policy_key = jax.random.split(key, 4)
        step, weights, metrics = self.open_update(state, inputs)
        batch, features = step.batch, step.features
        rows, size = batch.action.shape

        # --- what the data would do ---
        imitated, wanted = batch.to_imitate()
        noise = jax.random.normal(noise_key, (rows, 2 * size))

        def cvae_loss(cvae: CVAE) -> Array:
            mean, log_deviation = cvae.encode(imitated, wanted)
            decoded = cvae.decode(imitated, mean + jnp.exp(log_deviation) * noise)
            spread = -0.5 * (1.0 + 2.0 * log_deviation - mean**2 - jnp.exp(2.0 * log_deviation))
            loss = jnp.mean((decoded - wanted) ** 2, axis=-1) + self.divergence * jnp.mean(spread, axis=-1)
            return jnp.mean(batch.imitation_weight(weights.policy) * loss)

        c_loss, gradient = jax.value_and_grad(cvae_loss)(state.cvae)
        change, cvae_optimiser = adam.update(gradient, state.cvae_optimiser)
        cvae = optax.apply_updates(state.cvae, change)

        # --- Q: regression on the backup of the best of the slow policy's actions ---
        states = _repeated(batch.next_observation, self.candidates)
        noise = jax.random.normal(next_key, (rows, self.candidates, size))
        actions = jnp.tanh(gaussian_sample(state.slow_policy, states, noise))
        next_value = soft_clipped_value(state.slow_critic(rule.see_action(models, states, actions)), self.pessimism)
        backup = edited_backup(rule, step, next_value)

        def critic_loss(critic: Twin) -> tuple[Array, Array]:
            values = critic(features.critic)
            return critic_error(rule, step, weights, values, backup), jnp.mean(jnp.min(values, axis=0))

        (q_loss, mean_value), gradient = jax.value_and_grad(critic_loss, has_aux=True)(state.critic)
        change, critic_optimiser = adam.update(gradient, state.critic_optimiser)
        critic = optax.apply_updates(state.critic, change)

        # --- policy: uphill on the critics, within the data's support ---
        states = _repeated(batch.observation, self.samples)
        latents = jax.random.normal(latent_key, (rows, self.samples, 2 * size))
        latents = jnp.clip(latents, -LARGEST_LATENT, LARGEST_LATENT)
        logged = cvae.decoder(jnp.concatenate([states, latents], axis=-1))
        noise = jax.random.normal(policy_key, (rows, self.samples, size))
        warm = inputs.number < round(self.warm_share * inputs.run_updates)

        def policy_loss(policy: MLP) -> tuple[Array, Array]:
            sampled = gaussian_sample(policy, states, noise)
            distance = discrepancy(logged, sampled, self.kernel, self.bandwidth)
            values = jnp.min(critic(rule.see_action(models, states, jnp.tanh(sampled))), axis=0)
            loss = jnp.exp(state.log_multiplier) * distance - jnp.where(warm, 0.0, jnp.mean(values, axis=-1))
            action = jnp.tanh(mean_policy(policy)(batch.observation))
            total = jnp.mean(weights.policy * loss) + rule.actor_term(step, action)
            return total, weighted_mean(distance, weights.policy)

        (p_loss, distance), gradient = jax.value_and_grad(policy_loss, has_aux=True)(state.policy)
        change, policy_optimiser = rule.policy_optimiser(adam).update(gradient, state.policy_optimiser)
        policy = optax.apply_updates(state.policy, change)

        # d/dν of -e^ν (MMD - ε)
        slope = -jnp.exp(state.log_multiplier) * (distance - self.threshold)
        change, multiplier_optimiser = adam.update(slope, state.multiplier_optimiser)
        state = State(
            cvae,
            critic,
            moving_average(state.slow_critic, critic, self.slow_rate),
            policy,
            moving_average(state.slow_policy, policy, self.slow_rate),
            jnp.clip(state.log_multiplier + change, LEAST_MULTIPLIER, LARGEST_MULTIPLIER),
            cvae_optimiser,
            critic_optimiser,
            policy_optimiser,
            multiplier_optimiser,
            step.learned,
            state.extra,
        )
        losses = {"critic_loss": q_loss, "policy_loss": p_loss, "cvae_loss": c_loss, "mean_value": mean_value}
        held = {"discrepancy": distance, "multiplier": jnp.exp(state.log_multiplier)}
        return state, metrics | losses | held | {"mean_backup": jnp.mean(backup)}

    def policy(self, state: State, normaliser: Normaliser, about: dict[str, Any]) -> Policy:
        return Policy.from_networks(mean_policy(state.policy), normaliser, about)


def _repeated(observation: Float[Array, "b s"], count: int) -> Float[Array, "b {count} s"]:
    return jnp.broadcast_to(observation[:, None], (len(observation), count, observation.shape[-1]))
