"""A run that starts from another run's weights: the same functions of raw observations, whatever the normaliser."""

import dataclasses
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tabb
from tabb.action_bounds import ActionBounds
from tabb.backbones import BCQ, CQL, IQL, SAC, TD3BC
from tabb.batch import Sizes, make_domains
from tabb.errors import RunError, UsageError
from tabb.networks import MLP, Normaliser
from tabb.rules import Pooled
from tabb.training import Settings, train
from tabb.training.checkpoint import load_tree
from tabb.training.loop import Program
from tabb.training.starting_weights import going_on, renormalised, start_from

SMALL = {"hidden": (8, 8), "batch_size": 16}
BACKBONES = {
    backbone.name: backbone
    for backbone in (IQL(policies=2, **SMALL), TD3BC(**SMALL), CQL(**SMALL, actions=2), BCQ(**SMALL, cvae_hidden=(8,)))
}
OBSERVATIONS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32) * 4
ACTIONS = np.tanh(np.random.default_rng(1).normal(size=(6, 2))).astype(np.float32)


def settings(backbone=BACKBONES["iql"], updates=3):
    return Settings(updates=updates, evaluations=0, held_out=0.0, backbone=backbone)


@pytest.fixture(scope="module")
def moved(pair):
    """The pair as another robot would log it: observations in other units, about other means."""

    def move(data):
        scale, shift = np.float32([3.0, 0.2, 1.0]), np.float32([-4.0, 1.0, 7.0])
        return dataclasses.replace(
            data, observation=data.observation * scale + shift, next_observation=data.next_observation * scale + shift
        )

    return tuple(map(move, pair))


@pytest.fixture(scope="module")
def first_run(pair, tmp_path_factory):
    """`first_run(name)`: a finished run on that backbone."""
    runs = {}

    def run(name):
        if name not in runs:
            folder = tmp_path_factory.mktemp(name)
            (runs[name],) = train(Pooled(), *pair, settings=settings(BACKBONES[name]), folder=folder)
        return runs[name]

    return run


def state_of(run, backbone):
    """The state that a run ended with."""
    template = Program(backbone, Pooled(), 3).init(Sizes(3, 2), jax.random.key(0))
    return load_tree(run.folder / "checkpoint.npz", template)[0]


def test_first_layer_by_hand():
    network = MLP((jnp.array([[2.0], [10.0]]),), (jnp.array([1.0]),))
    before, after = (Normaliser(jnp.array([m]), jnp.array([s])) for m, s in ((1.0, 2.0), (5.0, 8.0)))
    # o = 9 is x = 4 before and x' = 0.5 after; the second input, 0.3, is no observation.
    new = renormalised(network, before, after)
    np.testing.assert_allclose(network(jnp.array([4.0, 0.3])), [12.0])
    np.testing.assert_allclose(new(jnp.array([0.5, 0.3])), [12.0], rtol=1e-6)
    np.testing.assert_allclose(new.weights[0], [[8.0], [10.0]])
    np.testing.assert_allclose(new.biases[0], [5.0])


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("parts", [("policy",), ("critic",), ("policy", "critic")], ids="+".join)
def test_functions_of_raw_observations_are_the_same(name, parts, first_run, pair, moved):
    """V, Q and the policy of the fresh state, on raw observations, against those that the first run ended with."""
    backbone, run = BACKBONES[name], first_run(name)
    domains, before = make_domains(*moved), make_domains(*pair).normaliser
    learner = Program(backbone, Pooled(), 3)
    fresh = learner.init(Sizes(3, 2), jax.random.key(5))
    started = start_from(run, parts).weights(learner, fresh, domains.normaliser, 0)
    ended = state_of(run, backbone)

    def outputs(state, normaliser):
        x = normaliser(jnp.asarray(OBSERVATIONS))
        pair = jnp.concatenate([x, ACTIONS], axis=-1)
        found = {"critic": state.critic(pair), "slow_critic": state.slow_critic(pair)}
        if name == "iql":
            found["value"] = state.value(x)
        if name == "bcq":
            latent = jnp.ones((len(x), 4)) / 3
            return found | {
                "cvae": state.cvae.decode(x, latent) + state.cvae.encode(x, ACTIONS)[0][:, :2],
                "perturbation": state.perturbation(pair),
                "slow_perturbation": state.slow_perturbation(pair),
            }
        found["policy"] = state.policy(x)
        if name == "td3-bc":
            found["slow_policy"] = state.slow_policy(x)
        return found

    theirs, ours, own = outputs(ended, before), outputs(started, domains.normaliser), outputs(fresh, domains.normaliser)
    taken = {network for part in parts for network in backbone.parts[part]}
    assert taken <= set(ours)
    for network in ours:
        wanted = theirs if network in taken else own
        np.testing.assert_allclose(ours[network], wanted[network], atol=2e-5, err_msg=network)
        assert float(jnp.abs(theirs[network] - own[network]).max()) > 1e-3
    for part in fresh._fields:
        if part not in taken and not ("policy" in parts and part in backbone.tuned_numbers):
            assert getattr(started, part) is getattr(fresh, part)


