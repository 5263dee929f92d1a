"""CQL: formulas by hand, what conservatism and the entropy weight do, the deployed policy."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tabb.backbones import CQL
from tabb.backbones.backbone import mean_policy
from tabb.backbones.cql import conservative_gap
from tabb.backbones.squashed import squashed_sample
from tabb.networks import MLP, Normaliser
from tabb.rules import Pooled
from tabb.training.drawing import pack_data
from tabb.training.loop import Program, compiled_updates

SMALL_CQL = CQL(hidden=(16, 16), batch_size=16, learning_rate=1e-2, actions=2, policy_learning_rate=1e-2)


def test_density_of_a_squashed_sample_integrates_to_one():
    policy = MLP((jnp.zeros((1, 2)),), (jnp.array([0.3, math.log(0.7)]),))

    noise = np.linspace(-7, 7, 4001)
    action, log_density = squashed_sample(policy, jnp.zeros((4001, 1)), jnp.asarray(noise[:, None], jnp.float32))
    np.testing.assert_allclose(action[:, 0], np.tanh(0.3 + 0.7 * noise), atol=1e-6)
    x, density = np.tanh(0.3 + 0.7 * noise), np.exp(np.asarray(log_density, np.float64))
    assert np.sum(0.5 * (density[1:] + density[:-1]) * np.diff(x)) == pytest.approx(1.0, abs=1e-4)
    # far out, where 1 - tanh² is zero in single precision
    _, far = squashed_sample(policy, jnp.zeros(1), jnp.asarray([20.0], jnp.float32))
    assert float(far) == pytest.approx(
        -200 - math.log(0.7) - 0.5 * math.log(2 * math.pi) - 2 * (math.log(2) - 14.3), rel=1e-5
    )


def test_conservative_gap_by_hand():
    sampled = jnp.array([[[1.0, 2.0]], [[0.0, 0.0]]])
    density = jnp.log(jnp.array([[0.5, 0.25]]))
    found = conservative_gap(sampled, density, jnp.array([[3.0], [1.0]]))
    wanted = [[math.log(math.e / 0.5 + math.e**2 / 0.25) - 3.0], [math.log(2 + 4) - 1.0]]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_candidates_are_what_their_densities_say(batch, sizes):
    backbone = dataclasses.replace(SMALL_CQL, actions=4)
    state = backbone.init(Pooled(), sizes, 10, jax.random.key(0))
    batch = dataclasses.replace(batch, terminal=batch.terminal.at[2].set(1.0))
    actions, log_density = backbone._candidates(state.policy, batch, jax.random.key(1))
    assert actions.shape == (6, 12, 2)
    np.testing.assert_allclose(log_density[:, :4], 2 * math.log(0.5))
    # A terminal row has no next state: its own stands in.
    following = jnp.where(batch.terminal[:, None] > 0, batch.observation, batch.next_observation)
    for part, states in ((slice(4, 8), batch.observation), (slice(8, 12), following)):
        mean, log_deviation = np.split(np.asarray(state.policy(states), np.float64), 2, axis=-1)
        inner = np.arctanh(np.asarray(actions[:, part], np.float64))
        deviation = np.exp(log_deviation)[:, None]
        normal = -0.5 * ((inner - mean[:, None]) / deviation) ** 2 - np.log(deviation * math.sqrt(2 * math.pi))
        wanted = (normal - np.log(1 - np.tanh(inner) ** 2)).sum(-1)
        np.testing.assert_allclose(log_density[:, part], wanted, atol=2e-3)


def test_updates_written_out_again(batch, sizes):
    """Two updates, row by row; how candidates and squashed samples are drawn is tested above, Adam is optax's."""
    backbone = dataclasses.replace(SMALL_CQL, conservatism=2.0)
    learner = Program(backbone, Pooled(), 2)
    state = learner.init(sizes, jax.random.key(5))
    state = state._replace(
        slow_critic=learner.init(sizes, jax.random.key(6)).critic, log_entropy_weight=jnp.asarray(0.3)
    )
    adam = optax.adam(1e-2)
    critics, policy = (state.critic.first, state.critic.second), state.policy
    slow, log_weight = (state.slow_critic.first, state.slow_critic.second), state.log_entropy_weight
    memory = [adam.init(part) for part in (*critics, policy, log_weight)]

    def q(network, s, a):
        return network(jnp.concatenate([s, a]))[0]

    update = jax.jit(lambda state, key, number: learner.update((), state, batch, key, number))
    for number in range(2):
        key = jax.random.key(10 + number)
        state, _ = update(state, key, jnp.asarray(number))
        sample_key, next_key, policy_key = jax.random.split(key, 3)
        noise, following = jax.random.normal(policy_key, (6, 2)), jax.random.normal(next_key, (6, 2))
        drawn, densities = backbone._candidates(policy, batch, sample_key)
        goals = []
        for i in range(6):
            action, _ = squashed_sample(policy, batch.next_observation[i], following[i])
            ahead = min(q(network, batch.next_observation[i], action) for network in slow)
            goals.append(batch.reward[i] + 0.99 * (1 - batch.terminal[i]) * ahead)

        def critic_loss(network, goals=tuple(goals), drawn=drawn, densities=densities):
            loss = 0.0
            for i in range(6):
                data = q(network, batch.observation[i], batch.action[i])
                sampled = jnp.stack([q(network, batch.observation[i], action) for action in drawn[i]])
                gap = jnp.log(jnp.sum(jnp.exp(sampled - densities[i]))) - data
                loss += ((data - goals[i]) ** 2 + 2.0 * gap) / 6
            return loss

        def policy_loss(policy, critics=critics, log_weight=log_weight, noise=noise):
            loss, density = 0.0, 0.0
            for i in range(6):
                action, log_density = squashed_sample(policy, batch.observation[i], noise[i])
                value = jnp.minimum(*(q(network, batch.observation[i], action) for network in critics))
                loss += (jnp.exp(log_weight) * log_density - value) / 6
                density += log_density / 6
            return loss, density

        gradients = [jax.grad(critic_loss)(critic) for critic in critics]
        gradient, density = jax.grad(policy_loss, has_aux=True)(policy)
        gradients += [gradient, -(density - 2)]  # α grows while the entropy, -density, is below the wanted -2
        moved = []
        for j, (part, gradient) in enumerate(zip((*critics, policy, log_weight), gradients, strict=True)):
            step, memory[j] = adam.update(gradient, memory[j])
            moved.append(optax.apply_updates(part, step))
        critics, policy, log_weight = tuple(moved[:2]), moved[2], moved[3]
        slow = jax.tree.map(lambda s, f: 0.995 * s + 0.005 * f, slow, critics)
        ours = (
            (state.critic.first, state.critic.second),
            (state.slow_critic.first, state.slow_critic.second),
            state.policy,
            state.log_entropy_weight,
        )
        for a, b in zip(jax.tree.leaves((critics, slow, policy, log_weight)), jax.tree.leaves(ours), strict=True):
            np.testing.assert_allclose(a, b, atol=3e-5)


