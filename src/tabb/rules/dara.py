"""DARA (Liu, Zhang and Wang, ICLR 2022): source rewards less what the target domain's dynamics would not do.

    Δr(s, a, s') = log p_T(s' | s, a) - log p_S(s' | s, a)
                 = [log q(T | s, a, s') - log q(S | s, a, s')] - [log q(T | s, a) - log q(S | s, a)]
    r <- r + η clip(Δr, ±10)                 for source rows; target rewards stay

The two classifiers q tell the domains apart; they are fitted before training and then frozen, so that Δr is one number
per source row. A terminal row has no next state: its Δr is 0.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Domains
from tabb.errors import UsageError
from tabb.models.fitting import Report, check_widths, draw_rows, fit, scores, standard_steps, step_normaliser, steps
from tabb.networks import MLP, Normaliser, mlp
from tabb.rules.rule import Rule, Step, on_source, row_by_row
from tabb.transitions import Transitions


class Classifiers(eqx.Module):
    """Logits of "target" against "source", given a whole step and given (s, a) alone; inputs standardised."""

    step: MLP
    state_action: MLP
    normaliser: Normaliser

    def logits(self, rows: Float[Array, "b w"]) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
        """Both logits of standardised rows [s, a, s']."""
        known = self.state_action.weights[0].shape[0]
        return self.step(rows)[..., 0], self.state_action(rows[..., :known])[..., 0]


def reward_correction(step: Float[Array, " b"], state_action: Float[Array, " b"], largest: float) -> Float[Array, " b"]:
    """Δr from the logits log q(T | .) - log q(S | .) of both classifiers, clipped."""
    return jnp.clip(step - state_action, -largest, largest)


@dataclasses.dataclass(frozen=True)
class DARA(Rule):
    """Edit source rewards by the log-ratio of target and source dynamics, from two domain classifiers."""

    name: ClassVar[str] = "dara"
    neutral: ClassVar[dict[str, Any] | None] = {"bonus_scale": 0.0}
    small: ClassVar[dict[str, Any]] = {"updates": 40, "batch_size": 16, "hidden": (16,)}
    trust_meaning: ClassVar[str] = (
        "the change of reward for dynamics that the target does not have: higher is more like the target"
    )
    after_preparation: ClassVar[frozenset[str]] = frozenset({"bonus_scale", "largest_bonus"})

    bonus_scale: float = 0.1
    """η, the weight of Δr in source rewards; 0 leaves them [paper and ODRL: 0.1]"""
    largest_bonus: float = 10.0
    """clip of |Δr| [paper and ODRL: 10]"""
    noise: float = 1.0
    """deviation of the noise on standardised inputs during the fit: without it states alone give the domain away,
    both classifiers saturate and their difference says nothing [ODRL: 1.0, on raw inputs; the original has none]"""
    updates: int = 5_000
    """updates of the fit [original: 100 epochs of 50]"""
    batch_size: int = 128
    """rows of each domain per update of the fit [ODRL: 128; original: 256]"""
    learning_rate: float = 3e-4
    """Adam's rate [ODRL: Adam at 3e-4; original: RMSprop at 3e-4]"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of both classifiers [ODRL: 256, 256]"""

    def __post_init__(self) -> None:
        for name in ("bonus_scale", "largest_bonus", "noise", "learning_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name}={getattr(self, name)} must be a number, zero or more")
        for name in ("updates", "batch_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)} must be at least 1")
        check_widths(self.hidden)

    def template(self, domains: Domains, key: PRNGKeyArray) -> Classifiers:
        step_key, pair_key = jax.random.split(key)
        pair = domains.source.observation_size + domains.source.action_size
        whole = pair + domains.source.observation_size
        return Classifiers(
            mlp(step_key, (whole, *self.hidden, 1)),
            mlp(pair_key, (pair, *self.hidden, 1)),
            step_normaliser(domains),
        )

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Classifiers:
        init_key, fit_key = jax.random.split(key)
        fresh = self.template(domains, init_key)
        data = standard_steps(domains, fresh.normaliser)
        networks = fit(
            self._loss,
            (fresh.step, fresh.state_action),
            data,
            optax.adam(self.learning_rate),
            self.updates,
            fit_key,
            report,
            "classifiers",
        )
        return Classifiers(*networks, fresh.normaliser)

    def _loss(self, networks: tuple[MLP, MLP], data: tuple[Array, Array], key: PRNGKeyArray) -> Float[Array, ""]:
        """Cross-entropy of both classifiers on as many rows of either domain, with noise on the inputs."""
        keys = jax.random.split(key, 3)
        drawn = [
            side[draw_rows(jnp.arange(len(side)), self.batch_size, k)] for side, k in zip(data, keys[:2], strict=True)
        ]
        rows = jnp.concatenate(drawn)
        rows = rows + self.noise * jax.random.normal(keys[2], rows.shape)
        is_target = jnp.repeat(jnp.array([0.0, 1.0]), self.batch_size)
        known = networks[1].weights[0].shape[0]
        logits = jnp.stack([networks[0](rows)[..., 0], networks[1](rows[..., :known])[..., 0]])
        return jnp.sum(jnp.mean(optax.sigmoid_binary_cross_entropy(logits, is_target), axis=-1))

    @row_by_row
    def columns(self, models: Classifiers, domains: Domains) -> dict[str, Array]:
        def score(rows: Transitions) -> Array:
            logits = models.logits(models.normaliser(steps(rows)))
            return (1.0 - rows.terminal) * reward_correction(*logits, self.largest_bonus)

        return {"bonus": scores(score, domains.source)}

    def reward(self, step: Step) -> Float[Array, " b"]:
        batch = step.batch
        return batch.reward + on_source(batch, self.bonus_scale * batch.columns["bonus"], 0.0)
