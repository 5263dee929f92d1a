"""V2A: what the source's value functions see, and that they know the body."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.batch import make_domains
from tabb.models.bodies import BodiesConfig
from tabb.rules import DVDF, V2A, SparseQConfig
from tabb.rules.v2a import beside


def test_rows_with_their_latent_by_hand(rows):
    data = jax.tree.map(jnp.asarray, rows([1.0, 2.0], [0.0, 0.0], [3.0, 4.0], [0.0, 0.0]))
    seen = beside(data, jnp.array([[7.0], [8.0]]))
    np.testing.assert_array_equal(seen.observation, [[1, 7], [2, 8]])
    np.testing.assert_array_equal(seen.next_observation, [[3, 7], [4, 8]])
    assert V2A().likeness == 0.6
    assert DVDF().likeness == 0.7


@pytest.mark.slow
def test_advantages_know_the_body(rows):
    """In half of the episodes a moves the state by a, in the others by -a, and reward is the next state: what is good
    in one body is bad in the other. Without z, an action's advantage says nothing."""
    generator = np.random.default_rng(0)
    state, action = 0.1 * generator.normal(size=2_000), generator.choice([-1.0, 1.0], size=2_000)
    gain = np.repeat(np.resize([1.0, -1.0], 100), 20)
    data = rows(state, action, state + gain * action, np.ones(2_000) * (np.arange(2_000) % 20 == 19))
    data = dataclasses.replace(
        data,
        episode=np.repeat(np.arange(100, dtype=np.int32), 20),
        reward=(gain * action).astype(np.float32),
    )
    values = SparseQConfig(updates=1_500, batch_size=64, hidden=(32,), discount=0.1, learning_rate=3e-3, sparsity=1.0)
    small = {"values": values, "updates": 5, "batch_size": 16, "hidden": (8,), "latent_size": 4}
    bodies = BodiesConfig(latent=2, width=16, hidden=(16,), decoders=1, stretch=20, updates=600, batch_size=32)
    domains = make_domains(data, data, "none")

    def agreement(rule):
        models = rule.prepare(domains, jax.random.key(0), lambda what, share: None)
        advantage = rule.columns(models, domains)["advantage"]
        return float(jnp.corrcoef(advantage, jnp.asarray(gain * action))[0, 1])

    assert agreement(V2A(bodies=bodies, **small)) > 0.7
    assert abs(agreement(DVDF(**small))) < 0.3
