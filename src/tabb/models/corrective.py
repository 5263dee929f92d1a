"""Rows that a model of the target domain adds to few logged ones: what to do when off the logged path.

A policy that imitates a few thousand rows drifts off them at the first deviation, where no row says what to do.

*Corrective rows*: s̃ = s + noise, and the action ã after which the model has the same next state as after (s, a). Model
errors common to both cancel. Kin of CCIL (Ke et al. 2024) and DART (Laskey et al. 2017). [ours]

*Retargeted rows*: a source row (s, a, s') with the action a' after which the *target* domain has the change of state
that the source had: the mismatch is removed by changing the action. Kin of STC (arXiv 2602.05776), with the two answers
of one model in place of an inverse model. [ours]

Actions are found by Gauss-Newton steps on

    mean over entries of (residual(a) / spread of the changes)² + stay · |a - a₀|²
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.errors import UsageError
from tabb.field_types import TypedFields
from tabb.models.target_model import TargetModel
from tabb.transitions import Transitions

ROWS_AT_ONCE = 2048
"""rows whose actions are sought together: bounds memory, whatever the size of the data"""


@dataclasses.dataclass(frozen=True)
class CorrectiveConfig(TypedFields):
    """How corrective rows are made."""

    copies: int = 4
    """corrective rows per logged row"""
    noise: float = 0.05
    """standard deviation of the deviations, in deviations of the target's observations, entry by entry"""
    stay: float = 0.02
    """weight of the action's distance from the logged one"""
    iterations: int = 3
    """Gauss-Newton steps per action"""

    def __post_init__(self) -> None:
        for name in ("copies", "iterations"):
            if getattr(self, name) < 1:
                raise UsageError(f"corrective {name}={getattr(self, name)}: must be at least 1")
        for name in ("noise", "stay"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"corrective {name}={getattr(self, name)}: must be a positive number")


Residual = Callable[[Float[Array, " a"]], Float[Array, " s"]]


def solve_action(residual: Residual, start: Float[Array, " a"], stay: float, iterations: int) -> Float[Array, " a"]:
    """argmin over a of mean(residual(a)²) + stay |a - start|², inside [-1, 1], by Gauss-Newton steps from `start`."""
    action = start
    unit = jnp.eye(len(start), dtype=start.dtype)
    for _ in range(iterations):
        # Forward mode: actions have few entries.
        left, push = jax.linearize(residual, action)
        slopes = jax.vmap(push)(unit)  # [A, S]
        matrix = slopes @ slopes.T / len(left) + stay * unit
        gradient = slopes @ left / len(left) + stay * (action - start)
        action = jnp.clip(action - jnp.linalg.solve(matrix, gradient), -1.0, 1.0)
    return action


def solve_actions(
    residual: Callable[[Float[Array, " a"], Any], Float[Array, " s"]],
    start: Float[Array, "n a"],
    given: Any,
    stay: float,
    iterations: int,
) -> Float[Array, "n a"]:
    """`solve_action` of every row for `residual(action, given of the row)`; rows are worked on in pieces."""

    def one(row: tuple[Array, Any]) -> Array:
        action, rest = row
        return solve_action(lambda a: residual(a, rest), action, stay, iterations)

    return jax.jit(lambda rows: jax.lax.map(one, rows, batch_size=ROWS_AT_ONCE))((start, given))


def corrective_rows(
    config: CorrectiveConfig, model: TargetModel, target: Transitions, key: PRNGKeyArray
) -> Transitions:
    """`config.copies` corrective rows (s̃, ã, r, s', d) of each target row, copy after copy.

    Row i of copy k is number k·n + i and keeps the episode of its origin. A terminal row has no next state to come back
    to: its copies keep the action.
    """
    target = jax.tree.map(jnp.asarray, target)
    copies = jax.tree.map(lambda column: jnp.concatenate([column] * config.copies), target)
    spread = jnp.std(target.observation, axis=0)
    deviation = config.noise * spread * jax.random.normal(key, copies.observation.shape)
    change = model(target.observation, target.action).change
    goal = jnp.concatenate([change] * config.copies) - deviation

    def residual(action: Array, given: tuple[Array, Array, Array]) -> Array:
        observation, wanted, alive = given
        return alive * (model(observation, action).change - wanted) / model.change_scale

    observation = copies.observation + deviation
    actions = solve_actions(
        residual, copies.action, (observation, goal, 1.0 - copies.terminal), config.stay, config.iterations
    )
    return dataclasses.replace(copies, observation=observation, action=actions)


def retargeted_rows(
    model: TargetModel, source: Transitions, stay: float = 0.02, iterations: int = 3
) -> tuple[Transitions, Float[Array, " n"]]:
    """Source rows with the action after which the target domain does what the source did, and what is left of the gap.

    The wanted change is the model's own answer in the source domain, so that errors common to both answers cancel.
    The gap is the root mean square, in spreads of the changes, by which the target still misses it. A terminal row
    keeps its action, and its gap is 0.
    """
    source = jax.tree.map(jnp.asarray, source)

    def residual(action: Array, given: tuple[Array, Array, Array]) -> Array:
        observation, wanted, alive = given
        return alive * (model(observation, action).change - wanted) / model.change_scale

    wanted = model(source.observation, source.action, domain=0.0).change
    given = (source.observation, wanted, 1.0 - source.terminal)
    actions = solve_actions(residual, source.action, given, stay, iterations)
    gap = jnp.sqrt(jnp.mean(jax.vmap(residual)(actions, given) ** 2, axis=-1))
    return dataclasses.replace(source, action=actions), gap
