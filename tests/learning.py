"""Fixtures of tests that learn: tiny learners, domains and fitted predictors."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.backbones.iql import IQL
from tabb.batch import Batch, Sizes, make_domains
from tabb.models.predictors import PREDICTORS
from tabb.training.loop import Program
from tabb.transitions import Transitions

SIZES = Sizes(3, 2)
TINY = IQL(policies=1, hidden=(16, 16), batch_size=16, learning_rate=1e-2)


@pytest.fixture(scope="session")
def sizes():
    return SIZES


@pytest.fixture(scope="session")
def backbone():
    return TINY


@pytest.fixture(scope="session")
def domains(pair):
    return make_domains(*pair)


@pytest.fixture(scope="session")
def batch():
    """Six handmade-size rows, three of the source and three of the target; rows 1 and 4 are terminal."""
    generator = np.random.default_rng(3)

    def normal(*shape):
        return jnp.asarray(generator.normal(size=shape), jnp.float32)

    terminal = jnp.asarray([0, 1, 0, 0, 1, 0], jnp.float32)
    return Batch(normal(6, 3), jnp.tanh(normal(6, 2)), normal(6), normal(6, 3), terminal, {}, {}, 3)


@pytest.fixture(scope="session")
def first_update():
    """`first_update(rule, batch, models=())`: state after the first update, its gradients and metrics.

    Adam's first moment starts at zero, so after one update it is a tenth of the gradient.
    """

    @functools.partial(jax.jit, static_argnums=(0,))
    def update(learner, models, state, batch):
        return learner.update(models, state, batch, jax.random.key(4), jnp.asarray(0))

    def first(rule, batch, models=()):
        learner = Program(TINY, rule, 10)
        before = learner.init(SIZES, jax.random.key(5))
        before = before._replace(slow_critic=learner.init(SIZES, jax.random.key(6)).critic)
        state, metrics = update(learner, models, before, batch)
        gradients = {
            name: jax.tree.map(lambda leaf: np.asarray(leaf) / np.float32(0.1), optimiser[0].mu)
            for name, optimiser in (
                ("value", state.value_optimiser),
                ("critic", state.critic_optimiser),
                ("policy", state.policy_optimiser),
            )
        }
        return state, gradients, metrics

    return first


@pytest.fixture(scope="session")
def small_predictor():
    """`small_predictor(name, **changes)`: one with heads; each that is fitted costs a compilation."""

    def predictor(name="residual", **changes):
        size = {"latent_size": 8} if name.startswith("latent") else {}
        small = PREDICTORS[name](heads=2, updates=600, batch_size=64, hidden=32, learning_rate=3e-3, **size)
        return dataclasses.replace(small, **changes)

    return predictor


@pytest.fixture(scope="session")
def fitted(domains):
    """`fitted(predictor)`: what that predictor fits to `domains`, fitted once per test session."""

    @functools.cache
    def fit(predictor):
        return predictor.fit(domains, jax.random.key(7), lambda what, share: None)

    return fit


@pytest.fixture(scope="session")
def same_bits():
    """`same_bits(a, b)`: whether two pytrees of arrays are equal in structure, type and value."""

    def same(first, second):
        a, b = jax.tree.leaves(first), jax.tree.leaves(second)
        return jax.tree.structure(first) == jax.tree.structure(second) and all(
            np.asarray(x).dtype == np.asarray(y).dtype and np.array_equal(np.asarray(x), np.asarray(y))
            for x, y in zip(a, b, strict=True)
        )

    return same


@pytest.fixture(scope="session")
def largest_difference():
    """`largest_difference(a, b)` over all leaves of two pytrees."""

    def difference(first, second):
        pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
        return max(float(np.max(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)))) for a, b in pairs)

    return difference


@pytest.fixture(scope="session")
def rows():
    """`rows(observation, action, following, terminal)`: transitions of one observation and one action entry."""

    def made(observation, action, following, terminal):
        def column(values):
            return np.asarray(values, np.float32)[:, None]

        count = len(observation)
        ends = np.asarray(terminal, np.float32)
        zeros = np.zeros(count, np.float32)
        return Transitions(
            column(observation), column(action), zeros, column(following), ends, np.zeros(count, np.int32)
        )

    return made
