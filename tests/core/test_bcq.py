"""BCQ: formulas by hand, and the policy that picks the best of its candidates."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.backbones.bcq import perturbed, soft_clipped_value
from tabb.candidate_policy import CandidatePolicy
from tabb.errors import RunError
from tabb.networks import MLP, Normaliser, mlp
from tabb.policy import Policy


def test_soft_clipped_value_and_perturbation_by_hand():
    values = jnp.array([[[1.0, 5.0]], [[3.0, 1.0]]])  # two critics, one row, two candidates
    np.testing.assert_allclose(soft_clipped_value(values, 0.75), [0.75 * 1 + 0.25 * 5])
    np.testing.assert_allclose(soft_clipped_value(values, 0.0), [5.0])
    up = MLP((jnp.zeros((3, 2)),), (jnp.array([100.0, -100.0]),))
    found = perturbed(up, jnp.zeros((1, 1)), jnp.array([[0.97, 0.5]]), 0.05)
    np.testing.assert_allclose(found, [[1.0, 0.45]], atol=1e-6)


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
