"""What a policy earns in a model: returns by hand, where episodes end, and the choice that is made of it."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.batch import make_domains
from tabb.evaluation.choice import STARTS, InModel, choose, close_call, in_model, longest_episode
from tabb.experiments.extraction import with_source
from tabb.models.model_returns import Range, episode_starts, model_return, range_of, reward_when_lost
from tabb.models.target_model import TargetModelConfig, init_target_model
from tabb.policy import Policy
from tabb.transitions import Transitions


@pytest.fixture(scope="module")
def target(pair):
    return pair[1]


def constant_model(target, change, reward, terminal):
    """A model whose answer is the same everywhere."""
    model = init_target_model(TargetModelConfig(hidden=(2,)), None, target, jax.random.key(0))
    (member,) = model.members
    answer = jnp.asarray([*(change / np.asarray(model.change_scale)), 0.0, terminal])
    answer = answer.at[-2].set((reward - model.rewards.mean) / model.rewards.scale)
    base = eqx.tree_at(lambda net: net.weights, member.base, tuple(jnp.zeros_like(w) for w in member.base.weights))
    base = eqx.tree_at(lambda net: net.biases, base, (jnp.zeros(2), answer))
    return eqx.tree_at(lambda m: m.members, model, (eqx.tree_at(lambda net: net.base, member, base),))


def acts(states):
    return jnp.zeros((len(states), 2))


WIDE = Range(jnp.full(3, -1e6), jnp.full(3, 1e6))


def test_an_episode_that_never_ends_earns_every_step(target):
    found = model_return(constant_model(target, np.zeros(3), 2.0, -9.0), acts, jnp.zeros((4, 3)), WIDE, 5)
    assert float(found.mean) == pytest.approx(10.0, rel=1e-4)
    assert float(found.steps) == 5.0


def test_the_step_that_ends_the_task_still_counts(target):
    found = model_return(constant_model(target, np.zeros(3), 2.0, 9.0), acts, jnp.zeros((4, 3)), WIDE, 5)
    assert float(found.mean) == pytest.approx(2.0, rel=1e-4)
    assert float(found.steps) == 1.0


def test_an_episode_ends_where_the_model_knows_nothing(target):
    """From 0 and from 3 by steps of 1, up to 3.5: four steps, and one."""
    within = Range(jnp.full(3, -1e6), jnp.asarray([3.5, 1e6, 1e6]))
    starts = jnp.asarray([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    found = model_return(constant_model(target, np.array([1.0, 0.0, 0.0]), 1.0, -9.0), acts, starts, within, 50)
    assert float(found.steps) == pytest.approx((4 + 1) / 2)
    assert float(found.mean) == pytest.approx((4 + 1) / 2, rel=1e-4)


def test_the_range_is_that_of_both_domains(pair):
    source, target = pair
    within = range_of(target, source)
    both = np.concatenate([source.observation, target.observation])
    margin = 3 * target.observation.std(axis=0)
    assert np.asarray(within.low) == pytest.approx(both.min(axis=0) - margin, rel=1e-5)
    assert np.asarray(within.high) == pytest.approx(both.max(axis=0) + margin, rel=1e-5)
    alone = range_of(target, source[:0])
    assert np.asarray(alone.high) == pytest.approx(target.observation.max(axis=0) + margin, rel=1e-5)


@pytest.mark.parametrize("moves", [0.0, 1e-7], ids=["constant", "rounding"])
def test_an_entry_that_never_changes_loses_no_policy(pair, moves):
    """A robot's constant column, in the target or in both: a whole normalised spread counts there."""
    source, target = pair
    target = dataclasses.replace(target, observation=target.observation * np.float32([moves, 1.0, moves]))
    source = dataclasses.replace(source, observation=source.observation * np.float32([1.0, 1.0, moves]))
    both, alone = range_of(target, source), range_of(target)
    assert float(both.high[0]) == pytest.approx(source.observation[:, 0].max() + 3, rel=1e-4)
    assert (float(alone.low[0]), float(alone.high[0])) == (pytest.approx(-3, abs=1e-4), pytest.approx(3, abs=1e-4))
    lowest = min(part.observation[:, 1].min() for part in (source, target))
    assert float(both.low[1]) == pytest.approx(lowest - 3 * target.observation[:, 1].std(), rel=1e-5)
    moved = constant_model(target, np.array([0.0, 0.0, 1e-3]), 1.0, -9.0)
    found = model_return(moved, acts, jnp.zeros((4, 3)), both, 5)
    assert (float(found.steps), float(found.lost)) == (5.0, 0.0)


def test_episodes_begin_where_those_of_the_log_do(target):
    number = np.asarray(target.episode)
    firsts = np.asarray(target.observation)[np.flatnonzero(np.diff(number, prepend=-1))]
    starts = np.asarray(episode_starts(target, 3, jax.random.key(0)))
    assert starts == pytest.approx(firsts[:3], abs=0.1)
    assert len(episode_starts(target, len(firsts) + 5, jax.random.key(0))) == len(firsts) + 5


