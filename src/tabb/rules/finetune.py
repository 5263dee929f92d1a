"""Fine-tuning: learn from the source first, then go on from there with target rows.

    first     the share p of the run's updates: whole batches of source rows
    then      batches with the share m of source rows, the rest target rows; fresh optimisers, rates times k
    rank      if given, the policy's weight matrices change from then on by products of that rank alone, from zero
    stop      when the policy's squared error on target episodes that are held out has not fallen for n checks in a row

`finetune` takes target rows alone (m = 0) and never stops. `ptr` is the mixed form (Kumar et al. 2023: Pre-Training for
Robots), which also stops by held-out rows. Both phases are the plain backbone: what is gained over `target-only` comes
from the weights that the source leaves behind.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from numpy.typing import NDArray

from tabb.batch import Domains, Sizes
from tabb.errors import UsageError
from tabb.rules.low_rank import low_rank
from tabb.rules.rule import BackboneTraits, Metrics, Phase, Rule, Step, Weights
from tabb.transitions import Transitions, spread_episodes


class Watch(NamedTuple):
    """What is known of the policy's error on held-out target rows."""

    error: Float[Array, ""]
    """sum over the held-out rows that were drawn since the last check"""
    rows: Float[Array, ""]
    """how many those were"""
    least: Float[Array, ""]
    """the smallest error at a check"""
    worse: Int[Array, ""]
    """checks in a row without a smaller one"""


def fresh_watch() -> Watch:
    """Nothing is known yet."""
    return Watch(jnp.zeros(()), jnp.zeros(()), jnp.asarray(jnp.inf), jnp.zeros((), jnp.int32))


def checked(watch: Watch) -> Watch:
    """After a check: the mean error of the rows since the last one, against the smallest so far."""
    mean = watch.error / jnp.maximum(watch.rows, 1.0)
    better = (watch.rows > 0) & (mean < watch.least)
    worse = jnp.where(better, 0, watch.worse + (watch.rows > 0))
    return fresh_watch()._replace(least=jnp.where(better, mean, watch.least), worse=worse)


@dataclasses.dataclass(frozen=True)
class Mixed(Rule):
    """Draws the share of source rows, and does nothing but say how the policy is changed."""

    name: ClassVar[str] = "mixed"

    source_share: float = 0.5
    rank: int = dataclasses.field(default=0, kw_only=True)
    rank_scale: float = dataclasses.field(default=1.0, kw_only=True)
    tuning: bool = dataclasses.field(default=False, kw_only=True)

    def shares(self, batch_size: int) -> tuple[int, int]:
        source = round(self.source_share * batch_size)
        return source, batch_size - source

    def policy_optimiser(self, plain: optax.GradientTransformation) -> optax.GradientTransformation:
        return low_rank(plain, self.rank, self.rank_scale, self.tuning) if self.rank else plain


@dataclasses.dataclass(frozen=True)
class Watched(Mixed):
    """The same without the held-out target rows, until the policy's error on these does not fall any more."""

    name: ClassVar[str] = "watched"

    check_every: int = 1
    patience: int = 1

    def observe(self, step: Step) -> tuple[Watch, Metrics]:
        batch, watch = step.batch, step.learned
        if not batch.target_rows:
            return watch, {"watched_error": jnp.zeros(())}
        rows = slice(batch.source_rows, batch.source_rows + batch.target_rows)
        aside = batch.target_columns["watched"]
        error = jnp.mean((step.policy(batch.observation[rows]) - batch.action[rows]) ** 2, axis=-1)
        watch = watch._replace(error=watch.error + jnp.sum(aside * error), rows=watch.rows + jnp.sum(aside))
        due = (step.number + 1) % self.check_every == 0
        after = checked(watch)
        watch = Watch(*(jnp.where(due, new, old) for new, old in zip(after, watch, strict=True)))
        return watch, {"watched_error": jnp.sum(aside * error) / jnp.maximum(jnp.sum(aside), 1.0)}

    def weigh(self, step: Step) -> tuple[Weights, Metrics]:
        batch = step.batch
        plain, metrics = super().weigh(step)
        if not batch.target_rows:
            return plain, metrics
        seen = 1.0 - batch.target_columns["watched"]
        target = seen * batch.target_rows / jnp.maximum(jnp.sum(seen), 1.0)
        weight = jnp.concatenate([jnp.ones(batch.source_rows), target])
        return Weights(weight, weight, weight), metrics

    def stopped(self, learned: Watch) -> Bool[Array, ""]:
        return learned.worse >= self.patience


