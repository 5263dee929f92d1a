"""Diffusion of rows under a condition (EDM, Karras et al. 2022, as SynthER uses it): a denoiser, its fit, its sampler.

D(x, σ, c)    x / (σ² + 1) + σ / √(σ² + 1) F(x / √(σ² + 1), ln σ / 4, c)            rows are standardised
loss          mean (σ² + 1) / σ² ‖D(x + σ ε, σ, c) - x‖²,  ln σ ~ N(-1.2, 1.2²)
guidance      D(x, σ, ∅) + g (D(x, σ, c) - D(x, σ, ∅));  the condition is left out (∅) of a share of rows in the fit
sampling      Heun's method from σ = 80 to 0.002, with fresh noise along the way (churn)
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.errors import UsageError
from tabb.field_types import TypedFields
from tabb.models.fitting import Report, draw_rows, run_fit
from tabb.networks import MLP, mlp, moving_average

LOG_NOISE = (-1.2, 1.2)
"""mean and deviation of ln σ in the fit [EDM]"""
NOISE_RANGE = (0.002, 80.0)
"""σ at the end and at the beginning of sampling [EDM]"""
CURVE = 7.0
"""ρ: how much shorter steps are at small σ [EDM]"""
CHURN_RANGE, CHURN_NOISE = (0.05, 50.0), 1.003
"""the σ between which fresh noise is added along the way, and its deviation [EDM, SynthER]"""
FREQUENCIES = 8
"""waves of ln σ / 4 that the network sees, a sine and a cosine each"""
EMBEDDING = 64
"""widths of what the network makes of the noise and of the condition"""
PER_CALL = 4_096
"""rows sampled by one compiled call"""


@dataclasses.dataclass(frozen=True)
class DiffusionConfig(TypedFields):
    """How the denoiser is built, fitted and sampled from [theirs: DmC's, for an accelerator]."""

    hidden: int = 256
    """width of the residual blocks [theirs: 2,048]"""
    blocks: int = 4
    """residual blocks [theirs: 6]"""
    updates: int = 20_000
    """updates of the fit [theirs: 100,000]"""
    batch_size: int = 256
    """rows per update [theirs: 1,024, or 256 for small data]"""
    learning_rate: float = 3e-4
    """Adam's rate, falling to 0 as a cosine [theirs: 3e-4]"""
    averaging: float = 0.001
    """rate of the slow copy of the network that rows are sampled from [theirs: 0.001]"""
    left_out: float = 0.25
    """share of rows whose condition is left out in the fit [theirs: 0.25]"""
    guidance: float = 1.2
    """g: 0 ignores the condition, 1 samples from the rows that have it, more goes beyond [theirs: 1.2]"""
    steps: int = 32
    """steps of the sampler [theirs: 128]"""
    churn: float = 0.0
    """fresh noise along the way, in all [theirs: 80; with 32 steps it makes rows 5% too wide, without it is 1%]"""

    def __post_init__(self) -> None:
        for name, least in (("hidden", 1), ("blocks", 1), ("updates", 1), ("batch_size", 1), ("steps", 2)):
            if getattr(self, name) < least:
                raise UsageError(f"diffusion {name}={getattr(self, name)}: must be at least {least}")
        for name in ("learning_rate", "guidance", "churn"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"diffusion {name}={getattr(self, name)}: must be a number, zero or more")
        if not 0 < self.averaging <= 1:
            raise UsageError(f"diffusion averaging={self.averaging}: must lie in (0, 1]")
        if not 0 <= self.left_out < 1:
            raise UsageError(f"diffusion left_out={self.left_out}: must lie in [0, 1)")


class Denoiser(eqx.Module):
    """D(x, σ, c): the row without its noise."""

    noise: MLP
    condition: MLP
    first: MLP
    blocks: tuple[MLP, ...]
    last: MLP

    def __call__(
        self,
        x: Float[Array, "b w"],
        sigma: Float[Array, " b"],
        condition: Float[Array, " b"],
        given: Float[Array, " b"],
    ) -> Float[Array, "b w"]:
        """Rows without their noise; `given` is 1 where the condition is given, 0 where it is left out."""
        scale = jnp.sqrt(sigma**2 + 1.0)[:, None]
        angle = jnp.log(sigma)[:, None] / 4.0 * jnp.arange(1, FREQUENCIES + 1)
        seen = jnp.stack([given * condition, given], axis=-1)
        parts = [x / scale, self.noise(jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)), self.condition(seen)]
        hidden = self.first(jnp.concatenate(parts, axis=-1))
        for block in self.blocks:
            hidden = hidden + block(jax.nn.relu(hidden))
        return x / scale**2 + sigma[:, None] / scale * self.last(jax.nn.relu(hidden))


def init_denoiser(config: DiffusionConfig, width: int, key: PRNGKeyArray) -> Denoiser:
    """A fresh denoiser of rows of this width."""
    keys = jax.random.split(key, 4 + config.blocks)
    return Denoiser(
        mlp(keys[0], (2 * FREQUENCIES, EMBEDDING, EMBEDDING), "swish"),
        mlp(keys[1], (2, EMBEDDING, EMBEDDING), "swish"),
        mlp(keys[2], (width + 2 * EMBEDDING, config.hidden)),
        tuple(mlp(k, (config.hidden, config.hidden)) for k in keys[4:]),
        mlp(keys[3], (config.hidden, width)),
    )


