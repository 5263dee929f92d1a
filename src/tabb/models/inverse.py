"""The inverse model of the target domain: the action that leads from s to s'.

Fitted to target rows alone, or to both domains' as `tabb.models.target_model` is: one network, of which the target
changes few numbers as far as its rows say so.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.errors import UsageError
from tabb.float32 import is_constant
from tabb.models.fitting import Report, check_widths, column_moments, draw_rows, fit, with_next
from tabb.models.target_model import TwoDomainNetwork
from tabb.networks import Normaliser, mlp
from tabb.transitions import Transitions

CANCELLED = 1e-3
"""share of the mean square below which a variance in single precision, taken as its difference, is not believed"""


@dataclasses.dataclass(frozen=True)
class InverseConfig:
    """How the inverse model is built and fitted [not published; ours]."""

    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers"""
    updates: int = 5_000
    """updates of the fit"""
    batch_size: int = 256
    """rows per update"""
    learning_rate: float = 1e-3
    """AdamW's rate, falling to 0 as a cosine"""
    weight_decay: float = 1e-4
    """AdamW's decay of all weights"""
    domains: Literal["target", "both"] = "target"
    """whose rows it is fitted to: the target's, or both with what the target changes [paper: target; ours: both]"""
    shift_penalty: float = 0.01
    """with both: factor on the squared size of what the target domain changes in the network"""

    def __post_init__(self) -> None:
        check_widths(self.hidden)
        if self.domains not in ("target", "both"):
            raise UsageError(f"inverse domains={self.domains!r} is unknown: use target or both")
        if self.updates < 1 or self.batch_size < 1:
            raise UsageError("inverse: updates and batch_size must be at least 1")
        for name in ("learning_rate", "weight_decay", "shift_penalty"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"inverse {name}={getattr(self, name)}: must be a number, zero or more")


class Inverse(eqx.Module):
    """a = f⁻¹(s, s' - s), inputs standardised; not bounded, so that a step which no action can do shows as |a| > 1."""

    network: TwoDomainNetwork
    inputs: Normaliser

    def __call__(
        self,
        observation: Float[Array, "*b s"],
        following: Float[Array, "*b s"],
        domain: Float[Array, "*b"] | float = 1.0,
    ) -> Float[Array, "*b a"]:
        return self.network(self.inputs(jnp.concatenate([observation, following - observation], axis=-1)), domain)


def init_inverse(config: InverseConfig, source: Transitions, target: Transitions, key: PRNGKeyArray) -> Inverse:
    """A fresh model; rows with a next state set the scale of its inputs, each domain that it is fitted to as much."""
    moments, exact = [], []
    for data, name in _fitted_to(config, source, target):
        inputs = jnp.concatenate([data.observation, data.next_observation - data.observation], axis=-1)
        inputs = inputs[with_next(data, name)]
        moments.append((jnp.mean(inputs, axis=0), jnp.mean(inputs**2, axis=0)))
        exact.append(column_moments(np.asarray(inputs)))
    mean, square = (sum(parts) / len(moments) for parts in zip(*moments, strict=True))
    middle = np.mean([part for part, _ in exact], axis=0)
    doubles = np.sqrt(np.mean([variance + (part - middle) ** 2 for part, variance in exact], axis=0))
    # Far from 0 the difference of squares is rounding.
    variance = square - mean**2
    spread = jnp.where(variance > CANCELLED * square, jnp.sqrt(jnp.maximum(variance, 0.0)), doubles)
    scale = jnp.where(is_constant(middle, doubles), 1.0, spread)
    base = mlp(key, (2 * target.observation_size, *config.hidden, target.action_size))
    zeros = tuple(jnp.zeros(width) for width in config.hidden)
    network = TwoDomainNetwork(base, zeros, zeros, jnp.zeros(target.action_size))
    return Inverse(network, Normaliser(mean, scale))


def fit_inverse(
    config: InverseConfig, source: Transitions, target: Transitions, key: PRNGKeyArray, report: Report
) -> Inverse:
    """Fit the model to the rows that have a next state; mean squared error of the action, each domain's as much."""
    init_key, fit_key = jax.random.split(key)
    fresh = init_inverse(config, source, target, init_key)
    optimiser = optax.adamw(
        optax.cosine_decay_schedule(config.learning_rate, config.updates), weight_decay=config.weight_decay
    )
    parts = _fitted_to(config, source, target)
    domains = [float(name == "target") for _, name in parts]

    def loss(network: TwoDomainNetwork, data: list[tuple[Transitions, Array]], key: PRNGKeyArray) -> Array:
        total = config.shift_penalty * network.shift_size()
        for number, ((rows, alive), domain) in enumerate(zip(data, domains, strict=True)):
            drawn = rows[draw_rows(alive, config.batch_size, jax.random.fold_in(key, number))]
            # Fitted to the target alone there is nothing to differ from: the network itself is the target's.
            found = Inverse(network, fresh.inputs)(
                drawn.observation, drawn.next_observation, domain if len(data) > 1 else 0.0
            )
            total += jnp.mean((found - drawn.action) ** 2)
        return total

    given = [(jax.tree.map(jnp.asarray, data), with_next(data, name)) for data, name in parts]
    network = fit(loss, fresh.network, given, optimiser, config.updates, fit_key, report, "inverse model")
    return Inverse(network, fresh.inputs)


def _fitted_to(config: InverseConfig, source: Transitions, target: Transitions) -> list[tuple[Transitions, str]]:
    both = [(source, "source"), (target, "target")]
    return both if config.domains == "both" else both[1:]
