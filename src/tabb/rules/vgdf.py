"""VGDF offline (after Xu et al., NeurIPS 2023): keep the source rows whose backup is likely in the target domain.

    b_k      = r̂_k + γ (1 - d) V(ŝ'_k)                    k: members of an ensemble of the target domain's dynamics
    b        = r + γ (1 - d) V(s')                        the row's own backup
    score    log N(b; mean_k b_k, std_k b_k)              each batch keeps the best share of its source rows

The ensemble is fitted before training and then frozen; the score follows V. The published method has an online domain
and judges by Q at the policy's action: here V takes its place.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Batch, Domains
from tabb.bellman import bellman_backup
from tabb.errors import UsageError
from tabb.float32 import LEAST
from tabb.models.ensemble import Ensemble, EnsembleConfig, fit_ensemble, init_ensemble
from tabb.models.fitting import Report, scores
from tabb.rules.rule import Metrics, Rule, Step, Value, Weights, row_by_row
from tabb.transitions import Transitions

LEAST_SPREAD = 1.2e-7
"""of the members' backups, in their own size: what float32 resolves keeps the likelihood finite where all agree"""


def backup_likelihood(own: Float[Array, " b"], predicted: Float[Array, "b e"]) -> Float[Array, " b"]:
    """log N(b; m, σ) without its constant, m and σ the mean and the standard deviation of the members' backups."""
    resolved = jnp.maximum(LEAST_SPREAD * jnp.max(jnp.abs(predicted), axis=-1), LEAST)
    spread = jnp.maximum(jnp.std(predicted, axis=-1), resolved)
    return -0.5 * ((own - jnp.mean(predicted, axis=-1)) / spread) ** 2 - jnp.log(spread)


@dataclasses.dataclass(frozen=True)
class VGDF(Rule):
    """Keep the source rows whose backups a target-domain ensemble finds likely."""

    name: ClassVar[str] = "vgdf"
    trust: ClassVar[str | None] = "score"
    trust_meaning: ClassVar[str] = "the log-likelihood of its backup under the target's ensemble: higher is likelier"
    neutral: ClassVar[dict[str, Any] | None] = {"keep": 1.0}
    small: ClassVar[dict[str, Any]] = {
        "ensemble": EnsembleConfig(members=3, elites=2, updates=40, batch_size=16, hidden=(16, 16))
    }
    after_preparation: ClassVar[frozenset[str]] = frozenset({"keep"})

    keep: float = 0.25
    """share of each batch's source rows that stay [authors: those above the 0.75 quantile]"""
    ensemble: EnsembleConfig = dataclasses.field(default_factory=EnsembleConfig)
    """the target domain's dynamics and rewards [authors: 7 members, 5 elites, 4 x 200]"""

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise UsageError(f"keep={self.keep} must lie in (0, 1]")

    def template(self, domains: Domains, key: PRNGKeyArray) -> Ensemble:
        return init_ensemble(self.ensemble, domains.target, key, self.ensemble.elites, rewards=True)

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Ensemble:
        return fit_ensemble(self.ensemble, domains.target, key, report, rewards=True)

    @row_by_row
    def columns(self, models: Ensemble, domains: Domains) -> dict[str, Array]:
        def predict(rows: Transitions) -> tuple[Array, Array]:
            return models.outcomes(rows.observation, rows.action)

        reward, following = scores(predict, domains.source)
        return {"reward_hat": reward, "next": following}

    def select(self, step: Step) -> Batch:
        batch, count = step.batch, step.batch.source_rows
        if self.keep == 1.0:
            return batch
        rows = (batch.reward[:count], batch.terminal[:count], batch.next_observation[:count])
        own, predicted = backups(*rows, batch.columns, step.value, step.discount)
        score = backup_likelihood(own, predicted)
        batch = dataclasses.replace(batch, columns=batch.columns | {"score": score})
        return batch.best_source(score, max(1, math.floor(self.keep * count)))

    def weigh(self, step: Step) -> tuple[Weights, Metrics]:
        weights, metrics = super().weigh(step)
        if self.keep == 1.0:
            return weights, metrics
        return weights, metrics | {"source_score": jnp.mean(step.batch.columns["score"])}

    def row_scores(self, models: Ensemble, domains: Domains, value: Value, discount: float) -> dict[str, Array]:
        """`own_backup` [N], `predicted_backup` [N, K], in units of return, and the log-likelihood `score` [N]."""

        def of_rows(data: tuple[Transitions, dict[str, Array]]) -> tuple[Array, Array]:
            rows, columns = data
            return backups(rows.reward, rows.terminal, rows.next_observation, columns, value, discount)

        own, predicted = scores(of_rows, (domains.source, self.columns(models, domains)))
        score = backup_likelihood(own, predicted)
        return {"own_backup": own, "predicted_backup": predicted, "score": score}


def backups(
    reward: Float[Array, " b"],
    terminal: Float[Array, " b"],
    following: Float[Array, "b s"],
    columns: dict[str, Array],
    value: Value,
    discount: float,
) -> tuple[Float[Array, " b"], Float[Array, "b e"]]:
    """Own backups, and those of the members: a row that ends the task ends it in the target domain too."""
    values = value(jnp.concatenate([following[:, None], columns["next"]], axis=1))
    own = bellman_backup(reward, terminal, values[:, 0], discount)
    return own, bellman_backup(columns["reward_hat"], terminal[:, None], values[:, 1:], discount)
