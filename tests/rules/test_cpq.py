"""CPQ: the limit by hand, what it does to backups and to the policy, and what is learned of costs."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from steps import step_of
from tabb.batch import Sizes, make_domains
from tabb.errors import DataError, UsageError
from tabb.models.cvae import CVAEConfig, init_cvae
from tabb.networks import MLP, Twin
from tabb.rules import CPQ
from tabb.rules.cpq import action_divergence, cost_at, cost_limit, least_like
from tabb.transitions import with_extras

CVAE = CVAEConfig(hidden=(8,), updates=40, batch_size=16)


def test_the_limit_by_hand():
    # Two steps of cost 3 at γ = 0.5: 3 + 1.5.
    assert cost_limit(6.0, 0.5, 2) == pytest.approx(4.5)
    assert cost_limit(6.0, 1.0, 2) == pytest.approx(6.0)


def test_the_actions_least_like_the_datas():
    known = jnp.array([1.0, 0.0, 1.0, 0.0])
    np.testing.assert_array_equal(least_like(jnp.array([1.0, 5.0, 2.0, 9.0]), 0.5, known), [0, 0, 1, 0])
    np.testing.assert_array_equal(least_like(jnp.array([1.0, 5.0]), 0.5, jnp.zeros(2)), [0, 0])
    np.testing.assert_array_equal(least_like(jnp.array([1.0, 5.0, 2.0, 9.0]), 0.25), [0, 0, 0, 1])
    np.testing.assert_array_equal(least_like(jnp.array([1.0, 5.0, 2.0, 9.0]), 0.5), [0, 1, 0, 1])


def test_divergence_by_hand():
    cvae = init_cvae(CVAE, 1, 1, jax.random.key(0))
    # An encoder that always says mean (1, 0) and log deviation (0, 1): (0 + 1) / 2 and (e² - 3) / 2 in all.
    layers = tuple(jnp.zeros_like(weight) for weight in cvae.encoder.weights)
    biases = (jnp.zeros_like(cvae.encoder.biases[0]), jnp.array([1.0, 0.0, 0.0, 1.0]))
    cvae = dataclasses.replace(cvae, encoder=MLP(layers, biases))
    found = action_divergence(cvae, jnp.ones((3, 1)), jnp.ones((3, 1)))
    np.testing.assert_allclose(found, np.full(3, 0.5 + (math.exp(2) - 3) / 2), rtol=1e-5)


def linear_costs(*factors):
    """Critics that give factor · a_0 for three observation and two action entries."""

    def of(factor):
        return MLP((jnp.zeros((5, 1)).at[3, 0].set(factor),), (jnp.zeros(1),))

    return Twin(*map(of, factors))


@pytest.fixture
def step(batch):
    """A policy that does 0.8 where s_0 > 0 and else nothing; an action costs its first entry, by the dearer critic."""
    rule = CPQ(limit=0.5, horizon=1, hidden=(8,), cvae=CVAE, actions=2)
    critic = linear_costs(0.5, 1.0)
    learned = rule.init_learned(Sizes(3, 2), jax.random.key(0))
    learned = learned._replace(critic=critic, slow_critic=critic, optimiser=optax.adam(1e-3).init(critic))
    batch = dataclasses.replace(
        batch, columns={"cost": jnp.zeros(3), "known": jnp.ones(3)}, target_columns={"cost": jnp.zeros(3)}
    )

    def act(observation):
        return jnp.where(observation[..., :1] > 0, 0.8, 0.0) * jnp.ones(2)

    return rule, dataclasses.replace(step_of(batch, learned=learned), policy=act)


def test_what_the_limit_does(step):
    rule, step = step
    batch = step.batch
    dear, dear_next = batch.observation[:, 0] > 0, batch.next_observation[:, 0] > 0
    dearer = np.maximum(batch.action[:, 0], 0.5 * batch.action[:, 0])
    np.testing.assert_allclose(cost_at(step.learned.critic, batch.observation, batch.action), dearer, rtol=1e-5)
    np.testing.assert_array_equal(rule.next_value(step, jnp.full(6, 7.0)), np.where(dear_next, 0.0, 7.0))
    weights, metrics = rule.weigh(step)
    np.testing.assert_array_equal(weights.policy, np.where(dear, 0.0, 1.0))
    np.testing.assert_array_equal(weights.critic, np.ones(6))
    assert float(metrics["within_limit"]) == pytest.approx(float(np.mean(~dear)))
    # Where its own action is beyond the limit it is drawn to the row's, if that is within it.
    action = step.policy(batch.observation)
    wanted = jnp.mean(dear * (dearer <= 0.5) * jnp.mean((action - batch.action) ** 2, axis=-1))
    assert float(wanted) > 0
    assert float(rule.actor_term(step, action)) == pytest.approx(float(wanted), rel=1e-5)
    assert float(dataclasses.replace(rule, way_back=0.0).actor_term(step, action)) == 0


def test_costs_of_unlike_actions_are_raised_and_known_ones_learned(step):
    """Without a weight for unlike actions the critics move towards the rows' costs; with a large one they rise."""
    rule, step = step
    step = dataclasses.replace(step, models=init_cvae(CVAE, 3, 2, jax.random.key(1)))

    def unlike_after(log_weight):
        begun = dataclasses.replace(step, learned=step.learned._replace(log_weight=jnp.asarray(log_weight)))
        learned, _ = rule.observe(begun)
        state = jnp.zeros((1, 3)).at[0, 0].set(1.0)
        return float(cost_at(learned.critic, state, jnp.full((1, 2), 0.8))[0]), float(learned.log_weight)

    (low, _), (high, after) = unlike_after(-5.0), unlike_after(4.9)
    assert high > low
    assert after != 4.9  # α is learned
    unknown = dataclasses.replace(step, batch=dataclasses.replace(
        step.batch, columns={"cost": jnp.full(3, 1e6), "known": jnp.zeros(3)}))  # fmt: skip
    same = dataclasses.replace(step, batch=dataclasses.replace(
        step.batch, columns={"cost": jnp.zeros(3), "known": jnp.zeros(3)}))  # fmt: skip
    # Nothing would hold the costs down at states of which none is known: they are not raised there either.
    moved = same.batch.observation.at[:3].add(2.0), same.batch.action.at[:3].multiply(-1.0)
    elsewhere = dataclasses.replace(same, batch=dataclasses.replace(
        same.batch, observation=moved[0], action=moved[1]))  # fmt: skip
    for changed in (same, elsewhere):
        for one, other in zip(*(jax.tree.leaves(rule.observe(s)[0]) for s in (unknown, changed)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_costs_come_from_the_data(pair):
    source, target = (with_extras(data, ()) for data in pair)
    costs = {"costs": np.arange(len(target), dtype=np.float32), "weight": np.zeros(len(target), np.float32)}
    target = dataclasses.replace(target, extras=costs)
    domains = make_domains(source, target, extras=CPQ.extras)
    assert set(domains.target.extras) == {"costs"}
    np.testing.assert_array_equal(CPQ().target_columns((), domains)["cost"], costs["costs"])
    assert float(jnp.sum(CPQ().columns((), domains)["known"])) == 0  # a source without costs teaches rewards alone
    with pytest.raises(DataError, match="target: rule cpq needs the cost of each row; name the column `cost`"):
        CPQ().target_columns((), make_domains(source, source))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"limit": 0.0}, "limit=0.0"),
        ({"unlike": 0.0}, "unlike=0.0"),
        ({"actions": 0}, "actions=0"),
        ({"margin": math.inf}, "margin=inf"),
        ({"hidden": ()}, "hidden"),
    ],
)
def test_wrong_settings(settings, says):
    with pytest.raises(UsageError, match=says):
        CPQ(**settings)
