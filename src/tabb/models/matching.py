"""Trajectory matching: a policy that acts in a model of the target domain is held to the logged paths.

A policy that imitates a few thousand rows one by one drifts off them at the first deviation, where no row says what to
do. Here it acts for H steps in a model f of the target's dynamics, from a state beside a logged path, and the states
that it comes through are drawn to those of the log:

    s̃_0 = s_t + ε          s̃_{k+1} = s̃_k + f(s̃_k, π(s̃_k))          ε: noise, σ of the spread of each entry
    ℓ = mean over k < H and entries of ρ((s̃_{k+1} - s_{t+k+1}) / spread)          ρ: pseudo-Huber

The gradient goes through the model, so the policy learns what leads back: over several steps, and at the states that
its own errors lead to. Only paths of the episodes that the policy imitates count. V and Q see none of it.

Learning from demonstrated paths through a learned model is the idea of Englert et al. 2013 (Probabilistic model-based
imitation learning). What transfers: the source's rows make the model better. [ours]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from numpy.typing import NDArray

from tabb.batch import Domains, Rollouts
from tabb.float32 import is_constant
from tabb.models.fitting import Report
from tabb.models.imitation import Imitation, of_best_episodes
from tabb.models.target_model import (
    PredictedStep,
    TargetModel,
    TargetModelConfig,
    fit_target_model,
    init_target_model,
    robust,
)
from tabb.transitions import Transitions

Dynamics = Callable[[Float[Array, "p s"], Float[Array, "p a"]], PredictedStep]
"""what states and actions lead to; a pytree, such as `TargetModel`"""


class Paths(NamedTuple):
    """The logged paths that a policy is held to, and the model in which it acts."""

    model: Dynamics
    starts: Int[Array, " w"]
    """target rows with which a path of H rows begins"""
    per_spread: Float[Array, " s"]
    """1 / spread of each entry of the target's normalised observations; 0 for one that never moves"""
    constants: Float[Array, " 2"]
    """the weight of matching, and σ"""
    steps: Int[Array, " h"]
    """0, ..., H - 1: its length is the horizon"""
    draws: Int[Array, " p"]
    """0, 1, ...: its length is the number of rollouts per update"""


def path_starts(config: Imitation, target: Transitions, aside: NDArray[np.bool_] | None = None) -> NDArray[np.int32]:
    """The rows from which on `config.horizon` rows of one imitated episode follow, none of them terminal but the last.

    Empty where no such episode is long enough. No path has a row that is set `aside`.
    """
    ahead = config.horizon - 1
    episode, terminal = np.asarray(target.episode), np.asarray(target.terminal) > 0
    first = np.arange(max(len(episode) - ahead, 0))
    ends = np.cumsum(terminal)  # before a row: its entry without the row's own
    whole = episode[first] == episode[first + ahead]
    whole &= ends[first + ahead] - terminal[first + ahead] == ends[first] - terminal[first]
    return first[whole & of_best_episodes(target, config.best, aside)[first]].astype(np.int32)


def paths_with(
    model: Dynamics, config: Imitation, target: Transitions, aside: NDArray[np.bool_] | None = None
) -> Paths:
    """The paths of the target (normalised, as `Domains` has it), less rows that are set `aside`, with a model."""
    observation = np.asarray(target.observation, np.float64)
    observation = observation if aside is None else observation[~aside]
    mean, spread = observation.mean(axis=0), observation.std(axis=0)
    still = is_constant(mean, spread)
    return Paths(
        model,
        jnp.asarray(path_starts(config, target, aside)),
        jnp.asarray(np.where(still, 0.0, 1.0 / np.where(still, 1.0, spread)), jnp.float32),
        jnp.asarray([config.matching, config.noise], jnp.float32),
        jnp.arange(config.horizon),
        jnp.arange(config.rollouts),
    )


def model_config(config: Imitation) -> TargetModelConfig:
    """How the model is fitted in which the policy acts."""
    return TargetModelConfig(updates=config.model_updates)


def model_template(config: Imitation, domains: Domains, key: PRNGKeyArray) -> TargetModel:
    """A model of the shapes that `path_model` returns."""
    return init_target_model(model_config(config), model_source(config, domains), domains.target, key)


def model_source(config: Imitation, domains: Domains) -> Transitions | None:
    """The source rows that the model is fitted to; None without any."""
    return domains.source if config.model == "both" and len(domains.source) else None


def path_model(
    config: Imitation, domains: Domains, key: PRNGKeyArray, report: Report = lambda what, share: None
) -> TargetModel:
    """The model of the target's dynamics; deterministic in `key`. Without source rows it is the target's alone.

    Raises:
        DataError: every row of a domain is terminal.
    """
    return fit_target_model(model_config(config), model_source(config, domains), domains.target, key, report)


def draw_rollouts(
    paths: Paths,
    states: Callable[[Int[Array, " p"]], Float[Array, "p s"]],
    next_states: Callable[[Int[Array, " q"]], Float[Array, "q s"]],
    key: PRNGKeyArray,
) -> Rollouts:
    """Where the rollouts of one update begin, and the states that they should come through.

    `states` and `next_states` give (next) observations of target rows.
    """
    place_key, noise_key = jax.random.split(key)
    row = paths.starts[jax.random.randint(place_key, paths.draws.shape, 0, len(paths.starts))]
    first, count = states(row), len(paths.draws)
    weight, noise = paths.constants
    spread = jnp.where(paths.per_spread > 0, 1.0 / jnp.maximum(paths.per_spread, 1e-30), 0.0)
    goals = next_states((row + paths.steps[:, None]).reshape(-1)).reshape(-1, count, first.shape[-1])
    start = first + noise * spread * jax.random.normal(noise_key, first.shape)
    return Rollouts(start, goals, paths.per_spread, weight, paths.model)


def matching_loss(acts: Callable[[Float[Array, "p s"]], Float[Array, "p a"]], rollouts: Rollouts) -> Float[Array, ""]:
    """ℓ: how far the policy's states in the model are from those of the log, mean over steps and entries."""

    def step(state: Float[Array, "p s"], goal: Float[Array, "p s"]) -> tuple[Array, Array]:
        state = state + rollouts.model(state, acts(state)).change
        return state, jnp.mean(robust((state - goal) * rollouts.per_spread))

    _, errors = jax.lax.scan(step, rollouts.start, rollouts.goals)
    return jnp.mean(errors)
