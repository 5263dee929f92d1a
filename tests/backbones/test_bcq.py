"""BCQ: formulas by hand, and the policy that picks the best of its candidates."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tabb.backbones import BCQ
from tabb.backbones.backbone import soft_clipped_value
from tabb.backbones.bcq import perturbed
from tabb.errors import RunError
from tabb.models.cvae import cvae_loss
from tabb.networks import MLP, Normaliser, mlp
from tabb.policy import Policy
from tabb.policy.candidates import CandidatePolicy
from tabb.rules import Pooled
from tabb.training.loop import Program


def test_soft_clipped_value_and_perturbation_by_hand():
    values = jnp.array([[[1.0, 5.0]], [[3.0, 1.0]]])  # two critics, one row, two candidates
    np.testing.assert_allclose(soft_clipped_value(values, 0.75), [0.75 * 1 + 0.25 * 5])
    np.testing.assert_allclose(soft_clipped_value(values, 0.0), [5.0])
    up = MLP((jnp.zeros((3, 2)),), (jnp.array([100.0, -100.0]),))
    found = perturbed(up, jnp.zeros((1, 1)), jnp.array([[0.97, 0.5]]), 0.05)
    np.testing.assert_allclose(found, [[1.0, 0.45]], atol=1e-6)


def test_updates_written_out_again(batch, sizes):
    """Two updates, row by row; the autoencoder's loss is tested with it, Adam is optax's."""
    backbone = BCQ(hidden=(16,), cvae_hidden=(16,), batch_size=16, learning_rate=1e-2, candidates=3)
    learner = Program(backbone, Pooled(), 2)
    state = learner.init(sizes, jax.random.key(5))
    other = learner.init(sizes, jax.random.key(6))
    state = state._replace(slow_critic=other.critic, slow_perturbation=other.perturbation)
    adam = optax.adam(1e-2)
    cvae, critics, change = state.cvae, (state.critic.first, state.critic.second), state.perturbation
    slow, slow_change = (state.slow_critic.first, state.slow_critic.second), state.slow_perturbation
    memory = [adam.init(part) for part in (cvae, *critics, change)]

    def q(network, s, a):
        return network(jnp.concatenate([s, a]))[0]

    def near(network, s, a):
        return jnp.clip(a + backbone.reach * jnp.tanh(network(jnp.concatenate([s, a]))), -1, 1)

    update = jax.jit(lambda state, key, number: learner.update((), state, batch, key, number))
    for number in range(2):
        key = jax.random.key(10 + number)
        state, _ = update(state, key, jnp.asarray(number))
        noise_key, next_key, now_key = jax.random.split(key, 3)
        noise = jax.random.normal(noise_key, (6, 4))
        gradient = jax.grad(cvae_loss)(cvae, batch.observation, batch.action, noise, 0.5)
        step, memory[0] = adam.update(gradient, memory[0])
        cvae = optax.apply_updates(cvae, step)
        ahead = jnp.clip(jax.random.normal(next_key, (6, 3, 4)), -0.5, 0.5)
        now = jnp.clip(jax.random.normal(now_key, (6, 4)), -0.5, 0.5)
        goals = []
        for i in range(6):
            s, best = batch.next_observation[i], -np.inf
            for latent in ahead[i]:
                action = near(slow_change, s, cvae.decode(s, latent))
                low, high = sorted(float(q(network, s, action)) for network in slow)
                best = max(best, 0.75 * low + 0.25 * high)
            goals.append(batch.reward[i] + 0.99 * (1 - batch.terminal[i]) * best)
        decoded = [cvae.decode(s, latent) for s, latent in zip(batch.observation, now, strict=True)]

        def critic_loss(network, goals=tuple(goals)):
            return sum((q(network, batch.observation[i], batch.action[i]) - goals[i]) ** 2 for i in range(6)) / 6

        moved = []
        for j, critic in enumerate(critics, 1):
            step, memory[j] = adam.update(jax.grad(critic_loss)(critic), memory[j])
            moved.append(optax.apply_updates(critic, step))
        critics = tuple(moved)

        def change_loss(network, first=critics[0], decoded=tuple(decoded)):  # uphill on the critic that just learned
            return -sum(q(first, s, near(network, s, a)) for s, a in zip(batch.observation, decoded, strict=True)) / 6

        step, memory[3] = adam.update(jax.grad(change_loss)(change), memory[3])
        change = optax.apply_updates(change, step)
        slow, slow_change = (
            jax.tree.map(lambda s, f: 0.995 * s + 0.005 * f, old, new)
            for old, new in ((slow, critics), (slow_change, change))
        )
        wanted = (cvae, critics, slow, change, slow_change)
        ours = (
            state.cvae,
            (state.critic.first, state.critic.second),
            (state.slow_critic.first, state.slow_critic.second),
            state.perturbation,
            state.slow_perturbation,
        )
        for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(ours), strict=True):
            np.testing.assert_allclose(a, b, atol=3e-5)


@pytest.fixture(scope="module")
def candidate_policy():
    keys = jax.random.split(jax.random.key(0), 4)
    decoder, perturbation, critic = (
        mlp(key, widths) for key, widths in zip(keys[:3], ((3 + 4, 8, 2), (3 + 2, 8, 2), (3 + 2, 8, 1)), strict=True)
    )
    latents = jax.random.normal(keys[3], (7, 4))
    normaliser = Normaliser(jnp.array([0.5, 0.0, 0.0]), jnp.array([2.0, 1.0, 1.0]))
    networks = (decoder, perturbation, critic, latents)
    return networks, CandidatePolicy.from_candidates(*networks, 0.05, normaliser, {"task": None})


def test_acting_takes_the_candidate_of_the_highest_value(candidate_policy):
    (decoder, perturbation, critic, latents), policy = candidate_policy
    for observation in np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32):
        x = (observation - np.array([0.5, 0, 0])) / np.array([2, 1, 1])
        best, highest = None, -math.inf
        for latent in latents:
            action = jnp.tanh(decoder(jnp.concatenate([x, latent])))
            action = jnp.clip(action + 0.05 * jnp.tanh(perturbation(jnp.concatenate([x, action]))), -1, 1)
            value = float(critic(jnp.concatenate([x, action]))[0])
            if value > highest:
                best, highest = action, value
        np.testing.assert_allclose(policy.act(observation), best, atol=1e-5)


def test_a_candidate_policy_is_told_in_one_line(candidate_policy):
    assert repr(candidate_policy[1]) == "CandidatePolicy(3 -> 2, {'task': None})"


def test_candidate_policy_of_damaged_files(candidate_policy, tmp_path):
    _, policy = candidate_policy
    file = policy.save(tmp_path / "policy.npz")
    with np.load(file, allow_pickle=False) as content:
        arrays = {name: content[name] for name in content.files}
    for change, says in (
        ({"critic_weight_0": np.zeros((4, 8), np.float32)}, "do not fit together"),
        ({"latents": np.zeros((7, 3), np.float32)}, "do not fit together"),
        ({"perturbation_bias_1": np.full(2, np.nan, np.float32)}, "not finite"),
        ({"critic_bias_1": None}, "damaged"),
        ({"weight_1": None, "bias_1": None}, "damaged"),
    ):
        changed = {name: array for name, array in (arrays | change).items() if array is not None}
        np.savez(tmp_path / "changed.npz", **changed)
        with pytest.raises(RunError, match=says) as caught:
            Policy.load(tmp_path / "changed.npz")
        assert "\n" not in str(caught.value)
