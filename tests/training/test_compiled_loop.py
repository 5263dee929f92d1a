"""The compiled loop: however a run is cut, the updates are the same; batches hold the rows they should."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.batch import Domains, make_domains
from tabb.rules.baselines import Pooled, SourceOnly, TargetOnly
from tabb.training.drawing import draw, pack, pack_data
from tabb.training.loop import Program, compiled_updates, compiled_updates_of_seeds, update_once
from tabb.transitions import Transitions

UPDATES = 7


@pytest.fixture(scope="module")
def learner(backbone):
    return Program(backbone, Pooled(), 20)


@pytest.fixture(scope="module")
def data(domains):
    return pack_data(domains, {})


@pytest.fixture(scope="module")
def start(learner, sizes):
    """A fresh copy of the state at the start: compiled calls use up the one they get."""
    state = learner.init(sizes, jax.random.key(1))
    return lambda: jax.tree.map(jnp.copy, state)


@pytest.fixture(scope="module")
def whole(learner, data, start):
    return compiled_updates(learner, (), data, jax.random.key(2), start(), 0, UPDATES)


def test_python_loop_equals_compiled_loop(learner, data, start, whole, largest_difference):
    once = jax.jit(lambda state, number: update_once(learner, (), data, jax.random.key(2), state, number))
    state, history = start(), []
    for number in range(UPDATES):
        state, metrics = once(state, jnp.asarray(number))
        history.append(metrics)
    assert largest_difference(state, whole[0]) < 1e-5
    assert set(whole[1]) == {"value_loss", "critic_loss", "policy_loss", "mean_value", "mean_backup"}
    for name, mean in whole[1].items():
        assert float(mean) == pytest.approx(np.mean([float(m[name]) for m in history]), rel=1e-4), name


@pytest.mark.parametrize("cuts", [(0, 3, 7), (0, 1, 2, 6, 7), (0, 0, 7)])
def test_cuts_change_no_bit(learner, data, start, whole, same_bits, cuts):
    state = start()
    for first, last in itertools.pairwise(cuts):
        state, _ = compiled_updates(learner, (), data, jax.random.key(2), state, first, last)
    assert same_bits(state, whole[0])


def test_metrics_are_means_over_their_stretch(learner, data, start, whole):
    state, first = compiled_updates(learner, (), data, jax.random.key(2), start(), 0, 3)
    _, second = compiled_updates(learner, (), data, jax.random.key(2), state, 3, 7)
    for name, mean in whole[1].items():
        assert float(3 * first[name] + 4 * second[name]) / 7 == pytest.approx(float(mean), rel=1e-4), name


def test_an_update_depends_on_its_number_and_the_key(learner, data, start, same_bits):
    states = [
        compiled_updates(learner, (), data, jax.random.key(key), start(), first, first + 1)[0]
        for key, first in ((2, 0), (2, 1), (3, 0))
    ]
    assert not same_bits(states[0], states[1])
    assert not same_bits(states[0], states[2])


def test_seeds_as_an_axis_equal_single_runs(learner, data, sizes, start, whole, largest_difference):
    other = learner.init(sizes, jax.random.key(11))
    states = jax.tree.map(lambda a, b: jnp.stack([a, b]), other, start())
    keys = jnp.stack([jax.random.key(12), jax.random.key(2)])
    many, metrics = compiled_updates_of_seeds(learner, (), data, keys, states, 0, UPDATES)
    assert largest_difference(jax.tree.map(lambda leaf: leaf[1], many), whole[0]) < 1e-4
    assert largest_difference({k: v[1] for k, v in metrics.items()}, whole[1]) < 1e-4
    assert largest_difference(jax.tree.map(lambda leaf: leaf[0], many), whole[0]) > 1e-2


# --- batches ---


def numbered(rows, offset):
    """Rows whose every field tells the row's number: observation (n, n + 0.25), reward n + 0.5, ..."""
    number = np.arange(rows, dtype=np.float32) + offset
    return Transitions(
        np.stack([number, number + 0.25], axis=1),
        number[:, None] / 1000,
        number + 0.5,
        np.stack([number + 1, number + 1.25], axis=1),
        (number % 2).astype(np.float32),
        np.zeros(rows, np.int32),
    )


