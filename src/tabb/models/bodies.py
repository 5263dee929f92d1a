"""Which body a stretch of steps comes from, where a log mixes several without labels: a latent per stretch (V2A).

    encoder    a recurrent network (GRU) reads [s, a, s' - s] of a stretch of one episode: q(z) = N(μ, σ²)
    decoders   each predicts s' - s from (s, a, z)
    loss       mean over decoders and known rows (error of s' - s)² + β KL(q(z), N(0, 1))

Steps of one episode share their dynamics: z has to say what (s, a) leave open. Stretches do not overlap, and every row
is in one.
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
from tabb.field_types import TypedFields
from tabb.models.fitting import Report, check_widths, draw_rows, fit, outcome_scales, scores
from tabb.networks import MLP, Normaliser, mlp, normaliser_of
from tabb.transitions import Transitions, episode_starts


@dataclasses.dataclass(frozen=True)
class BodiesConfig(TypedFields):
    """How encoder and decoders are built and fitted."""

    latent: int = 8
    """entries of z [authors: 8; their script: 128]"""
    width: int = 64
    """units of the recurrent network [authors: 256; ours for a CPU]"""
    hidden: tuple[int, ...] = (128, 128)
    """widths of a decoder's hidden layers [authors: 256, 256; ours for a CPU]"""
    decoders: int = 3
    """decoders [authors: 3]"""
    stretch: int = 32
    """rows of an episode that share a z [authors: a trajectory; ours]"""
    updates: int = 3_000
    """updates of the fit [authors: 100,000; ours for a CPU]"""
    batch_size: int = 64
    """stretches per update [authors: 16 trajectories]"""
    learning_rate: float = 1e-3
    """Adam's rate [authors: 3e-4]"""
    divergence: float = 0.01
    """β, for changes in units of their spread [authors: 0.001, for raw ones]"""

    def __post_init__(self) -> None:
        check_widths(self.hidden)
        for name in ("latent", "width", "decoders", "stretch", "updates", "batch_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"bodies {name}={getattr(self, name)}: must be at least 1")
        for name in ("learning_rate", "divergence"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"bodies {name}={getattr(self, name)}: must be a number, zero or more")


def stretches(data: Transitions, length: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Row numbers [k, length] of the stretches of each episode, and 1 where there is a row, 0 after its last one."""
    ends = [*episode_starts(data)[1:], len(data)]
    starts = [np.arange(first, last, length) for first, last in zip(episode_starts(data), ends, strict=True)]
    lasts = np.repeat(ends, [len(part) for part in starts])
    numbers = np.concatenate(starts)[:, None] + np.arange(length)
    inside = numbers < lasts[:, None]
    return np.where(inside, numbers, lasts[:, None] - 1).astype(np.int32), inside.astype(np.float32)


Networks = tuple[eqx.nn.GRUCell, MLP, tuple[MLP, ...]]
"""what is fitted: reader, head, decoders"""


class Bodies(eqx.Module):
    """q(z) of a stretch, and the decoders that it was fitted with."""

    reader: eqx.nn.GRUCell
    head: MLP
    decoders: tuple[MLP, ...]
    inputs: Normaliser
    """mean and spread of (s, a)"""
    change_scale: Float[Array, " s"]

    def steps(self, rows: Transitions) -> tuple[Float[Array, "*b i"], Float[Array, "*b s"]]:
        """Standardised (s, a), and s' - s in units of its spread; 0 where a terminal row has none."""
        pair = self.inputs(jnp.concatenate([rows.observation, rows.action], axis=-1))
        alive = 1.0 - rows.terminal[..., None]
        return pair, alive * (rows.next_observation - rows.observation) / self.change_scale

    def read(self, pair: Float[Array, "l i"], change: Float[Array, "l s"], known: Float[Array, " l"]) -> Array:
        """Mean and logarithm of the deviation [2, z] of a stretch's z, from the rows that are `known`."""

        def step(memory: Array, row: tuple[Array, Array]) -> tuple[Array, None]:
            seen, counts = row
            return jnp.where(counts > 0, self.reader(seen, memory), memory), None

        seen = jnp.concatenate([pair, change], axis=-1)
        memory, _ = jax.lax.scan(step, jnp.zeros(self.reader.hidden_size), (seen, known))
        mean, log_deviation = jnp.split(self.head(memory), 2)
        return jnp.stack([mean, jnp.clip(log_deviation, -5.0, 2.0)])


def init_bodies(config: BodiesConfig, data: Transitions, key: PRNGKeyArray) -> Bodies:
    """A fresh encoder with decoders for these rows."""
    keys = jax.random.split(key, 2 + config.decoders)
    state, action = data.observation_size, data.action_size
    sizes = (state + action + config.latent, *config.hidden, state)
    pairs = np.concatenate([np.asarray(data.observation), np.asarray(data.action)], axis=-1)
    return Bodies(
        eqx.nn.GRUCell(2 * state + action, config.width, key=keys[0]),
        mlp(keys[1], (config.width, 2 * config.latent)),
        tuple(mlp(k, sizes, "swish") for k in keys[2:]),
        normaliser_of(pairs),
        outcome_scales(jax.tree.map(jnp.asarray, data))[0],
    )


def bodies_loss(
    bodies: Bodies,
    pair: Float[Array, "b l i"],
    change: Float[Array, "b l s"],
    known: Float[Array, "b l"],
    noise: Float[Array, "b z"],
    divergence: float,
) -> Float[Array, ""]:
    """Mean squared error of the known rows' changes over all decoders, and β times the divergence of z."""
    mean, log_deviation = jnp.moveaxis(jax.vmap(bodies.read)(pair, change, known), 1, 0)
    latent = mean + jnp.exp(log_deviation) * noise
    seen = jnp.concatenate([pair, jnp.broadcast_to(latent[:, None], (*known.shape, latent.shape[-1]))], axis=-1)
    errors = jnp.stack([jnp.mean((decoder(seen) - change) ** 2, axis=-1) for decoder in bodies.decoders])
    error = jnp.sum(known * jnp.mean(errors, axis=0)) / jnp.maximum(jnp.sum(known), 1.0)
    gap = 0.5 * jnp.sum(mean**2 + jnp.exp(2.0 * log_deviation) - 1.0 - 2.0 * log_deviation, axis=-1)
    return error + divergence * jnp.mean(gap)


def fit_bodies(config: BodiesConfig, data: Transitions, key: PRNGKeyArray, report: Report) -> Bodies:
    """Fit encoder and decoders to the stretches of a log; deterministic in `key`."""
    init_key, fit_key = jax.random.split(key)
    fresh = init_bodies(config, data, init_key)
    numbers, inside = (jnp.asarray(part) for part in stretches(data, config.stretch))
    pair, change = fresh.steps(jax.tree.map(jnp.asarray, data))
    alive = 1.0 - jnp.asarray(data.terminal)

    def whole(networks: Networks) -> Bodies:
        return Bodies(*networks, fresh.inputs, fresh.change_scale)

    def loss(networks: Networks, rows: tuple[Array, ...], key: PRNGKeyArray) -> Array:
        row_key, noise_key = jax.random.split(key)
        pair, change, alive, numbers, inside = rows
        drawn = draw_rows(jnp.arange(len(numbers)), config.batch_size, row_key)
        at = numbers[drawn]
        noise = jax.random.normal(noise_key, (config.batch_size, config.latent))
        return bodies_loss(whole(networks), pair[at], change[at], inside[drawn] * alive[at], noise, config.divergence)

    rows = (pair, change, alive, numbers, inside)
    start = (fresh.reader, fresh.head, fresh.decoders)
    return whole(fit(loss, start, rows, optax.adam(config.learning_rate), config.updates, fit_key, report, "bodies"))


def latents(bodies: Bodies, data: Transitions, stretch: int) -> Float[Array, "n z"]:
    """The mean of z of every row: that of its stretch."""
    numbers, inside = stretches(data, stretch)
    pair, change = bodies.steps(data)
    known = jnp.asarray(inside) * (1.0 - data.terminal)[numbers]

    def mean(stretch: tuple[Array, Array]) -> Array:
        at, known = stretch
        return jax.vmap(bodies.read)(pair[at], change[at], known)[:, 0]

    found = scores(mean, (jnp.asarray(numbers), known))
    row = np.empty(len(data), np.int32)
    kept = inside > 0
    row[numbers[kept]] = np.repeat(np.arange(len(numbers), dtype=np.int32), kept.sum(axis=1))
    z: Array = found[row]
    return z
