"""TABB with errors in the values that its mismatch is made of: does the ranking of rows survive a wrong V?

    V + σ · std V · n      n: standard normal, drawn once for each source row and each of its answers

The errors are the same for all seeds of training, and scores of a finished run (`tabb score`) are without them.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tabb.batch import Domains
from tabb.rules.rule import Models, Value
from tabb.rules.soft_weights import check_factor
from tabb.rules.tabb import TABB


@dataclasses.dataclass(frozen=True)
class ValueNoise(TABB):
    """TABB with Gaussian errors on the values of source rows, for the ablation of that name."""

    name: ClassVar[str] = "value-noise"
    after_preparation: ClassVar[frozenset[str]] = TABB.after_preparation | {"noise"}

    noise: float = 0.1
    """σ, standard deviation of the errors in units of the spread of V over the batch's source rows"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_factor("noise", self.noise)

    def columns(self, models: Models, domains: Domains) -> dict[str, Array]:
        columns = super().columns(models, domains)
        rows, answers = columns["next"].shape[:2]
        return columns | {"value_noise": jax.random.normal(jax.random.key(0), (rows, 1 + answers))}

    def values_of(self, value: Value, states: Float[Array, "b k v"], columns: dict[str, Array]) -> Float[Array, "b k"]:
        """V with errors, where the rows have some: target rows have none."""
        values = value(states)
        if "value_noise" not in columns:
            return values
        return values + self.noise * jnp.std(values[:, 0]) * columns["value_noise"]
