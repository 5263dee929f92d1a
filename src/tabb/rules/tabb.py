"""Target-Aligned Bellman Backup (Liu and Long, arXiv 2605.22376): trust a source row as far as its backup agrees
with the one that the target domain would give.

    own backup        b  = r + γ (1 - d) V(x')
    predicted backup  b̂  = r̂ + γ (1 - d̂) V(x̂')        from the target-domain predictor
    mismatch          TBM = |b̂ - b|                     (Theorem 1 bounds the true error by it)
    weight            w  = f + (1 - f) exp(-TBM / (c · unit))   unit: mean TBM, or mean |b̂ - b| of target rows

TBM is in units of return; it and w are computed anew at each update with the current V. The predictions (x̂', r̂, d̂)
do not depend on V, so they are computed once per source row and drawn along with it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Domains, Sizes
from tabb.bellman import bellman_backup
from tabb.errors import UsageError
from tabb.models.fitting import nearest_distances, scores
from tabb.models.predictor import Outcome, Predictor, PredictorConfig, fit_predictor, init_predictor
from tabb.models.shift_hypotheses import ShiftEnsemble, fit_shifts, init_shifts
from tabb.rules.rule import BackboneTraits, Metrics, Rule, Step, Value, Weights
from tabb.transitions import Transitions


def target_bellman_mismatch(
    predicted: Float[Array, "b k"], own: Float[Array, " b"], uncertainty: float
) -> Float[Array, " b"]:
    """TBM⁺ = |mean_k b̂_k - b| + β std_k b̂_k; with β = 0 the paper's TBM."""
    mismatch = jnp.abs(jnp.mean(predicted, axis=-1) - own)
    return mismatch + uncertainty * jnp.std(predicted, axis=-1)


def row_backups(
    reward: Float[Array, " b"],
    terminal: Float[Array, " b"],
    following: Float[Array, "b v"],
    columns: dict[str, Array],
    value: Value,
    discount: float,
    noise: float = 0.0,
) -> tuple[Float[Array, " b"], Float[Array, "b k"]]:
    """The rows' own backups b and the predicted ones b̂, with one pass of V over both.

    `noise` is added to the values in units of their spread, from the column `value_noise` [b, 1 + k].
    """
    values = value(jnp.concatenate([following[:, None], columns["next"]], axis=1))
    if noise:
        values = values + noise * jnp.std(values[:, 0]) * columns["value_noise"]
    own = bellman_backup(reward, terminal, values[:, 0], discount)
    return own, bellman_backup(columns["reward_hat"], columns["terminal_hat"], values[:, 1:], discount)


def agreed_mismatch(predicted: Float[Array, "b h"], own: Float[Array, " b"], uncertainty: float) -> Float[Array, " b"]:
    """|b̂_agreed - b| + β mean_k |b̂_k - b|: what all hypotheses of the shift agree on, and a share of what each says.

    `predicted` holds the backup of the agreed shift first. [ours]
    """
    mismatch = jnp.abs(predicted - own[:, None])
    return mismatch[:, 0] + uncertainty * jnp.mean(mismatch[:, 1:], axis=-1)


def soft_weight(
    mismatch: Float[Array, " b"], temperature: float, unit: Float[Array, ""], least: float = 0.0
) -> Float[Array, " b"]:
    """w = f + (1 - f) exp(-TBM / τ), τ = c · unit, where the unit grows with V as TBM does, and f = `least`.

    c = inf gives exactly 1.
    """
    # The bound on the unit is inside: with c = inf and no mismatch at all, inf * 0 would be NaN.
    trust = jnp.exp(-mismatch / (temperature * jnp.maximum(unit, 1e-8)))
    return trust + least * (1.0 - trust)


Models = Predictor | ShiftEnsemble


