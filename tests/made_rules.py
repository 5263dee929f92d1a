"""Rules of the tests that use one seam each: rows made once, rows made anew along the way."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from tabb.batch import ExtraRows
from tabb.rules.rule import Rule


@dataclasses.dataclass(frozen=True)
class Mirrored(Rule):
    """Adds the target's mirror image to each batch: -s, -a, r + noise, -s'."""

    name: ClassVar[str] = "mirrored"
    neutral: ClassVar[dict[str, Any] | None] = {"rows": 0}

    rows: int = 8
    """extra rows in a batch"""

    def extra_share(self, batch_size):
        return self.rows

    def extra_rows(self, models, domains, key):
        target = domains.target
        return ExtraRows(
            -target.observation,
            -target.action,
            target.reward + jax.random.normal(key, target.reward.shape),
            -target.next_observation,
            target.terminal,
            {"row": jnp.arange(len(target)), "reward": target.reward},
        )


@dataclasses.dataclass(frozen=True)
class Imagined(Rule):
    """Adds steps of the present policy from target states, rewarded by the present V, in a world that stands still."""

    name: ClassVar[str] = "imagined"
    neutral: ClassVar[dict[str, Any] | None] = {"rows": 0}

    rows: int = 8
    """extra rows in a batch"""
    refresh_every: int = 5

    def extra_share(self, batch_size):
        return self.rows

    def refresh_shares(self):
        return 0, 20

    def extra_rows(self, models, domains, key):
        nothing = jnp.zeros(20)
        first = domains.target.observation[:20]
        return ExtraRows(first, domains.target.action[:20], nothing, first, nothing, {"made_at": nothing - 1.0})

    def refresh(self, step, rows):
        states = step.batch.observation
        moved = states + 0.1 * jax.random.normal(step.key, states.shape)
        made_at = jnp.full(len(rows), step.number, jnp.float32)
        value = step.value(self.see_state(step.models, moved))
        return ExtraRows(states, step.policy(states), value, moved, jnp.zeros(len(rows)), {"made_at": made_at})


MADE = (Mirrored, Imagined)
