"""Transitions: rows by index, mask and slice, and one data set after another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.transitions import Transitions, concatenate


def rows(numbers, episodes):
    number = np.asarray(numbers, np.float32)
    return Transitions(
        np.stack([number, -number, 2 * number], axis=1),
        number[:, None] / 10,
        number + 0.5,
        np.stack([number, -number, 2 * number], axis=1) + 1,
        (number % 2).astype(np.float32),
        np.asarray(episodes, np.int32),
    )


DATA = rows(range(6), [0, 0, 1, 1, 1, 2])


def test_sizes():
    assert (len(DATA), DATA.observation_size, DATA.action_size) == (6, 3, 1)
    assert len(DATA[:0]) == 0
    assert DATA[:0].observation_size == 3


@pytest.mark.parametrize(
    ("index", "numbers"),
    [
        (slice(1, 4), [1, 2, 3]),
        (slice(None, None, -2), [5, 3, 1]),
        (np.array([4, 0, 4]), [4, 0, 4]),
        (np.array([True, False, False, True, False, False]), [0, 3]),
    ],
    ids=["slice", "step", "index", "mask"],
)
def test_every_column_is_indexed_alike(index, numbers):
    picked = DATA[index]
    wanted = rows(numbers, DATA.episode[index])
    assert isinstance(picked, Transitions)
    for a, b in zip(jax.tree.leaves(picked), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def test_traced_index():
    data = jax.tree.map(jnp.asarray, DATA)
    picked = jax.jit(lambda numbers: data[numbers])(jnp.array([5, 2]))
    assert picked.reward.tolist() == [5.5, 2.5]
    assert picked.episode.tolist() == [2, 1]


def test_concatenate_renumbers_episodes():
    both = concatenate(DATA, rows([7, 8, 9], [0, 0, 4]))
    assert both.observation[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    assert both.reward.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 7.5, 8.5, 9.5]
    assert both.episode.tolist() == [0, 0, 1, 1, 1, 2, 3, 3, 7]
    assert both.episode.dtype == np.int32
    assert both.observation.dtype == np.float32
    assert DATA.episode.tolist() == [0, 0, 1, 1, 1, 2]


def test_concatenate_with_nothing():
    for both in (concatenate(DATA[:0], DATA), concatenate(DATA, DATA[:0])):
        for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(DATA), strict=True):
            np.testing.assert_array_equal(a, b)
