"""How much of an unlabelled log comes from the target domain, and which rows: positive-unlabelled learning.

A classifier tells labelled target rows (positive) from the log (unlabelled). Of the log's share α of target rows, the
best-bin estimate (Garg et al. 2021, as PUORL uses it) on rows held out from the fit:

    q_u(t), q_p(t)   shares of unlabelled and of positive rows that score t or more
    α                q_u(t) / q_p(t) at the t where the bound below is smallest
    bound            q_u / q_p + (1 + γ) (√(ln(1/δ) / 2 n_u) + √(ln(1/δ) / 2 n_p)) / q_p

Then, round by round, the α n_u most positive unlabelled rows are taken out of the negatives, the classifier is trained
on, and α is estimated again.
"""

from __future__ import annotations

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import NDArray

from tabb.errors import UsageError
from tabb.models.fitting import Report, check_widths, draw_rows, scores
from tabb.networks import MLP, mlp

DELTA, GAMMA = 0.1, 0.01
"""δ and γ of the bound [authors: 0.1 and 0.01]"""


@dataclasses.dataclass(frozen=True)
class MixtureConfig:
    """How the classifier is built and fitted."""

    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers [authors: 256, 256]"""
    warm_updates: int = 2_000
    """updates before the first estimate, with all unlabelled rows as negatives [authors: 10 epochs]"""
    rounds: int = 8
    """estimates, and rounds of training without the rows that look most positive [authors: 100]"""
    round_updates: int = 1_000
    """updates of each [authors: an epoch]"""
    batch_size: int = 256
    """positive, and unlabelled, rows per update [authors: 256]"""
    learning_rate: float = 1e-3
    """AdamW's rate [authors: 1e-3]"""
    weight_decay: float = 5e-4
    """AdamW's decay of all weights [authors: 5e-4, in Adam's gradient]"""
    held_out: float = 0.2
    """share of the rows of both kinds that estimates rest on and that are not fitted [authors: 0.2]"""

    def __post_init__(self) -> None:
        check_widths(self.hidden)
        for name in ("warm_updates", "rounds", "round_updates", "batch_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"mixture {name}={getattr(self, name)}: must be at least 1")
        for name in ("learning_rate", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"mixture {name}={getattr(self, name)}: must be a number, zero or more")
        if not 0 < self.held_out < 1:
            raise UsageError(f"mixture held_out={self.held_out}: must lie between 0 and 1")


class Mixture(eqx.Module):
    """A classifier of target rows, and the share of them in the log that it was fitted on."""

    network: MLP
    share: Float[Array, ""]

    def __call__(self, rows: Float[Array, "b w"]) -> Float[Array, " b"]:
        """Logit of "target" for standardised rows."""
        return self.network(rows)[..., 0]


def best_bin(positive: NDArray[np.floating], unlabelled: NDArray[np.floating]) -> float:
    """α, the share of positive rows among the unlabelled, from the scores of held-out rows of both."""
    p, u = np.sort(positive), np.sort(unlabelled)
    thresholds = np.unique(p)  # beyond the largest positive score q_p is 0
    q_p = 1.0 - np.searchsorted(p, thresholds) / len(p)
    q_u = 1.0 - np.searchsorted(u, thresholds) / len(u)
    slack = sum(math.sqrt(math.log(1.0 / DELTA) / (2.0 * count)) for count in (len(u), len(p)))
    best = np.argmin(q_u / q_p + (1.0 + GAMMA) * slack / q_p)
    return float(np.clip(q_u[best] / q_p[best], 0.0, 1.0))


def init_mixture(config: MixtureConfig, width: int, key: PRNGKeyArray) -> Mixture:
    """A fresh classifier of rows of this width."""
    return Mixture(mlp(key, (width, *config.hidden, 1)), jnp.zeros(()))


def fit_mixture(
    config: MixtureConfig,
    positive: Float[Array, "p w"],
    unlabelled: Float[Array, "u w"],
    key: PRNGKeyArray,
    report: Report,
) -> Mixture:
    """Fit the classifier and the share; deterministic in `key`."""
    init_key, split_key, fit_key = jax.random.split(key, 3)
    fresh = init_mixture(config, positive.shape[-1], init_key)
    keys = jax.random.split(split_key)
    parts = [_split(rows, config.held_out, k) for rows, k in zip((positive, unlabelled), keys, strict=True)]
    fitted, aside = zip(*parts, strict=True)
    adam = optax.adamw(config.learning_rate, weight_decay=config.weight_decay)

    def loss(network: MLP, p: Array, u: Array, counts: Array) -> Array:
        negative = jnp.sum(counts * jax.nn.softplus(network(u)[..., 0])) / jnp.maximum(jnp.sum(counts), 1.0)
        return 0.5 * (jnp.mean(jax.nn.softplus(-network(p)[..., 0])) + negative)

    @jax.jit
    def train(
        carry: tuple[MLP, optax.OptState], rows: tuple[Array, Array], negative: Array, key: PRNGKeyArray, updates: Array
    ) -> tuple[MLP, optax.OptState]:
        def body(number: Array, carry: tuple[MLP, optax.OptState]) -> tuple[MLP, optax.OptState]:
            network, state = carry
            p, u = jax.random.split(jax.random.fold_in(key, number))
            p, u = (
                draw_rows(jnp.arange(len(part)), config.batch_size, k) for part, k in zip(rows, (p, u), strict=True)
            )
            gradient = jax.grad(loss)(network, rows[0][p], rows[1][u], negative[u])
            change, state = adam.update(gradient, state, network)
            return optax.apply_updates(network, change), state

        return jax.lax.fori_loop(0, updates, body, carry)

    @jax.jit
    def score(network: MLP, rows: Array) -> Array:
        return scores(lambda part: network(part)[..., 0], rows)

    carry = fresh.network, adam.init(fresh.network)
    negative, share = jnp.ones(len(fitted[1])), 0.0
    for number in range(config.rounds + 1):
        report("mixture", number / (config.rounds + 1))
        if number:
            taken = int(share * len(fitted[1]))
            order = jnp.argsort(-score(carry[0], fitted[1]))
            negative = jnp.ones(len(fitted[1])).at[order].set(jnp.where(jnp.arange(len(order)) < taken, 0.0, 1.0))
        updates = jnp.asarray(config.round_updates if number else config.warm_updates, jnp.int32)
        carry = train(carry, fitted, negative, jax.random.fold_in(fit_key, number), updates)
        share = best_bin(*(np.asarray(score(carry[0], rows)) for rows in aside))
    report("mixture", 1.0)
    return Mixture(carry[0], jnp.asarray(share, jnp.float32))


def _split(rows: Float[Array, "n w"], share: float, key: PRNGKeyArray) -> tuple[Array, Array]:
    """Rows to fit, and rows that are held out; a single row is both."""
    order = jax.random.permutation(key, len(rows))
    count = max(1, int(share * len(rows)))
    return rows[order[count:]] if len(rows) > count else rows, rows[order[:count]]
