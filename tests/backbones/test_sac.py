"""SAC: backup, entropy and temperature by hand, an update written out again, many critics, the actions that explore."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tabb.backbones import SAC
from tabb.backbones.backbone import mean_policy
from tabb.backbones.sac import soft_value, temperature_gradient
from tabb.backbones.squashed import squashed_sample
from tabb.batch import Batch, Sizes
from tabb.errors import UsageError
from tabb.networks import Critics, Normaliser, Twin
from tabb.rules import Pooled
from tabb.training.loop import Program

SMALL_SAC = SAC(hidden=(16, 16), batch_size=16, learning_rate=1e-2)


def test_soft_value_by_hand():
    # 5 - 0.2 · (-1.5): a policy of much entropy is worth more.
    found = soft_value(jnp.array([5.0, 5.0]), jnp.array([-1.5, 2.0]), jnp.asarray(0.2))
    np.testing.assert_allclose(found, [5.3, 4.6], rtol=1e-6)


@pytest.mark.parametrize(("log_density", "gradient"), [(3.0, -1.0), (1.0, 1.0)])
def test_temperature_rises_while_the_entropy_is_below_the_wanted_one(log_density, gradient):
    """Entropy -3 is below the wanted -2, entropy -1 above: ln α goes against the gradient."""
    assert float(temperature_gradient(jnp.asarray(log_density), -2.0)) == gradient


def constant(network, *values):
    """A network of the same layers that gives the same outputs everywhere."""
    nothing = jax.tree.map(jnp.zeros_like, network)
    return dataclasses.replace(nothing, biases=(*nothing.biases[:-1], jnp.asarray(values)))


@pytest.mark.parametrize("entropy_backup", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_backup_by_hand(entropy_backup):
    """Both critics are constant (7 and 6) and the policy is one Gaussian, so only ln π of the drawn action moves b."""
    backbone = SAC(hidden=(4,), batch_size=2, discount=0.5, temperature=0.2, tuned=False, entropy_backup=entropy_backup)
    learner = Program(backbone, Pooled(), 1)
    batch = Batch(
        jnp.zeros((2, 1)), jnp.zeros((2, 1)), jnp.array([1.0, 2.0]), jnp.ones((2, 1)), jnp.array([0.0, 1.0]), {}, {}, 1
    )
    state = backbone.init(Pooled(), Sizes(1, 1), 1, jax.random.key(0))
    slow = Twin(constant(state.critic.first, 7.0), constant(state.critic.second, 6.0))
    state = state._replace(slow_critic=slow, policy=constant(state.policy, 0.3, math.log(0.7)))
    _, metrics = jax.jit(learner.update)((), state, batch, jax.random.key(3), jnp.asarray(0))
    noise = float(jax.random.normal(jax.random.split(jax.random.key(3), 3)[0], (2, 1))[0, 0])
    inner = 0.3 + 0.7 * noise
    log_density = -0.5 * noise**2 - math.log(0.7) - 0.5 * math.log(2 * math.pi) - math.log(1 - math.tanh(inner) ** 2)
    ahead = 6.0 - (0.2 * log_density if entropy_backup else 0.0)
    # The second row is terminal: its backup is its reward.
    assert float(metrics["mean_backup"]) == pytest.approx((1.0 + 0.5 * ahead + 2.0) / 2, rel=1e-5)


@pytest.mark.slow
def test_an_update_written_out_again(batch, sizes):
    """Row by row; how a squashed sample is drawn is tested with CQL, Adam is optax's."""
    learner = Program(SMALL_SAC, Pooled(), 2)
    state = learner.init(sizes, jax.random.key(5))
    state = state._replace(slow_critic=learner.init(sizes, jax.random.key(6)).critic, log_temperature=jnp.asarray(-0.5))
    adam = optax.adam(1e-2)
    key = jax.random.key(10)
    next_key, policy_key, _ = jax.random.split(key, 3)
    following, noise = (jax.random.normal(one, (6, 2)) for one in (next_key, policy_key))

    def q(network, s, a):
        return network(jnp.concatenate([s, a]))[0]

    goals = []
    for i in range(6):
        action, log_density = squashed_sample(state.policy, batch.next_observation[i], following[i])
        slow = (state.slow_critic.first, state.slow_critic.second)
        ahead = min(q(one, batch.next_observation[i], action) for one in slow) - math.exp(-0.5) * log_density
        goals.append(batch.reward[i] + 0.99 * (1 - batch.terminal[i]) * ahead)

    def critic_loss(network):
        errors = [q(network, batch.observation[i], batch.action[i]) - goals[i] for i in range(6)]
        return sum(error**2 for error in errors) / 6

    def moved(part, gradient):
        return optax.apply_updates(part, adam.update(gradient, adam.init(part))[0])

    critics = [moved(one, jax.grad(critic_loss)(one)) for one in (state.critic.first, state.critic.second)]

    def policy_loss(policy):
        loss, density = 0.0, 0.0
        for i in range(6):
            action, log_density = squashed_sample(policy, batch.observation[i], noise[i])
            value = jnp.minimum(*(q(network, batch.observation[i], action) for network in critics))
            loss += (math.exp(-0.5) * log_density - value) / 6
            density += log_density / 6
        return loss, density

    gradient, density = jax.grad(policy_loss, has_aux=True)(state.policy)
    wanted = (critics, moved(state.policy, gradient), moved(state.log_temperature, -(density - 2)))
    after, metrics = jax.jit(learner.update)((), state, batch, key, jnp.asarray(0))
    ours = ([after.critic.first, after.critic.second], after.policy, after.log_temperature)
    for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(ours), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-5)
    assert float(metrics["entropy"]) == pytest.approx(-float(density), rel=1e-4)


