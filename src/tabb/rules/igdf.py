"""IGDF (Wen et al., ICML 2024): keep the source rows whose next state is most target-like given (s, a).

    score c(s, a, s') = cos(φ(s, a), ψ(s'))
    φ, ψ: contrastive; a target row's own s' against next states of the source, φ(s, a)ᵀψ(s') as logit
    each batch keeps the best share ξ of its source rows; the critic's loss weighs them by exp(α c), target rows by 1

The encoders are fitted before training and then frozen, so that c is one number per source row. A terminal row has no
next state: it never is a positive or a negative, and its score is the mean of the others.
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
from tabb.errors import UsageError
from tabb.models.fitting import Report, check_widths, draw_rows, fit, scores, standard_steps, step_normaliser, steps
from tabb.networks import MLP, Normaliser, mlp
from tabb.rules.rule import Metrics, Rule, Step, Weights, on_source
from tabb.transitions import Transitions


class Contrast(eqx.Module):
    """The encoders φ(s, a) and ψ(s'); inputs standardised."""

    state_action: MLP
    following: MLP
    normaliser: Normaliser

    def encode(self, rows: Float[Array, "b w"]) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
        """φ(s, a) and ψ(s') of standardised rows [s, a, s']."""
        known = self.state_action.weights[0].shape[0]
        return self.state_action(rows[..., :known]), self.following(rows[..., known:])


def cosine(first: Float[Array, "b d"], second: Float[Array, "b d"]) -> Float[Array, " b"]:
    """Cosine of the angle between the rows of both."""
    norms = jnp.linalg.norm(first, axis=-1) * jnp.linalg.norm(second, axis=-1)
    return jnp.sum(first * second, axis=-1) / jnp.maximum(norms, 1e-8)


def contrastive_loss(
    state_action: Float[Array, "b d"], own: Float[Array, "b d"], others: Float[Array, "n d"]
) -> Float[Array, ""]:
    """Binary cross-entropy over all b (1 + n) pairs: each row's own next state is positive, `others` negative."""
    positive = jnp.sum(state_action * own, axis=-1)
    negative = state_action @ others.T
    total = jnp.sum(jax.nn.softplus(-positive)) + jnp.sum(jax.nn.softplus(negative))
    return total / (positive.size + negative.size)


def likenesses(contrast: Contrast, data: Transitions) -> Float[Array, " n"]:
    """c(s, a, s') of every row; a terminal row's is the mean of the others."""

    def score(rows: Transitions) -> Array:
        return cosine(*contrast.encode(contrast.normaliser(steps(rows))))

    row_scores, alive = scores(score, data), 1.0 - data.terminal
    return jnp.where(alive > 0, row_scores, jnp.sum(alive * row_scores) / jnp.sum(alive))


@dataclasses.dataclass(frozen=True)
class IGDF(Rule):
    """Keep and weigh the source rows whose dynamics a contrastive score finds target-like."""

    name: ClassVar[str] = "igdf"
    trust_meaning: ClassVar[str] = "the cosine of the encodings of (s, a) and s': higher is more like the target"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "halfcheetah": {"keep": 0.25},
        "hopper": {"keep": 0.25},
        "walker2d": {"keep": 0.75},
    }
    neutral: ClassVar[dict[str, Any] | None] = {"keep": 1.0, "weight_scale": 0.0}
    small: ClassVar[dict[str, Any]] = {"updates": 40, "batch_size": 16, "hidden": (16,), "latent_size": 4}
    after_preparation: ClassVar[frozenset[str]] = frozenset({"keep", "weight_scale"})

    keep: float = 0.75
    """ξ, share of each batch's source rows that stay [ODRL: 0.75; authors: 0.25 on HalfCheetah and Hopper]"""
    weight_scale: float = 1.0
    """α of the weight exp(α c); 0 weighs all alike [paper: 1.0]"""
    latent_size: int = 64
    """width of φ and ψ [paper: 64 or 16]"""
    updates: int = 7_000
    """updates of the fit [paper: 7,000]"""
    batch_size: int = 128
    """target rows per update of the fit, against batch_size - 1 next states of the source [paper: 128]"""
    learning_rate: float = 3e-4
    """Adam's rate [paper: 3e-4]"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of φ and ψ [paper: 256, 256]"""

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise UsageError(f"keep={self.keep} must lie in (0, 1]")
        for name in ("weight_scale", "learning_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name}={getattr(self, name)} must be a number, zero or more")
        for name, least in (("updates", 1), ("batch_size", 2), ("latent_size", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name}={getattr(self, name)} must be at least {least}")
        check_widths(self.hidden)

    def template(self, domains: Domains, key: PRNGKeyArray) -> Any:
        return self.fresh(domains, key)

    def fresh(self, domains: Domains, key: PRNGKeyArray) -> Contrast:
        """Encoders that have learned nothing."""
        pair_key, next_key = jax.random.split(key)
        size, action = domains.source.observation_size, domains.source.action_size
        return Contrast(
            mlp(pair_key, (size + action, *self.hidden, self.latent_size)),
            mlp(next_key, (size, *self.hidden, self.latent_size)),
            step_normaliser(domains),
        )

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Any:
        return self.fit(domains, key, report)

    def fit(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Contrast:
        """Encoders that tell each target row's own next state from the source's."""
        init_key, fit_key = jax.random.split(key)
        fresh = self.fresh(domains, init_key)
        data = standard_steps(domains, fresh.normaliser)
        networks = fit(
            self._loss,
            (fresh.state_action, fresh.following),
            data,
            optax.adam(self.learning_rate),
            self.updates,
            fit_key,
            report,
            "encoders",
        )
        return Contrast(*networks, fresh.normaliser)

    def _loss(self, networks: tuple[MLP, MLP], data: tuple[Array, Array], key: PRNGKeyArray) -> Float[Array, ""]:
        source_key, target_key = jax.random.split(key)
        pair, following = networks
        known = pair.weights[0].shape[0]
        source, target = data
        others = source[draw_rows(jnp.arange(len(source)), self.batch_size - 1, source_key)]
        rows = target[draw_rows(jnp.arange(len(target)), self.batch_size, target_key)]
        return contrastive_loss(pair(rows[:, :known]), following(rows[:, known:]), following(others[:, known:]))

    def columns(self, models: Any, domains: Domains) -> dict[str, Array]:
        return {"score": likenesses(models, domains.source)}

    def select(self, step: Step) -> Batch:
        batch = step.batch
        return batch.best_source(batch.columns["score"], max(1, math.floor(self.keep * batch.source_rows)))

    def weigh(self, step: Step) -> tuple[Weights, Metrics]:
        batch = step.batch
        plain, _ = super().weigh(step)
        source = jnp.exp(self.weight_scale * batch.columns["score"])
        metrics = {"source_weight": jnp.mean(source), "source_score": jnp.mean(batch.columns["score"])}
        return plain._replace(critic=on_source(batch, source, 1.0)), metrics
