"""H2O (Niu et al., NeurIPS 2022): a simulator to step in, and a log of the real domain that corrects it.

    ratio    P_T(s' | s, a) / P_S(s' | s, a), clipped to [1e-5, 1]: the weight of a source row in the critics' loss
    ω        mean over noisy copies of s' of ln P_S / P_T, clipped to [1e-30, 10] and normalised over the batch
    L_Q     += β/2 clip( ln Σ_source ω exp Q(s, a)  -  mean_target Q(s, a), ±1000 )

L_Q is a mean over all rows of the batch, half of the two domains' means that the authors add up: so is the last term.

Q is pushed down where the simulator departs from the real domain, and up at real rows. The ratio comes from two
classifiers that learn along the way. The source is stepped in, the target logged. ODRL's code has ω of ln P_T / P_S,
which pushes Q down where the two agree; the paper and its authors' code have it as here.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Sizes
from tabb.errors import UsageError
from tabb.models.step_classifiers import StepClassifierConfig, StepClassifiers
from tabb.rules.rule import Metrics, Rule, Step, Weights, on_source

LEAST_GAP, LARGEST_GAP = 1e-30, 10.0
"""clip of the log-ratio that ω is made of [authors: 1e-45, which float32 may take for 0: then no row has any weight]"""


def gap_weights(log_ratio: Float[Array, "n s"]) -> Float[Array, " s"]:
    """ω of each source row from ln P_T / P_S of `n` noisy copies: sums to 1."""
    gap = jnp.clip(jnp.mean(-log_ratio, axis=0), LEAST_GAP, LARGEST_GAP)
    return gap / jnp.sum(gap)


def pushed_gap(
    source: Float[Array, "q s"], weight: Float[Array, " s"], target: Float[Array, "q t"], largest: float
) -> Float[Array, ""]:
    """Σ over critics of clip(ln Σ ω exp Q_source - mean Q_target, ±largest)."""
    pushed = jax.nn.logsumexp(source, axis=-1, b=weight)
    return jnp.sum(jnp.clip(pushed - jnp.mean(target, axis=-1), -largest, largest))


@dataclasses.dataclass(frozen=True)
class H2O(Rule):
    """Weigh source rows by the ratio of the dynamics, and push Q down where they differ from the target's."""

    name: ClassVar[str] = "h2o"
    backbone: ClassVar[str] = "sac"
    neutral: ClassVar[dict[str, Any] | None] = {"gap_weight": 0.0, "least_ratio": 1.0}
    small: ClassVar[dict[str, Any]] = {"classifiers": StepClassifierConfig(hidden=(16,))}

    gap_weight: float = 10.0
    """β, the weight of the gap between source and target rows; 0 for none [ODRL: 10; authors' code: 0.01]"""
    least_ratio: float = 1e-5
    """least weight of a source row; 1 weighs all alike [ODRL: 1e-5]"""
    largest_gap: float = 1_000.0
    """clip of the gap [ODRL: 1,000]"""
    copies: int = 10
    """noisy copies of the next state that ω is the mean of [authors: 10]"""
    classifiers: StepClassifierConfig = dataclasses.field(default_factory=StepClassifierConfig)
    """the two classifiers"""

    def __post_init__(self) -> None:
        for name in ("gap_weight", "largest_gap"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name}={getattr(self, name)} must be a number, zero or more")
        if not 0 < self.least_ratio <= 1:
            raise UsageError(f"least_ratio={self.least_ratio} must lie in (0, 1]")
        if self.copies < 1:
            raise UsageError(f"copies={self.copies} must be at least 1")

    def init_learned(self, sizes: Sizes, key: PRNGKeyArray) -> StepClassifiers:
        return self.classifiers.init(sizes, key)

    def observe(self, step: Step) -> tuple[StepClassifiers, Metrics]:
        learned, loss = self.classifiers.learn(step.learned, step.batch, jax.random.fold_in(step.key, 0))
        return learned, {"classifier_loss": loss}

    def weigh(self, step: Step) -> tuple[Weights, Metrics]:
        plain, metrics = super().weigh(step)
        if self.least_ratio == 1.0:
            return plain, metrics
        batch = step.batch
        ratio = jnp.exp(jnp.clip(step.learned.log_ratio(batch)[: batch.source_rows], math.log(self.least_ratio), 0.0))
        return plain._replace(critic=on_source(batch, ratio, 1.0)), metrics | {"source_weight": jnp.mean(ratio)}

    def critic_term(self, step: Step, values: Float[Array, "q b"]) -> Float[Array, ""]:
        batch = step.batch
        count = batch.source_rows
        if not self.gap_weight or not count or not batch.target_rows:
            return super().critic_term(step, values)
        spread = jnp.std(batch.observation[count : count + batch.target_rows], axis=0)
        weight = gap_weights(self._ratios_of_copies(step, spread))
        gap = pushed_gap(values[:, :count], weight, values[:, count : count + batch.target_rows], self.largest_gap)
        return 0.5 * self.gap_weight * gap

    def _ratios_of_copies(self, step: Step, spread: Float[Array, " o"]) -> Float[Array, "n s"]:
        """ln P_T / P_S of source rows whose next states have noise of the target's spread."""

        def of_copy(key: PRNGKeyArray) -> Array:
            following = step.batch.next_observation
            noisy = following + spread * jax.random.normal(key, following.shape)
            copy = dataclasses.replace(step.batch, next_observation=noisy)
            ratio: Array = step.learned.log_ratio(copy)[: step.batch.source_rows]
            return ratio

        return jax.vmap(of_copy)(jax.random.split(jax.random.fold_in(step.key, 1), self.copies))
