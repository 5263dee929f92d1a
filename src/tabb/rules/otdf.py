"""OTDF (Lyu et al., ICLR 2025): optimal transport tells which source rows are near the target's, and the policy is
held to the target's actions.

    d_i     = -n Σ_j π_ij C_ij             π: entropic transport from source to target rows, C = 1 - cos of [s, a, s']
    d̃_i     = (d_i - max d) / (max d - min d)                                 over each batch
    keep      the best share of each batch's source rows by d̃
    weight    exp(d̃) in the critic's loss; 1 for target rows
    policy    L_π - κ mean log p̂_T(π(s) | s)              p̂_T: a conditional variational autoencoder of target actions

Transport and autoencoder are computed before training and then frozen. A terminal row has no next state: it is not
transported, and its d is the mean of the others.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Batch, Domains
from tabb.errors import UsageError
from tabb.float32 import LEAST
from tabb.models.cvae import CVAE, CVAEConfig, fit_cvae, init_cvae, log_likelihood
from tabb.models.fitting import Report, standard_steps, step_normaliser, with_next
from tabb.models.transport import deviations
from tabb.rules.rule import Metrics, Rule, Step, Weights, on_source


class Transported(eqx.Module):
    """The score d of each source row, the autoencoder, and the fixed noise of its estimate."""

    score: Float[Array, " n"]
    cvae: CVAE
    noise: Float[Array, "m z"]


def relative_score(score: Float[Array, " b"]) -> Float[Array, " b"]:
    """d̃ in [-1, 0]: 0 for the best row of the batch, -1 for the worst."""
    best, worst = jnp.max(score), jnp.min(score)
    return (score - best) / jnp.maximum(best - worst, LEAST)


@dataclasses.dataclass(frozen=True)
class OTDF(Rule):
    """Keep and weigh source rows by their transport cost to the target, and hold the policy to target actions."""

    name: ClassVar[str] = "otdf"
    trust_meaning: ClassVar[str] = "minus the transport cost to the target's rows: higher is nearer to the target"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "gravity": {"behaviour_scale": 0.5},
        "morph": {"behaviour_scale": 0.5},
        "kinematic": {"behaviour_scale": 0.1},
    }
    neutral: ClassVar[dict[str, Any] | None] = {"keep": 1.0, "weigh_rows": False, "behaviour_scale": 0.0}
    small: ClassVar[dict[str, Any]] = {
        "samples": 2,
        "iterations": 20,
        "chunk": 600,
        "cvae": CVAEConfig(hidden=(16,), updates=40, batch_size=16),
    }
    after_preparation: ClassVar[frozenset[str]] = frozenset({"keep", "weigh_rows", "behaviour_scale", "variance"})

    keep: float = 0.8
    """share of each batch's source rows that stay [command line: 0.8; the file's 0.25 is overridden by it]"""
    weigh_rows: bool = True
    """whether kept rows weigh exp(d̃) in the critic's loss [authors: yes]"""
    behaviour_scale: float = 0.5
    """κ, per action entry (the cloning term here is a mean over entries, theirs a sum); 0 leaves the policy's
    loss alone [authors: 0.5 for gravity and morph, 0.1 for kinematic]"""
    samples: int = 10
    """latents z per estimate of log p̂_T [authors: 10]"""
    variance: float = 0.1
    """variance of an action around its decoding [authors: 0.4 / 4]"""
    regularisation: float = 0.05
    """ε of the transport, in units of the mean cost [ott-jax's default: 0.05]"""
    iterations: int = 100
    """Sinkhorn's iterations [authors: at most 100, always reached]"""
    chunk: int = 10_000
    """source rows transported at once [authors: 10,000]"""
    cvae: CVAEConfig = dataclasses.field(default_factory=CVAEConfig)
    """the autoencoder of target actions"""

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise UsageError(f"keep={self.keep} must lie in (0, 1]")
        if not 0 <= self.behaviour_scale < math.inf:
            raise UsageError(f"behaviour_scale={self.behaviour_scale} must be a number, zero or more")
        for name in ("variance", "regularisation"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name}={getattr(self, name)} must be a positive number")
        for name in ("samples", "iterations", "chunk"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)} must be at least 1")

    def template(self, domains: Domains, key: PRNGKeyArray) -> Transported:
        size, action = domains.source.observation_size, domains.source.action_size
        noise = jnp.zeros((self.samples, 2 * action))
        return Transported(jnp.zeros(len(domains.source)), init_cvae(self.cvae, size, action, key), noise)

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Transported:
        transport_key, cvae_key, noise_key = jax.random.split(key, 3)
        alive = with_next(domains.source, "source")
        deviation = deviations(
            *standard_steps(domains, step_normaliser(domains)),
            self.chunk,
            self.regularisation,
            self.iterations,
            transport_key,
            report,
        )
        score = jnp.full(len(domains.source), jnp.mean(deviation)).at[alive].set(deviation)
        cvae = fit_cvae(
            self.cvae, [(domains.target.observation, domains.target.action)], cvae_key, report, "autoencoder"
        )
        noise = jax.random.normal(noise_key, (self.samples, 2 * domains.target.action_size))
        return Transported(score, cvae, noise)

    def columns(self, models: Transported, domains: Domains) -> dict[str, Array]:
        del domains
        return {"score": models.score}

    def select(self, step: Step) -> Batch:
        batch = step.batch
        score = relative_score(batch.columns["score"])
        batch = dataclasses.replace(batch, columns=batch.columns | {"score": score})
        return batch.best_source(score, max(1, math.floor(self.keep * batch.source_rows)))

    def weigh(self, step: Step) -> tuple[Weights, Metrics]:
        plain, _ = super().weigh(step)
        if not self.weigh_rows:
            return plain, {}
        source = jnp.exp(step.batch.columns["score"])
        return plain._replace(critic=on_source(step.batch, source, 1.0)), {"source_weight": jnp.mean(source)}

    def actor_term(self, step: Step, action: Float[Array, "b a"]) -> Float[Array, ""]:
        if self.behaviour_scale == 0:
            return super().actor_term(step, action)
        models: Transported = step.models
        likelihood = log_likelihood(models.cvae, step.batch.observation, action, models.noise, self.variance)
        return -self.behaviour_scale / action.shape[-1] * jnp.mean(likelihood)
