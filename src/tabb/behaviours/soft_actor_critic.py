"""Soft actor-critic (Haarnoja et al. 2018) with layer-normalised critics (RLPD, Ball et al. 2023).

It trains the walking ant of the mazes' data sets in the simulator; no compared method uses it. One update:

    a' ~ π(s'),  b = r + γ (1 - d) (min_i Q_i,slow(s', a') - α log π(a' | s'))
    L_Q = mean of (Q_i(s, a) - b)²
    L_π = mean of  α log π(a | s) - min_i Q_i(s, a),  a ~ π(s)
    L_α = -log α (mean of log π(a | s) + H),  H the desired entropy of the action
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tabb.batch import Sizes
from tabb.bellman import bellman_backup
from tabb.field_types import TypedFields
from tabb.networks import MLP, Normaliser, mlp, moving_average

LOG_DEVIATION = (-5.0, 2.0)
"""Bounds of log σ, σ the standard deviation of the action before tanh."""


class NormedMLP(eqx.Module):
    """An MLP with layer normalisation before each ReLU: it bounds Q at actions outside the data (RLPD, section 4.2)."""

    layers: MLP

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        weights, biases = self.layers.weights, self.layers.biases
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            x = x @ weight + bias
            mean, variance = jnp.mean(x, -1, keepdims=True), jnp.var(x, -1, keepdims=True)
            x = jax.nn.relu((x - mean) * jax.lax.rsqrt(variance + 1e-5))
        return x @ weights[-1] + biases[-1]


class Critics(eqx.Module):
    """Two critics; a call returns both values, shape [2, B]."""

    first: NormedMLP
    second: NormedMLP

    def __call__(self, observation: Array, action: Array) -> Array:
        x = jnp.concatenate([observation, action], axis=-1)
        return jnp.stack([self.first(x)[..., 0], self.second(x)[..., 0]])


class State(NamedTuple):
    """Everything that an update changes."""

    policy: MLP
    """observation -> (mean, log σ) of the action before tanh, side by side"""
    critics: Critics
    slow_critics: Critics
    log_temperature: Float[Array, ""]
    """log α"""
    policy_optimiser: optax.OptState
    critics_optimiser: optax.OptState
    temperature_optimiser: optax.OptState


class Rows(NamedTuple):
    """Transitions with standardised observations."""

    observation: Float[Array, "n s"]
    action: Float[Array, "n a"]
    reward: Float[Array, " n"]
    next_observation: Float[Array, "n s"]
    terminal: Float[Array, " n"]


def log_density(noise: Float[Array, "*b a"], log_deviation: Array, before: Array) -> Float[Array, "*b"]:
    """log π of the action tanh(u), u = mean + σ noise = `before`: the normal log density less log(1 - tanh² u)."""
    normal = -0.5 * noise**2 - log_deviation - 0.5 * math.log(2 * math.pi)
    squash = 2.0 * (math.log(2.0) - before - jax.nn.softplus(-2.0 * before))  # log(1 - tanh²), without cancellation
    return jnp.sum(normal - squash, axis=-1)


def sample(policy: MLP, observation: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
    """An action of the policy for each observation, and its log density."""
    mean, log_deviation = jnp.split(policy(observation), 2, axis=-1)
    log_deviation = jnp.clip(log_deviation, *LOG_DEVIATION)
    noise = jax.random.normal(key, mean.shape)
    before = mean + jnp.exp(log_deviation) * noise
    return jnp.tanh(before), log_density(noise, log_deviation, before)


@dataclasses.dataclass(frozen=True)
class SoftActorCritic(TypedFields):
    """The learner; static in compiled code."""

    discount: float = 0.99
    """γ [paper: 0.99]"""
    slow_rate: float = 0.005
    """rate of the slow critics, τ [paper: 0.005]"""
    learning_rate: float = 3e-4
    """Adam's, of all networks and of log α [paper: 3e-4]"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers [paper: 256, 256]"""
    batch_size: int = 256
    """rows per update [paper: 256]"""
    entropy: float = -0.5
    """desired entropy per entry of the action, in nats [paper: -1; RLPD: -0.5]"""
    first_temperature: float = 0.1
    """α before the first update [RLPD: 0.1]"""

    def init(self, sizes: Sizes, key: PRNGKeyArray) -> State:
        """Fresh networks and optimisers."""
        keys = jax.random.split(key, 3)
        width = sizes.observation + sizes.action
        policy = mlp(keys[0], (sizes.observation, *self.hidden, 2 * sizes.action))
        critics = Critics(*(NormedMLP(mlp(key, (width, *self.hidden, 1))) for key in keys[1:]))
        log_temperature = jnp.asarray(math.log(self.first_temperature))
        adam = optax.adam(self.learning_rate)
        return State(
            policy,
            critics,
            jax.tree.map(jnp.copy, critics),
            log_temperature,
            adam.init(policy),
            adam.init(critics),
            adam.init(log_temperature),
        )

    def update(self, state: State, rows: Rows, key: PRNGKeyArray) -> tuple[State, dict[str, Array]]:
        """One update on one batch; pure."""
        adam = optax.adam(self.learning_rate)
        next_key, now_key = jax.random.split(key)
        temperature = jnp.exp(state.log_temperature)

        # --- Q ---
        next_action, next_log_density = sample(state.policy, rows.next_observation, next_key)
        next_q = jnp.min(state.slow_critics(rows.next_observation, next_action), axis=0)
        next_value = next_q - temperature * next_log_density
        backup = bellman_backup(rows.reward, rows.terminal, next_value, self.discount)

        def critic_loss(critics: Critics) -> Array:
            return jnp.mean(jnp.sum((critics(rows.observation, rows.action) - backup) ** 2, axis=0))

        q_loss, gradient = jax.value_and_grad(critic_loss)(state.critics)
        step, critics_optimiser = adam.update(gradient, state.critics_optimiser)
        critics = optax.apply_updates(state.critics, step)

        # --- policy and temperature ---
        def policy_loss(policy: MLP) -> tuple[Array, Array]:
            action, density = sample(policy, rows.observation, now_key)
            value = jnp.min(critics(rows.observation, action), axis=0)
            return jnp.mean(temperature * density - value), jnp.mean(density)

        (_, density), gradient = jax.value_and_grad(policy_loss, has_aux=True)(state.policy)
        step, policy_optimiser = adam.update(gradient, state.policy_optimiser)
        policy = optax.apply_updates(state.policy, step)
        desired_entropy = self.entropy * rows.action.shape[-1]
        step, temperature_optimiser = adam.update(-(density + desired_entropy), state.temperature_optimiser)
        log_temperature = optax.apply_updates(state.log_temperature, step)

        slow_critics = moving_average(state.slow_critics, critics, self.slow_rate)
        optimisers = (policy_optimiser, critics_optimiser, temperature_optimiser)
        metrics = {"critic_loss": q_loss, "entropy": -density, "temperature": temperature, "backup": jnp.mean(backup)}
        return State(policy, critics, slow_critics, log_temperature, *optimisers), metrics


