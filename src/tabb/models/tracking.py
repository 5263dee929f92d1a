"""Feedback that leads back to a logged path over many steps, from a model of the dynamics.

One step of a robot can hardly undo a deviation of its positions: corrective rows (tabb.models.corrective) that ask for
it in the next state find little. Over many steps it can. With the model's slopes A = ∂s'/∂s and B = ∂s'/∂a at each
logged row the best linear feedback follows from the Riccati equation, backwards along each episode:

    minimise Σ_t γ^t (mean over entries of (δ_t / spread)² + ρ |u_t|²),   δ_{t+1} = A_t δ_t + B_t u_t,   u_t = -K_t δ_t

*Tracking rows*: a deviating state s̃ with the action ã = a - K (s̃ - s). Deviations are noise on every entry, and what
disturbances of the action lead to by the same linear model: states that a policy's own errors reach. [ours]
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.errors import UsageError
from tabb.field_types import TypedFields
from tabb.models.fitting import never_changes
from tabb.models.target_model import TargetModel
from tabb.transitions import Transitions

ROWS_AT_ONCE = 1024
"""rows whose slopes are computed together"""
PERSISTENCE = 0.9
"""what is left of a disturbance after a step: a policy's errors do not change from step to step as noise does"""
FARTHEST = 0.5
"""bound of each entry of a deviation, in spreads: the linear model holds near the path"""
NEAR = 1e-3
"""spreads within which the next row is the stored next state"""


@dataclasses.dataclass(frozen=True)
class TrackingConfig(TypedFields):
    """How tracking rows are made."""

    copies: int = 4
    """rows per logged row"""
    noise: float = 0.05
    """standard deviation of the deviations, in deviations of the target's observations, entry by entry"""
    push: float = 0.0
    """standard deviation of a disturbance of the actions that drives each copy off its path; 0 for none"""
    action_cost: float = 0.3
    """ρ: cost of a change of the action by 1 against a state that is off by its spread"""
    discount: float = 0.95
    """γ: how far ahead a deviation counts; far ahead the linear model does not hold"""
    largest: float = 0.5
    """bound of the change of each entry of an action: beyond it the linear answer is not believed"""

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise UsageError(f"tracking copies={self.copies}: must be at least 1")
        for name, least in (("noise", 0), ("push", 0), ("action_cost", 1e-6), ("largest", 1e-6)):
            if not least <= getattr(self, name) < math.inf:
                raise UsageError(f"tracking {name}={getattr(self, name)}: must be a number, {least:g} or more")
        if not 0 <= self.discount <= 1:
            raise UsageError(f"tracking discount={self.discount}: must lie in [0, 1]")


def slopes(model: TargetModel, data: Transitions) -> tuple[Float[Array, "n s s"], Float[Array, "n s a"]]:
    """A = ∂s'/∂s and B = ∂s'/∂a of the target domain at each row, by the model."""

    def one(row: tuple[Array, Array]) -> tuple[Array, Array]:
        # Forward mode over the inputs: as many as outputs, and no transposes.
        by_state, by_action = jax.jacfwd(lambda s, a: model(s, a).change, argnums=(0, 1))(*row)
        return jnp.eye(len(row[0])) + by_state, by_action

    rows = (jnp.asarray(data.observation), jnp.asarray(data.action))
    by_row: tuple[Array, Array] = jax.jit(lambda rows: jax.lax.map(one, rows, batch_size=ROWS_AT_ONCE))(rows)
    return by_row


def follows(data: Transitions) -> Float[Array, " n"]:
    """1 where the next row is the next step of the same episode, else 0."""
    episode, observation = np.asarray(data.episode), np.asarray(data.observation)
    same = np.append(episode[1:] == episode[:-1], False)
    away = np.abs(observation[1:] - np.asarray(data.next_observation)[:-1])
    gap = np.append((away / np.asarray(spreads(jnp.asarray(observation)))).max(axis=1), 0.0)
    return jnp.asarray(same & (gap < NEAR) & (np.asarray(data.terminal) == 0), jnp.float32)


def spreads(observation: Float[Array, "n s"]) -> Float[Array, " s"]:
    """Standard deviation of each column; 1 for one that never changes."""
    return jnp.where(never_changes(observation), 1.0, jnp.std(observation, axis=0))


