"""Weights by similarity: trust a source row the more, the nearer it lies to a row of the target data.

    distance    x = min over target rows of |z - z_target|      z: standardised (s, a, s')
    weight      w = f + (1 - f) exp(-x / (c · mean x of the batch))

What earlier filters have in common, with all else as in TABB: the ablation that says what alignment of backups is worth
beside likeness of rows. A terminal row has no next state: its distance is the mean of the others.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tabb.batch import Domains
from tabb.models.fitting import step_normaliser, steps, with_next
from tabb.rules.rule import Metrics, Models, Step, Value, Weights
from tabb.rules.soft_weights import SoftWeights


def nearest_distances(domains: Domains) -> Float[Array, " n"]:
    """Distance of each source row to the nearest target row in standardised (s, a, s'); of terminal rows the mean."""
    normaliser = step_normaliser(domains)
    target = normaliser(steps(domains.target)[with_next(domains.target, "target")])
    rows = normaliser(steps(domains.source))
    # Differences, not products of rows: rows that are equal have distance 0. A few at once: they are large.
    nearest = jax.jit(
        lambda rows, target: jax.lax.map(
            lambda row: jnp.sqrt(jnp.min(jnp.sum((target - row) ** 2, axis=-1))), rows, batch_size=16
        )
    )(rows, target)
    alive = 1.0 - domains.source.terminal
    return jnp.where(alive > 0, nearest, jnp.sum(alive * nearest) / jnp.maximum(jnp.sum(alive), 1.0))


@dataclasses.dataclass(frozen=True)
class Similarity(SoftWeights):
    """Weight source rows by their distance to the nearest target row."""

    name: ClassVar[str] = "similarity"

    def columns(self, models: Models, domains: Domains) -> dict[str, Array]:
        del models
        return {"distance": nearest_distances(domains)}

    def weigh(self, step: Step) -> tuple[Weights, Metrics]:
        distance = step.batch.columns["distance"]
        weights, metrics = self.in_losses(step, self.weight(distance, jnp.mean(distance)))
        return weights, metrics | {"distance": jnp.mean(distance)}

    def row_scores(self, models: Models, domains: Domains, value: Value, discount: float) -> dict[str, Array]:
        """`distance` [N] in standard deviations, and `weight`, whose unit is the mean over all rows."""
        del value, discount
        distance = self.columns(models, domains)["distance"]
        return {"distance": distance, "weight": self.weight(distance, jnp.mean(distance))}
