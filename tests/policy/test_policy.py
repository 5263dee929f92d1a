"""A saved policy acts as its network did, and every kind of damage to its file ends in one line."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.action_bounds import ActionBounds
from tabb.errors import RunError, UsageError
from tabb.networks import Normaliser, committee, members_of, mlp
from tabb.policy import Policy

NETWORK = mlp(jax.random.key(0), (4, 8, 8, 2))
NORMALISER = Normaliser(jnp.array([1.0, -2.0, 0.0, 3.0]), jnp.array([2.0, 0.5, 1.0, 4.0]))
LAYERS = {"weight": ((0, (4, 9)), (1, (9, 8)), (2, (8, 2))), "bias": ((0, (1, 9)), (1, (1, 8)), (2, (1, 2)))}
ABOUT = {"task": "some-task", "seed": 3, "nested": {"a": [1, 2.5, None]}}


@pytest.fixture
def policy():
    return Policy.from_networks(NETWORK, NORMALISER, ABOUT)


@pytest.fixture
def path(policy, tmp_path):
    return policy.save(tmp_path / "policy.npz")


def same(a, b):
    arrays = [(p.mean, p.scale, *p.weights, *p.biases) for p in (a, b)]
    return a.about == b.about and all(
        x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in zip(*arrays, strict=True)
    )


def refused(path):
    with pytest.raises(RunError) as caught:
        Policy.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_acts_as_the_network_does(policy):
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32) * 5
    wanted = jnp.tanh(NETWORK(NORMALISER(jnp.asarray(observations))))
    np.testing.assert_allclose(policy.act(observations), wanted, atol=1e-5)
    assert np.ptp(policy.act(observations), axis=0).min() > 0.01


def test_shapes_and_types(policy):
    one = np.array([0.5, -1.0, 2.0, 0.0])
    assert (policy.observation_size, policy.action_size) == (4, 2)
    assert policy.act(one).shape == (2,)
    assert policy.act(one).dtype == np.float32
    assert policy.act(one.tolist()).shape == (2,)
    many = np.broadcast_to(one, (3, 5, 4))
    assert policy.act(many).shape == (3, 5, 2)
    np.testing.assert_allclose(policy.act(many)[2, 4], policy.act(one), rtol=1e-6)
    assert policy.act(np.zeros((0, 4))).shape == (0, 2)


def test_observations_stay_as_they_were(policy):
    observation = np.ones((3, 4), np.float32)
    policy.act(observation)
    assert (observation == 1).all()
    assert np.array_equal(policy.act(observation), policy.act(observation))


def test_actions_stay_inside_their_bounds(policy):
    assert np.abs(policy.act(np.full((4, 4), 1e30) * np.eye(4))).max() <= 1


@pytest.mark.parametrize(
    ("observation", "says"),
    [
        ([np.nan, 0, 0, 0], "holds NaN or infinity"),
        ([0, -np.inf, 0, 0], "holds NaN or infinity"),
        ([0, None, 0, 0], "holds NaN or infinity"),
        (np.array([1e39, 0, 0, 0]), "holds numbers beyond float32"),
        (np.array([0, 3e38, 0, 0], np.float32), "networks overflow"),
        (np.ma.masked_greater([0.0, 1.0, 2.0, 3.0], 2.5), "holds masked numbers"),
        (["0", "1", "2", "3"], "is list: give an array of numbers"),
        (np.array([1j, 0, 0, 0]), "is ndarray: give an array of numbers"),
        (["a", 0, 0, 0], "is list: give an array of numbers"),
    ],
)
def test_what_no_policy_must_act_on(policy, observation, says):
    with pytest.raises(UsageError, match=says) as caught:
        policy.act(observation)
    assert "\n" not in str(caught.value)


def test_masked_arrays_without_masked_numbers_will_do(policy):
    there = np.arange(4.0)
    assert np.array_equal(policy.act(np.ma.masked_greater(there, 9.0)), policy.act(there))


@pytest.mark.parametrize("observation", [np.zeros(()), np.zeros(3), np.zeros((4, 5)), np.zeros((4, 1))])
def test_wrong_size(policy, observation):
    with pytest.raises(UsageError, match=r"the policy takes \[..., 4\] \(some-task\)"):
        policy.act(observation)


def test_arrays_are_copies_of_the_device_ones():
    network = mlp(jax.random.key(1), (4, 2))
    policy = Policy.from_networks(network, NORMALISER)
    before = policy.act(np.ones(4))
    network.weights[0].delete()
    assert np.array_equal(policy.act(np.ones(4)), before)
    assert policy.about == {}


def test_policies_are_told_apart_by_identity(policy):
    assert policy == policy
    assert policy != Policy.from_networks(NETWORK, NORMALISER, ABOUT)
    assert len({policy, policy}) == 1


def test_only_relu_networks():
    with pytest.raises(UsageError, match="not elu"):
        Policy.from_networks(mlp(jax.random.key(0), (4, 2), "elu"), NORMALISER)


def test_round_trip(policy, path):
    loaded = Policy.load(path)
    assert same(policy, loaded)
    observation = np.random.default_rng(1).normal(size=(7, 4))
    assert policy.act(observation).tobytes() == loaded.act(observation).tobytes()


SEVERAL = committee(jax.random.key(2), (4, 9, 8, 2), 3)


@pytest.fixture
def several():
    """A policy of three networks."""
    return Policy.from_networks(SEVERAL, NORMALISER, ABOUT)


def test_several_networks_act_as_their_mean(several):
    observations = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32) * 5
    x = NORMALISER(jnp.asarray(observations))
    wanted = np.tanh(np.mean([member(x) for member in members_of(SEVERAL)], axis=0))
    assert np.ptp(wanted, axis=0).min() > 0.01
    for shape, rows in (((), 1), ((1,), 1), ((30,), 30), ((2, 1, 3), 6), ((0,), 0), ((2, 0), 0)):
        actions = several.act(observations[:rows].reshape(*shape, 4))
        assert (actions.shape, actions.dtype) == ((*shape, 2), np.float32)
        np.testing.assert_allclose(actions.reshape(-1, 2), wanted[:rows], atol=1e-6)


@pytest.mark.parametrize("network", [NETWORK, SEVERAL, mlp(jax.random.key(0), (4, 2))])
def test_networks_come_out_as_they_went_in(network):
    policy = Policy.from_networks(network, NORMALISER)
    assert (policy.networks, policy.action_size) == (len(members_of(network)), 2)
    again = policy.as_network()
    assert jax.tree.structure(again) == jax.tree.structure(network)
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(network), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_file_of_several_networks(several, tmp_path):
    path = tmp_path / "policy.npz"
    content = several.save(path).read_bytes()
    assert several.save(path).read_bytes() == content
    assert same(several, Policy.load(path))
    with np.load(path) as file:
        shapes = {name: file[name].shape for name in file.files if name[-1] in "012"}
        assert json.loads(str(file["header"]))["format"] == "tabb-policy-1-several"  # an older tabb must refuse it
    assert shapes == {f"{kind}_{i}": (3, *shape) for kind, layers in LAYERS.items() for i, shape in layers}
    bounded = dataclasses.replace(several, action_bounds=ActionBounds((-2.0, 0.0), (2.0, 10.0)))
    assert Policy.load(bounded.save(path)).action_bounds == bounded.action_bounds
    assert same(several, Policy.load(path))


def test_files_of_before_have_several_networks_as_one_with_zeros_between(several, tmp_path):
    first, hidden, last = several.weights
    zeros = np.zeros((9, 8), np.float32)
    merged = {
        "weight_0": np.hstack(list(first)),
        "weight_1": np.block([[hidden[i] if i == j else zeros for j in range(3)] for i in range(3)]),
        "weight_2": np.vstack(list(last)) / np.float32(3),
        **{f"bias_{i}": np.hstack(list(several.biases[i]))[0] for i in range(2)},
        "bias_2": several.biases[2].mean(axis=(0, 1)),
    }
    header = json.dumps({"format": "tabb-policy-1", "layers": 3, "about": ABOUT})
    np.savez(tmp_path / "policy.npz", mean=several.mean, scale=several.scale, header=np.array(header), **merged)
    before = Policy.load(tmp_path / "policy.npz")
    assert (before.networks, before.about) == (1, ABOUT)
    for name, array in merged.items():
        kind, layer = name.split("_")
        np.testing.assert_array_equal({"weight": before.weights, "bias": before.biases}[kind][int(layer)], array)
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.testing.assert_allclose(before.act(observations), several.act(observations), atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"weight_0": np.zeros((2, 4, 9), np.float32)},
        {"weight_0": np.zeros((4, 9), np.float32)},
        {"weight_1": np.zeros((3, 9, 7), np.float32)},
        {"weight_1": np.zeros((1, 3, 9, 8), np.float32)},
        {"weight_2": np.zeros((3, 8), np.float32)},
        {"weight_2": np.full((3, 8, 2), np.nan, np.float32)},
        {"bias_0": np.zeros((3, 9), np.float32)},
        {"bias_1": np.zeros((3, 2, 8), np.float32)},
        {"bias_2": np.zeros((1, 1, 2), np.float32)},
        {f"{kind}_{i}": np.zeros((0, *shape), np.float32) for kind, shapes in LAYERS.items() for i, shape in shapes},
        {f"{kind}_{i}": np.zeros((1, 3, *shape), np.float32) for kind, shapes in LAYERS.items() for i, shape in shapes},
    ],
    ids=lambda changes: "-".join(f"{name}={array.shape}" for name, array in changes.items())[:40],
)
def test_files_of_several_networks_that_do_not_fit(several, changes, tmp_path):
    refused(rewritten(several.save(tmp_path / "policy.npz"), **changes))


def test_every_truncation_of_several_networks(several, tmp_path):
    path = several.save(tmp_path / "policy.npz")
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        assert "damaged" in refused(path)


def test_a_run_folder_or_text_will_do(policy, path):
    assert same(policy, Policy.load(path.parent))
    assert same(policy, Policy.load(str(path)))


def test_missing_file(tmp_path):
    assert "no such policy" in refused(tmp_path / "policy.npz")
    refused(tmp_path)  # a folder without one


@pytest.mark.parametrize("content", [b"", b"hello\n", b"PK\x03\x04", b"\x93NUMPY", b"\x80\x04K\x01."])
def test_other_content(path, content):
    path.write_bytes(content)
    assert "damaged" in refused(path)


def test_every_truncation(path):
    content = path.read_bytes()
    for length in range(0, len(content), 23):
        path.write_bytes(content[:length])
        assert "damaged" in refused(path)


def attempt(path):
    """The policy in the file, or the error that refuses it."""
    try:
        return Policy.load(path)
    except RunError as error:
        return error


def test_flipped_bits_are_refused_or_harmless(policy, path):
    content, caught = path.read_bytes(), 0
    for at, bit in zip(range(0, len(content), 3), itertools.cycle(range(8)), strict=False):
        damaged = bytearray(content)
        damaged[at] ^= 1 << bit
        path.write_bytes(damaged)
        result = attempt(path)
        if isinstance(result, RunError):
            assert "\n" not in str(result)
            caught += 1
        else:
            assert same(policy, result), at
    assert caught > 100


def rewritten(path, **changes):
    with np.load(path) as file:
        arrays = dict(file)
    arrays |= changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["mean", "scale", "weight_1", "bias_2"])
def test_numbers_that_are_not_finite(path, name, number):
    with np.load(path) as file:
        array = file[name].copy()
    array.flat[-1] = number
    assert "not finite" in refused(rewritten(path, **{name: array}))


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": np.zeros(3, np.float32)},
        {"mean": np.float32(0)},
        {"scale": np.zeros((4, 1), np.float32)},
        {"weight_1": np.zeros((7, 8), np.float32)},
        {"weight_1": np.zeros(8, np.float32)},
        {"bias_0": np.zeros(7, np.float32)},
        {"bias_2": np.float32(0)},
        {"bias_2": None},
        {"mean": None},
        {"mean": np.array(["a", "b", "c", "d"])},
        {"weight_0": np.array(["an object"], object)},
        {"header": None},
        {"header": np.array("[]")},
        {"header": np.array("{}")},
        {"header": np.array("no json")},
        {"header": np.array(['{"format": "tabb-policy-1"}', "x"])},
        {"header": np.array('{"format": "tabb-policy-1", "layers": "many", "about": {}}')},
        {"header": np.array('{"format": "tabb-policy-1", "layers": 0, "about": {}}')},
        {"header": np.array('{"format": "tabb-policy-9", "layers": 3, "about": {}}')},
    ],
    ids=lambda changes: "-".join(f"{k}={str(v)[:40]}" for k, v in changes.items()),
)
def test_files_that_are_no_policy(path, changes):
    refused(rewritten(path, **changes))


def test_failing_write_leaves_the_old_file(policy, path):
    with pytest.raises(RunError, match="cannot be written"):
        policy.save(path / "policy.npz")
    assert same(policy, Policy.load(path))


def test_far_from_zero_the_mean_is_subtracted_in_double_precision(policy):
    far = Policy(np.float32([5.4e6, -2.0, 0.0, 3.0]), policy.scale, policy.weights, policy.biases)
    near = Policy(np.float32([0.0, -2.0, 0.0, 3.0]), policy.scale, policy.weights, policy.biases)
    assert far.coarse_columns.tolist() == [0]
    assert policy.coarse_columns.size == 0
    observations = np.random.default_rng(0).normal(size=(50, 4))
    moved = observations + np.array([5.4e6, 0, 0, 0])
    np.testing.assert_allclose(far.act(moved), near.act(observations), atol=1e-5)
    assert np.abs(far.act(moved.astype(np.float32)) - near.act(observations)).max() > 1e-3  # what a cast alone costs
    np.testing.assert_allclose(far.act(moved[0]), near.act(observations[0]), atol=1e-5)


def test_bounds_of_actions_are_kept(policy, path):
    bounded = dataclasses.replace(policy, action_bounds=ActionBounds((-2.0, 0.0), (2.0, 10.0)))
    observations = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    np.testing.assert_array_equal(bounded.act_scaled(observations), policy.act(observations))
    np.testing.assert_array_equal(bounded.act(observations), bounded.action_bounds.restored(policy.act(observations)))
    again = Policy.load(bounded.save(path))
    assert again.action_bounds == bounded.action_bounds
    np.testing.assert_array_equal(again.act(observations), bounded.act(observations))
    with np.load(path) as file:  # an older tabb must refuse it
        assert json.loads(str(file["header"]))["format"] == "tabb-policy-1-bounded"
