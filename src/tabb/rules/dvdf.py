"""DVDF (authors' code: zq2r/DVDF): IGDF's filter with a term for how good the source row's action is.

    score   λ c(s, a, s') + (1 - λ) Ã(s, a)        c: IGDF's cosine; Ã: the advantage, min-max over the batch
    A       min_i Q_i,slow - V of Sparse Q-learning (Xu et al., ICLR 2023) on the source alone
    L_V     mean 1{1 + A/2α > 0} (1 + A/2α)² + V/α
    each batch keeps the best share ξ of its source rows; the critic's loss weighs them by exp(c), target rows by 1

Encoders and the source's value functions are fitted before training and then frozen.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Batch, Domains
from tabb.bellman import bellman_backup
from tabb.errors import UsageError
from tabb.field_types import TypedFields
from tabb.float32 import LEAST
from tabb.models.fitting import Report, draw_rows, run_fit, scores
from tabb.networks import MLP, Twin, mlp, moving_average, twin
from tabb.rules.igdf import IGDF, Contrast, likenesses
from tabb.rules.rule import Step
from tabb.transitions import Transitions


@dataclasses.dataclass(frozen=True)
class SparseQConfig(TypedFields):
    """How the source's value functions are fitted."""

    sparsity: float = 0.1
    """α of the value loss: the smaller, the fewer actions count [authors: 0.1]"""
    updates: int = 50_000
    """updates of the fit; V is in the order of its final size after that many [ours; authors: 500,000]"""
    batch_size: int = 128
    """source rows per update [authors: 128]"""
    learning_rate: float = 3e-4
    """Adam's rate [authors: 3e-4]"""
    discount: float = 0.99
    """γ [authors: 0.99]"""
    slow_rate: float = 0.005
    """rate of the slow critic [authors: 0.005]"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of V and Q [authors: 256, 256]"""

    def __post_init__(self) -> None:
        if not 0 < self.sparsity < math.inf:
            raise UsageError(f"values sparsity={self.sparsity}: must be a positive number")
        for name in ("discount", "slow_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"values {name}={getattr(self, name)}: must lie in (0, 1]")
        if not 0 <= self.learning_rate < math.inf:
            raise UsageError(f"values learning_rate={self.learning_rate}: must be a number, zero or more")
        if self.updates < 1 or self.batch_size < 1 or not self.hidden or min(self.hidden) < 1:
            raise UsageError("values: updates, batch_size and the widths of hidden layers must be at least 1")


class Values(eqx.Module):
    """V, the critics and their slow copy."""

    value: MLP
    critic: Twin
    slow_critic: Twin

    def advantage(self, rows: Transitions) -> Float[Array, " b"]:
        """A(s, a) = min_i Q_i(s, a) - V(s)."""
        pair = jnp.concatenate([rows.observation, rows.action], axis=-1)
        return jnp.min(self.slow_critic(pair), axis=0) - self.value(rows.observation)[..., 0]


class Scored(eqx.Module):
    """IGDF's encoders and the source's value functions."""

    contrast: Contrast
    values: Values


def sparse_value_loss(q: Float[Array, " b"], value: Float[Array, " b"], sparsity: float) -> Float[Array, " b"]:
    """1{x > 0} x² + V/α with x = 1 + (Q - V) / 2α (Sparse Q-learning's value loss)."""
    excess = jax.nn.relu(1.0 + (q - value) / (2.0 * sparsity))
    return excess**2 + value / sparsity


def relative(values: Float[Array, " b"]) -> Float[Array, " b"]:
    """Min-max over the batch: 0 for the smallest, 1 for the largest."""
    least, most = jnp.min(values), jnp.max(values)
    return (values - least) / jnp.maximum(most - least, LEAST)


def fit_values(config: SparseQConfig, source: Transitions, key: PRNGKeyArray, report: Report) -> Values:
    """Sparse Q-learning's V and Q on the source; its policy is not needed."""
    adam = optax.adam(config.learning_rate)
    init_key, fit_key = jax.random.split(key)
    fresh = init_values(config, source, init_key)

    def update(carry: tuple[Values, Any, Any], data: Transitions, key: PRNGKeyArray) -> tuple[Values, Any, Any]:
        networks, value_state, critic_state = carry
        rows = draw_rows(jnp.arange(len(data.reward)), config.batch_size, key)
        batch = jax.tree.map(lambda column: column[rows], data)
        pair = jnp.concatenate([batch.observation, batch.action], axis=-1)
        q = jnp.min(networks.slow_critic(pair), axis=0)

        def value_loss(value: MLP) -> Array:
            return jnp.mean(sparse_value_loss(q, value(batch.observation)[..., 0], config.sparsity))

        step, value_state = adam.update(jax.grad(value_loss)(networks.value), value_state)
        value = optax.apply_updates(networks.value, step)
        next_value = value(batch.next_observation)[..., 0]
        backup = bellman_backup(batch.reward, batch.terminal, next_value, config.discount)

        def critic_loss(critic: Twin) -> Array:
            return jnp.sum(jnp.mean((critic(pair) - backup) ** 2, axis=-1))

        step, critic_state = adam.update(jax.grad(critic_loss)(networks.critic), critic_state)
        critic = optax.apply_updates(networks.critic, step)
        slow = moving_average(networks.slow_critic, critic, config.slow_rate)
        return Values(value, critic, slow), value_state, critic_state

    carry = (fresh, adam.init(fresh.value), adam.init(fresh.critic))
    return run_fit(update, carry, source, config.updates, fit_key, report, "source values")[0]


def init_values(config: SparseQConfig, source: Transitions, key: PRNGKeyArray) -> Values:
    """Fresh networks."""
    value_key, critic_key = jax.random.split(key)
    critic = twin(critic_key, (source.observation_size + source.action_size, *config.hidden, 1))
    value = mlp(value_key, (source.observation_size, *config.hidden, 1))
    return Values(value, critic, jax.tree.map(jnp.copy, critic))


@dataclasses.dataclass(frozen=True)
class DVDF(IGDF):
    """Keep the source rows that are target-like and whose actions are good in the source."""

    name: ClassVar[str] = "dvdf"
    trust_meaning: ClassVar[str] = "the cosine of the encodings of (s, a) and s': higher is more like the target"
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    small: ClassVar[dict[str, Any]] = IGDF.small | {"values": SparseQConfig(updates=40, batch_size=16, hidden=(16,))}
    after_preparation: ClassVar[frozenset[str]] = frozenset({"keep", "weight_scale", "likeness"})

    keep: float = 0.75
    """ξ, share of each batch's source rows that stay [authors' code: 0.75; their run script: 0.5]"""
    likeness: float = 0.7
    """λ, share of the cosine in the score; the rest is the advantage's [authors' code: 0.8; their run script: 0.7]"""
    values: SparseQConfig = dataclasses.field(default_factory=SparseQConfig)
    """the source's value functions"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.likeness <= 1:
            raise UsageError(f"likeness={self.likeness} must lie in [0, 1]")

    def template(self, domains: Domains, key: PRNGKeyArray) -> Scored:
        return Scored(self.fresh(domains, key), init_values(self.values, domains.source, key))

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Scored:
        contrast_key, value_key = jax.random.split(key)
        contrast = self.fit(domains, contrast_key, report)
        return Scored(contrast, fit_values(self.values, domains.source, value_key, report))

    def columns(self, models: Scored, domains: Domains) -> dict[str, Array]:
        advantage = scores(models.values.advantage, domains.source)
        return {"score": likenesses(models.contrast, domains.source), "advantage": advantage}

    def select(self, step: Step) -> Batch:
        batch, columns = step.batch, step.batch.columns
        score = self.likeness * columns["score"] + (1.0 - self.likeness) * relative(columns["advantage"])
        return batch.best_source(score, max(1, math.floor(self.keep * batch.source_rows)))
