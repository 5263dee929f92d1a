"""TAF-DT: fragments and their distances by hand, which windows stay and count, the critic's lead, a run."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.backbones import DT, IQL, own_backbone
from tabb.batch import Batch
from tabb.errors import UsageError
from tabb.models.cvae import log_likelihood
from tabb.models.returns_to_go import places
from tabb.networks import MLP, Twin
from tabb.results.row_scores import score_rows
from tabb.rules import TAFDT
from tabb.rules.step import Step
from tabb.rules.taf_dt import (
    expectile_loss,
    fragment_features,
    fragment_scores,
    kernel_of,
    least_distances,
    value_guidance,
)
from tabb.training import Settings, train
from tabb.transitions import Transitions

KEY = jax.random.key(3)
SMALL = TAFDT(**TAFDT.small)


@pytest.fixture(scope="module")
def made(domains):
    """Models as `prepare` gives them, but not fitted: fresh networks and some distances."""
    fresh = jax.jit(lambda key: SMALL.template(domains, key))(KEY)
    distance = jnp.asarray(np.random.default_rng(1).random(len(domains.source)), jnp.float32)
    return dataclasses.replace(fresh, distance=distance, advantage=jnp.asarray([0.1, 0.5]))


def nothing(observation):
    raise AssertionError("there is no V, and no policy of an observation alone")


def step_of(batch, models=()):
    return Step(models, (), batch, nothing, nothing, 0.99, KEY, jnp.asarray(0), 100)


def test_fragments_end_at_their_row_and_stay_in_its_episode():
    found = fragment_scores(jnp.asarray([1.0, 3.0, 5.0, 10.0, 20.0]), jnp.asarray([0, 1, 2, 0, 1]), 2)
    assert found.tolist() == [1.0, 2.0, 4.0, 10.0, 15.0]


def test_distances_are_those_of_mean_features():
    draw = np.random.default_rng(0)
    states, target = (jnp.asarray(draw.normal(size=(rows, 2)), jnp.float32) for rows in (6, 4))
    place, target_place = jnp.asarray([0, 1, 2, 3, 0, 1]), jnp.arange(4)
    kernel = kernel_of(target, KEY)
    near = fragment_features(kernel, target, target_place, 2)
    found = np.asarray(least_distances(kernel, states, place, near, 2))

    states, target, place = (np.asarray(values) for values in (states, target, place))
    frequencies, phases = np.asarray(kernel.frequencies), np.asarray(kernel.phases)

    def features(state):
        return np.sqrt(2.0 / phases.size) * np.cos(state @ frequencies + phases)

    same = least_distances(kernel, jnp.asarray(target), target_place, near, 2)
    for row in range(6):
        own = states[max(row - 1, row - int(place[row])) : row + 1]
        others = [target[max(end - 1, 0) : end + 1] for end in range(4)]
        by_features = [np.sum((features(own).mean(axis=0) - features(other).mean(axis=0)) ** 2) for other in others]
        assert found[row] == pytest.approx(min(by_features), abs=1e-4)
    np.testing.assert_allclose(same, 0, atol=1e-5)


def test_features_make_a_gaussian_kernel_of_the_median_distance():
    states = jnp.asarray(np.random.default_rng(0).normal(size=(400, 2)), jnp.float32)
    features = kernel_of(states, KEY)(states[:2])
    apart, width = float(jnp.linalg.norm(states[0] - states[1])), math.sqrt(2 * math.log(4))  # median of |N(0, 2 I)|
    assert float(features[0] @ features[1]) == pytest.approx(math.exp(-(apart**2) / (2 * width**2)), abs=0.15)


def test_the_lead_and_the_command_by_hand():
    values = jnp.asarray([[2.0, 4.0], [-1.0, -3.0]])
    assert float(value_guidance(values, jnp.asarray(False))) == pytest.approx(-3.0 / 2.0)
    assert float(value_guidance(values, jnp.asarray(True))) == pytest.approx(2.0 / 3.0)
    assert float(expectile_loss(jnp.asarray([2.0, -2.0]), 0.7)) == pytest.approx((0.7 * 4 + 0.3 * 4) / 2)


def test_of_the_near_fragments_the_best_stay_and_weigh_by_their_scores():
    """The method's own point: a good score does not help a fragment that is far from the target's."""
    rows = jnp.zeros((12, 3))
    columns = {
        "score": jnp.asarray([-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0, -8.0]),
        "near": jnp.asarray([0, 0, 1, 0, 1, 1, 1, 0], jnp.float32),
    }
    batch = Batch(rows, jnp.zeros((12, 2)), jnp.arange(12.0), rows, jnp.zeros(12), columns, {}, 8)
    step = step_of(batch)
    kept = dataclasses.replace(SMALL, fragments=0.5, transported=0.5).select(step)
    assert kept.reward.tolist() == [2.0, 4.0, 8.0, 9.0, 10.0, 11.0]
    weights, _ = SMALL.weigh(dataclasses.replace(step, batch=kept))
    np.testing.assert_allclose(weights.policy, [1.0, math.exp(-1.0), 1.0, 1.0, 1.0, 1.0], rtol=1e-6)


def test_half_of_the_source_is_near(made, domains):
    near = np.asarray(SMALL.columns(made, domains)["near"])
    assert near.mean() == pytest.approx(0.5, abs=1e-3)
    distance = np.asarray(made.distance)
    assert distance[near > 0].max() <= distance[near == 0].min()


def test_conditions_are_standardised_advantages(made, domains):
    found = SMALL.conditions(made, domains)
    pair = jnp.concatenate([domains.target.observation, domains.target.action], axis=-1)
    plain = jnp.min(made.critic(pair), axis=0) - made.value(domains.target.observation)[..., 0]
    np.testing.assert_allclose(found.target, 2.0 * (plain - 0.1) / 0.5, rtol=1e-3, atol=1e-3)
    returns = dataclasses.replace(SMALL, condition="return").conditions(made, domains)
    assert np.abs(returns.source[places(domains.source) == 0]).max() > 0
    assert returns.aim.command is None


def test_the_command_is_fitted_to_both_domains_alike(made, domains):
    """At one state, advantages are -1 in the source and 1 in the target: their mean, however many rows there are."""

    def blank(*shape):
        return jnp.asarray(np.zeros(shape, np.float32))

    first = MLP((jnp.asarray([[0.0], [0.0], [0.0], [1.0], [0.0]]),), (blank(1),))  # the first entry of the action
    nothing = jax.tree.map(lambda leaf: blank(*leaf.shape), made.value)
    models = dataclasses.replace(made, critic=Twin(first, first), value=nothing, advantage=jnp.asarray([0.0, 1.0]))

    def at_one_state(count, action):
        state, number = blank(count, 3), jnp.asarray(np.zeros(count, np.int32))
        return Transitions(state, jnp.full((count, 2), action), state[:, 0], state, state[:, 0], number)

    both = domains._replace(source=at_one_state(300, -1.0), target=at_one_state(30, 1.0))
    rule = dataclasses.replace(
        SMALL, advantage_scale=1.0, command_expectile=0.5, command_updates=400, learning_rate=1e-2
    )
    command = rule.command_of(models, both, KEY, lambda what, share: None)
    assert float(command(jnp.zeros((1, 3)))[0, 0]) == pytest.approx(0.0, abs=0.15)


def test_the_likelihood_is_a_sum_over_entries_as_the_authors_have_it(made):
    """Their cloning term is a mean over entries as that of dt is, so that c needs no other unit."""
    seen = jnp.ones((4, 3))
    batch = Batch(seen, seen[:, :2], seen[:, 0], seen, seen[:, 0], {}, {}, 0)
    rule = dataclasses.replace(SMALL, value_weight=0.0, behaviour_scale=0.4)

    @jax.jit
    def both(action):
        likelihood = log_likelihood(made.cvae, batch.observation, action, made.noise, rule.variance)
        return rule.actor_term(step_of(batch, made), action), -0.4 * jnp.mean(likelihood)

    term, by_hand = both(0.3 * seen[:, :2])
    assert float(term) == pytest.approx(float(by_hand), rel=1e-5)


def test_the_policy_is_led_up_the_critic(made, domains):
    """The gradient of the term alone: a step against it raises Q and, without the lead, the likelihood."""
    batch = Batch(
        *(getattr(domains.target, name)[:32] for name in ("observation", "action", "reward", "next_observation")),
        domains.target.terminal[:32],
        {},
        {},
        0,
    )
    step = step_of(batch, made)
    rule = dataclasses.replace(SMALL, behaviour_scale=0.0)
    action = jnp.zeros((32, 2))

    @functools.partial(jax.jit, static_argnums=0)
    def term(rule, action):
        return jax.value_and_grad(lambda action: rule.actor_term(step, action))(action)

    before, gradient = term(rule, action)
    assert float(term(rule, action - 0.1 * gradient)[0]) < float(before)
    idle = dataclasses.replace(rule, value_weight=0.0)
    assert not np.asarray(term(idle, action)[1]).any()


@pytest.mark.slow
def test_fitted_advantages_are_standard(domains):
    found = SMALL.conditions(SMALL.prepare(domains, KEY, lambda what, share: None), domains)
    both = np.concatenate([found.source, found.target])
    assert both.mean() == pytest.approx(0.0, abs=1e-2)
    assert both.std() == pytest.approx(SMALL.advantage_scale, rel=1e-2)


@pytest.mark.slow
def test_trained_acts_by_its_command(pair, tmp_path):
    backbone = DT(context=4, width=8, layers=1, longest=12, batch_size=8)
    (run,) = train(SMALL, *pair, settings=Settings(updates=2, evaluations=0, backbone=backbone))
    assert run.policy.command is not None
    loaded = type(run.policy).load(run.policy.save(tmp_path / "policy.npz"))
    seen = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_array_equal(loaded.actor(5).act(seen), run.policy.actor(5).act(seen))
    assert {"score", "near", "distance"} <= set(score_rows(run, *pair).columns)


def test_its_backbone_and_what_it_refuses(pair):
    assert own_backbone(TAFDT).context == 5
    with pytest.raises(UsageError, match=r"rule taf-dt .* use dt"):
        train(TAFDT(), *pair, settings=Settings(updates=2, backbone=IQL()))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"fragments": 0.0}, "fragments=0.0"),
        ({"value_weight": -1.0}, "value_weight=-1.0"),
        ({"variance": 0.0}, "variance=0.0"),
        ({"command_expectile": 1.0}, "command_expectile=1.0"),
        ({"length": 0}, "length=0"),
        ({"hidden": ()}, "hidden"),
    ],
)
def test_wrong_settings_of_taf_dt(settings, says):
    with pytest.raises(UsageError, match=says) as caught:
        TAFDT(**settings)
    assert "\n" not in str(caught.value)
