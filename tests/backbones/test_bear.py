"""BEAR: the discrepancy by hand, and a policy that is held to the data's actions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.backbones import BEAR
from tabb.backbones.bear import LARGEST_LOG_DEVIATION, discrepancy, gaussian_sample, kernel_mean
from tabb.batch import Batch, Sizes
from tabb.networks import MLP
from tabb.rules import Pooled
from tabb.training.loop import Program


def test_kernels_by_hand():
    first, second = jnp.array([[[0.0, 0.0]]]), jnp.array([[[3.0, 4.0], [0.0, 0.0]]])
    laplacian = kernel_mean(first, second, "laplacian", 10.0)
    np.testing.assert_allclose(laplacian, [(np.exp(-7 / 20) + 1) / 2], rtol=1e-6)
    gaussian = kernel_mean(first, second, "gaussian", 20.0)
    np.testing.assert_allclose(gaussian, [(np.exp(-25 / 40) + 1) / 2], rtol=1e-6)


def test_discrepancy_by_hand():
    first, second = jnp.array([[[0.0]], [[1.0]]]), jnp.array([[[2.0]], [[1.0]]])
    found = discrepancy(first, second, "laplacian", 1.0)
    np.testing.assert_allclose(found, [np.sqrt(2 - 2 * np.exp(-1) + 1e-6), 1e-3], rtol=1e-4)
    slope = jax.grad(lambda x: jnp.sum(discrepancy(x, second, "laplacian", 1.0)))(first)
    assert np.isfinite(slope).all()


def test_samples_by_hand():
    policy = MLP((jnp.array([[1.0, 0.0], [0.0, 0.0]]),), (jnp.array([0.0, np.log(2.0)]),))
    np.testing.assert_allclose(gaussian_sample(policy, jnp.array([3.0, 0.0]), jnp.array([0.5])), [4.0], rtol=1e-6)
    wide = MLP(policy.weights, (jnp.array([0.0, 99.0]),))
    found = gaussian_sample(wide, jnp.array([0.0, 0.0]), jnp.array([1.0]))
    np.testing.assert_allclose(found, [np.exp(LARGEST_LOG_DEVIATION)], rtol=1e-6)


@pytest.fixture(scope="module")
def trained():
    """`trained(ν)`: the state after 150 updates on actions near -0.5, of which the larger ones pay more."""
    backbone = BEAR(hidden=(16,), batch_size=32, cvae_hidden=(16,), candidates=2, samples=4, discount=0.01,
                    learning_rate=1e-2, warm_share=0.0)  # fmt: skip
    learner = Program(backbone, Pooled(), 150)
    generator = np.random.default_rng(0)
    action = jnp.asarray(generator.uniform(-0.6, -0.4, size=(32, 1)), jnp.float32)
    state = jnp.asarray(generator.normal(size=(32, 1)), jnp.float32)
    batch = Batch(state, action, 40 * action[:, 0], state, jnp.zeros(32), {}, {}, 16)

    @jax.jit
    def run(start):
        def body(number, carry):
            return learner.update((), carry, batch, jax.random.fold_in(jax.random.key(0), number), number)[0]

        return jax.lax.fori_loop(0, 150, body, start)

    @functools.cache
    def at(multiplier):
        start = learner.init(Sizes(1, 1), jax.random.key(1))
        return run(start._replace(log_multiplier=jnp.asarray(multiplier))), backbone.acts, state

    return at


def test_the_multiplier_holds_the_policy_to_the_data(trained):
    held, free = (float(jnp.mean(acts(end)(state))) for end, acts, state in map(trained, (6.0, -5.0)))
    assert held == pytest.approx(-0.5, abs=0.15)
    assert free > held + 0.3


def test_the_multiplier_rises_while_the_policy_is_far_from_the_data(trained):
    """It starts small, and the policy leaves the data's actions: then it counts for more."""
    end, _, _ = trained(-5.0)
    assert float(end.log_multiplier) > -5.0
