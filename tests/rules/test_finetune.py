"""Fine-tuning: its phases, what goes on from one to the next, and the stop by held-out target rows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from steps import step_of
from tabb.backbones import BCQ, CQL, IQL, Clone
from tabb.errors import UsageError
from tabb.models.imitation import Imitation
from tabb.rules import PTR, FineTune, SourceOnly, TargetOnly
from tabb.rules.finetune import Mixed, Watched, checked, fresh_watch
from tabb.rules.low_rank import first_down, low_rank
from tabb.rules.rule import Phase
from tabb.training import Settings, train
from tabb.training.drawing import pack_data
from tabb.training.loop import Program, compiled_updates, update_once

KEY = jax.random.key(2)
UPDATES = 10


def test_phases_by_hand():
    assert FineTune().phases(10) == (Phase(Mixed(1.0), 5), Phase(Mixed(0.0), 5))
    assert FineTune(source_updates=0.3, source_share=0.25, rate_factor=0.1).phases(10) == (
        Phase(Mixed(1.0), 3),
        Phase(Mixed(0.25), 7, 0.1),
    )
    assert FineTune(source_updates=0.0).phases(10) == (Phase(Mixed(0.0), 10),)
    assert FineTune(source_updates=0.9).phases(1) == (Phase(Mixed(0.0), 1),)
    assert PTR(checks=5).phases(20) == (Phase(Watched(1.0, 2, 5), 10), Phase(Watched(0.3, 2, 5), 10, 0.3))
    assert Mixed(0.25).shares(16) == (4, 12)
    assert FineTune(source_share=0.25).shares(16) == (4, 12)
    assert FineTune().reads(16) == (True, True)
    assert FineTune(source_updates=0.0).reads(16) == (False, True)


def test_low_rank_by_hand():
    """Two steps of plain descent at 0.5 with c = 2: the first moves B alone, from zero."""
    weights = {"bias": jnp.ones(2), "matrix": jnp.ones((3, 2))}
    gradient = {"bias": jnp.ones(2), "matrix": jnp.arange(6.0).reshape(3, 2)}
    tune = low_rank(optax.sgd(0.5), 1, 2.0, True)
    down, g = np.asarray(first_down(0, 3, 1)), np.arange(6.0).reshape(3, 2)
    change, state = tune.update(gradient, tune.init(weights))
    up = -0.5 * 2.0 * down.T @ g
    np.testing.assert_array_equal(change["bias"], [0, 0])
    np.testing.assert_allclose(change["matrix"], 2.0 * down @ up, rtol=1e-5)
    again, state = tune.update(gradient, state)
    later = down - 0.5 * 2.0 * g @ up.T, up - 0.5 * 2.0 * down.T @ g
    np.testing.assert_allclose(change["matrix"] + again["matrix"], 2.0 * later[0] @ later[1], rtol=1e-4)
    # Where nothing is tuned it is the plain optimiser, and a state of zeros is the beginning.
    plain, _ = low_rank(optax.sgd(0.5), 1, 2.0, False).update(gradient, state)
    np.testing.assert_array_equal(plain["matrix"], -0.5 * g)
    begun, _ = tune.update(gradient, jax.tree.map(jnp.zeros_like, state))
    np.testing.assert_array_equal(begun["matrix"], change["matrix"])


def test_the_target_changes_the_policy_by_a_low_rank(sizes, data):
    backbone = Clone(hidden=(16, 16), batch_size=16, learning_rate=1e-2, policies=1)
    learner = Program(backbone, FineTune(rank=2), UPDATES)
    start = learner.init(sizes, jax.random.key(1))
    half, _ = compiled_updates(learner, (), data, KEY, start, 0, 5)
    before = jax.tree.map(np.array, half.policy)
    after = compiled_updates(learner, (), data, KEY, half, 5, UPDATES)[0].policy
    change = np.asarray(after.weights[1]) - before.weights[1]
    size = np.linalg.svd(change, compute_uv=False)
    assert size[1] > 0.01 * size[0] > 100 * size[2]
    for new, old in zip(after.biases, before.biases, strict=True):
        np.testing.assert_array_equal(new, old)
    with pytest.raises(UsageError, match="rank=2: the policy of backbone bcq cannot change"):
        BCQ().check_rule(FineTune(rank=2))


@pytest.fixture(scope="module")
def data(domains):
    return pack_data(domains, {})


def test_it_is_source_only_and_then_target_only_from_its_weights(sizes, data, largest_difference):
    # The clone, which compiles soonest; its schedule spans each phase, so that it shows when optimisers begin anew.
    backbone = Clone(hidden=(16,), batch_size=16, learning_rate=1e-2)
    learner = Program(backbone, FineTune(rate_factor=0.5), UPDATES)
    start = learner.init(sizes, jax.random.key(1))
    copy = jax.tree.map(jnp.copy, start)
    tuned, metrics = compiled_updates(learner, (), data, KEY, start, 0, UPDATES)
    source = Program(backbone, SourceOnly(), 5)
    state, first = compiled_updates(source, (), data, KEY, jax.tree.map(jnp.copy, copy), 0, 5)
    halved = dataclasses.replace(backbone, learning_rate=backbone.learning_rate / 2)
    target = Program(halved, TargetOnly(), 5)
    state, second = compiled_updates(target, (), data, KEY, halved.restarted(state), 5, UPDATES)
    assert largest_difference(tuned, state) < 1e-5
    assert float(metrics["policy_loss"]) == pytest.approx(
        (float(first["policy_loss"]) + float(second["policy_loss"])) / 2, rel=1e-4
    )
    # What the loop does in stretches is what single updates do.
    once = jax.jit(lambda state, number: update_once(learner, (), data, KEY, state, number)[0])
    state = copy
    for number in range(UPDATES):
        state = once(state, jnp.asarray(number))
    assert largest_difference(tuned, state) < 1e-5


def test_rates_are_those_of_every_optimiser():
    assert IQL(policies=1, learning_rate=1e-3).slowed(0.1).learning_rate == pytest.approx(1e-4)
    slow = CQL(learning_rate=1e-3, policy_learning_rate=2e-3).slowed(0.5)
    assert (slow.learning_rate, slow.policy_learning_rate) == (5e-4, 1e-3)


# --- The stop ---


def test_checks_by_hand():
    watch = fresh_watch()
    seen = []
    for error, rows in ((6.0, 2.0), (8.0, 2.0), (0.0, 0.0), (7.0, 2.0), (4.0, 2.0)):
        watch = checked(watch._replace(error=jnp.asarray(error), rows=jnp.asarray(rows)))
        seen.append((float(watch.least), int(watch.worse), float(watch.error), float(watch.rows)))
    # Mean errors 3, 4, none drawn, 3.5, 2.
    assert seen == [(3, 0, 0, 0), (3, 1, 0, 0), (3, 1, 0, 0), (3, 2, 0, 0), (2, 0, 0, 0)]


def test_held_out_rows_weigh_nothing_and_are_what_is_watched(batch):
    batch = dataclasses.replace(batch, target_columns={"watched": jnp.array([0.0, 1.0, 0.0])})
    step = dataclasses.replace(
        step_of(batch), learned=fresh_watch(), policy=lambda s: jnp.zeros((*s.shape[:-1], 2)), number=jnp.asarray(0)
    )
    rule = Watched(0.5, check_every=2, patience=1)
    weights, _ = rule.weigh(step)
    for weight in weights:
        np.testing.assert_allclose(weight, [1, 1, 1, 1.5, 0, 1.5])
    watch, metrics = rule.observe(step)
    wanted = float(jnp.mean(batch.action[4] ** 2))
    assert float(watch.error) == float(metrics["watched_error"]) == pytest.approx(wanted, rel=1e-6)
    assert (float(watch.rows), int(watch.worse)) == (1, 0)
    assert np.isinf(watch.least)
    due, _ = rule.observe(dataclasses.replace(step, number=jnp.asarray(1)))
    assert float(due.least) == pytest.approx(wanted, rel=1e-6)
    assert not rule.stopped(due)
    assert rule.stopped(due._replace(worse=jnp.asarray(1)))


def test_a_run_that_was_stopped_does_not_change(backbone, sizes, domains, same_bits):
    rule = PTR(source_updates=0.0, watched=0.3, patience=1, checks=20)
    data = pack_data(domains, {}, rule.target_columns((), domains))
    learner = Program(backbone, rule, 40)
    state, last = learner.init(sizes, jax.random.key(1)), 0
    ends = []
    for end in (20, 30, 40):
        state, _ = compiled_updates(learner, (), data, KEY, state, last, end)
        ends.append(jax.tree.map(jnp.copy, state))
        last = end
    assert int(ends[-1].learned.worse) == 1
    assert same_bits(ends[1], ends[2])
    assert not same_bits(learner.init(sizes, jax.random.key(1)).policy, ends[0].policy)


def test_a_clone_is_fine_tuned_and_cannot_be_watched(pair):
    backbone = Clone(hidden=(8,), batch_size=16)
    settings = Settings(updates=4, evaluations=0, backbone=backbone)
    (run,) = train(FineTune(), *pair, settings=settings)
    assert run.policy.about["rule"] == "finetune"
    with pytest.raises(UsageError, match="not ptr: it has no place for observe and weigh"):
        train(PTR(), *pair, settings=settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"source_updates": 1.0}, "source_updates=1.0"),
        ({"source_share": -0.1}, "source_share=-0.1"),
        ({"watched": 1.0}, "watched=1.0"),
        ({"rate_factor": 0.0}, "rate_factor=0.0"),
        ({"patience": 0}, "patience=0"),
        ({"checks": 0}, "checks=0"),
        ({"rank": -1}, "rank=-1"),
        ({"rank_scale": 0.0}, "rank_scale=0.0"),
    ],
)
def test_wrong_settings(settings, says):
    with pytest.raises(UsageError, match=says):
        FineTune(**settings)


def test_a_single_episode_cannot_be_held_out(domains):
    one = dataclasses.replace(domains.target, episode=jnp.zeros_like(domains.target.episode))
    none_left = pytest.raises(UsageError, match=r"watched=0\.1: the target has 1 episode, so none would be left")
    with none_left:
        PTR().target_columns((), domains._replace(target=one))
    with none_left:  # asked first, for what the policy imitates
        PTR().set_aside(one)
    assert not FineTune().set_aside(one[:0]).size


@pytest.mark.slow  # its parts are tested by hand in tests/models/test_matching.py
def test_nothing_is_learned_from_what_is_watched(pair, same_bits):
    """Not by way of the paths that the policy is held to, nor by which episodes are the best."""
    source, target = pair
    aside = PTR(watched=0.3).set_aside(target)
    assert 0 < aside.sum() < len(aside) / 2
    other = dataclasses.replace(
        target,
        observation=np.where(aside[:, None], target.observation + 1, target.observation),
        action=np.where(aside[:, None], -target.action, target.action),
        reward=np.where(aside, target.reward + 100, target.reward),
        next_observation=np.where(aside[:, None], target.next_observation + 3, target.next_observation),
    )
    settings = Settings(
        updates=8,
        evaluations=0,
        held_out=0.0,
        normalise="none",
        imitation=Imitation(best=0.8, matching=0.1, horizon=2, rollouts=4, model_updates=5),
        backbone=IQL(hidden=(8,), batch_size=16, policies=1, learning_rate=1e-2),
    )
    rule = PTR(watched=0.3, patience=1_000)
    (one,), (same,) = (train(rule, source, data, settings=settings) for data in (target, other))
    assert same_bits(one.policy.weights, same.policy.weights)