class Linear(NamedTuple):
    """The dynamics about each logged row, and the feedback that leads back to it; states in units of `spread`."""

    by_state: Float[Array, "n s s"]
    by_action: Float[Array, "n s a"]
    gains: Float[Array, "n a s"]
    goes_on: Float[Array, " n"]
    spread: Float[Array, " s"]


def linearised(model: TargetModel, data: Transitions, action_cost: float, discount: float) -> Linear:
    """Slopes of the model and gains K at each row of logged episodes."""
    by_state, by_action = slopes(model, data)
    spread = spreads(jnp.asarray(data.observation))
    by_state = by_state * spread / spread[:, None]
    by_action = by_action / spread[:, None]
    size, actions = by_action.shape[1:]
    cost, effort = jnp.eye(size) / size, action_cost * jnp.eye(actions)

    def back(ahead: Array, row: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        """`ahead` is the cost to go of the following row."""
        a, b, goes_on = row
        to_go = discount * jnp.where(goes_on > 0, ahead, cost)
        gain = jnp.linalg.solve(effort + b.T @ to_go @ b, b.T @ to_go @ a)
        closed = a - b @ gain
        here = cost + gain.T @ effort @ gain + closed.T @ to_go @ closed
        return 0.5 * (here + here.T), gain

    goes_on = follows(data)
    run = jax.jit(lambda rows: jax.lax.scan(back, cost, rows, reverse=True)[1])
    return Linear(by_state, by_action, run((by_state, by_action, goes_on)), goes_on, spread)


def pushed(linear: Linear, push: float, copies: int, key: PRNGKeyArray) -> Float[Array, "k n s"]:
    """Deviations, in spreads, to which slow disturbances of the actions drive copies under their feedback."""

    def step(carry: tuple[Array, Array], row: tuple[Array, Array, Array, Array, Array]) -> tuple[Any, Array]:
        deviation, disturbance = carry
        a, b, gain, goes_on, noise = row
        disturbance = PERSISTENCE * disturbance + math.sqrt(1 - PERSISTENCE**2) * push * noise
        ahead = jnp.clip(deviation @ (a - b @ gain).T + disturbance @ b.T, -FARTHEST, FARTHEST)
        return (goes_on * ahead, disturbance), deviation

    noise = jax.random.normal(key, (len(linear.goes_on), copies, linear.by_action.shape[-1]))
    start = (jnp.zeros((copies, len(linear.spread))), jnp.zeros(noise.shape[1:]))
    rows = (linear.by_state, linear.by_action, linear.gains, linear.goes_on, noise)
    return jnp.swapaxes(jax.jit(lambda rows: jax.lax.scan(step, start, rows)[1])(rows), 0, 1)


def tracking_gains(
    model: TargetModel, data: Transitions, action_cost: float = 0.3, discount: float = 0.95
) -> Float[Array, "n a s"]:
    """K of each row of logged episodes, for states in the units of the data."""
    linear = linearised(model, data, action_cost, discount)
    return linear.gains / linear.spread


def tracking_rows(config: TrackingConfig, model: TargetModel, target: Transitions, key: PRNGKeyArray) -> Transitions:
    """`config.copies` rows (s̃, ã, r, s', d) of each target row, copy after copy; a terminal row keeps its action."""
    target = jax.tree.map(jnp.asarray, target)
    linear = linearised(model, target, config.action_cost, config.discount)
    noise_key, push_key = jax.random.split(key)
    shape = (config.copies, len(target), target.observation_size)
    deviation = config.noise * jax.random.normal(noise_key, shape)
    if config.push:
        deviation += pushed(linear, config.push, config.copies, push_key)
    move = jnp.clip(-jnp.einsum("nas,kns->kna", linear.gains, deviation), -config.largest, config.largest)
    move = move * (1.0 - target.terminal)[:, None]
    # A column that never changes has no deviations either.
    real = ~never_changes(target.observation)
    observation = target.observation + deviation * linear.spread * real
    action = jnp.clip(target.action + move, -1.0, 1.0)
    copies = jax.tree.map(lambda column: jnp.concatenate([column] * config.copies), target)
    return dataclasses.replace(
        copies,
        observation=observation.reshape(copies.observation.shape),
        action=action.reshape(copies.action.shape),
    )
