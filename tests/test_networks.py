"""Networks that act together."""

import jax
import numpy as np
import pytest

from tabb.networks import MLP, committee, members_of, mlp


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
