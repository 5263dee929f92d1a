"""REAG (Wang et al., TMLR 2026; RADT in its first version): source returns to go are moved to what they would be in the
target domain, before a sequence model is conditioned on them.

`reag` (REAG-MV): at each source row the return to go g is moved to the target's mean and spread there,

    g <- μ_T(s, a) + ρ (g - μ_S(s, a)),    ρ = σ_T(s, a) / σ_S(s, a) clipped to [1 / c, c]

with μ and σ of the returns of each domain's log, fitted as Gaussians before training.

`reag-dara` (REAG-Dara): source rewards are edited as DARA's, and returns are summed from them,

    r <- r + η clip(Δr, ±10)

Target returns stay. No public code was found: how μ and σ are fitted is ours, and so is c.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Domains
from tabb.errors import UsageError
from tabb.models.fitting import Report, check_widths, draw_rows, fit, scores
from tabb.models.returns_to_go import Conditions, best_aim, conditions_of, places, returns_to_go
from tabb.networks import MLP, mlp
from tabb.rules.dara import DARA, Classifiers
from tabb.rules.rule import BackboneTraits, Rule, Value
from tabb.transitions import Transitions

SPREADS = (-3.0, 1.0)
"""bounds of log σ, in spreads of the domain's returns: e^-3 is what few rows alone make believe"""


