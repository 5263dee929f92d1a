"""A transfer rule: what a cross-domain method adds to a backbone, as seams that all default to the identity.

A rule is a frozen dataclass: its fields are its configuration, its methods fill seams. It holds no arrays;
what it fits before training goes into `models` (from `prepare`), what it keeps per source row into columns of
the batch, and what it learns during training into `learned` (from `observe`).
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
from tabb.transitions import Transitions

Models = Any  # pytree of arrays: what `prepare` fitted
Learned = Any  # pytree of arrays: what the rule goes on learning, update by update
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
    backbone: ClassVar[str] = "iql"
    """The backbone that the method's authors put it on; `tabb train RULE@BACKBONE` takes another."""
    backbone_constants: ClassVar[dict[str, Any]] = {}
    """Constants of that backbone that belong to the method."""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    """Settings that its authors use for a robot or a shift, that public code has, or that serve one purpose: `--preset
    NAME`."""
    after_preparation: ClassVar[frozenset[str]] = frozenset()
    """Fields that `prepare` does not read: changing them leaves what was prepared, and cached, as it is."""

    def on(self, backbone: str) -> Rule:
        """The rule with those defaults that depend on the backbone of this name."""
        del backbone
        return self

    def check_backbone(self, backbone: str) -> None:
        """Raise `UsageError` if the rule cannot act on the backbone of this name."""
        del backbone

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

    def predict_target(self, models: Models, rows: Transitions) -> tuple[Array, Array, Array] | None:
        """What the rule's model of the target domain says of the (normalised) rows from (s, a) alone.

        Rewards and terminals [n, K] and what V sees of the next states [n, K, v], by K heads; None without a model.
        """
        del models, rows
        return None

    def init_learned(self, sizes: Sizes, key: PRNGKeyArray) -> Learned:
        """What `observe` starts from: networks and optimiser states of the rule's own."""
        del sizes, key
        return ()

    def select(self, models: Models, batch: Batch) -> Batch:
        """The batch less the source rows that do not stay; how many stay is fixed (`Batch.best_source`)."""
        del models
        return batch

    def observe(
        self, models: Models, learned: Learned, batch: Batch, features: Features, value: Value
    ) -> tuple[Learned, Metrics]:
        """Train the rule's own networks on the batch, with the value function before the update."""
        del models, batch, features, value
        return learned, {}

    def see_state(self, models: Models, observation: Float[Array, "*b s"]) -> Float[Array, "*b v"]:
        """What V sees of a state."""
        del models
        return observation

    def see_action(
        self, models: Models, observation: Float[Array, "*b s"], action: Float[Array, "*b a"]
    ) -> Float[Array, "*b q"]:
        """What Q sees of a state and an action."""
        del models
        return jnp.concatenate([observation, action], axis=-1)

    def represent(self, models: Models, batch: Batch) -> Features:
        """What V and Q see of each row."""
        return Features(
            self.see_state(models, batch.observation),
            self.see_state(models, batch.next_observation),
            self.see_action(models, batch.observation, batch.action),
        )

    def reward(self, models: Models, learned: Learned, batch: Batch) -> Float[Array, " b"]:
        """The rewards that enter the backup."""
        del models, learned
        return batch.reward

    def next_value(
        self, models: Models, batch: Batch, next_value: Float[Array, " b"], value: Value
    ) -> Float[Array, " b"]:
        """V(s') as it enters the backup, after the rule's edit.

        `value` is IQL's V after its update; elsewhere min_i Q_i at the policy's action, before the update.
        """
        del models, batch, value
        return next_value

    def backup(self, models: Models, batch: Batch, backup: Float[Array, " b"]) -> Float[Array, " b"]:
        """The backups after the rule's edit."""
        del models, batch
        return backup

    def critic_loss(self, models: Models, batch: Batch, error: Float[Array, "2 b"]) -> Float[Array, "2 b"]:
        """Loss of each row and critic from its error Q - backup."""
        del models, batch
        return error**2

    def critic_term(self, models: Models, batch: Batch, values: Float[Array, "2 b"]) -> Float[Array, ""]:
        """Extra term of the critics' loss; `values` are both critics' values of the batch's rows."""
        del models, batch, values
        return jnp.zeros((), jnp.float32)

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


def on_source(batch: Batch, values: Float[Array, " s"], elsewhere: float) -> Float[Array, " b"]:
    """`values` for the source rows of the batch, and the number `elsewhere` for its target rows."""
    return jnp.concatenate([values, jnp.full(len(batch) - batch.source_rows, elsewhere, values.dtype)])
