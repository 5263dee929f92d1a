"""The causal transformer: what a token sees, padding, NumPy and JAX alike, attention by hand, dropout."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.policy.sequence import host_transformer
from tabb.transformer import STATE, TOKENS, Steps, init_transformer, visible

WIDTH, CONTEXT = 8, 4


@pytest.fixture(scope="module")
def network():
    return host_transformer(init_transformer(3, 2, WIDTH, 2, 2, 10, jax.random.key(0)))


@pytest.fixture(scope="module")
def steps():
    """Two windows of four steps; of the second one the first two steps are padding."""
    generator = np.random.default_rng(1)

    def normal(*shape):
        return generator.normal(size=(2, CONTEXT, *shape)).astype(np.float32)

    mask = np.array([[1, 1, 1, 1], [0, 0, 1, 1]], np.float32)
    return Steps(normal(), normal(3), normal(2), np.array([[5, 6, 7, 8], [0, 0, 0, 1]]), mask)


def changed(steps, name, at):
    """The steps with other values of one column at one place of the window."""
    column = getattr(steps, name).copy()
    column[:, at] += 1
    return steps._replace(**{name: column})


@pytest.mark.parametrize("name", ["condition", "observation", "action", "time"])
@pytest.mark.parametrize("at", [2, 3])
def test_a_later_token_changes_no_earlier_action_and_an_earlier_one_changes_later_ones(network, steps, name, at):
    before, after = network(steps), network(changed(steps, name, at))
    # An action is read off its step's observation, which comes before the action itself.
    first = at + 1 if name == "action" else at
    np.testing.assert_array_equal(before[:, :first], after[:, :first])
    if first < CONTEXT:
        assert (np.abs(before[:, first:] - after[:, first:]).max(axis=-1) > 1e-6).all()


@pytest.mark.parametrize("name", ["condition", "observation", "action", "time"])
def test_padding_is_not_seen(network, steps, name):
    before, after = network(steps), network(changed(steps, name, 1))
    np.testing.assert_array_equal(before[1, 2:], after[1, 2:])  # there it is padding
    assert np.abs(before[0, 2:] - after[0, 2:]).max() > 1e-6
    short = jax.tree.map(lambda column: column[1:, 2:], steps)  # as in acting: no padding at all
    np.testing.assert_allclose(network(short)[0], before[1, 2:], atol=1e-6)


def test_which_tokens_a_token_sees():
    seen = visible(np.array([[0, 1, 1]], np.float32))[0, 0]
    assert seen.shape == (9, 9)
    assert np.flatnonzero(seen[3 + STATE]).tolist() == [3, 4]  # its step's condition, and itself
    assert np.flatnonzero(seen[6]).tolist() == [3, 4, 5, 6]
    assert not seen[TOKENS:, :TOKENS].any()


def test_numpy_and_jax_agree_and_the_last_action_alone_is_the_last(network, steps):
    on_device = jax.jit(lambda network, steps: network(steps))(jax.tree.map(jnp.asarray, network), steps)
    everything = network(steps)
    assert everything.dtype == np.float32
    np.testing.assert_allclose(everything, on_device, atol=1e-5)
    np.testing.assert_allclose(network(steps, last=True), everything[:, -1:], atol=1e-6)


def test_late_times_share_the_last_embedding(network, steps):
    late, later = (steps._replace(time=steps.time + shift) for shift in (20, 40))
    np.testing.assert_array_equal(network(late), network(later))
    assert np.abs(network(late) - network(steps)).max() > 1e-6


def test_attention_by_hand():
    """One head of width 1 without norms' gains: the mean of what is seen, weighed by exp(query key)."""
    network = host_transformer(init_transformer(1, 1, 1, 1, 1, 4, jax.random.key(0)))
    block = network.blocks[0]

    def dense(layer, weight, bias=0.0):
        return dataclasses.replace(
            layer, weight=np.full_like(layer.weight, weight), bias=np.full_like(layer.bias, bias)
        )

    block = dataclasses.replace(
        block,
        attention_norm=dataclasses.replace(block.attention_norm, gain=np.zeros(1, np.float32)),
        query=dense(block.query, 0.0, 1.0),
    )
    # The norm of one unit is its shift alone, so keys and values can be given through the bias only: all alike.
    block = dataclasses.replace(block, key_value=dense(block.key_value, 0.0, 0.7), mixed=dense(block.mixed, 2.0))
    x = np.arange(3, dtype=np.float32).reshape(1, 3, 1)
    seen = visible(np.ones((1, 1), np.float32))
    out = block(x, seen, slice(None), None)
    middle = x + 2.0 * 0.7  # any mean of equal values is that value
    hidden = np.maximum(block.layer_norm.shift[0] * block.widen.weight[0] + block.widen.bias, 0)
    np.testing.assert_allclose(out, middle + hidden @ block.narrow.weight + block.narrow.bias, rtol=1e-6)


def test_attention_weighs_by_queries_and_keys(network):
    """The weights of attention against a loop over heads and tokens."""
    block, generator = network.blocks[0], np.random.default_rng(2)
    x = generator.normal(size=(1, 3, WIDTH)).astype(np.float32)
    seen = visible(np.ones((1, 1), np.float32))
    found = block.attention(x, seen, slice(None), None)[0]
    query, both = block.query(x)[0], block.key_value(x)[0]
    size = WIDTH // 2
    for head in range(2):
        part = slice(head * size, (head + 1) * size)
        key, value = both[:, :WIDTH][:, part], both[:, WIDTH:][:, part]
        for token in range(3):
            weights = np.exp(key[: token + 1] @ query[token, part] / np.sqrt(size))
            np.testing.assert_allclose(
                found[token, part], weights @ value[: token + 1] / weights.sum(), rtol=1e-4, atol=1e-6
            )


def test_dropout_keeps_the_mean_and_draws_anew_for_each_place(network):
    factors = list(
        network._factors((40, 12, WIDTH), [slice(None), slice(STATE, None, TOKENS)], jax.random.key(0), 0.25)
    )
    assert [one.shape for one in factors] == [
        (40, 12, WIDTH),
        *((40, 2, 12, 12), (40, 12, WIDTH), (40, 12, WIDTH)),
        *((40, 2, 4, 12), (40, 4, WIDTH), (40, 4, WIDTH)),
    ]
    for one in factors:
        np.testing.assert_allclose(np.unique(one), [0.0, 4 / 3], rtol=1e-6)
        assert float(one.mean()) == pytest.approx(1.0, abs=0.05)
    assert not np.array_equal(factors[2], factors[3])


@pytest.mark.slow
def test_dropout_drops_and_none_drops_nothing(network, steps):
    key = jax.random.key(0)
    on_device = jax.tree.map(jnp.asarray, (network, steps))
    acting = jax.jit(lambda network, steps, key, share: network(steps, (key, share)), static_argnums=3)
    none, some = (acting(*on_device, key, share) for share in (0.0, 0.5))
    without = jax.jit(lambda network, steps: network(steps))(*on_device)
    np.testing.assert_array_equal(without, none)
    assert np.abs(without - some).max() > 1e-3