@dataclasses.dataclass(frozen=True)
class FineTune(Rule):
    """Train on the source, then go on with target rows."""

    name: ClassVar[str] = "finetune"
    neutral: ClassVar[dict[str, Any] | None] = {
        "source_updates": 0.0,
        "source_share": 0.5,
        "rate_factor": 1.0,
        "watched": 0.0,
    }

    source_updates: float = 0.5
    """p, share of the run's updates that learn from the source alone [ours: half]"""
    source_share: float = 0.0
    """m, share of source rows in a batch of the rest of the run [ours: none]"""
    rate_factor: float = 1.0
    """k, factor on the backbone's learning rates in the rest of the run [ours: none; below 1 stays nearer to what the
    source taught]"""
    rank: int = 0
    """r: in the rest of the run the policy's weight matrices change by products of this rank, and its biases stay; 0
    changes all of them freely [PSEC: 8; ours: 0]"""
    rank_scale: float = 16.0
    """c, factor on those products [PSEC: 16]"""
    watched: float = 0.0
    """share of the target's episodes that are not learned from and end the run early; 0 never ends it [ours]"""
    patience: int = 5
    """checks in a row without a smaller error on them that end it [ours]"""
    checks: int = 40
    """checks in the rest of the run, evenly spaced [ours]"""

    def __post_init__(self) -> None:
        for name in ("source_updates", "source_share", "watched"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)} must lie in [0, 1)")
        if not 0 < self.rate_factor <= 1:
            raise UsageError(f"rate_factor={self.rate_factor} must lie in (0, 1]")
        if self.rank < 0:
            raise UsageError(f"rank={self.rank} must be at least 0")
        if not 0 < self.rank_scale < math.inf:
            raise UsageError(f"rank_scale={self.rank_scale} must be a positive number")
        for name in ("patience", "checks"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)} must be at least 1")

    def phases(self, updates: int) -> tuple[Phase, ...]:
        first = min(round(self.source_updates * updates), updates - 1)
        rest = updates - first
        parts = ((1.0, first, 1.0, False), (self.source_share, rest, self.rate_factor, True))
        every = max(1, rest // self.checks)

        def drawing(share: float, tuning: bool) -> Mixed:
            how: dict[str, Any] = {}
            if self.rank:
                how = {"rank": self.rank, "rank_scale": self.rank_scale, "tuning": tuning}
            if self.watched:
                return Watched(share, check_every=every, patience=self.patience, **how)
            return Mixed(share, **how)

        return tuple(Phase(drawing(share, tuning), length, rate) for share, length, rate, tuning in parts if length)

    def policy_optimiser(self, plain: optax.GradientTransformation) -> optax.GradientTransformation:
        return low_rank(plain, self.rank, self.rank_scale, False) if self.rank else plain

    def check_backbone(self, backbone: BackboneTraits) -> None:
        if self.rank and not getattr(backbone, "takes_policy_optimiser", False):
            raise UsageError(
                f"rank={self.rank}: the policy of backbone {backbone.name} cannot change by products of low rank; use "
                "rank=0, or another backbone, such as iql"
            )

    def shares(self, batch_size: int) -> tuple[int, int]:
        return Mixed(self.source_share).shares(batch_size)

    def reads(self, batch_size: int) -> tuple[bool, bool]:
        return self.source_updates > 0 or self.source_share > 0, True

    def init_learned(self, sizes: Sizes, key: PRNGKeyArray) -> Any:
        del sizes, key
        return fresh_watch() if self.watched else ()

    def is_row_by_row(self, seam: str) -> bool:
        return not self.watched or super().is_row_by_row(seam)

    def computes(self, seam: str) -> bool:
        return super().computes(seam) and (seam != "target_columns" or self.watched > 0)

    def set_aside(self, target: Transitions) -> NDArray[np.bool_]:
        """The rows of watched episodes [M]. Raises `UsageError` if no other episode is left to learn from."""
        episode = np.asarray(target.episode)
        if not self.watched:
            return super().set_aside(target)
        chosen = spread_episodes(episode, self.watched)
        if len(chosen) == len(np.unique(episode)):
            raise UsageError(
                f"watched={self.watched}: the target has {len(chosen)} episode{'s' if len(chosen) > 1 else ''}, so "
                "none would be left to learn from; give more episodes, or watched=0"
            )
        return np.isin(episode, chosen)

    def target_columns(self, models: Any, domains: Domains) -> dict[str, Array]:
        del models
        return {"watched": jnp.asarray(self.set_aside(domains.target), jnp.float32)} if self.watched else {}


@dataclasses.dataclass(frozen=True)
class PTR(FineTune):
    """Train on the source, then go on with both domains' rows until held-out target rows say stop."""

    name: ClassVar[str] = "ptr"

    source_share: float = 0.3
    """m, share of source rows in a batch of the rest of the run [the paper mixes too; the share is ours]"""
    rate_factor: float = 0.3
    """k, factor on the backbone's learning rates in the rest of the run [ours]"""
    watched: float = 0.1
    """share of the target's episodes that are not learned from and end the run early; 0 never ends it [ours]"""