SOURCE_ROWS, TARGET_ROWS = 20, 10


@pytest.fixture(scope="module")
def numbers():
    source, target = numbered(SOURCE_ROWS, 0), numbered(TARGET_ROWS, 100)
    number = jnp.arange(SOURCE_ROWS, dtype=jnp.float32)
    columns = {"square": number**2, "wide": number[:, None, None] + jnp.arange(6.0).reshape(3, 2) / 10}
    return pack_data(make_domains(source, target, "none"), columns)


def test_source_rows_come_first_and_fields_and_columns_belong_together(numbers):
    batch = draw(numbers, (40, 24), jax.random.key(0))
    assert (len(batch), batch.source_rows) == (64, 40)
    number = np.asarray(batch.observation[:, 0])
    assert (number[:40] < SOURCE_ROWS).all()
    assert (number[40:] >= 100).all()
    np.testing.assert_array_equal(batch.observation[:, 1], number + 0.25)
    np.testing.assert_allclose(batch.action[:, 0], number / 1000)
    np.testing.assert_array_equal(batch.reward, number + 0.5)
    np.testing.assert_array_equal(batch.next_observation, np.stack([number + 1, number + 1.25], axis=1))
    np.testing.assert_array_equal(batch.terminal, number % 2)
    np.testing.assert_array_equal(batch.columns["square"], number[:40] ** 2)
    assert batch.columns["wide"].shape == (40, 3, 2)
    np.testing.assert_allclose(batch.columns["wide"], number[:40, None, None] + np.arange(6.0).reshape(3, 2) / 10)


def test_draws_are_uniform_and_independent(numbers):
    batch = draw(numbers, (8000, 8000), jax.random.key(1))
    number = np.asarray(batch.observation[:, 0]).astype(int)
    source, target = number[:8000], number[8000:] - 100
    table = np.zeros((SOURCE_ROWS, TARGET_ROWS))
    np.add.at(table, (source, target), 1)

    def chi_square(counts):
        wanted = 8000 / counts.size
        return ((counts - wanted) ** 2 / wanted).sum()

    # 99.9% points of chi square at 19, 9 and 199 degrees of freedom
    assert chi_square(table.sum(axis=1)) < 43.8
    assert chi_square(table.sum(axis=0)) < 27.9
    assert chi_square(table) < 267
    # with replacement, and no two batches alike
    assert len(np.unique(draw(numbers, (10, 10), jax.random.key(1)).observation[:, 0])) < 20
    other = draw(numbers, (8000, 8000), jax.random.key(2))
    assert not np.array_equal(other.observation, batch.observation)


def test_target_only_needs_no_source(numbers, backbone, sizes, domains):
    batch = draw(numbers, TargetOnly().shares(32), jax.random.key(0))
    assert (len(batch), batch.source_rows, batch.columns) == (32, 0, {})
    assert (np.asarray(batch.observation[:, 0]) >= 100).all()

    learner = Program(backbone, TargetOnly(), 20)
    alone = pack_data(Domains(domains.source[:0], domains.target, domains.normaliser), {})
    assert alone.sources == 0
    state, metrics = compiled_updates(
        learner, (), alone, jax.random.key(2), learner.init(sizes, jax.random.key(1)), 0, 3
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, metrics)))


def test_source_only_draws_no_target_row_and_is_normalised_by_the_source_alone(numbers):
    batch = draw(numbers, SourceOnly().shares(32), jax.random.key(0))
    assert (len(batch), batch.source_rows) == (32, 32)
    assert (np.asarray(batch.observation[:, 0]) < SOURCE_ROWS).all()
    source, target = numbered(SOURCE_ROWS, 0), numbered(TARGET_ROWS, 100)
    found = make_domains(source, target, "pooled", SourceOnly().shares(32))
    np.testing.assert_allclose(found.source.observation.mean(axis=0), [0.0, 0.0], atol=1e-6)
    assert found.target.observation.min() > 10  # far from all that the source's policy has seen


def test_no_columns_pack_to_none():
    assert pack({}) is None