@pytest.mark.slow
def test_a_temperature_that_is_not_tuned_stays(batch, sizes):
    learner = Program(SAC(hidden=(4,), temperature=0.2, tuned=False), Pooled(), 1)
    before = learner.init(sizes, jax.random.key(0))
    after, metrics = jax.jit(learner.update)((), before, batch, jax.random.key(1), jnp.asarray(0))
    assert float(after.log_temperature) == float(before.log_temperature)
    assert float(metrics["temperature"]) == pytest.approx(0.2)


@pytest.mark.slow
def test_many_critics_of_which_a_backup_compares_two():
    """Of constant critics 1, 2, 3, 4 two different ones are drawn: 4 is never the smaller, each pair comes as often."""
    backbone = SAC(critics=4, compared=2)
    values = jnp.broadcast_to(jnp.array([[1.0], [2.0], [3.0], [4.0]]), (4, 1))
    smallest = jax.jit(jax.vmap(backbone._smallest, in_axes=(None, 0)))
    found = np.asarray(smallest(values, jax.random.split(jax.random.key(0), 600)))[:, 0]
    shares = [np.mean(found == value) for value in (1.0, 2.0, 3.0, 4.0)]
    np.testing.assert_allclose(shares, [3 / 6, 2 / 6, 1 / 6, 0], atol=0.06)
    state = backbone.init(Pooled(), Sizes(3, 2), 1, jax.random.key(0))
    assert isinstance(state.critic, Critics)
    assert state.critic(jnp.zeros((5, 5))).shape == (4, 5)


@pytest.mark.slow
def test_what_explores_is_drawn_and_what_is_deployed_is_the_mean(sizes):
    state = SMALL_SAC.init(Pooled(), sizes, 1, jax.random.key(0))
    x = jnp.ones((400, 3))
    drawn = SMALL_SAC.explores(state, x, jax.random.key(1))
    mean = jnp.tanh(mean_policy(state.policy)(x[:1]))
    assert drawn.shape == (400, 2)
    assert float(jnp.std(drawn, axis=0).min()) > 0.1
    policy = SMALL_SAC.policy(state, Normaliser(jnp.zeros(3), jnp.ones(3)), {})
    np.testing.assert_allclose(policy.act(x[:1]), mean, atol=1e-6)


@pytest.mark.parametrize(
    ("constants", "says"),
    [
        ({"compared": 3}, "compared=3: must be 1 to critics, which is 2"),
        ({"temperature": 0.0}, "temperature=0 with tuned"),
        ({"entropy": -1.0}, "entropy=-1.0"),
        ({"discount": 1.5}, "discount=1.5"),
    ],
)
def test_wrong_constants_of_sac(constants, says):
    with pytest.raises(UsageError) as caught:
        SAC(**constants)
    assert says in str(caught.value)