def test_conservatism_lowers_sampled_actions_against_the_datas(domains, sizes):
    # Data of actions near 0: where they are uniform, as sampled ones are, there is nothing to lower.
    near = {
        part: dataclasses.replace(getattr(domains, part), action=0.1 * getattr(domains, part).action)
        for part in ("source", "target")
    }
    domains = domains._replace(**near)

    def gap(conservatism):
        backbone = dataclasses.replace(SMALL_CQL, conservatism=conservatism)
        learner, data = Program(backbone, Pooled(), 200), pack_data(domains, {})
        state = learner.init(sizes, jax.random.key(1))
        _, metrics = compiled_updates(learner, (), data, jax.random.key(2), state, 0, 200)
        return float(metrics["conservative_gap"])

    assert gap(10.0) < gap(0.0) - 0.2


def test_entropy_weight_follows_the_wanted_entropy(batch, sizes):
    """A policy of less entropy than -A is to be paid more for it, one of more entropy less."""
    backbone = SMALL_CQL
    learner = Program(backbone, Pooled(), 10)
    for log_deviation, rises in ((-6.0, True), (0.0, False)):
        state = learner.init(sizes, jax.random.key(0))
        last = state.policy.biases[-1].at[2:].set(log_deviation)
        weights = (*state.policy.weights[:-1], jnp.zeros_like(state.policy.weights[-1]))
        state = state._replace(policy=MLP(weights, (*state.policy.biases[:-1], last)))
        after, _ = learner.update((), state, batch, jax.random.key(1), jnp.asarray(0))
        assert (float(after.log_entropy_weight) > 0) == rises


def test_deployed_policy_is_the_mean_action(sizes):
    state = Program(SMALL_CQL, Pooled(), 1).init(sizes, jax.random.key(0))
    policy = SMALL_CQL.policy(state, Normaliser(jnp.zeros(3), jnp.ones(3)), {})
    x = jnp.asarray([[0.1, -0.2, 0.3]])
    np.testing.assert_allclose(policy.act(x), squashed_sample(state.policy, x, jnp.zeros((1, 2)))[0], atol=1e-6)
    np.testing.assert_allclose(mean_policy(state.policy)(x), state.policy(x)[:, :2], atol=1e-6)
