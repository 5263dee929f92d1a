"""Behaviour cloning: networks fitted to logged actions, from which the search for behaviour policies starts."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray
from numpy.typing import NDArray

from tabb.data.catalogue import resolve
from tabb.data.files import read
from tabb.environments.tasks import Task
from tabb.errors import DataError, RunError
from tabb.networks import MLP, Normaliser, mlp, normaliser_of
from tabb.policy import Policy

QUALITIES = ("expert", "medium", "medium_replay")
"""Qualities of the source files that are cloned if they are at hand; a search starts from the first clone."""
HIDDEN = (64, 64)
UPDATES = 10_000
LONGER = {"halfcheetah": 50_000}
"""Updates of robots that need a closer fit: halfcheetah's expert scores 25 after 10,000, 82 after these."""
BATCH_SIZE = 256
LEARNING_RATE = 1e-3
"""Adam's first learning rate, which falls to 0 as a cosine."""


def sources(task: Task) -> list[Path]:
    """The source files of the unshifted robot `task` that are at hand."""
    files = []
    for quality in QUALITIES:
        with contextlib.suppress(DataError):
            files += resolve(quality, task.name, "source")
    return files


def clones(task: Task, seed: int = 0) -> list[Policy]:
    """A clone of each source file of the unshifted robot `task` that is at hand; `about` names the file."""
    policies = []
    for path in sources(task):
        logged = read(path).transitions
        updates = LONGER.get(task.robot, UPDATES)
        policy = clone(np.asarray(logged.observation), np.asarray(logged.action), updates, seed)
        policy.about.update(clone_of=path.name)
        policies.append(policy)
    return policies


def clone(observation: NDArray[np.float32], action: NDArray[np.float32], updates: int, seed: int = 0) -> Policy:
    """tanh(MLP) fitted to actions [N, A] of observations [N, S] by least squares.

    Raises:
        RunError: the fit diverged.
    """
    normaliser = normaliser_of(observation)
    init_key, draw_key = jax.random.split(jax.random.key(seed))
    network = mlp(init_key, (observation.shape[1], *HIDDEN, action.shape[1]))
    network, error = _fit(network, normaliser(jnp.asarray(observation)), jnp.asarray(action), draw_key, updates)
    if not np.isfinite(float(error)):
        raise RunError("cloning the logged actions diverged; `tabb data FILE` shows whether observations are huge")
    return Policy.from_networks(network, normaliser, {"clone_error": round(float(error), 5)})


def blank(observation_size: int, action_size: int, seed: int = 0) -> Policy:
    """A policy with random features whose last layer, and so every action, is zero."""
    network = mlp(jax.random.key(seed), (observation_size, *HIDDEN, action_size))
    last = len(network.weights) - 1
    network = MLP(
        (*network.weights[:last], jnp.zeros_like(network.weights[last])),
        (*network.biases[:last], jnp.zeros_like(network.biases[last])),
    )
    return Policy.from_networks(network, Normaliser(jnp.zeros(observation_size), jnp.ones(observation_size)))


@functools.partial(jax.jit, donate_argnums=0, static_argnames="updates")
def _fit(
    network: MLP, x: Float[Array, "n s"], action: Float[Array, "n a"], key: PRNGKeyArray, updates: int
) -> tuple[MLP, Float[Array, ""]]:
    """The fitted network and the mean squared error on the last batch."""
    adam = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, updates))

    def once(number: Int[Array, ""], carry: tuple[MLP, optax.OptState, Array]) -> tuple[MLP, optax.OptState, Array]:
        network, state, _ = carry
        rows = jax.random.randint(jax.random.fold_in(key, number), (BATCH_SIZE,), 0, len(x))

        def loss(network: MLP) -> Array:
            return jnp.mean((jnp.tanh(network(x[rows])) - action[rows]) ** 2)

        error, gradient = jax.value_and_grad(loss)(network)
        step, state = adam.update(gradient, state)
        return optax.apply_updates(network, step), state, error

    fitted, _, error = jax.lax.fori_loop(0, updates, once, (network, adam.init(network), jnp.zeros(())))
    return fitted, error