def denoising_loss(
    denoiser: Denoiser,
    x: Float[Array, "b w"],
    known: Float[Array, "b w"],
    condition: Float[Array, " b"],
    given: Float[Array, " b"],
    sigma: Float[Array, " b"],
    noise: Float[Array, "b w"],
) -> Float[Array, ""]:
    """mean (σ² + 1) / σ² (D(x + σ ε, σ, c) - x)² over the entries that are `known` (1, else 0)."""
    error = known * (denoiser(x + sigma[:, None] * noise, sigma, condition, given) - x) ** 2
    return jnp.mean((1.0 + 1.0 / sigma**2) * jnp.mean(error, axis=-1))


def fit_denoiser(
    config: DiffusionConfig,
    rows: Float[Array, "n w"],
    known: Float[Array, "n w"],
    condition: Float[Array, " n"],
    key: PRNGKeyArray,
    report: Report,
) -> Denoiser:
    """The slow copy of a denoiser fitted to standardised rows; nothing is learned from entries that are not `known`."""
    init_key, fit_key = jax.random.split(key)
    fresh = init_denoiser(config, rows.shape[-1], init_key)
    adam = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.updates))

    def update(carry: Any, data: tuple[Array, Array, Array], key: PRNGKeyArray) -> Any:
        network, slow, state = carry
        row_key, sigma_key, noise_key, given_key = jax.random.split(key, 4)
        drawn = draw_rows(jnp.arange(len(data[0])), config.batch_size, row_key)
        x, known, condition = (part[drawn] for part in data)
        sigma = jnp.exp(LOG_NOISE[0] + LOG_NOISE[1] * jax.random.normal(sigma_key, condition.shape))
        given = (jax.random.uniform(given_key, condition.shape) >= config.left_out).astype(jnp.float32)
        noise = jax.random.normal(noise_key, x.shape)
        gradient = jax.grad(denoising_loss)(network, x, known, condition, given, sigma, noise)
        change, state = adam.update(gradient, state)
        network = optax.apply_updates(network, change)
        return network, moving_average(slow, network, config.averaging), state

    carry = (fresh, fresh, adam.init(fresh))
    data = (known * rows, known, condition)
    slow: Denoiser = run_fit(update, carry, data, config.updates, fit_key, report, "diffusion")[1]
    return slow


def noise_levels(steps: int) -> Float[Array, " n"]:
    """σ at the steps of the sampler, from large to small."""
    low, high = (sigma ** (1.0 / CURVE) for sigma in NOISE_RANGE)
    return (high + jnp.arange(steps) / (steps - 1) * (low - high)) ** CURVE


def churned(sigma: Float[Array, ""], churn: float, steps: int) -> Float[Array, ""]:
    """The larger σ to which fresh noise is added before a step."""
    share = min(churn / steps, math.sqrt(2.0) - 1.0)
    inside = (sigma >= CHURN_RANGE[0]) & (sigma <= CHURN_RANGE[1])
    return jnp.where(inside, (1.0 + share) * sigma, sigma)


@functools.partial(jax.jit, static_argnums=0)
def _sample(config: DiffusionConfig, denoiser: Denoiser, condition: Float[Array, " b"], key: PRNGKeyArray) -> Array:
    count, width = len(condition), denoiser.last.biases[-1].shape[0]
    both = jnp.concatenate([condition, condition])
    given = jnp.concatenate([jnp.ones(count), jnp.zeros(count)])

    def direction(x: Array, sigma: Array) -> Array:
        """(x - D) / σ with the guided D."""
        with_c, without = jnp.split(denoiser(jnp.concatenate([x, x]), jnp.full(2 * count, sigma), both, given), 2)
        return (x - (without + config.guidance * (with_c - without))) / sigma

    levels = noise_levels(config.steps)

    def raise_noise(x: Array, number: Array, sigma: Array) -> tuple[Array, Array, Array]:
        """The row with fresh noise, its σ, and the direction there."""
        raised = churned(sigma, config.churn, config.steps)
        fresh = CHURN_NOISE * jax.random.normal(jax.random.fold_in(key, number), x.shape)
        x = x + jnp.sqrt(jnp.maximum(raised**2 - sigma**2, 0.0)) * fresh
        return x, raised, direction(x, raised)

    def step(x: Array, place: tuple[Array, Array, Array]) -> tuple[Array, None]:
        number, sigma, following = place
        x, raised, slope = raise_noise(x, number, sigma)
        ahead = x + (following - raised) * slope
        return x + (following - raised) * 0.5 * (slope + direction(ahead, following)), None

    start = levels[0] * jax.random.normal(jax.random.fold_in(key, config.steps), (count, width))
    x, _ = jax.lax.scan(step, start, (jnp.arange(config.steps - 1), levels[:-1], levels[1:]))
    # To σ = 0, where there is no direction to correct by.
    x, raised, slope = raise_noise(x, jnp.asarray(config.steps - 1), levels[-1])
    return x - raised * slope


def sample(
    config: DiffusionConfig, denoiser: Denoiser, condition: Float[Array, " n"], key: PRNGKeyArray, report: Report
) -> Float[Array, "n w"]:
    """Standardised rows under these conditions, one each."""
    size = min(PER_CALL, len(condition))
    pieces = []
    for first in range(0, len(condition), size):
        report("sampling", first / len(condition))
        asked = condition[first : first + size]
        filled = jnp.concatenate([asked, jnp.zeros(size - len(asked))])
        piece = _sample(config, denoiser, filled, jax.random.fold_in(key, first))
        pieces.append(jax.block_until_ready(piece)[: len(asked)])
    report("sampling", 1.0)
    return jnp.concatenate(pieces)