@pytest.mark.parametrize(
    ("parts", "goes_on"), [(("policy",), True), (("policy", "critic"), True), (("critic",), False)]
)
def test_what_is_tuned_goes_on_with_the_policy(parts, goes_on, first_run):
    """A learner that is cool by now would else begin hot again, and unlearn what it starts from."""
    run, learner = first_run("cql"), Program(BACKBONES["cql"], Pooled(), 3)
    fresh = learner.init(Sizes(3, 2), jax.random.key(5))
    started = start_from(run, parts).weights(learner, fresh, Normaliser(jnp.zeros(3), jnp.ones(3)), 0)
    ended = state_of(run, BACKBONES["cql"])
    assert ended.log_entropy_weight != fresh.log_entropy_weight
    assert started.log_entropy_weight == (ended if goes_on else fresh).log_entropy_weight


def test_which_numbers_go_on():
    """None that the new run keeps as it was told, and none that can never change again."""
    assert SAC().tuned_numbers == ("log_temperature",)
    assert SAC(tuned=False).tuned_numbers == IQL().tuned_numbers == ()
    ended = {"log_temperature": jnp.asarray(-3.0), "policy": ()}
    assert going_on(SAC(), ended) == {"log_temperature": -3.0}
    assert going_on(SAC(tuned=False), ended) == {}
    assert going_on(SAC(), ended | {"log_temperature": jnp.asarray(-jnp.inf)}) == {}


def test_a_run_starts_with_the_policy_that_another_ended_with(first_run, moved, tmp_path):
    """Through `train`, with a learning rate that moves nothing; the record says where it started."""
    run = first_run("iql")
    still = dataclasses.replace(BACKBONES["iql"], learning_rate=1e-12)
    (started,) = train(Pooled(), *moved, settings=settings(still, 1), folder=tmp_path, start=run)
    assert not np.allclose(started.policy.mean, run.policy.mean)
    np.testing.assert_allclose(started.policy.act(OBSERVATIONS), run.policy.act(OBSERVATIONS), atol=1e-5)
    record = json.loads((tmp_path / "seed0" / "config.json").read_text())["start"]
    assert record["run"] == str(run.folder)
    assert record["parts"] == ["policy", "critic"]
    # A run that goes on must be told the same start.
    for changed in ({}, {"start": run, "start_parts": ("critic",)}):
        with pytest.raises(RunError, match="was started with another start"):
            train(Pooled(), *moved, settings=settings(still, 1), folder=tmp_path, resume=True, **changed)
    (again,) = train(Pooled(), *moved, settings=settings(still, 1), folder=tmp_path, resume=True, start=run.folder)
    np.testing.assert_array_equal(again.policy.act(OBSERVATIONS), started.policy.act(OBSERVATIONS))


def test_a_folder_of_runs_gives_each_seed_its_own(first_run, pair, tmp_path):
    settings_of_one = settings(updates=1)
    runs = train(Pooled(), *pair, settings=settings_of_one, seeds=(0, 1), folder=tmp_path)
    still = dataclasses.replace(BACKBONES["iql"], learning_rate=1e-12)
    started = train(Pooled(), *pair, settings=settings(still, 1), seeds=(0, 1), start=tmp_path, start_parts=("policy",))
    for one, other in zip(runs, started, strict=True):
        np.testing.assert_allclose(one.policy.act(OBSERVATIONS), other.policy.act(OBSERVATIONS), atol=1e-5)
    with pytest.raises(UsageError, match="has no seed7 to start seed 7 from"):
        train(Pooled(), *pair, settings=settings_of_one, seeds=(7,), start=tmp_path)