class Buffer(NamedTuple):
    """The rows collected so far, in one matrix of fixed length: s | a | r | s' | d."""

    matrix: Float[Array, "capacity width"]
    filled: Int[Array, ""]
    """Number of rows in it."""


def empty(steps: int, sizes: Sizes) -> Buffer:
    """An empty buffer with room for `steps` rows."""
    return Buffer(jnp.zeros((steps, 2 * sizes.observation + sizes.action + 2)), jnp.zeros((), jnp.int32))


@functools.partial(jax.jit, donate_argnums=0)
def append(buffer: Buffer, rows: Float[Array, "n width"]) -> Buffer:
    """The buffer with `rows` appended."""
    matrix = jax.lax.dynamic_update_slice(buffer.matrix, rows, (buffer.filled, 0))
    return Buffer(matrix, buffer.filled + len(rows))


def draw(buffer: Buffer, sizes: Sizes, normaliser: Normaliser, count: int, key: PRNGKeyArray) -> Rows:
    """`count` rows, drawn uniformly with replacement."""
    drawn = buffer.matrix[jax.random.randint(key, (count,), 0, buffer.filled)]
    s, a = sizes.observation, sizes.action
    observation, action, reward, following, terminal = jnp.split(drawn, (s, s + a, s + a + 1, 2 * s + a + 1), axis=1)
    return Rows(normaliser(observation), action, reward[:, 0], normaliser(following), terminal[:, 0])


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=4)
def improve(
    learner: SoftActorCritic,
    sizes: Sizes,
    normaliser: Normaliser,
    buffer: Buffer,
    state: State,
    key: PRNGKeyArray,
    first: Int[Array, ""] | int,
    last: Int[Array, ""] | int,
) -> tuple[State, dict[str, Any]]:
    """Updates `first` to `last` - 1, compiled. Donates `state`; returns the new state and the last update's metrics."""

    def once(number: Array, carry: tuple[State, Any]) -> tuple[State, Any]:
        draw_key, update_key = jax.random.split(jax.random.fold_in(key, number))
        return learner.update(carry[0], draw(buffer, sizes, normaliser, learner.batch_size, draw_key), update_key)

    shapes = jax.eval_shape(once, jnp.asarray(first, jnp.int32), (state, None))[1]
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    bounds = jnp.asarray(first, jnp.int32), jnp.asarray(last, jnp.int32)
    return jax.lax.fori_loop(*bounds, once, (state, zeros))
