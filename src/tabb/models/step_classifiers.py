"""Two classifiers of the domains that learn along a run: their difference is the log-ratio of the dynamics (DARC).

    ln P_T(s' | s, a) / P_S(s' | s, a)
        = [log q(T | s, a, s') - log q(S | s, a, s')] - [log q(T | s, a) - log q(S | s, a)]

A terminal row has no next state: the classifier of whole steps does not learn from it, and its ratio is 1.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Batch, Sizes
from tabb.errors import UsageError
from tabb.field_types import TypedFields
from tabb.models.fitting import check_widths
from tabb.networks import MLP, mlp


@dataclasses.dataclass(frozen=True)
class StepClassifierConfig(TypedFields):
    """How the two classifiers are built and learn."""

    noise: float = 1.0
    """deviation of the noise on their inputs as they learn, observations normalised [ODRL's DARC: 1, on raw inputs]"""
    learning_rate: float = 3e-4
    """Adam's rate [ODRL: 3e-4]"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of both [ODRL: 256, 256]"""

    def __post_init__(self) -> None:
        for name in ("noise", "learning_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"classifiers {name}={getattr(self, name)} must be a number, zero or more")
        check_widths(self.hidden)

    def init(self, sizes: Sizes, key: PRNGKeyArray) -> StepClassifiers:
        """Fresh classifiers and their optimiser."""
        step_key, pair_key = jax.random.split(key)
        pair = sizes.observation + sizes.action
        step = mlp(step_key, (pair + sizes.observation, *self.hidden, 1))
        state_action = mlp(pair_key, (pair, *self.hidden, 1))
        return StepClassifiers(step, state_action, optax.adam(self.learning_rate).init((step, state_action)))

    def learn(
        self, classifiers: StepClassifiers, batch: Batch, key: PRNGKeyArray
    ) -> tuple[StepClassifiers, Float[Array, ""]]:
        """One step of cross-entropy on a batch's source and target rows; also its loss."""
        count = batch.source_rows + batch.target_rows
        rows, terminal = steps_of(batch)[:count], batch.terminal[:count]
        rows = rows + self.noise * jax.random.normal(key, rows.shape)
        is_target = jnp.concatenate([jnp.zeros(batch.source_rows), jnp.ones(batch.target_rows)])

        def loss(networks: tuple[MLP, MLP]) -> Array:
            whole, known = logits(networks, rows)
            whole_loss = (1.0 - terminal) * optax.sigmoid_binary_cross_entropy(whole, is_target)
            return jnp.mean(whole_loss + optax.sigmoid_binary_cross_entropy(known, is_target))

        networks = (classifiers.step, classifiers.state_action)
        amount, gradient = jax.value_and_grad(loss)(networks)
        change, optimiser = optax.adam(self.learning_rate).update(gradient, classifiers.optimiser)
        step, state_action = optax.apply_updates(networks, change)
        return StepClassifiers(step, state_action, optimiser), amount


class StepClassifiers(NamedTuple):
    """Logits of "target" against "source", given a whole step and given (s, a) alone; and their optimiser's state."""

    step: MLP
    state_action: MLP
    optimiser: optax.OptState

    def log_ratio(self, batch: Batch) -> Float[Array, " b"]:
        """ln P_T / P_S of each row's step; 0 for terminal rows."""
        whole, known = logits((self.step, self.state_action), steps_of(batch))
        return (1.0 - batch.terminal) * (whole - known)


def steps_of(batch: Batch) -> Float[Array, "b w"]:
    """[s, a, s'] of each row."""
    return jnp.concatenate([batch.observation, batch.action, batch.next_observation], axis=-1)


def logits(networks: tuple[MLP, MLP], rows: Float[Array, "b w"]) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """Both logits of rows [s, a, s']."""
    known = networks[1].weights[0].shape[0]
    return networks[0](rows)[..., 0], networks[1](rows[..., :known])[..., 0]
