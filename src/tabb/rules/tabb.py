"""Target-Aligned Bellman Backup (Liu and Ting Long, arXiv 2605.22376): trust a source row as far as its backup
agrees with the one that the target domain would give.

    own backup        b  = r + γ (1 - d) V(x')
    predicted backup  b̂  = r̂ + γ (1 - d̂) V(x̂')        from the target-domain predictor
    mismatch          TBM = |b̂ - b|                     (Theorem 1 bounds the true error by it)
    weight            w  = exp(-TBM / (c · mean TBM))

TBM and w are in the units of return, computed anew at each update with the current V; the predictions
(x̂', r̂, d̂) do not depend on V, so they are computed once per source row and drawn along with it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.backbones.backup import bellman_backup
from tabb.batch import Batch, Domains, Sizes
from tabb.errors import UsageError
from tabb.rules.predictor import Predictor, PredictorConfig, fit_predictor, init_predictor
from tabb.rules.rule import Features, Metrics, Rule, Value, Weights

ROWS_PER_CALL = 8192
"""source rows predicted at once: bounds the memory of hidden layers, whatever the size of the data"""


def target_bellman_mismatch(
    predicted: Float[Array, "b k"], own: Float[Array, " b"], uncertainty: float
) -> Float[Array, " b"]:
    """TBM⁺ = |mean_k b̂_k - b| + β std_k b̂_k; with β = 0 the paper's TBM."""
    mismatch = jnp.abs(jnp.mean(predicted, axis=-1) - own)
    return mismatch + uncertainty * jnp.std(predicted, axis=-1)


def soft_weight(mismatch: Float[Array, " b"], temperature: float) -> Float[Array, " b"]:
    """w = exp(-TBM / τ) with τ = c · mean TBM of the batch: the scale of V drops out. c = inf gives exactly 1."""
    # The floor is inside: with c = inf and no mismatch at all, inf * 0 would be NaN.
    mean = jnp.maximum(jnp.mean(mismatch), 1e-8)
    return jnp.exp(-mismatch / (temperature * mean))


@dataclasses.dataclass(frozen=True)
class TABB(Rule):
    """Weight source rows by the agreement of their Bellman backup with the target domain's."""

    name: ClassVar[str] = "tabb"

    temperature: float = 1.0
    """c: a source row whose TBM is c times the batch's mean weighs 1/e; inf weighs all rows alike [ours]"""
    uncertainty: float = 1.0
    """β: how much the spread of the K predicted backups adds to TBM; 0 is the paper [ours]"""
    weigh_value: bool = True
    """whether the weights enter the value loss too [ours]"""
    weigh_policy: bool = True
    """whether the weights enter the policy loss too [ours]"""
    imitate_source: float = 0.0
    """factor on source rows in the policy loss: 1 imitates them as far as they are trusted, 0 imitates target
    rows alone, so that the source acts through the critic [paper: 1; ours by measurement]"""
    predictor: PredictorConfig = dataclasses.field(default_factory=PredictorConfig)
    """the target-domain predictor"""

    def __post_init__(self) -> None:
        if math.isnan(self.temperature) or self.temperature <= 0:
            raise UsageError(f"temperature={self.temperature} must be positive (inf weighs all source rows alike)")
        for name in ("uncertainty", "imitate_source"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name}={getattr(self, name)} must be a number, zero or more")

    def widths(self, sizes: Sizes) -> tuple[int, int]:
        if self.predictor.space == "raw":
            return super().widths(sizes)
        latent = self.predictor.latent_size
        return latent, sizes.observation + sizes.action + latent

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Callable[[str, float], None]) -> Predictor:
        return fit_predictor(self.predictor, domains, key, report)

    def template(self, domains: Domains, key: PRNGKeyArray) -> Predictor:
        return init_predictor(self.predictor, domains, key)

    def columns(self, models: Predictor, domains: Domains) -> dict[str, Array]:
        return dict(zip(("next", "reward_hat", "terminal_hat"), _predict(models, domains.source), strict=True))

    def represent(self, models: Predictor, batch: Batch) -> Features:
        plain = super().represent(models, batch)
        if models.encoders is None:
            return plain
        now = models.encode(batch.observation)
        latent = models.trunk(now, batch.action)
        return Features(now, models.encode(batch.next_observation), jnp.concatenate([plain.critic, latent], -1))

    def weigh(
        self, models: Predictor, batch: Batch, features: Features, value: Value, discount: float
    ) -> tuple[Weights, Metrics]:
        rows, columns = batch.source_rows, batch.columns
        # One pass of V over the rows' own next states and the K predicted ones.
        states = jnp.concatenate([features.following[:rows, None], columns["next"]], axis=1)
        values = value(states)
        own = bellman_backup(batch.reward[:rows], batch.terminal[:rows], values[:, 0], discount)
        predicted = bellman_backup(columns["reward_hat"], columns["terminal_hat"], values[:, 1:], discount)
        mismatch = target_bellman_mismatch(predicted, own, self.uncertainty)
        source = soft_weight(mismatch, self.temperature)
        target = jnp.ones(len(batch) - rows, source.dtype)
        weights = jnp.concatenate([source, target])
        ones = jax.lax.optimization_barrier(jnp.ones_like(weights))
        imitation = jnp.where(jnp.arange(len(batch)) < rows, self.imitate_source, 1.0)
        metrics = {"tbm": jnp.mean(mismatch), "source_weight": jnp.mean(source)}
        return (
            Weights(
                weights,
                weights if self.weigh_value else ones,
                imitation * (weights if self.weigh_policy else ones),
            ),
            metrics,
        )


@jax.jit
def _predict(models: Predictor, source) -> tuple[Array, Array, Array]:  # type: ignore[no-untyped-def]
    def one(row):  # type: ignore[no-untyped-def]
        observation, action, reward, following, terminal = jax.tree.map(lambda leaf: leaf[None], row)
        x, x_following = models.encode(observation), models.encode(following)
        outcome = models.outcomes(x, action, reward, x_following, terminal)
        return jax.tree.map(lambda leaf: leaf[0], tuple(outcome))

    rows = (source.observation, source.action, source.reward, source.next_observation, source.terminal)
    return jax.lax.map(one, rows, batch_size=ROWS_PER_CALL)
