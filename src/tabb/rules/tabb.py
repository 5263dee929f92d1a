"""Target-Aligned Bellman Backup (Liu and Long, arXiv 2605.22376): trust a source row as far as its backup agrees
with the one that the target domain would give.

    own backup        b    = r + γ (1 - d) V(x')
    predicted backup  b̂_k  = r̂_k + γ (1 - d̂_k) V(x̂'_k)      K answers of a predictor of the target domain; b̂: their gist
    mismatch          TBM  = |b̂ - b|                         Theorem 1 bounds the true error by it and b̂'s own error
    with doubt        TBM⁺ = TBM + β u                       u: how much b̂ may be off, by the predictor's own account
    weight            w    = f + (1 - f) exp(-TBM⁺ / (c · unit))      unit: mean TBM⁺, or mean |b̂ - b| of target rows

TBM is in units of return; it and w are computed anew at each update with the current V. The predictions (x̂', r̂, d̂)
do not depend on V, so they are computed once per source row and drawn along with it. Where a run takes steps, the
predictor is fitted again as rows come in, and predicts all source rows anew.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Domains, Sizes
from tabb.bellman import bellman_backup
from tabb.errors import UsageError
from tabb.models.agreed_shift import AgreedShift
from tabb.models.fitting import Report, scores
from tabb.models.residual_predictor import ResidualPredictor
from tabb.models.target_predictor import Outcome, TargetPredictor
from tabb.rules.rule import BackboneTraits, Metrics, Models, Step, Value, Weights, row_by_row
from tabb.rules.soft_weights import SoftWeights, check_factor
from tabb.transitions import Transitions


class Rows(NamedTuple):
    """What a row's own backup is made of; V sees its next state as `following`."""

    reward: Float[Array, " b"]
    terminal: Float[Array, " b"]
    following: Float[Array, "b v"]


class Backups(NamedTuple):
    """What rows back up by themselves, and what the target domain would by each of K predictions."""

    own: Float[Array, " b"]
    predicted: Float[Array, "b k"]


def target_bellman_mismatch(predicted: Float[Array, " b"], own: Float[Array, " b"]) -> Float[Array, " b"]:
    """TBM = |b̂ - b|"""
    return jnp.abs(predicted - own)


