"""DmC (Van et al. 2025): source rows near the target count, and diffusion makes more of them.

    ρ           ln D_k(x; target) - ln D_k(x; source)     D_k: squared distance of x = [s, a, s'] to its k-th neighbour
    w           1 / (1 + ρ - min ρ)                       1 for the source row that is nearest to the target
    generated   rows [s, s' - s, a, r, d] of a diffusion model of the source under the condition w, asked for at the
                upper percentiles of w; a row's w is the one that was asked for
    keep        the best share by w of each batch's source and generated rows
    critic      rows weigh w, target rows 1
    policy      L_π - κ mean log p̂_T(π(s) | s)            p̂_T: OTDF's autoencoder of target actions

Distances, diffusion and autoencoder come before training, and are then frozen. A terminal row has no next state: its w
is the mean of the others', and the diffusion learns no change of state from it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import FIELDS, Batch, Domains, ExtraRows
from tabb.errors import UsageError
from tabb.models.cvae import CVAE, CVAEConfig, fit_cvae, init_cvae, log_likelihood
from tabb.models.diffusion import Denoiser, DiffusionConfig, fit_denoiser, init_denoiser, sample
from tabb.models.fitting import Report, standard_steps, step_normaliser, with_next
from tabb.models.nearest import kth_squares, log_ratio, proximity
from tabb.networks import Normaliser
from tabb.rules.rule import Metrics, Rule, Step, Weights, on_source
from tabb.transitions import Transitions


class Generated(eqx.Module):
    """w of each source row, the autoencoder with the noise of its estimate, the diffusion and its rows."""

    score: Float[Array, " n"]
    cvae: CVAE
    noise: Float[Array, "m z"]
    denoiser: Denoiser | None
    """None where no rows are generated"""
    rows: ExtraRows | None


def table(data: Transitions) -> tuple[Float[Array, "n w"], Float[Array, "n w"]]:
    """Rows [s, s' - s, a, r, d], and 1 for what is known of them: a terminal row's change of state is not."""
    alive = 1.0 - data.terminal[:, None]
    change = alive * (data.next_observation - data.observation)
    columns = [data.observation, change, data.action, data.reward[:, None], data.terminal[:, None]]
    known = [jnp.broadcast_to(alive, part.shape) if part is change else jnp.ones_like(part) for part in columns]
    return jnp.concatenate(columns, axis=-1), jnp.concatenate(known, axis=-1)


def table_normaliser(rows: Float[Array, "n w"], known: Float[Array, "n w"]) -> Normaliser:
    """Mean and spread of each column over what is known; the last, which says whether the task ends, stays as it is."""
    values, weights = np.asarray(rows), np.asarray(known)
    count = np.maximum(weights.sum(axis=0, dtype=np.float64), 1.0)
    mean = (values * weights).sum(axis=0, dtype=np.float64) / count
    centred = (values - mean.astype(np.float32)) * weights
    scale = np.sqrt((centred**2).sum(axis=0, dtype=np.float64) / count)
    scale = np.where(scale < 1e-6, 1.0, scale)
    mean[-1], scale[-1] = 0.0, 1.0
    return Normaliser(jnp.asarray(mean, jnp.float32), jnp.asarray(scale, jnp.float32))


def rows_of(values: Float[Array, "n w"], sizes: tuple[int, int], score: Float[Array, " n"]) -> ExtraRows:
    """Transitions from rows [s, s' - s, a, r, d]: actions inside ±1, the task ends where d is above a half."""
    state, action = sizes
    observation, change = values[:, :state], values[:, state : 2 * state]
    return ExtraRows(
        observation,
        jnp.clip(values[:, 2 * state : 2 * state + action], -1.0, 1.0),
        values[:, -2],
        observation + change,
        (values[:, -1] > 0.5).astype(jnp.float32),
        {"score": score},
    )


def best_of_both(batch: Batch, count: int) -> Batch:
    """The batch with only the `count` source and generated rows of the largest score, all of them as source rows."""
    first, last = batch.source_rows, batch.source_rows + batch.target_rows
    score = jnp.concatenate([batch.columns["score"], batch.extra_columns["score"]])
    _, best = jax.lax.top_k(score, count)
    best = jnp.sort(best)
    targets = jnp.arange(first, last)
    kept = jnp.concatenate([jnp.where(best < first, best, best + len(targets)), targets])
    fields = {name: getattr(batch, name)[kept] for name in FIELDS}
    columns = {"score": score[best]}
    return dataclasses.replace(batch, **fields, columns=columns, source_rows=count, extra_columns={}, extra_rows=0)


@dataclasses.dataclass(frozen=True)
class DmC(Rule):
    """Keep and weigh source rows by nearness to the target, make more of them, hold the policy to target actions."""

    name: ClassVar[str] = "dmc"
    trust_meaning: ClassVar[str] = "1 / (1 + ρ - min ρ) of the distances to target and source: higher is nearer"
    neutral: ClassVar[dict[str, Any] | None] = {
        "generated": 0.0,
        "keep": 1.0,
        "weigh_rows": False,
        "behaviour_scale": 0.0,
    }
    small: ClassVar[dict[str, Any]] = {
        "made": 64,
        "reference_rows": 100,
        "samples": 2,
        "cvae": CVAEConfig(hidden=(16,), updates=40, batch_size=16),
        "diffusion": DiffusionConfig(hidden=16, blocks=1, updates=20, batch_size=16, steps=3),
    }
    after_preparation: ClassVar[frozenset[str]] = frozenset({"keep", "weigh_rows", "behaviour_scale", "variance"})

    generated: float = 0.5
    """share of generated rows among a batch's rows that are not the target's; 0 makes none [authors: as many as source
    rows]"""
    made: int = 100_000
    """generated rows [authors: a million; a CPU's share]"""
    percentile: float = 90.0
    """rows are asked for at percentiles of w from this one to 100 [authors: 90]"""
    keep: float = 0.5
    """share of a batch's source and generated rows that stay [authors: 0.5]"""
    weigh_rows: bool = True
    """whether kept rows weigh w in the critic's loss [authors: yes]"""
    neighbour: int = 5
    """k [authors: 5]"""
    reference_rows: int = 10_000
    """source rows, at most, drawn at random, that distances within the source are measured to [authors: all; fewer
    change ρ by nearly the same number everywhere]"""
    behaviour_scale: float = 0.1
    """κ, per action entry (the cloning term here is a mean over entries, theirs a sum); 0 leaves the policy's loss
    alone [authors: 0.1]"""
    samples: int = 10
    """latents z per estimate of log p̂_T [authors: 10]"""
    variance: float = 0.1
    """variance of an action around its decoding [authors: 0.4 / 4]"""
    cvae: CVAEConfig = dataclasses.field(default_factory=CVAEConfig)
    """the autoencoder of target actions"""
    diffusion: DiffusionConfig = dataclasses.field(default_factory=DiffusionConfig)
    """the model of source rows"""

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise UsageError(f"keep={self.keep} must lie in (0, 1]")
        if not 0 <= self.generated < 1:
            raise UsageError(f"generated={self.generated} must lie in [0, 1)")
        if not 0 <= self.percentile <= 100:
            raise UsageError(f"percentile={self.percentile} must lie in [0, 100]")
        if not 0 <= self.behaviour_scale < math.inf:
            raise UsageError(f"behaviour_scale={self.behaviour_scale} must be a number, zero or more")
        if not 0 < self.variance < math.inf:
            raise UsageError(f"variance={self.variance} must be a positive number")
        for name in ("made", "neighbour", "samples"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)} must be at least 1")
        if self.reference_rows <= self.neighbour:
            raise UsageError(f"reference_rows={self.reference_rows} must be more than neighbour={self.neighbour}")

    # --- Rows ---

    def shares(self, batch_size: int) -> tuple[int, int]:
        half = batch_size // 2
        return half - self.extra_share(batch_size), batch_size - half

    def reads(self, batch_size: int) -> tuple[bool, bool]:
        return True, True

    def extra_share(self, batch_size: int) -> int:
        return round(self.generated * (batch_size // 2))

    def template(self, domains: Domains, key: PRNGKeyArray) -> Generated:
        state, action = domains.source.observation_size, domains.source.action_size
        score = jnp.zeros(len(domains.source))
        cvae, noise = init_cvae(self.cvae, state, action, key), jnp.zeros((self.samples, 2 * action))
        if not self.generated:
            return Generated(score, cvae, noise, None, None)
        width = 2 * state + action + 2
        rows = rows_of(jnp.zeros((self.made, width)), (state, action), jnp.zeros(self.made))
        return Generated(score, cvae, noise, init_denoiser(self.diffusion, width, key), rows)

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Generated:
        near_key, cvae_key, noise_key, fit_key, sample_key = jax.random.split(key, 5)
        score = self.scores(domains, near_key, report)
        cvae = fit_cvae(
            self.cvae, [(domains.target.observation, domains.target.action)], cvae_key, report, "autoencoder"
        )
        noise = jax.random.normal(noise_key, (self.samples, 2 * domains.target.action_size))
        if not self.generated:
            return Generated(score, cvae, noise, None, None)
        rows, known = table(domains.source)
        normaliser = table_normaliser(rows, known)
        middle, spread = jnp.mean(score), jnp.maximum(jnp.std(score), 1e-6)
        denoiser = fit_denoiser(self.diffusion, normaliser(rows), known, (score - middle) / spread, fit_key, report)
        ask_key, sample_key = jax.random.split(sample_key)
        asked = jnp.quantile(score, jax.random.uniform(ask_key, (self.made,), minval=self.percentile / 100.0))
        made = sample(self.diffusion, denoiser, (asked - middle) / spread, sample_key, report)
        sizes = (domains.source.observation_size, domains.source.action_size)
        values = normaliser.mean + normaliser.scale * made
        return Generated(score, cvae, noise, denoiser, rows_of(values, sizes, asked))

    def scores(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Float[Array, " n"]:
        """w of every source row; a terminal row's is the mean of the others'."""
        report("distances", 0.0)
        source, target = standard_steps(domains, step_normaliser(domains))
        order = jax.random.permutation(key, len(source))[: self.reference_rows]
        own = jnp.full(len(source), -1).at[order].set(jnp.arange(len(order)))
        to_target = kth_squares(source, target, min(self.neighbour, len(target)), jnp.full(len(source), -1))
        to_source = kth_squares(source, source[order], max(1, min(self.neighbour, len(order) - 1)), own)
        near = proximity(log_ratio(to_target, to_source))
        report("distances", 1.0)
        alive = with_next(domains.source, "source")
        return jnp.full(len(domains.source), jnp.mean(near)).at[alive].set(near)

    def columns(self, models: Generated, domains: Domains) -> dict[str, Array]:
        del domains
        return {"score": models.score}

    def extra_rows(self, models: Generated, domains: Domains, key: PRNGKeyArray) -> ExtraRows | None:
        del domains, key
        return models.rows

    # --- One update ---

    def select(self, step: Step) -> Batch:
        batch = step.batch
        count = max(1, math.floor(self.keep * (batch.source_rows + batch.extra_rows)))
        if batch.extra_rows:
            return best_of_both(batch, count)
        return batch.best_source(batch.columns["score"], count)

    def weigh(self, step: Step) -> tuple[Weights, Metrics]:
        plain, _ = super().weigh(step)
        if not self.weigh_rows:
            return plain, {}
        score = step.batch.columns["score"]
        return plain._replace(critic=on_source(step.batch, score, 1.0)), {"source_weight": jnp.mean(score)}

    def actor_term(self, step: Step, action: Float[Array, "b a"]) -> Float[Array, ""]:
        if self.behaviour_scale == 0:
            return super().actor_term(step, action)
        models: Generated = step.models
        likelihood = log_likelihood(models.cvae, step.batch.observation, action, models.noise, self.variance)
        return -self.behaviour_scale / action.shape[-1] * jnp.mean(likelihood)