class Returns(eqx.Module):
    """N(μ(s, a), σ(s, a)²) of a domain's returns to go."""

    network: MLP
    mean: Float[Array, ""]
    spread: Float[Array, ""]
    """of all its returns: the network sees and says them in this unit"""

    def __call__(self, rows: Transitions) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """μ and σ at each row, in units of return."""
        mean, log_spread = self.standard(jnp.concatenate([rows.observation, rows.action], axis=-1))
        return self.mean + self.spread * mean, self.spread * jnp.exp(log_spread)

    def standard(self, inputs: Float[Array, "n w"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """μ and log σ of the standardised returns."""
        said = self.network(inputs)
        least, largest = SPREADS
        middle, half = (largest + least) / 2, (largest - least) / 2
        return said[..., 0], middle + half * jnp.tanh(said[..., 1])


def gaussian_loss(
    mean: Float[Array, " b"], log_spread: Float[Array, " b"], value: Float[Array, " b"]
) -> Float[Array, ""]:
    """-log N(value; μ, σ²) but for a constant, mean over rows."""
    return jnp.mean(0.5 * ((value - mean) * jnp.exp(-log_spread)) ** 2 + log_spread)


def aligned(
    value: Float[Array, " n"],
    source: tuple[Float[Array, " n"], Float[Array, " n"]],
    target: tuple[Float[Array, " n"], Float[Array, " n"]],
    largest_ratio: float,
) -> Float[Array, " n"]:
    """μ_T + ρ (g - μ_S), from mean and spread of both domains at each row."""
    ratio = jnp.clip(target[1] / source[1], 1.0 / largest_ratio, largest_ratio)
    return target[0] + ratio * (value - source[0])


def check_conditioned(rule: Rule, backbone: BackboneTraits) -> None:
    """Raise `UsageError` for a backbone whose policy is conditioned on nothing."""
    if not backbone.remembers:
        raise UsageError(
            f"rule {rule.name} says what actions are conditioned on, which those of backbone {backbone.name} are not; "
            "use dt"
        )


@dataclasses.dataclass(frozen=True)
class REAG(Rule):
    """Move source returns to the mean and spread of the target's, given state and action."""

    name: ClassVar[str] = "reag"
    backbone: ClassVar[str] = "dt"
    on_windows: ClassVar[bool] = True
    trust_meaning: ClassVar[str] = "by how much its return was moved to what the target's returns are there"
    neutral: ClassVar[dict[str, Any] | None] = {"share": 0.0}
    small: ClassVar[dict[str, Any]] = {"updates": 40, "batch_size": 16, "hidden": (8,)}
    after_preparation: ClassVar[frozenset[str]] = frozenset({"share", "largest_ratio"})

    share: float = 1.0
    """how far returns are moved: 1 to the aligned ones, 0 not at all [paper: 1]"""
    largest_ratio: float = 2.0
    """c, clip of σ_T / σ_S and its inverse [ours: few target rows know their spread badly]"""
    updates: int = 5_000
    """updates of each domain's fit [ours]"""
    batch_size: int = 256
    """rows per update of the fit [ours]"""
    learning_rate: float = 3e-4
    """AdamW's rate [ours]"""
    weight_decay: float = 1e-2
    """AdamW's: the target has few rows [ours]"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers [ours]"""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UsageError(f"share={self.share} must lie in [0, 1]")
        if not 1 <= self.largest_ratio < math.inf:
            raise UsageError(f"largest_ratio={self.largest_ratio} must be a number, one or more")
        for name in ("learning_rate", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name}={getattr(self, name)} must be a number, zero or more")
        for name in ("updates", "batch_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)} must be at least 1")
        check_widths(self.hidden)

    def check_backbone(self, backbone: BackboneTraits) -> None:
        check_conditioned(self, backbone)

    def template(self, domains: Domains, key: PRNGKeyArray) -> tuple[Returns, Returns]:
        width = domains.target.observation_size + domains.target.action_size
        first, second = (
            Returns(mlp(one, (width, *self.hidden, 2)), jnp.zeros(()), jnp.ones(())) for one in jax.random.split(key)
        )
        return first, second

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Report) -> tuple[Returns, Returns]:
        init_key, *fit_keys = jax.random.split(key, 3)
        fresh = self.template(domains, init_key)
        source, target = (
            self._fitted(one, rows, fit_key, report, f"{name} returns")
            for one, rows, fit_key, name in zip(
                fresh, (domains.source, domains.target), fit_keys, ("source", "target"), strict=True
            )
        )
        return source, target

    def _fitted(self, fresh: Returns, rows: Transitions, key: PRNGKeyArray, report: Report, what: str) -> Returns:
        value = returns_to_go(rows.reward, places(rows))
        mean, spread = float(value.mean(dtype=np.float64)), float(value.std(dtype=np.float64))
        spread = spread if spread > 1e-6 * max(abs(mean), 1e-6) else 1.0  # all alike: no unit of their own
        data = jnp.concatenate([rows.observation, rows.action], axis=-1), jnp.asarray((value - mean) / spread)

        def loss(network: MLP, data: tuple[Array, Array], key: PRNGKeyArray) -> Array:
            drawn = draw_rows(jnp.arange(len(data[1])), self.batch_size, key)
            one = Returns(network, jnp.zeros(()), jnp.ones(()))
            return gaussian_loss(*one.standard(data[0][drawn]), data[1][drawn])

        adam = optax.adamw(self.learning_rate, weight_decay=self.weight_decay)
        network = fit(loss, fresh.network, data, adam, self.updates, key, report, what)
        return Returns(network, jnp.asarray(mean, jnp.float32), jnp.asarray(spread, jnp.float32))

    def conditions(self, models: tuple[Returns, Returns], domains: Domains) -> Conditions:
        plain = super().conditions(models, domains)
        if self.share == 0:
            return plain
        moved = plain.source + self.share * self._shift(models, domains.source, plain.source)
        return plain._replace(source=moved, aim=best_aim(domains, moved, plain.target))

    def _shift(
        self, models: tuple[Returns, Returns], rows: Transitions, value: Float[Array, " n"]
    ) -> Float[Array, " n"]:
        """By how much the return of each source row is moved."""
        source, target = (scores(model, rows) for model in models)
        return aligned(value, source, target, self.largest_ratio) - value

    def row_scores(
        self, models: tuple[Returns, Returns], domains: Domains, value: Value, discount: float
    ) -> dict[str, Array]:
        """The return to go of each source row in the log, and by how much it was moved."""
        del value, discount
        logged = super().conditions(models, domains).source
        return {"return_shift": self._shift(models, domains.source, logged), "return_to_go": logged}


@dataclasses.dataclass(frozen=True)
class REAGDara(DARA):
    """Sum source returns from rewards that DARA's classifiers have edited."""

    name: ClassVar[str] = "reag-dara"
    backbone: ClassVar[str] = "dt"
    on_windows: ClassVar[bool] = True

    reward = Rule.reward  # the returns to go hold the edit already

    def check_backbone(self, backbone: BackboneTraits) -> None:
        check_conditioned(self, backbone)

    def conditions(self, models: Classifiers, domains: Domains) -> Conditions:
        if self.bonus_scale == 0:
            return Rule.conditions(self, models, domains)
        bonus = self.columns(models, domains)["bonus"]
        return conditions_of(domains, domains.source.reward + self.bonus_scale * bonus, domains.target.reward)
