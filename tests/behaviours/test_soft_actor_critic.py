"""The learner of behaviour policies: its densities, its updates, its buffer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.batch import Sizes
from tabb.behaviours.soft_actor_critic import (
    Buffer,
    NormedMLP,
    Rows,
    SoftActorCritic,
    append,
    draw,
    empty,
    improve,
    log_density,
    sample,
)
from tabb.networks import MLP, Normaliser, mlp

SIZES = Sizes(3, 2)
SMALL = SoftActorCritic(hidden=(16, 16), batch_size=8)


def _buffer(seen):
    """`seen` rows and room for 4 more."""
    width = 2 * SIZES.observation + SIZES.action + 2
    matrix = jax.random.normal(jax.random.key(0), (seen + 4, width)).at[:, -1].set(0.0)
    return Buffer(matrix, jnp.asarray(seen))


def _identity():
    return Normaliser(jnp.zeros(SIZES.observation), jnp.ones(SIZES.observation))


def test_the_density_of_a_squashed_action_integrates_to_one():
    mean, log_deviation = 0.3, -0.4
    edges = np.linspace(-1, 1, 200_001)
    action = (edges[1:] + edges[:-1]) / 2
    before = np.arctanh(action)
    noise = (before - mean) / np.exp(log_deviation)
    with jax.enable_x64():
        density = np.exp(
            log_density(jnp.asarray(noise)[:, None], jnp.asarray(log_deviation), jnp.asarray(before)[:, None])
        )
    assert np.sum(density * np.diff(edges)) == pytest.approx(1, abs=1e-4)
    # One point by hand: the normal density at 0.3 σ-units away, over the slope of tanh there.
    point = 0.5
    by_hand = np.exp(-0.5 * ((np.arctanh(point) - mean) / np.exp(log_deviation)) ** 2)
    by_hand /= np.exp(log_deviation) * np.sqrt(2 * np.pi) * (1 - point**2)
    assert np.interp(point, action, density) == pytest.approx(by_hand, rel=1e-5)


def test_samples_follow_the_policys_mean_and_deviation():
    policy = MLP((jnp.zeros((3, 4)),), (jnp.array([0.5, -1.0, -0.7, 0.2]),))  # mean 0.5, -1; log σ -0.7, 0.2
    action, density = sample(policy, jnp.zeros((20_000, 3)), jax.random.key(1))
    before = np.arctanh(np.asarray(action, np.float64).clip(-1 + 1e-7, 1 - 1e-7))
    assert before.mean(axis=0) == pytest.approx([0.5, -1.0], abs=0.03)
    assert before.std(axis=0) == pytest.approx(np.exp([-0.7, 0.2]), rel=0.03)
    assert density.shape == (20_000,)


def test_a_critic_stays_bounded_far_from_its_rows():
    plain = mlp(jax.random.key(0), (4, 32, 32, 1))
    far = 1e4 * jnp.ones((1, 4))
    normed = NormedMLP(plain)
    last = plain.weights[-1]
    assert abs(float(normed(far)[0, 0] - plain.biases[-1][0])) <= float(jnp.linalg.norm(last)) * np.sqrt(32)
    assert abs(float(plain(far)[0, 0])) > 100 * abs(float(normed(far)[0, 0]))


def test_what_is_not_filled_is_not_drawn():
    buffer = _buffer(20)
    marked = buffer._replace(matrix=buffer.matrix.at[20:, 0].set(-100.0))
    drawn = draw(marked, SIZES, _identity(), 400, jax.random.key(0))
    assert np.unique(np.asarray(drawn.reward)).size == 20  # each of them
    assert (np.asarray(drawn.observation[:, 0]) != -100).all()


def test_rows_are_split_where_they_were_joined():
    row = jnp.arange(10.0)
    buffer = append(empty(3, SIZES), row[None])
    drawn = draw(buffer, SIZES, Normaliser(jnp.ones(3), 2 * jnp.ones(3)), 4, jax.random.key(0))
    assert drawn.observation[0].tolist() == [-0.5, 0.0, 0.5]
    assert drawn.action[0].tolist() == [3, 4]
    assert float(drawn.reward[0]) == 5
    assert drawn.next_observation[0].tolist() == [2.5, 3.0, 3.5]
    assert float(drawn.terminal[0]) == 9
    assert int(buffer.filled) == 1


def test_stretches_add_up():
    def ran(bounds):
        state = SMALL.init(SIZES, jax.random.key(3))
        for first, last in bounds:
            state, _ = improve(SMALL, SIZES, _identity(), _buffer(36), state, jax.random.key(4), first, last)
        return jax.tree.leaves(state)

    for one, other in zip(ran([(0, 9)]), ran([(0, 4), (4, 9)]), strict=True):
        assert np.array_equal(one, other)


def test_a_terminal_row_has_no_value_after_it():
    state = SMALL.init(SIZES, jax.random.key(0))
    rows = Rows(jnp.ones((2, 3)), jnp.zeros((2, 2)), jnp.array([1.0, 2.0]), jnp.ones((2, 3)), jnp.ones(2))
    _, told = jax.jit(SMALL.update)(state, rows, jax.random.key(0))
    assert float(told["backup"]) == 1.5


@pytest.mark.parametrize(("wanted", "grows"), [(-100.0, False), (100.0, True)])
def test_the_temperature_seeks_the_wanted_entropy(wanted, grows):
    learner = SoftActorCritic(hidden=(8,), entropy=wanted)
    state = learner.init(SIZES, jax.random.key(0))
    rows = Rows(jnp.ones((4, 3)), jnp.zeros((4, 2)), jnp.zeros(4), jnp.ones((4, 3)), jnp.zeros(4))
    after, _ = jax.jit(learner.update)(state, rows, jax.random.key(0))
    assert bool(after.log_temperature > state.log_temperature) is grows
