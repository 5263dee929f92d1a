"""Probabilistic ensemble of one-step dynamics (PETS, Chua et al. 2018): members give mean and variance of s' - s,
and of the reward where that is asked for.

The members are separate networks, not one stacked: XLA's batched matrix product is many times slower on a CPU.
"""

from __future__ import annotations

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.errors import UsageError
from tabb.field_types import TypedFields
from tabb.models.fitting import Report, draw_rows, fit, outcome_scales, pair_normaliser, stands_still, with_next
from tabb.networks import MLP, Normaliser, mlp
from tabb.transitions import Transitions

LOG_VARIANCE = (-10.0, 0.5)
"""soft bounds of a member's log-variance"""


@dataclasses.dataclass(frozen=True)
class EnsembleConfig(TypedFields):
    """How the ensemble is built and fitted [ODRL's ensemble of the same family: 7 members, 5 elites, 0.1, 200, 256]."""

    members: int = 7
    """networks that are fitted, each on its own draws"""
    elites: int = 5
    """members that are used: those of the smallest held-out error"""
    held_out: float = 0.1
    """share of the rows that choose the elites and are not fitted"""
    updates: int = 2_000
    """updates of the fit [not published; ours]"""
    batch_size: int = 256
    """rows per member and update"""
    learning_rate: float = 1e-3
    """Adam's rate"""
    weight_decay: float = 5e-5
    """decay of the weights, as half its square in the loss"""
    hidden: tuple[int, ...] = (200, 200, 200, 200)
    """widths of a member's hidden layers"""

    def __post_init__(self) -> None:
        if not 1 <= self.elites <= self.members:
            raise UsageError(f"ensemble elites={self.elites}: must lie between 1 and members={self.members}")
        if not 0 < self.held_out < 1:
            raise UsageError(f"ensemble held_out={self.held_out}: must lie between 0 and 1")
        if self.updates < 1 or self.batch_size < 1 or not self.hidden or min(self.hidden) < 1:
            raise UsageError("ensemble: updates, batch_size and the widths of hidden layers must be at least 1")
        for name in ("learning_rate", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"ensemble {name}={getattr(self, name)}: must be a number, zero or more")


class Ensemble(eqx.Module):
    """Elite members; (s' - s) / `scale` is what they predict, and after it the standardised reward."""

    members: tuple[MLP, ...]
    inputs: Normaliser
    """mean and spread of (s, a) in the rows that it is fitted to: a run's units are those of both domains"""
    scale: Float[Array, " s"]
    rewards: Normaliser | None = None
    """mean and spread of rewards; None where members predict none"""

    def following(self, observation: Float[Array, "b s"], action: Float[Array, "b a"]) -> Float[Array, "b e s"]:
        """Mean next state of each member."""
        means = self.means(observation, action)
        return observation[:, None] + self.scale * means[..., : len(self.scale)]

    def means(self, observation: Float[Array, "b s"], action: Float[Array, "b a"]) -> Float[Array, "b e o"]:
        """What each member predicts."""
        seen = self.inputs(jnp.concatenate([observation, action], axis=-1))
        return jnp.stack([gaussian(member(seen))[0] for member in self.members], axis=1)

    def outcomes(
        self, observation: Float[Array, "b s"], action: Float[Array, "b a"]
    ) -> tuple[Float[Array, "b e"], Float[Array, "b e s"]]:
        """Mean reward and next state of each member; it must predict rewards."""
        assert self.rewards is not None
        means = self.means(observation, action)
        reward = self.rewards.mean + self.rewards.scale * means[..., -1]
        return reward, observation[:, None] + self.scale * means[..., :-1]


def gaussian(output: Float[Array, "*b o"]) -> tuple[Float[Array, "*b s"], Float[Array, "*b s"]]:
    """Mean and softly bounded log-variance of a member's output."""
    mean, raw = jnp.split(output, 2, axis=-1)
    low, high = LOG_VARIANCE
    raw = high - jax.nn.softplus(high - raw)
    return mean, low + jax.nn.softplus(raw - low)


def negative_log_likelihood(output: Float[Array, "b o"], change: Float[Array, "b s"]) -> Float[Array, ""]:
    """Gaussian, mean over rows and columns, without its constant: (e² / σ² + log σ²) / 2."""
    mean, log_variance = gaussian(output)
    return 0.5 * jnp.mean((mean - change) ** 2 * jnp.exp(-log_variance) + log_variance)


def init_ensemble(
    config: EnsembleConfig, data: Transitions, key: PRNGKeyArray, count: int, rewards: bool = False
) -> Ensemble:
    """A fresh ensemble of `count` members for `data` (its rows with a next state set the scale)."""
    rows = np.asarray(with_next(data, "target"))
    change = np.asarray(data.next_observation)[rows] - np.asarray(data.observation)[rows]
    spread = np.sqrt(np.mean(change.astype(np.float64) ** 2, axis=0))
    still = stands_still(jnp.asarray(change), jnp.asarray(data.observation)[rows])
    scale = jnp.asarray(np.where(still, 1.0, spread), jnp.float32)
    sizes = (data.observation_size + data.action_size, *config.hidden, 2 * (data.observation_size + rewards))
    members = tuple(mlp(k, sizes, "swish") for k in jax.random.split(key, count))
    of_rewards = outcome_scales(jax.tree.map(jnp.asarray, data))[1] if rewards else None
    return Ensemble(members, pair_normaliser(data), scale, of_rewards)


def fit_ensemble(
    config: EnsembleConfig, data: Transitions, key: PRNGKeyArray, report: Report, rewards: bool = False
) -> Ensemble:
    """Fit all members on the rows of `data` that have a next state, and return the elites."""
    init_key, order_key, fit_key = jax.random.split(key, 3)
    fresh = init_ensemble(config, data, init_key, config.members, rewards)
    rows = jax.random.permutation(order_key, with_next(data, "target"))
    aside = max(1, int(config.held_out * len(rows)))
    inputs = fresh.inputs(jnp.concatenate([data.observation, data.action], axis=-1))
    changes = (data.next_observation - data.observation) / fresh.scale
    if fresh.rewards is not None:
        changes = jnp.concatenate([changes, fresh.rewards(data.reward)[:, None]], axis=-1)
    used = rows[aside:] if len(rows) > aside else rows  # a single row is fitted and held out

    def loss(members: tuple[MLP, ...], data: tuple[Array, Array], key: PRNGKeyArray) -> Array:
        inputs, changes = data
        total = jnp.zeros(())
        for member, k in zip(members, jax.random.split(key, len(members)), strict=True):
            drawn = draw_rows(jnp.arange(len(inputs)), config.batch_size, k)
            total += negative_log_likelihood(member(inputs[drawn]), changes[drawn])
            total += 0.5 * config.weight_decay * sum(jnp.sum(weight**2) for weight in member.weights)
        return total

    members = fit(
        loss,
        fresh.members,
        (inputs[used], changes[used]),
        optax.adam(config.learning_rate),
        config.updates,
        fit_key,
        report,
        "ensemble",
    )
    errors = [float(jnp.mean((gaussian(m(inputs[rows[:aside]]))[0] - changes[rows[:aside]]) ** 2)) for m in members]
    best = sorted(np.argsort(errors)[: config.elites].tolist())
    return Ensemble(tuple(members[i] for i in best), fresh.inputs, fresh.scale, fresh.rewards)
