"""VGDF (Xu et al., NeurIPS 2023) where the target is stepped in: its filter with an ensemble that learns along the way.

    b_k      = r̂_k + γ (1 - d) V(ŝ'_k)                    k: members of an ensemble of the target domain's dynamics
    b        = r + γ (1 - d) V(s')                        the row's own backup
    score    log N(b; mean_k b_k, std_k b_k)              rows below the best share weigh nothing for the critics

From update n on; before, all source rows count. The policy learns from the states of both domains.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Batch, Sizes
from tabb.errors import UsageError
from tabb.models.ensemble import gaussian
from tabb.models.fitting import check_widths
from tabb.networks import MLP, mlp
from tabb.rules.rule import Metrics, Rule, Step, Weights, on_source
from tabb.rules.vgdf import backup_likelihood, backups


class Members(NamedTuple):
    """Networks of the mean and the log-variance of [s' - s, r], and their optimiser's state."""

    networks: tuple[MLP, ...]
    optimiser: optax.OptState

    def outcomes(
        self, observation: Float[Array, "b s"], action: Float[Array, "b a"]
    ) -> tuple[Float[Array, "b e"], Float[Array, "b e s"]]:
        """Mean reward and next state of each member."""
        inputs = jnp.concatenate([observation, action], axis=-1)
        means = jnp.stack([gaussian(member(inputs))[0] for member in self.networks], axis=1)
        return means[..., -1], observation[:, None] + means[..., :-1]


def likely(score: Float[Array, " s"], share: float) -> Float[Array, " s"]:
    """1 for the rows whose score is in the best share of the batch's, 0 for the others."""
    return (score >= jnp.quantile(score, 1.0 - share)).astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class VGDFOnline(Rule):
    """Learn from the source rows whose backups an ensemble of the target finds likely; it learns along the way."""

    name: ClassVar[str] = "vgdf-online"
    backbone: ClassVar[str] = "sac"
    neutral: ClassVar[dict[str, Any] | None] = {"keep": 1.0}
    small: ClassVar[dict[str, Any]] = {"members": 2, "hidden": (16,), "after": 0.0}

    keep: float = 0.25
    """share of each batch's source rows that count [authors: those above the 0.75 quantile]"""
    after: float = 0.1
    """share of the run before rows are filtered: the ensemble knows nothing yet [authors: 100,000 of 1,000,000]"""
    members: int = 5
    """networks of the ensemble [authors: the 5 best of 7]"""
    learning_rate: float = 1e-3
    """Adam's rate [as the offline rule]"""
    hidden: tuple[int, ...] = (200, 200, 200, 200)
    """widths of a member's hidden layers [authors: 4 x 200]"""

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise UsageError(f"keep={self.keep} must lie in (0, 1]")
        if self.members < 2:
            raise UsageError(f"members={self.members} must be at least 2: the spread between them is what counts")
        if not 0 <= self.after <= 1:
            raise UsageError(f"after={self.after}: a share of the run's updates lies in [0, 1]")
        if not 0 <= self.learning_rate < math.inf:
            raise UsageError(f"learning_rate={self.learning_rate} must be a number, zero or more")
        check_widths(self.hidden)

    def init_learned(self, sizes: Sizes, key: PRNGKeyArray) -> Members:
        widths = (sizes.observation + sizes.action, *self.hidden, 2 * (sizes.observation + 1))
        networks = tuple(mlp(one, widths, "swish") for one in jax.random.split(key, self.members))
        return Members(networks, optax.adam(self.learning_rate).init(networks))

    def observe(self, step: Step) -> tuple[Members, Metrics]:
        batch, learned = step.batch, step.learned
        first, count = batch.source_rows, batch.target_rows
        inputs = jnp.concatenate([batch.observation, batch.action], axis=-1)
        goals = jnp.concatenate([batch.next_observation - batch.observation, batch.reward[:, None]], axis=-1)
        known = 1.0 - batch.terminal

        def loss(networks: tuple[MLP, ...]) -> Array:
            total = jnp.zeros(())
            for member, key in zip(networks, jax.random.split(step.key, self.members), strict=True):
                drawn = first + jax.random.randint(key, (count,), 0, count)  # each member sees draws of its own
                mean, log_variance = gaussian(member(inputs[drawn]))
                error = (mean - goals[drawn]) ** 2 * jnp.exp(-log_variance) + log_variance
                total += 0.5 * jnp.mean(known[drawn] * jnp.mean(error, axis=-1))
            return total / self.members

        amount, gradient = jax.value_and_grad(loss)(learned.networks)
        change, optimiser = optax.adam(self.learning_rate).update(gradient, learned.optimiser)
        return Members(optax.apply_updates(learned.networks, change), optimiser), {"ensemble_loss": amount}

    def weigh(self, step: Step) -> tuple[Weights, Metrics]:
        plain, metrics = super().weigh(step)
        if self.keep == 1.0:
            return plain, metrics
        score = self.score(step)
        counts = jnp.where(step.is_past(self.after), likely(score, self.keep), 1.0)
        return plain._replace(critic=on_source(step.batch, counts, 1.0)), metrics | {"source_score": jnp.mean(score)}

    def score(self, step: Step) -> Float[Array, " s"]:
        """The log-likelihood of each source row's backup."""
        batch: Batch = step.batch
        rows = slice(0, batch.source_rows)
        reward, following = step.learned.outcomes(batch.observation[rows], batch.action[rows])
        own, predicted = backups(
            batch.reward[rows],
            batch.terminal[rows],
            batch.next_observation[rows],
            {"reward_hat": reward, "next": following},
            step.value,
            step.discount,
        )
        return backup_likelihood(own, predicted)
