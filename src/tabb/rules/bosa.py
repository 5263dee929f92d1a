"""BOSA (Liu, Zhang, Wei et al., AAAI 2024): keep the policy to supported actions, and Q to supported transitions.

    keep row     1 if min_e log p̂_e(s' | s, a) > ln ε, else 0          in the critics' loss, rows of both domains
    L_Q          Σ_i mean keep (Q_i - b)² + 2 c mean_source Q_i        (the authors' ½ on the squares is not taken)
    L_π          -mean Q_1(s, π(s)) / mean|Q_1| - λ mean log p̂(π(s) | s)

On TD3 without cloning. p̂(a | s) and p̂_e(s' | s, a) are variational autoencoders, fitted before training and frozen:
the actions' on both domains, the dynamics' on the target. The latter is the density of the change s' - s in the
target's units: a step is small compared with the spread of states, so a threshold on the density of s' itself keeps
nearly every row. A terminal row has no next state to judge: it is kept.

The latents of log p̂(π(s) | s) are drawn anew for each row and update. Those of the dynamics are drawn once, since their
likelihoods are known before training.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Domains
from tabb.errors import UsageError
from tabb.models.cvae import CVAE, CVAEConfig, fit_cvae, importance_log_likelihood, init_cvae
from tabb.models.fitting import (
    Report,
    changes,
    outcome_scales,
    pair_normaliser,
    scores,
    standard_steps,
    step_normaliser,
    steps,
)
from tabb.networks import Normaliser
from tabb.rules.rule import Metrics, Rule, Step, Weights, on_source, row_by_row
from tabb.transitions import Transitions


class Support(eqx.Module):
    """Autoencoders of actions and of dynamics (an ensemble), and the latents with which steps are judged."""

    actions: CVAE
    dynamics: tuple[CVAE, ...]
    normaliser: Normaliser
    step_noise: Float[Array, "m zs"]

    def of_steps(self, rows: Float[Array, "b w"], variance: float) -> Float[Array, " b"]:
        """min_e log p̂_e(s' | s, a) of standardised rows [s, a, s' - s]."""
        width = rows.shape[-1] - self.step_noise.shape[-1] // 2
        noise = self.step_noise[:, None]
        likelihoods = [
            importance_log_likelihood(member, rows[:, :width], rows[:, width:], noise, variance)
            for member in self.dynamics
        ]
        return jnp.min(jnp.stack(likelihoods), axis=0)


def _changing(domains: Domains) -> Domains:
    return domains._replace(source=changes(domains.source), target=changes(domains.target))


@dataclasses.dataclass(frozen=True)
class BOSA(Rule):
    """Learn from supported transitions alone, and hold the policy to supported actions."""

    name: ClassVar[str] = "bosa"
    trust_meaning: ClassVar[str] = (
        "the log likelihood of s' under the target's dynamics: higher is more like the target"
    )
    backbone: ClassVar[str] = "td3-bc"
    backbone_constants: ClassVar[dict[str, Any]] = {"value_weight": 1.0, "cloning": 0.0}
    neutral: ClassVar[dict[str, Any] | None] = {"policy_scale": 0.0, "least_likelihood": 0.0, "conservatism": 0.0}
    small: ClassVar[dict[str, Any]] = {
        "members": 2,
        "cvae": CVAEConfig(hidden=(16,), updates=40, batch_size=16),
        "least_likelihood": 1e-9,
    }
    after_preparation: ClassVar[frozenset[str]] = frozenset({"policy_scale", "least_likelihood", "conservatism"})

    policy_scale: float = 0.1
    """λ, the weight of the policy's log-likelihood; 0 leaves the policy free [ODRL: 0.1]"""
    least_likelihood: float = 0.01
    """ε: a transition less likely than that is left out of the critics' loss; 0 keeps all [ODRL: 0.01]"""
    conservatism: float = 0.1
    """c, the weight of Q of source rows in the critics' loss [ODRL: 0.1]"""
    members: int = 5
    """E, autoencoders of the dynamics [ODRL: 5]"""
    samples: int = 1
    """M, latents per likelihood [ODRL: 1]"""
    variance: float = 0.125
    """variance of what is decoded, β / 4, in standardised units for changes of state [ODRL: 0.5 / 4, raw states]"""
    dynamics_from: str = "target"
    """data of the dynamics' autoencoders: target, or both [paper: target; ODRL: both]"""
    cvae: CVAEConfig = dataclasses.field(default_factory=lambda: CVAEConfig(updates=5_000))
    """all autoencoders [ODRL: 50,000 updates in effect; held-out target steps gain little after 2,500]"""

    def __post_init__(self) -> None:
        for name in ("policy_scale", "conservatism"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name}={getattr(self, name)} must be a number, zero or more")
        if not 0 <= self.least_likelihood < math.inf:
            raise UsageError(f"least_likelihood={self.least_likelihood} must be a number, zero or more (0 keeps all)")
        if not 0 < self.variance < math.inf:
            raise UsageError(f"variance={self.variance} must be a positive number")
        for name in ("members", "samples"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)} must be at least 1")
        if self.dynamics_from not in ("target", "both"):
            raise UsageError(f"dynamics_from={self.dynamics_from!r} is unknown: use target or both")

    def template(self, domains: Domains, key: PRNGKeyArray) -> Support:
        state, action = domains.target.observation_size, domains.target.action_size
        return Support(
            init_cvae(self.cvae, state, action, key),
            tuple(init_cvae(self.cvae, state + action, state, key, bounded=False) for _ in range(self.members)),
            self._units(domains),
            jnp.zeros((self.samples, 2 * state)),
        )

    def _units(self, domains: Domains) -> Normaliser:
        """Standardises [s, a, s' - s] by the data of the dynamics."""
        if self.dynamics_from == "both":
            return step_normaliser(_changing(domains))
        pairs, (change, _) = pair_normaliser(domains.target), outcome_scales(domains.target, domains.source)
        mean = jnp.concatenate([pairs.mean, jnp.zeros_like(change)])
        return Normaliser(mean, jnp.concatenate([pairs.scale, change]))

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Support:
        state, action = domains.target.observation_size, domains.target.action_size
        action_key, step_key, dynamics_key = jax.random.split(key, 3)
        normaliser = self._units(domains)
        source, target = standard_steps(_changing(domains), normaliser)
        parts = [target] if self.dynamics_from == "target" else [source, target]
        known = state + action
        members = []
        for member in range(self.members):
            rows = [(part[:, :known], part[:, known:]) for part in parts]
            what = f"dynamics {member + 1} of {self.members}"
            member_key = jax.random.fold_in(dynamics_key, member)
            members.append(fit_cvae(self.cvae, rows, member_key, report, what, bounded=False))
        pairs = [(domain.observation, domain.action) for domain in (domains.source, domains.target)]
        return Support(
            fit_cvae(self.cvae, pairs, action_key, report, "actions"),
            tuple(members),
            normaliser,
            jax.random.normal(step_key, (self.samples, 2 * state)),
        )

    def _likelihood(self, models: Support, data: Transitions) -> dict[str, Array]:
        def score(rows: Transitions) -> Array:
            likelihood = models.of_steps(models.normaliser(steps(changes(rows))), self.variance)
            return jnp.where(rows.terminal > 0, jnp.inf, likelihood)

        return {"log_likelihood": scores(score, data)}

    @row_by_row
    def columns(self, models: Support, domains: Domains) -> dict[str, Array]:
        return self._likelihood(models, domains.source)

    @row_by_row
    def target_columns(self, models: Support, domains: Domains) -> dict[str, Array]:
        return self._likelihood(models, domains.target)

    def weigh(self, step: Step) -> tuple[Weights, Metrics]:
        plain, _ = super().weigh(step)
        if self.least_likelihood == 0:
            return plain, {}
        batch = step.batch
        likelihood = jnp.concatenate([batch.columns["log_likelihood"], batch.target_columns["log_likelihood"]])
        keep = (likelihood > math.log(self.least_likelihood)).astype(jnp.float32)
        rows = batch.source_rows
        metrics = {"source_kept": jnp.mean(keep[:rows]), "target_kept": jnp.mean(keep[rows:])}
        return plain._replace(critic=keep), metrics

    def critic_term(self, step: Step, values: Float[Array, "2 b"]) -> Float[Array, ""]:
        if self.conservatism == 0:
            return super().critic_term(step, values)
        rows = step.batch.source_rows
        share = on_source(step.batch, jnp.full(rows, 1.0 / rows), 0.0)
        return 2.0 * self.conservatism * jnp.sum(share * values)

    def actor_term(self, step: Step, action: Float[Array, "b a"]) -> Float[Array, ""]:
        if self.policy_scale == 0:
            return super().actor_term(step, action)
        models: Support = step.models
        noise = jax.random.normal(step.key, (self.samples, len(action), 2 * action.shape[-1]))
        likelihood = importance_log_likelihood(models.actions, step.batch.observation, action, noise, self.variance)
        return -self.policy_scale * jnp.mean(likelihood)
