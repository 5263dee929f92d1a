"""Networks that act together."""

import jax
import numpy as np
import pytest

from tabb.networks import MLP, committee, members_of, mlp, uniform


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4, 3)])
def test_a_committee_is_the_mean_of_its_members(hidden):
    sizes = (3, *hidden, 2)
    key, x = jax.random.key(0), jax.random.normal(jax.random.key(1), (7, 4, 3))
    together = committee(key, sizes, 3)
    first, *others = members_of(together)
    np.testing.assert_array_equal(first(x), mlp(key, sizes)(x))
    assert len(others) == 2
    assert not np.allclose(others[0](x), others[1](x))
    np.testing.assert_allclose(together(x), np.mean([member(x) for member in members_of(together)], axis=0), rtol=1e-6)


def test_a_committee_of_one_is_the_network():
    network = committee(jax.random.key(0), (3, 4, 2), 1)
    assert isinstance(network, MLP)
    assert members_of(network) == (network,)


@pytest.mark.parametrize("shape", [(3,), (256,), (17, 256), (256, 256), (1025,)])
def test_first_weights_are_those_of_jax(shape):
    """The first of many numbers are the numbers, bit for bit, also where a compiled program draws them."""
    key = jax.random.key(5)
    wanted = jax.random.uniform(key, shape, minval=-0.07, maxval=0.07)
    np.testing.assert_array_equal(uniform(key, shape, 0.07), wanted)
    np.testing.assert_array_equal(jax.jit(lambda key: uniform(key, shape, 0.07))(key), wanted)


@pytest.mark.parametrize("generator", ["rbg", "threefry2x32"])
def test_first_weights_of_other_generators_are_jaxs_too(generator):
    """rbg draws by the shape, and so does Threefry where JAX is told not to draw by the place."""
    key = jax.random.key(5, impl=generator)
    with jax.threefry_partitionable(False):
        np.testing.assert_array_equal(
            uniform(key, (17, 8), 0.5), jax.random.uniform(key, (17, 8), minval=-0.5, maxval=0.5)
        )
