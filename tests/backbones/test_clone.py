"""Behaviour cloning: its loss by hand, what it does not look at, and IQL's policy without advantages."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tabb
from tabb.backbones import IQL, Clone
from tabb.backbones.clone import cloning_loss
from tabb.batch import Imitated
from tabb.commands.select import table
from tabb.errors import UsageError
from tabb.results.selection import select
from tabb.results.summary import summarise
from tabb.rules import Pooled, TargetOnly
from tabb.training import Settings, train
from tabb.training.loop import Program

SMALL = {"hidden": (8,), "batch_size": 16, "learning_rate": 1e-2}
OBSERVATIONS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def settings(backbone, **changes):
    return Settings(**({"updates": 6, "evaluations": 0, "backbone": backbone} | changes))


def test_loss_by_hand():
    loss = cloning_loss(jnp.array([[1.0, 0.0], [0.5, 0.5]]), jnp.array([[0.0, 2.0], [0.5, 0.5]]))
    np.testing.assert_allclose(loss, [2.5, 0.0])


@pytest.fixture(scope="module")
def clone(pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clone")
    (run,) = train(TargetOnly(), None, pair[1], settings=settings(Clone(**SMALL)), folder=folder)
    return run


def test_it_is_iqls_policy_without_advantages(clone, pair):
    (iql,) = train(TargetOnly(), None, pair[1], settings=settings(IQL(**SMALL, temperature=0.0)))
    np.testing.assert_allclose(clone.policy.act(OBSERVATIONS), iql.policy.act(OBSERVATIONS), atol=1e-5)


def test_rewards_and_next_states_are_not_looked_at(batch, sizes, same_bits):
    learner = Program(Clone(**SMALL), Pooled(), 4)
    state = learner.init(sizes, jax.random.key(0))
    other = dataclasses.replace(batch, reward=batch.reward + 9.0, next_observation=batch.next_observation - 9.0)
    update = jax.jit(lambda batch: learner.update((), state, batch, jax.random.key(1), jnp.asarray(0))[0])
    moved = dataclasses.replace(batch, action=-batch.action)
    assert same_bits(update(batch), update(other))
    assert not same_bits(update(batch), update(moved))
    copies = dataclasses.replace(
        batch, imitated=Imitated(batch.observation[3:], -batch.action[3:], jnp.ones(len(batch) - 3))
    )
    mixed = dataclasses.replace(batch, action=batch.action.at[3:].multiply(-1.0))
    assert same_bits(update(copies), update(mixed))


def test_held_out_episodes_judge_it_without_a_td_error(pair, tmp_path):
    chosen = settings(Clone(**SMALL), evaluations=1, held_out=0.2)
    (run,) = train(Pooled(), *pair, settings=chosen, folder=tmp_path)
    (look,) = run.held_out
    assert look.td_error is None
    assert "td_error" not in look.to_dict()
    assert look.action_error > 0
    assert look.estimate is not None
    assert " - " in table(select(tmp_path), "actions", 10)
    assert f"off actions {look.action_error:.3g} on" in summarise(tmp_path)


def test_it_has_no_values(clone, pair, sizes):
    learner = Program(Clone(**SMALL), Pooled(), 4)
    state = learner.init(sizes, jax.random.key(0))
    with pytest.raises(UsageError, match="backbone clone estimates no values"):
        learner.backbone.value_at(Pooled(), (), state)(jnp.zeros(3))
    chosen = settings(Clone(**SMALL))
    with pytest.raises(UsageError, match="backbone clone has no critics; take the policy"):
        train(TargetOnly(), None, pair[1], settings=chosen, start=clone, start_parts=["critic"])
    (again,) = train(TargetOnly(), None, pair[1], settings=dataclasses.replace(chosen, updates=1), start=clone)
    assert again.policy is not None
    with pytest.raises(UsageError, match="clone takes only rules that say which rows are drawn"):
        train(tabb.DARA(), *pair, settings=chosen)