@dataclasses.dataclass(frozen=True)
class TABB(SoftWeights):
    """Weight source rows by the agreement of their Bellman backup with the target domain's."""

    name: ClassVar[str] = "tabb"
    fits_again: ClassVar[bool] = True
    after_preparation: ClassVar[frozenset[str]] = SoftWeights.after_preparation | {"scale", "uncertainty"}
    presets: ClassVar[dict[str, dict[str, Any]]] = {"quick": {"predictor": ResidualPredictor()}}
    small: ClassVar[dict[str, Any]] = {"predictor": AgreedShift(heads=2, updates=40, batch_size=16, hidden=16)}

    scale: Literal["source", "target"] = "source"
    """the unit of c, over the batch. `source`: the mean TBM⁺ of source rows, so the same share of any source is
    trusted. `target`: the mean error of predicted backups on target rows, so a source is trusted only as far as its
    mismatch could be the predictor's error [ours]"""
    uncertainty: float | None = None
    """β: how much the predictor's own doubt adds to TBM; 0 is the paper. If not given, what suits the predictor: 0.2
    for `agreed`, 1 for the others [ours]"""
    predictor: TargetPredictor = AgreedShift()  # noqa: RUF009 - frozen
    """the predictor of the target domain"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_factor("uncertainty", self.doubt_factor)
        if self.scale == "target" and not self.predictor.gives_target_outcomes:
            raise UsageError(
                f"scale=target needs outcomes of target rows, which predictor {self.predictor.name} does not give"
            )

    def check_backbone(self, backbone: BackboneTraits) -> None:
        if self.predictor.changes_features and not backbone.has_value_network:
            raise UsageError(
                f"rule {self.name} with predictor {self.predictor.name} needs a backbone with a value network, not "
                f"{backbone.name}: without one, predicted states are valued by the policy's action there, and the "
                "policy acts on observations; use predictor residual"
            )

    @property
    def doubt_factor(self) -> float:
        """β, the predictor's own where `uncertainty` says nothing."""
        return self.predictor.usual_uncertainty if self.uncertainty is None else self.uncertainty

    @property
    def changes_features(self) -> bool:
        return self.predictor.changes_features

    # --- Before training: what the predictor learns, and what it says of every row ---

    def widths(self, sizes: Sizes) -> tuple[int, int]:
        return self.predictor.widths(sizes)

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Models:
        return self.predictor.fit(domains, key, report)

    def template(self, domains: Domains, key: PRNGKeyArray) -> Models:
        return self.predictor.init(domains, key)

    @row_by_row
    def columns(self, models: Models, domains: Domains) -> dict[str, Array]:
        return _columns(self.predictor.source_outcomes(models, domains.source))

    @row_by_row
    def target_columns(self, models: Models, domains: Domains) -> dict[str, Array]:
        if self.scale != "target":
            return {}
        return _columns(self.predictor.mean_target_outcomes(models, domains.target))

    def predict_target(self, models: Models, rows: Transitions) -> tuple[Array, Array, Array] | None:
        if not self.predictor.gives_target_outcomes:
            return None
        outcome = self.predictor.target_outcomes(models, rows)
        return outcome.reward, outcome.terminal, outcome.following

    # --- One update ---

    def see_state(self, models: Models, observation: Float[Array, "*b s"]) -> Float[Array, "*b v"]:
        return self.predictor.see_state(models, observation)

    def see_action(
        self, models: Models, observation: Float[Array, "*b s"], action: Float[Array, "*b a"]
    ) -> Float[Array, "*b q"]:
        return self.predictor.see_action(models, observation, action)

    def weigh(self, step: Step) -> tuple[Weights, Metrics]:
        batch, count = step.batch, step.batch.source_rows

        def backups(part: slice, columns: dict[str, Array]) -> Backups:
            rows = Rows(batch.reward[part], batch.terminal[part], step.features.following[part])
            return self.backups(rows, columns, step.value, step.discount)

        target = backups(slice(count, None), batch.target_columns) if self.scale == "target" else None
        judged = self.judge(backups(slice(None, count), batch.columns), target)
        weights, metrics = self.in_losses(step, judged["weight"])
        return weights, metrics | {"tbm": jnp.mean(judged["tbm_plus"])} | _error_of(target)

    def backups(self, rows: Rows, columns: dict[str, Array], value: Value, discount: float) -> Backups:
        """b and b̂_k of rows, with one pass of V over their own next states and the predicted ones."""
        states = jnp.concatenate([rows.following[:, None], columns["next"]], axis=1)
        values = self.values_of(value, states, columns)
        own = bellman_backup(rows.reward, rows.terminal, values[:, 0], discount)
        return Backups(own, bellman_backup(columns["reward_hat"], columns["terminal_hat"], values[:, 1:], discount))

    def values_of(self, value: Value, states: Float[Array, "b k v"], columns: dict[str, Array]) -> Float[Array, "b k"]:
        """V of rows' own next states (first) and of the predicted ones."""
        del columns
        return value(states)

    def judge(self, source: Backups, target: Backups | None) -> dict[str, Array]:
        """TBM, TBM⁺ and weights of source rows; `target` are backups of target rows, if they give the unit."""
        tbm = target_bellman_mismatch(self.predictor.predicted_backup(source.predicted), source.own)
        tbm_plus = tbm + self.doubt_factor * self.predictor.doubt(source.predicted, source.own)
        unit = jnp.mean(tbm_plus) if target is None else _error_of(target)["target_error"]
        return {"tbm": tbm, "tbm_plus": tbm_plus, "weight": self.weight(tbm_plus, unit)}

    # --- After training ---

    def row_scores(self, models: Models, domains: Domains, value: Value, discount: float) -> dict[str, Array]:
        """`own_backup` b [N], `predicted_backup` b̂_k [N, K], `tbm` and `tbm_plus` [N], in units of return, and `weight`
        [N], whose unit is the mean over all rows."""

        def backups(data: Transitions, columns: dict[str, Array]) -> Backups:
            rows = Rows(data.reward, data.terminal, self.see_state(models, data.next_observation))
            return scores(lambda of: self.backups(*of, value, discount), (rows, columns))

        target_columns = self.target_columns(models, domains)
        source = backups(domains.source, TABB.columns(self, models, domains))
        target = backups(domains.target, target_columns) if target_columns else None
        return {"own_backup": source.own, "predicted_backup": source.predicted} | self.judge(source, target)


def _columns(outcome: Outcome) -> dict[str, Array]:
    return {"next": outcome.following, "reward_hat": outcome.reward, "terminal_hat": outcome.terminal}


def _error_of(target: Backups | None) -> dict[str, Array]:
    """The mean error of the predicted backups of target rows, without doubt."""
    if target is None:
        return {}
    return {"target_error": jnp.mean(target_bellman_mismatch(jnp.mean(target.predicted, axis=-1), target.own))}