@pytest.mark.parametrize(
    ("logged", "target", "source", "chosen"),  # each policy: its return in the model, and the share that is lost
    [
        (86.4, (45.0, 0.31), (67.0, 0.0), "source"),  # half-cheetah at half gravity: 6 and 60 in truth
        (99.2, (17.0, 0.0), (88.0, 0.0), "source"),  # its kinematic shift: 8 and 44
        (41.3, (43.0, 0.0), (89.0, 0.0), "target"),  # of medium data: 41 and 44
        (
            125.0,
            (88.0, 0.1),
            (114.0, 0.0),
            "target",
        ),  # hopper and an expert of the source: 125 and 12; the model dreams
        (62.8, (69.0, 0.0), (119.0, 0.0), "target"),  # 62 and 8
        (74.6, (42.0, 0.0), (83.5, 0.06), "target"),  # the model loses one episode of the source's: 71 and 16
        (83.0, (17.0, 0.62), (40.0, 0.0), "target"),  # it loses most of the target's, so what is left says little
        (83.0, (17.0, 0.50), (40.0, 0.0), "source"),
        (-100.0, (-200.0, 0.0), (-150.0, 0.0), "source"),  # returns below zero
        (-100.0, (-130.0, 0.0), (-60.0, 0.0), "target"),
    ],
)
def test_the_source_is_chosen_where_the_target_fails_and_it_is_ahead(logged, target, source, chosen):
    one, other = (InModel(value, 1.0, lost, value) for value, lost in (target, source))
    assert choose(logged, one, other) == chosen


def test_a_lost_policy_earns_nothing_more_or_what_the_worst_episode_did(target):
    """Costs of 1 a step: who leaves the range at once must not look better than who goes on."""
    within = Range(jnp.full(3, -1e6), jnp.asarray([3.5, 1e6, 1e6]))
    starts = jnp.asarray([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    costs = constant_model(target, np.array([1.0, 0.0, 0.0]), -1.0, -9.0)
    found = model_return(costs, acts, starts, within, 10, when_lost=-2.0)
    assert float(found.mean) == pytest.approx(((-4 - 2 * 6) + (-1 - 2 * 9)) / 2, rel=1e-4)
    assert float(found.lost) == 1.0
    ended = model_return(constant_model(target, np.array([9.0, 0.0, 0.0]), -1.0, 9.0), acts, starts, within, 10, -2.0)
    assert (float(ended.mean), float(ended.lost)) == (pytest.approx(-1.0, rel=1e-4), 0.0), "an end is no loss"


def log(rewards, episodes):
    rows = len(rewards)
    return Transitions(
        np.zeros((rows, 1), np.float32), np.zeros((rows, 1), np.float32), np.array(rewards, np.float32),
        np.zeros((rows, 1), np.float32), np.zeros(rows, np.float32), np.array(episodes, np.int32),
    )  # fmt: skip


def test_numbers_of_the_log_by_hand():
    """Episodes of returns 6 (3 rows) and -4 (2 rows), and the last, of one row."""
    one = log([1, 2, 3, -1, -3, 50], [4, 4, 4, 6, 6, 7])
    assert reward_when_lost(one) == -2.0
    assert reward_when_lost(one[:3]) == 0.0
    assert longest_episode(one) == 3


@pytest.mark.parametrize(
    ("logged", "of_target", "of_source", "close"),
    [
        (100.0, 101.0, 0.0, False),  # the source is far behind, whatever the target does
        (100.0, 65.0, 150.0, True),  # six less, and the target's policy would fail its log
        (100.0, 75.0, 150.0, False),
        (100.0, 40.0, 65.0, True),  # ahead by 25: 15 would not do
        (100.0, 40.0, 140.0, False),
        (-100.0, -200.0, -120.0, False),
    ],
)
def test_a_close_call_turns_with_a_tenth_of_the_log(logged, of_target, of_source, close):
    one, other = (InModel(value, 1.0, 0.0, value) for value in (of_target, of_source))
    assert close_call(logged, one, other) is close


def test_a_policy_is_seen_as_far_as_the_targets_rows_go(pair):
    """A reward a step, while it goes from the target's range into what the source alone has visited."""
    source, target = pair
    wide = dataclasses.replace(source, observation=source.observation * np.float32([100.0, 1.0, 1.0]))
    domains = with_source(make_domains(target[:0], target, "pooled", (0, 1)), wide)
    opposite = np.zeros((2, 3, 2), np.float32), np.float32([[[1.0, 2.0]], [[-1.0, -2.0]]])  # two that act as nothing
    policy = Policy(np.zeros(3, np.float32), np.ones(3, np.float32), (opposite[0],), (opposite[1],))
    model = constant_model(domains.target, np.array([0.5, 0.0, 0.0]), 1.0, -9.0)
    found = in_model(policy, model, domains, 20)
    assert (found.value, found.steps, found.lost) == (pytest.approx(20.0, rel=1e-4), 20.0, 0.0)
    # Alone, the target's range ends three spreads, so six steps, beyond its farthest row.
    starts = np.asarray(episode_starts(domains.target, STARTS, jax.random.key(1)))[:, 0]
    inside = np.minimum(np.floor((float(range_of(domains.target).high[0]) - starts) / 0.5) + 1, 20)
    later = (20 - inside) * reward_when_lost(domains.target)
    assert found.seen == pytest.approx((inside + later).mean(), rel=0.01)
    assert found.seen < 10
