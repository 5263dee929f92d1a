"""TD3+BC: formulas by hand, and whole updates written out again."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tabb.backbones import TD3BC
from tabb.backbones.backbone import cloned_improvement
from tabb.backbones.td3_bc import smoothed_action
from tabb.rules import Pooled
from tabb.training.loop import Program

SMALL = {"hidden": (16, 16), "batch_size": 16, "learning_rate": 1e-2}


def test_smoothed_action_by_hand():
    found = smoothed_action(jnp.array([[0.0, 0.9, -0.9]]), jnp.array([[1.0, 10.0, -1.0]]), 0.2, 0.5)
    np.testing.assert_allclose(found, [[0.2, 1.0, -1.0]], atol=1e-6)


def test_cloned_improvement_by_hand():
    found = cloned_improvement(jnp.array([2.0, -4.0]), jnp.array([0.5, 0.0]), jnp.ones(2), 1.5, 2.0)
    np.testing.assert_allclose(found, [-0.5 * 2 + 1.0, 2.0], rtol=1e-6)  # 1.5 / mean |Q| = 0.5
    found = cloned_improvement(jnp.array([2.0, -4.0]), jnp.zeros(2), jnp.array([3.0, 1.0]), 1.5, 2.0)
    np.testing.assert_allclose(found, [-0.6 * 2, 0.6 * 4], rtol=1e-6)  # 1.5 / ((3 * 2 + 4) / 4)
    # the mean of |Q| carries no gradient
    slope = jax.grad(lambda q: jnp.sum(cloned_improvement(q, jnp.zeros(2), jnp.ones(2), 1.5, 1.0)))(
        jnp.array([2.0, -4.0])
    )
    np.testing.assert_allclose(slope, [-0.5, -0.5], rtol=1e-6)


@pytest.mark.parametrize("form", ["original", "odrl"])
def test_td3_bc_updates_written_out_again(form, batch, sizes):
    """Three updates, row by row and without the library's helpers; Adam is optax's in both."""
    backbone = TD3BC(**SMALL, **(TD3BC.presets["odrl"] if form == "odrl" else {}))
    learner = Program(backbone, Pooled(), 3)
    state = learner.init(sizes, jax.random.key(5))
    state = state._replace(slow_critic=learner.init(sizes, jax.random.key(6)).critic)
    state = state._replace(slow_policy=learner.init(sizes, jax.random.key(7)).policy)
    adam = optax.adam(1e-2)
    critics, policy = (state.critic.first, state.critic.second), state.policy
    slow, slow_policy = (state.slow_critic.first, state.slow_critic.second), state.slow_policy
    memory = [adam.init(critics[0]), adam.init(critics[1]), adam.init(policy)]

    def q(network, s, a):
        return network(jnp.concatenate([s, a]))[0]

    update = jax.jit(lambda state, key, number: learner.update((), state, batch, key, number))
    for number in range(3):
        key = jax.random.key(10 + number)
        noise = np.asarray(jax.random.normal(key, (6, 2)))
        state, metrics = update(state, key, jnp.asarray(number))
        goals = []
        for i in range(6):
            following = batch.next_observation[i]
            action = jnp.tanh((policy if form == "odrl" else slow_policy)(following))
            if form == "original":
                action = jnp.clip(action + np.clip(0.2 * noise[i], -0.5, 0.5), -1, 1)
            ahead = min(q(slow[0], following, action), q(slow[1], following, action))
            goals.append(batch.reward[i] + 0.99 * (1 - batch.terminal[i]) * ahead)

        def critic_loss(network, goals=tuple(goals)):
            return sum((q(network, batch.observation[i], batch.action[i]) - goals[i]) ** 2 for i in range(6)) / 6

        losses, moved = [], []
        for j in range(2):
            loss, gradient = jax.value_and_grad(critic_loss)(critics[j])
            step, memory[j] = adam.update(gradient, memory[j])
            losses.append(loss)
            moved.append(optax.apply_updates(critics[j], step))
        critics = tuple(moved)
        assert float(metrics["critic_loss"]) == pytest.approx(float(sum(losses)), rel=1e-4)
        if form == "odrl" or number == 1:

            def values(policy, critics=critics):
                actions = [jnp.tanh(policy(s)) for s in batch.observation]
                pairs = list(zip(batch.observation, actions, strict=True))
                first = jnp.stack([q(critics[0], s, a) for s, a in pairs])
                second = jnp.stack([q(critics[1], s, a) for s, a in pairs])
                return jnp.stack(actions), jnp.minimum(first, second) if form == "odrl" else first

            scale = 2.5 / np.abs(values(policy)[1]).mean()

            def policy_loss(policy, scale=scale):
                actions, value = values(policy)
                return jnp.mean(-scale * value) + jnp.mean((actions - batch.action) ** 2)

            step, memory[2] = adam.update(jax.grad(policy_loss)(policy), memory[2])
            policy = optax.apply_updates(policy, step)
            slow, slow_policy = (
                jax.tree.map(lambda s, f: 0.995 * s + 0.005 * f, old, new)
                for old, new in ((slow, critics), (slow_policy, policy))
            )
        wanted = (critics, slow, policy, slow_policy)
        ours = (
            (state.critic.first, state.critic.second),
            (state.slow_critic.first, state.slow_critic.second),
            state.policy,
            state.slow_policy,
        )
        for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(ours), strict=True):
            np.testing.assert_allclose(a, b, atol=3e-5)
