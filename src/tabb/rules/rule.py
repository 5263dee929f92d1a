"""A transfer rule: what a cross-domain method adds to a backbone, as seams that all default to the identity.

A rule is a frozen dataclass: its fields are its configuration, its methods fill seams. It holds no arrays;
what it fits goes into `models` (from `prepare`), what it keeps per source row into columns of the batch.
Every rule with its knobs at neutral equals pooled IQL bit for bit: the backbone calls each seam always.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Batch, Domains, Sizes

Models = Any  # pytree of arrays: what `prepare` fitted
Metrics = dict[str, Array]  # scalars


class Features(NamedTuple):
    """What V and Q see: V at s, V at s', Q at (s, a). Plain rules: s, s' and [s, a]."""

    now: Float[Array, "b v"]
    following: Float[Array, "b v"]
    critic: Float[Array, "b q"]


class Weights(NamedTuple):
    """Weight of each row in the three losses, shape [B] each."""

    critic: Float[Array, " b"]
    value: Float[Array, " b"]
    policy: Float[Array, " b"]


Value = Callable[[Float[Array, "*rows v"]], Float[Array, "*rows"]]


@dataclasses.dataclass(frozen=True)
class Rule:
    """The rule that adds nothing; the base of all others."""

    name: ClassVar[str] = "rule"

    def shares(self, batch_size: int) -> tuple[int, int]:
        """How many source and target rows a batch of `batch_size` rows holds."""
        return batch_size // 2, batch_size - batch_size // 2

    def widths(self, sizes: Sizes) -> tuple[int, int]:
        """Widths of the features of V and of Q."""
        return sizes.observation, sizes.observation + sizes.action

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Callable[[str, float], None]) -> Models:
        """Fit what the rule needs, once before training. `report(what, share done)` shows progress."""
        del domains, key, report
        return ()

    def template(self, domains: Domains, key: PRNGKeyArray) -> Models:
        """Models of the structure and shapes that `prepare` returns: a checkpoint of them is read into it."""
        del domains, key
        return ()

    def columns(self, models: Models, domains: Domains) -> dict[str, Array]:
        """Values per source row, each with leading axis len(source), that batches carry along."""
        del models, domains
        return {}

    def target_columns(self, models: Models, domains: Domains) -> dict[str, Array]:
        """Values per target row, likewise."""
        del models, domains
        return {}

    def represent(self, models: Models, batch: Batch) -> Features:
        """What V and Q see of each row."""
        del models
        return Features(
            batch.observation,
            batch.next_observation,
            jnp.concatenate([batch.observation, batch.action], axis=-1),
        )

    def reward(self, models: Models, batch: Batch) -> Float[Array, " b"]:
        """The rewards that enter the backup."""
        del models
        return batch.reward

    def backup(self, models: Models, batch: Batch, backup: Float[Array, " b"]) -> Float[Array, " b"]:
        """The backups after the rule's edit."""
        del models, batch
        return backup

    def weigh(
        self, models: Models, batch: Batch, features: Features, value: Value, discount: float
    ) -> tuple[Weights, Metrics]:
        """The weight of each row in the critic, value and policy loss, from the value function before the update."""
        del models, features, value, discount
        # The barrier keeps the compiler from seeing that these are ones: the compiled update of the neutral
        # rule then rounds exactly as that of a weighting rule whose weights happen to be 1.
        ones = jax.lax.optimization_barrier(jnp.ones(len(batch), jnp.float32))
        return Weights(ones, ones, ones), {}

    def actor_term(self, models: Models, batch: Batch, action: Float[Array, "b a"]) -> Float[Array, ""]:
        """Extra term of the policy loss; `action` is the policy's action at each row."""
        del models, batch, action
        return jnp.zeros((), jnp.float32)