@pytest.mark.parametrize(
    ("rule", "backbone", "parts", "says"),
    [
        (Pooled(), BACKBONES["cql"], ("policy",), "is a run of backbone iql, not of cql"),
        (
            Pooled(),
            IQL(policies=1, hidden=(8,), batch_size=16),
            ("policy",),
            "its policy has layers [('relu', (3, 8), (8, 8)",
        ),
        (Pooled(), IQL(policies=1, **SMALL, layer_norm=False), ("critic",), "this run's [('relu'"),
        (Pooled(), BACKBONES["iql"], ("actor",), "start_parts=('actor',): give one or more of policy, critic"),
        (Pooled(), BACKBONES["iql"], (), "start_parts=(): give one or more"),
        (
            tabb.TABB(predictor=tabb.LatentPredictor(updates=1, hidden=8, latent_size=8, heads=2)),
            BACKBONES["iql"],
            ("critic",),
            "the critics of rule tabb see features of their own",
        ),
    ],
)
def test_starts_that_cannot_be(first_run, pair, rule, backbone, parts, says):
    with pytest.raises(UsageError, match=re.escape(says)) as caught:
        train(rule, *pair, settings=settings(backbone, 1), start=first_run("iql"), start_parts=parts)
    assert "\n" not in str(caught.value)


def test_runs_that_nothing_can_start_from(pair, tmp_path):
    (nowhere,) = train(Pooled(), *pair, settings=settings(updates=1))
    with pytest.raises(UsageError, match="this run has no folder"):
        start_from(nowhere)
    with pytest.raises(UsageError, match="is no run folder"):
        start_from(tmp_path).record(0)
    train(Pooled(), *pair, settings=settings(updates=1), folder=tmp_path)
    (tmp_path / "seed0" / "result.json").unlink()
    with pytest.raises(UsageError, match="is not finished"):
        start_from(tmp_path / "seed0").record(0)
    (tmp_path / "seed0" / "result.json").write_text("{}")
    (tmp_path / "seed0" / "checkpoint.npz").unlink()
    with pytest.raises(UsageError, match=r"has no checkpoint.npz; put it back"):
        start_from(tmp_path / "seed0").record(0)


def test_what_does_not_fit_is_found_before_anything_is_fitted(first_run, pair):
    """Data of other sizes too; of the sizes that the run has, all else is checked while the data are unknown."""
    start = start_from(first_run("iql"))
    wide = Program(IQL(policies=1, hidden=(9, 8), batch_size=16), Pooled(), 3)
    with pytest.raises(UsageError, match="its policy has layers"):
        start.check(wide, [0])
    fitting = Program(BACKBONES["iql"], Pooled(), 3)
    start.check(fitting, [0, 1])
    with pytest.raises(UsageError, match="has 3 observation and 2 action entries, this run's data 4 observation and 2"):
        start.check(fitting, [0], Sizes(4, 2))
    narrow = tuple(dataclasses.replace(data, action=data.action[:, :1]) for data in pair)
    with pytest.raises(UsageError, match="this run's data 3 observation and 1 action entries"):
        train(Pooled(), *narrow, settings=settings(), start=first_run("iql"))
    in_newtons = dataclasses.replace(pair[1], action_bounds=ActionBounds((-2.0, -2.0), (2.0, 2.0)))
    with pytest.raises(UsageError, match=r"acts in \[-1, 1\], this run's data are scaled from \[-2, 2\]"):
        start.check(fitting, [0], target=in_newtons)


def test_seeds_of_one_folder_start_alike(first_run, pair, tmp_path):
    short = settings(updates=1)
    train(Pooled(), *pair, settings=short, folder=tmp_path, start=first_run("iql"))
    for changed in ({}, {"start": first_run("iql"), "start_parts": ("policy",)}):
        with pytest.raises(RunError, match="differs in start, and one table would show both"):
            train(Pooled(), *pair, settings=short, seeds=(1,), folder=tmp_path, **changed)
    train(Pooled(), *pair, settings=short, seeds=(1,), folder=tmp_path, start=first_run("iql"))


def test_a_run_goes_on_where_its_start_was_moved(first_run, pair, tmp_path):
    moved = shutil.copytree(first_run("iql").folder, tmp_path / "moved")
    (run,) = train(Pooled(), *pair, settings=settings(), folder=tmp_path / "a", start=first_run("iql"))
    (run.folder / "result.json").unlink()
    train(Pooled(), *pair, settings=settings(), folder=tmp_path / "a", start=moved, resume=True)
    assert (run.folder / "result.json").exists()