@dataclasses.dataclass(frozen=True)
class TABB(Rule):
    """Weight source rows by the agreement of their Bellman backup with the target domain's."""

    name: ClassVar[str] = "tabb"
    neutral: ClassVar[dict[str, Any] | None] = {"temperature": math.inf, "imitate_source": 1.0}
    small: ClassVar[dict[str, Any]] = {
        "predictor": PredictorConfig(heads=2, updates=40, batch_size=16, hidden=16, latent_size=8)
    }
    after_preparation: ClassVar[frozenset[str]] = frozenset(
        {"temperature", "least_weight", "uncertainty", "weigh_value", "weigh_policy", "imitate_source", "source_share"}
        | {"scale", "weigh_by", "value_noise"}
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "trust": {
            "uncertainty": 0.2,
            "predictor": PredictorConfig(form="agreed", updates=8_000, weight_decay=1e-4),
        }
    }

    temperature: float = 1.0
    """c: a source row whose TBM is c units weighs 1/e; inf weighs all rows alike [ours]"""
    scale: Literal["source", "target"] = "source"
    """the unit of c, over the batch: the mean TBM of source rows, so that the same share of any source is
    trusted; or the mean error of predicted backups on target rows, so that a source is trusted only as far as
    its mismatch could be the predictor's error [ours]"""
    least_weight: float = 0.1
    """f, the weight that the least trusted source row keeps; with 0 (the paper) V drifted far above all returns'
    worth in long runs [ours, measured: docs/methods/tabb.md]"""
    uncertainty: float = 1.0
    """β: how much the spread of the K predicted backups adds to TBM; 0 is the paper [ours]"""
    weigh_value: bool = True
    """whether the weights enter the value loss too [ours]"""
    weigh_policy: bool = True
    """whether the weights enter the policy loss too [ours]"""
    imitate_source: float | None = None
    """factor on source rows in the policy loss: 1 learns from them as far as they are trusted, 0 from target rows
    alone, so that the source acts through the critic. If not given, 0 on IQL [ours by measurement] and 1 [paper] on
    the others: their critics bootstrap from the policy at source states too, where it must not be left alone"""
    weigh_by: Literal["mismatch", "similarity"] = "mismatch"
    """what a source row's weight falls with: TBM, or, to see what alignment is worth, the row's distance to the nearest
    target row in standardised (s, a, s'), all else equal; a terminal row, which has no s', has the mean distance"""
    value_noise: float = 0.0
    """standard deviation of a Gaussian error on every value that enters TBM, in units of the spread of V over the
    batch's source rows: does the ranking survive errors of V? Drawn once per source row, the same for all seeds"""
    source_share: float = 0.5
    """share of source rows in a batch [field: 0.5]; those of no weight only cost time [ours]"""
    predictor: PredictorConfig = dataclasses.field(default_factory=PredictorConfig)
    """the target-domain predictor"""

    def __post_init__(self) -> None:
        if math.isnan(self.temperature) or self.temperature <= 0:
            raise UsageError(f"temperature={self.temperature} must be positive (inf weighs all source rows alike)")
        if self.scale not in ("source", "target"):
            raise UsageError(f"scale={self.scale!r} is unknown: use source or target")
        if self.scale == "target" and self.predictor.form == "agreed":
            raise UsageError("scale=target needs outcomes of target rows, which predictor form agreed does not give")
        if not 0 < self.source_share < 1:
            raise UsageError(f"source_share={self.source_share} must lie between 0 and 1")
        if not 0 <= self.least_weight <= 1:
            raise UsageError(f"least_weight={self.least_weight} must lie in [0, 1]")
        if self.weigh_by not in ("mismatch", "similarity"):
            raise UsageError(f"weigh_by={self.weigh_by!r} is unknown: use mismatch or similarity")
        if self.weigh_by == "similarity" and self.scale == "target":
            raise UsageError("weigh_by=similarity needs scale=source: distances have no unit in errors of backups")
        if self.weigh_by == "similarity" and self.value_noise:
            raise UsageError(
                "value_noise with weigh_by=similarity: distances know no values that could be off; drop one"
            )
        for name in ("uncertainty", "imitate_source", "value_noise"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name}={getattr(self, name)} must be a number, zero or more")

    def on(self, backbone: BackboneTraits) -> TABB:
        if self.imitate_source is not None:
            return self
        return dataclasses.replace(self, imitate_source=0.0 if backbone.has_value_network else 1.0)

    def check_backbone(self, backbone: BackboneTraits) -> None:
        if self.predictor.space == "latent" and not backbone.has_value_network:
            raise UsageError(
                f"rule tabb with predictor space latent needs a backbone with a value network, not {backbone.name}: "
                "without one, predicted states are valued by the policy's action there, and the policy acts on "
                "observations; use raw"
            )

    @property
    def changes_features(self) -> bool:
        return self.predictor.space != "raw"

    def shares(self, batch_size: int) -> tuple[int, int]:
        source = min(max(round(self.source_share * batch_size), 1), batch_size - 1)
        return source, batch_size - source

    def widths(self, sizes: Sizes) -> tuple[int, int]:
        if self.predictor.space == "raw":
            return super().widths(sizes)
        latent = self.predictor.latent_size
        return latent, sizes.observation + sizes.action + latent

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Callable[[str, float], None]) -> Models:
        if self.predictor.form == "agreed":
            return fit_shifts(self.predictor, domains, key, report)
        return fit_predictor(self.predictor, domains, key, report)

    def template(self, domains: Domains, key: PRNGKeyArray) -> Models:
        if self.predictor.form == "agreed":
            return init_shifts(self.predictor, domains, key)
        return init_predictor(self.predictor, domains, key)

    def mismatch(self, predicted: Float[Array, "b k"], own: Float[Array, " b"]) -> Float[Array, " b"]:
        """The score of rows with these predicted and own backups, as the form of the predictor has it."""
        of_form = agreed_mismatch if self.predictor.form == "agreed" else target_bellman_mismatch
        return of_form(predicted, own, self.uncertainty)

    def columns(self, models: Models, domains: Domains) -> dict[str, Array]:
        columns = _predict(models, domains.source)
        if self.weigh_by == "similarity":
            columns["distance"] = nearest_distances(domains)
        if self.value_noise:
            rows, heads = columns["next"].shape[:2]
            columns["value_noise"] = jax.random.normal(jax.random.key(0), (rows, 1 + heads))
        return columns

    def target_columns(self, models: Models, domains: Domains) -> dict[str, Array]:
        if self.scale != "target":
            return {}
        assert isinstance(models, Predictor)  # form agreed is refused with this scale
        return _predict_blind(models, domains.target)

    def predict_target(self, models: Models, rows: Transitions) -> tuple[Array, Array, Array] | None:
        if not isinstance(models, Predictor):  # form agreed says how outcomes differ, not what they are
            return None
        outcome = models.from_scratch(models.encode(rows.observation), rows.action)
        return outcome.reward, outcome.terminal, outcome.following

    def see_state(self, models: Models, observation: Float[Array, "*b s"]) -> Float[Array, "*b v"]:
        return models.encode(observation)

    def see_action(
        self, models: Models, observation: Float[Array, "*b s"], action: Float[Array, "*b a"]
    ) -> Float[Array, "*b q"]:
        plain = super().see_action(models, observation, action)
        if models.encoders is None:
            return plain
        return jnp.concatenate([plain, models.trunk(models.encode(observation), action)], axis=-1)

    def weigh(self, step: Step) -> tuple[Weights, Metrics]:
        batch, rows = step.batch, step.batch.source_rows

        def backups(part: slice, columns: dict[str, Array], noise: float) -> tuple[Array, Array]:
            following = step.features.following[part]
            reward, terminal = batch.reward[part], batch.terminal[part]
            return row_backups(reward, terminal, following, columns, step.value, step.discount, noise)

        own, predicted = backups(slice(None, rows), batch.columns, self.value_noise)
        mismatch = self.mismatch(predicted, own)
        metrics = {"tbm": jnp.mean(mismatch)}
        doubt = batch.columns["distance"] if self.weigh_by == "similarity" else mismatch
        unit = jnp.mean(doubt)
        if self.scale == "target":
            own, predicted = backups(slice(rows, None), batch.target_columns, 0.0)
            unit = metrics["target_error"] = jnp.mean(target_bellman_mismatch(predicted, own, 0.0))
        source = soft_weight(doubt, self.temperature, unit, self.least_weight)
        metrics["source_weight"] = jnp.mean(source)
        weights = jnp.concatenate([source, jnp.ones(len(batch) - rows, source.dtype)])
        ones = jax.lax.optimization_barrier(jnp.ones_like(weights))
        imitation = jnp.where(jnp.arange(len(batch)) < rows, self.imitate_source or 0.0, 1.0)
        return (
            Weights(
                weights,
                weights if self.weigh_value else ones,
                imitation * (weights if self.weigh_policy else ones),
            ),
            metrics,
        )


def _named(outcome: Outcome) -> dict[str, Array]:
    return {"next": outcome.following, "reward_hat": outcome.reward, "terminal_hat": outcome.terminal}


def _predict(models: Models, source: Transitions) -> dict[str, Array]:
    """The K predicted target-domain outcomes of each source row."""

    def predict(rows: Transitions) -> dict[str, Array]:
        x, following = models.encode(rows.observation), models.encode(rows.next_observation)
        return _named(models.outcomes(x, rows.action, rows.reward, following, rows.terminal))

    return scores(predict, source)


def _predict_blind(models: Predictor, target: Transitions) -> dict[str, Array]:
    """The predictor's mean outcome of each target row from (s, a) alone, with an axis of length 1 for K."""

    def predict(rows: Transitions) -> dict[str, Array]:
        outcome = models.from_scratch(models.encode(rows.observation), rows.action)
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=1, keepdims=True), _named(outcome))

    return scores(predict, target)
