"""PUORL (Nishimori et al. 2024): a source log that mixes domains without labels; its target rows are found and used.

    classifier    target rows are positive, the source log is unlabelled        positive-unlabelled learning
    α             the share of the log that comes from the target domain
    positive      the α N source rows that look most like the target's: weight 1; the others weigh the least weight

The classifier looks at standardised steps [s, a, s'] and is fitted before training. A terminal row has no next state:
it weighs what the others weigh on average.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Domains
from tabb.errors import UsageError
from tabb.models.fitting import Report, scores, standard_steps, step_normaliser, steps
from tabb.models.mixture import Mixture, MixtureConfig, fit_mixture, init_mixture
from tabb.networks import Normaliser
from tabb.rules.rule import Metrics, Rule, Step, Value, Weights, on_source
from tabb.transitions import Transitions


class Sorted(eqx.Module):
    """The classifier, and how steps are standardised for it."""

    mixture: Mixture
    normaliser: Normaliser

    def logits(self, data: Transitions) -> Float[Array, " n"]:
        """The logit of "target" of every row; a terminal row's says nothing."""
        found: Array = scores(lambda rows: self.mixture(self.normaliser(steps(rows))), data)
        return found


def most_positive(logit: Float[Array, " n"], alive: Float[Array, " n"], share: Float[Array, ""]) -> Float[Array, " n"]:
    """1 for the `share` of rows of the largest logit, else 0; the mean of the others for rows that are not `alive`."""
    count = np.asarray(alive) > 0
    ranked = np.argsort(-np.asarray(logit)[count], kind="stable")
    positive = np.zeros(int(count.sum()), np.float32)
    positive[ranked[: round(float(share) * len(ranked))]] = 1.0
    every = np.full(len(count), positive.mean() if len(positive) else 0.0, np.float32)
    every[count] = positive
    return jnp.asarray(every)


@dataclasses.dataclass(frozen=True)
class PU(Rule):
    """Learn from the source rows that come from the target domain."""

    name: ClassVar[str] = "pu"
    trust: ClassVar[str | None] = "logit"
    trust_meaning: ClassVar[str] = "the logit of coming from the target domain: higher is more like the target"
    neutral: ClassVar[dict[str, Any] | None] = {"least_weight": 1.0}
    small: ClassVar[dict[str, Any]] = {
        "mixture": MixtureConfig(hidden=(8,), warm_updates=40, rounds=1, round_updates=20, batch_size=16)
    }
    after_preparation: ClassVar[frozenset[str]] = frozenset({"least_weight"})

    least_weight: float = 0.0
    """weight of source rows that do not come from the target domain, in all losses; 1 keeps all alike [authors: 0]"""
    mixture: MixtureConfig = dataclasses.field(default_factory=MixtureConfig)
    """the classifier"""

    def __post_init__(self) -> None:
        if not 0 <= self.least_weight <= 1:
            raise UsageError(f"least_weight={self.least_weight} must lie in [0, 1]")

    def template(self, domains: Domains, key: PRNGKeyArray) -> Sorted:
        width = 2 * domains.source.observation_size + domains.source.action_size
        return Sorted(init_mixture(self.mixture, width, key), step_normaliser(domains))

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Sorted:
        normaliser = step_normaliser(domains)
        source, target = standard_steps(domains, normaliser)
        return Sorted(fit_mixture(self.mixture, target, source, key, report), normaliser)

    def columns(self, models: Sorted, domains: Domains) -> dict[str, Array]:
        alive = 1.0 - domains.source.terminal
        return {"positive": most_positive(models.logits(domains.source), alive, models.mixture.share)}

    def row_scores(self, models: Sorted, domains: Domains, value: Value, discount: float) -> dict[str, Array]:
        """`logit` [N] (a terminal row's: the mean of the others) and `positive` [N]."""
        del value, discount
        logit, alive = models.logits(domains.source), 1.0 - domains.source.terminal
        logit = jnp.where(alive > 0, logit, jnp.sum(alive * logit) / jnp.maximum(jnp.sum(alive), 1.0))
        return {"logit": logit} | self.columns(models, domains)

    def weigh(self, step: Step) -> tuple[Weights, Metrics]:
        positive = step.batch.columns["positive"]
        weight = on_source(step.batch, self.least_weight + (1.0 - self.least_weight) * positive, 1.0)
        return Weights(weight, weight, weight), {"target_share": step.models.mixture.share}
