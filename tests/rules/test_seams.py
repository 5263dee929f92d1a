"""Each seam of a rule changes what it should, and nothing else.

Gradients are sums over rows, so a row's part shows when all other rows weigh nothing.
"""

import dataclasses
import inspect
import re
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tabb
from steps import step_of
from tabb.backbones import BACKBONES, IQL
from tabb.batch import Batch, Sizes
from tabb.errors import UsageError
from tabb.rules.baselines import Pooled, TargetOnly
from tabb.rules.mopo import MOPO
from tabb.rules.rule import UPDATE_SEAMS, Features, Phase, Rule, Weights
from tabb.training.drawing import pack_data
from tabb.training.loop import Program, update_once


@dataclasses.dataclass(frozen=True)
class Edited(Rule):
    """Fills every seam with what `models` says: arrays, so that all edits share one compiled update."""

    name: ClassVar[str] = "edited"

    def weigh(self, step):
        models = step.models
        weights = Weights(models["critic"], models["value"], models["policy"])
        value_before = jnp.sum(step.value(step.features.following))
        return weights, {"value_before": value_before, "discount": jnp.asarray(step.discount)}

    def reward(self, step):
        return step.batch.reward + step.models["reward_bonus"]

    def backup(self, step, backup):
        return backup + step.models["backup_bonus"]

    def actor_term(self, step, action):
        return step.models["actor_scale"] * jnp.sum(action[:, 0])


@pytest.fixture(scope="module")
def edited_update(first_update):
    """`edited_update(batch, **edits)`: the first update with some edits, all else neutral."""

    def update(batch, **edits):
        ones, zeros = jnp.ones(6), jnp.zeros(6)
        models = {"critic": ones, "value": ones, "policy": ones, "reward_bonus": zeros, "backup_bonus": zeros}
        models["actor_scale"] = jnp.zeros(())
        return first_update(Edited(), batch, models | jax.tree.map(jnp.asarray, edits))

    return update


def close(first, second, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=atol), first, second)


def one(row, value=1.0):
    return jnp.zeros(6).at[row].set(value)


@pytest.fixture(scope="module")
def pooled(first_update, batch):
    return first_update(Pooled(), batch)


def test_neutral_seams_are_no_rule(edited_update, batch, pooled, same_bits):
    state, _, metrics = edited_update(batch)
    assert same_bits(state, pooled[0])
    assert set(metrics) - set(pooled[2]) == {"value_before", "discount"}


@pytest.mark.parametrize("loss", ["critic", "value", "policy"])
def test_weights_act_on_their_own_loss_alone(edited_update, batch, pooled, loss, largest_difference):
    # All rows terminal: else V's change would reach the critic through the backup, as it should.
    batch = dataclasses.replace(batch, terminal=jnp.ones(6))
    _, plain, _ = edited_update(batch)
    _, edited, _ = edited_update(batch, **{loss: 2 * jnp.ones(6)})
    for name in ("critic", "value", "policy"):
        if name == loss:
            close(edited[name], jax.tree.map(lambda leaf: 2 * leaf, plain[name]))
            assert largest_difference(edited[name], plain[name]) > 1e-3
        else:
            assert largest_difference(edited[name], plain[name]) == 0, name


def test_value_weights_reach_the_critic_through_the_backup_only(edited_update, batch, pooled, largest_difference):
    _, edited, _ = edited_update(batch, value=one(0))
    assert largest_difference(edited["critic"], pooled[1]["critic"]) > 1e-4
    assert largest_difference(edited["policy"], pooled[1]["policy"]) == 0


def test_losses_are_sums_over_rows(edited_update, batch):
    batch = dataclasses.replace(batch, terminal=jnp.ones(6))
    weight = jnp.array([0.5, 0.0, 1.0, 2.0, 0.25, 1.0])
    _, whole, _ = edited_update(batch, critic=weight, value=weight, policy=weight)
    parts = [edited_update(batch, critic=one(i), value=one(i), policy=one(i))[1] for i in range(6)]
    total = jax.tree.map(lambda *leaves: sum(w * leaf for w, leaf in zip(weight, leaves, strict=True)), *parts)
    close(total, whole)


def test_row_of_weight_zero_may_hold_anything(edited_update, batch, same_bits, largest_difference):
    nothing = jnp.ones(6).at[2].set(0.0)

    def replaced(column, value):
        return column.at[2].set(value)

    other = dataclasses.replace(
        batch,
        observation=replaced(batch.observation, 5.0),
        action=replaced(batch.action, -0.9),
        reward=replaced(batch.reward, 1e4),
        next_observation=replaced(batch.next_observation, -7.0),
        terminal=replaced(batch.terminal, 1.0),
    )
    weights = {"critic": nothing, "value": nothing, "policy": nothing}
    assert same_bits(edited_update(batch, **weights)[0], edited_update(other, **weights)[0])
    weights["critic"] = jnp.ones(6)
    before, after = (edited_update(rows, **weights)[0].critic for rows in (batch, other))
    assert largest_difference(before, after) > 1e-3


def test_reward_seam_equals_other_rewards(edited_update, batch, pooled, largest_difference):
    _, edited, metrics = edited_update(batch, reward_bonus=one(1, 3.0))
    _, wanted, _ = edited_update(dataclasses.replace(batch, reward=batch.reward.at[1].add(3.0)))
    close(edited, wanted)
    assert largest_difference(edited["critic"], pooled[1]["critic"]) > 1e-2
    assert largest_difference(edited["value"], pooled[1]["value"]) == 0
    assert largest_difference(edited["policy"], pooled[1]["policy"]) == 0
    assert float(metrics["mean_backup"]) == pytest.approx(float(pooled[2]["mean_backup"]) + 0.5, rel=1e-5)


def test_backup_seam_edits_its_row_after_the_discounted_value(edited_update, batch, pooled, largest_difference):
    _, edited, _ = edited_update(batch, backup_bonus=one(3, -2.0))
    _, wanted, _ = edited_update(dataclasses.replace(batch, reward=batch.reward.at[3].add(-2.0)))
    close(edited, wanted)
    assert largest_difference(edited["critic"], pooled[1]["critic"]) > 1e-2
    # and reaches the gradient of its own row only
    for row, differs in ((3, True), (0, False)):
        _, alone, _ = edited_update(batch, critic=one(row))
        _, alone_edited, _ = edited_update(batch, critic=one(row), backup_bonus=one(3, -2.0))
        assert (largest_difference(alone["critic"], alone_edited["critic"]) > 1e-3) == differs


def test_actor_term_adds_its_gradient_to_the_policys(edited_update, batch, pooled, sizes, backbone, same_bits):
    _, edited, metrics = edited_update(batch, actor_scale=0.1)
    policy = backbone.init(Pooled(), sizes, 10, jax.random.key(5)).policy

    def term(policy):
        return 0.1 * jnp.sum(jnp.tanh(policy(batch.observation))[:, 0])

    amount, gradient = jax.value_and_grad(term)(policy)
    close(edited["policy"], jax.tree.map(jnp.add, pooled[1]["policy"], gradient))
    assert same_bits(edited["value"], pooled[1]["value"])
    assert same_bits(edited["critic"], pooled[1]["critic"])
    assert float(metrics["policy_loss"] - pooled[2]["policy_loss"]) == pytest.approx(float(amount), abs=1e-5)


def test_weigh_sees_the_value_from_before_the_update(edited_update, batch, sizes, backbone):
    _, _, metrics = edited_update(batch)
    value = backbone.init(Pooled(), sizes, 10, jax.random.key(5)).value
    assert float(metrics["value_before"]) == pytest.approx(float(jnp.sum(value(batch.next_observation))), rel=1e-5)
    assert float(metrics["discount"]) == pytest.approx(backbone.discount)


@dataclasses.dataclass(frozen=True)
class Blind(Rule):
    """V sees a single number, Q the action alone."""

    def widths(self, sizes):
        return 1, sizes.action

    def represent(self, step):
        models, batch = step.models, step.batch
        return Features(batch.observation[:, :1] * models, batch.next_observation[:, 1:2] * models, batch.action)


def test_represent_seam_is_all_that_value_and_critic_see(first_update, batch, largest_difference):
    scale = jnp.asarray(2.0)
    state, before, _ = first_update(Blind(), batch, scale)
    assert state.value.weights[0].shape[0] == 1
    assert state.critic.first.weights[0].shape[0] == 2
    assert state.policy.weights[0].shape[0] == 3
    hidden = dataclasses.replace(
        batch,
        observation=batch.observation.at[:, 1:].set(9.0),
        next_observation=batch.next_observation.at[:, 0].set(9.0).at[:, 2].set(9.0),
    )
    _, after, _ = first_update(Blind(), hidden, scale)
    assert largest_difference((before["value"], before["critic"]), (after["value"], after["critic"])) == 0
    assert largest_difference(before["policy"], after["policy"]) > 1e-3
    # V at s and V at s' are not mixed up: s' reaches the critic alone.
    moved = dataclasses.replace(batch, next_observation=batch.next_observation + 1.0)
    _, after, _ = first_update(Blind(), moved, scale)
    assert largest_difference(before["value"], after["value"]) == 0
    assert largest_difference(before["critic"], after["critic"]) > 1e-3


@dataclasses.dataclass(frozen=True)
class Counted(Rule):
    """Keeps a column of so many entries for the rows of one domain."""

    name: ClassVar[str] = "counted"
    source: int | None = None
    target: int | None = None

    def columns(self, models, domains):
        return {} if self.source is None else {"worth": jnp.ones(self.source)}

    def target_columns(self, models, domains):
        return {} if self.target is None else {"worth": jnp.ones(())} if self.target == 0 else {"w": jnp.ones(9)}


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        (Counted(source=5), "rule counted: column 'worth' has 5 entries for 400 source rows"),
        (Counted(source=4_000), "has 4,000 entries for 400 source rows; give one per row of domains.source"),
        (Counted(target=9), "column 'w' has 9 entries for 160 target rows"),
        (Counted(target=0), "column 'worth' has one value for 160 target rows"),
    ],
)
def test_a_column_with_other_than_an_entry_per_row_is_refused(rule, what):
    """Rows would be drawn with another row's entry, or with the last one, without a word."""
    generator = np.random.default_rng(0)

    def logged(rows):
        """Episodes of 20 steps of a damped, pushed walk."""
        states, actions = np.zeros((rows + 1, 2)), generator.uniform(-1, 1, (rows, 1))
        following = np.zeros((rows, 2))
        for i in range(rows):
            following[i] = 0.9 * states[i] + 0.3 * actions[i] + 0.05 * generator.normal(size=2)
            states[i + 1] = generator.normal(size=2) if (i + 1) % 20 == 0 else following[i]
        rewards, timeouts = generator.normal(size=rows), np.arange(1, rows + 1) % 20 == 0
        return tabb.from_arrays(states[:-1], actions, rewards, timeouts=timeouts, next_observations=following)

    source, target = logged(400), logged(200)
    settings = tabb.Settings(updates=1, backbone=tabb.IQL(policies=1, hidden=(4,), batch_size=4))
    with pytest.raises(UsageError, match=re.escape(what)):
        tabb.train(rule, source, target, settings=settings, progress="none")
    assert tabb.train(Counted(source=400), source, target, settings=settings, progress="none")


def test_shares_of_the_baselines():
    assert Pooled().shares(256) == (128, 128)
    assert Pooled().shares(7) == (3, 4)
    assert TargetOnly().shares(256) == (0, 256)


def test_baselines_prepare_nothing(domains):
    rule = Pooled()
    assert rule.prepare(domains, jax.random.key(0), lambda what, share: None) == ()
    assert rule.columns((), domains) == {}


# --- What a step holds ---


@dataclasses.dataclass(frozen=True)
class Looking(Rule):
    """Reports what the step holds at several seams."""

    name: ClassVar[str] = "looking"
    neutral: ClassVar[dict | None] = {}

    def init_learned(self, sizes, key):
        return jnp.zeros(())

    def observe(self, step):
        seen = {"value_in_observe": jnp.mean(step.value(step.features.now)), "number": step.number}
        noise = jax.random.normal(step.key)
        return step.learned + 1.0, seen | {"learned_in_observe": step.learned, "noise": noise}

    def weigh(self, step):
        weights, _ = super().weigh(step)
        action = jnp.mean(step.policy(step.batch.observation))
        return weights, {"learned_in_weigh": step.learned, "action": action, "rows": jnp.asarray(len(step.batch))}

    def next_value(self, step, next_value):
        return next_value + step.value(step.features.following) + 10.0 * step.learned


def test_a_step_knows_the_state_the_number_and_what_was_just_learned(batch, backbone, sizes):
    learner = Program(backbone, Looking(), 10)
    before = learner.init(sizes, jax.random.key(5))

    def update(number, key):
        return learner.update((), before, batch, jax.random.key(key), jnp.asarray(number))

    after, metrics = update(3, 4)
    assert float(metrics["value_in_observe"]) == pytest.approx(
        float(jnp.mean(before.value(batch.observation))), rel=1e-5
    )
    assert float(metrics["action"]) == pytest.approx(
        float(jnp.mean(jnp.tanh(before.policy(batch.observation)))), rel=1e-5
    )
    assert (int(metrics["number"]), int(metrics["rows"])) == (3, 6)
    assert (float(metrics["learned_in_observe"]), float(metrics["learned_in_weigh"])) == (0, 1)
    assert float(after.learned) == 1
    # In `next_value` V is the new one: it was added to the next value, which is the new V too.
    new = 2 * after.value(batch.next_observation)[:, 0] + 10.0
    wanted = jnp.mean(batch.reward + backbone.discount * (1 - batch.terminal) * new)
    assert float(metrics["mean_backup"]) == pytest.approx(float(wanted), rel=1e-4)
    assert float(metrics["noise"]) == float(update(4, 4)[1]["noise"]) != float(update(3, 5)[1]["noise"])


@pytest.mark.parametrize("name", ["iql", "td3-bc", "cql", "bcq", "bear", "clone"])
def test_the_policy_of_a_step_is_the_one_that_would_be_deployed(name, sizes, domains):
    learner = Program(BACKBONES[name](hidden=(8, 8), batch_size=16), Pooled(), 3)
    state = learner.init(sizes, jax.random.key(2))
    raw = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    deployed = learner.backbone.policy(state, domains.normaliser, {}).act(raw)
    np.testing.assert_allclose(learner.backbone.acts(state)(domains.normaliser(jnp.asarray(raw))), deployed, atol=1e-5)


def test_features_are_not_known_before_they_are_represented(batch):
    step = dataclasses.replace(step_of(batch), represented=None)
    with pytest.raises(AttributeError, match="a step has features from `observe` on"):
        _ = step.features


# --- Seams of rules from before there was a step ---

OLD = {
    "select": lambda self, models, batch: batch,
    "observe": lambda self, models, learned, batch, features, value: (learned, {}),
    "represent": lambda self, models, batch: None,
    "weigh": lambda self, models, batch, features, value, discount: None,
    "reward": lambda self, models, learned, batch: batch.reward,
    "next_value": lambda self, models, batch, next_value, value: next_value,
    "backup": lambda self, models, batch, backup: backup,
    "critic_loss": lambda self, models, batch, error: error**2,
    "critic_term": lambda self, models, batch, values: 0.0,
    "actor_term": lambda self, models, batch, action: 0.0,
}


def test_old_seams_are_all_of_an_update():
    assert set(OLD) == set(UPDATE_SEAMS)


@pytest.mark.parametrize("seam", OLD)
def test_a_seam_as_it_was_before_says_how_to_change_it(seam, backbone):
    rule = dataclasses.dataclass(frozen=True)(type("Old", (Rule,), {"name": "old", seam: OLD[seam]}))()
    with pytest.raises(
        UsageError, match=rf"rule old: tabb does not call {seam}\(self, models, .*; write {seam}"
    ) as caught:
        Program(backbone, rule, 3)
    assert "\n" not in str(caught.value)


ROWS_OF_ONE = {
    "weigh": (lambda self, step: (Weights(jnp.ones(6), jnp.ones((6, 1)), jnp.ones(6)), {}), r"weigh \(value\)"),
    "reward": (lambda self, step: step.batch.reward[:, None], "reward"),
    "next_value": (lambda self, step, next_value: next_value[:, None], "next_value"),
    "backup": (lambda self, step, backup: backup[:, None], "backup"),
    "critic_loss": (lambda self, step, error: jnp.mean(error**2, axis=-1, keepdims=True), "critic_loss"),
}


@pytest.mark.parametrize("seam", ROWS_OF_ONE)
@pytest.mark.parametrize("name", ["iql", "cql"])
def test_what_a_seam_gives_has_the_shape_of_the_rows(seam, name, sizes, batch):
    """A weight [B, 1] would multiply the loss [B] of each row with the weight of every other, in silence."""
    edit, says = ROWS_OF_ONE[seam]
    rule = dataclasses.dataclass(frozen=True)(type("Odd", (Rule,), {"name": "odd", seam: edit}))()
    learner = Program(BACKBONES[name](hidden=(8,), batch_size=6), rule, 3)
    state = learner.init(sizes, jax.random.key(0))
    with pytest.raises(UsageError, match=rf"rule odd: {says} gives an array of shape \(\d, 1\); give \(") as caught:
        jax.eval_shape(learner.update, (), state, batch, jax.random.key(0), jnp.asarray(0))
    assert "\n" not in str(caught.value)


def test_seams_stand_in_the_order_of_their_calls():
    lines = [inspect.getsourcelines(getattr(Rule, name))[1] for name in UPDATE_SEAMS]
    assert lines == sorted(lines)
    called = []

    def noting(name):
        def seam(self, step, *edited):
            called.append(name)
            return getattr(Rule, name)(self, step, *edited)

        return seam

    kind = type("Noting", (Rule,), {name: noting(name) for name in UPDATE_SEAMS})
    learner = Program(IQL(policies=1, hidden=(4,), batch_size=6), kind(), 3)
    state = learner.init(Sizes(3, 2), jax.random.key(0))
    jax.eval_shape(learner.update, (), state, small_batch(), jax.random.key(0), jnp.asarray(0))
    assert list(dict.fromkeys(called)) == list(UPDATE_SEAMS)


def small_batch():
    rows = jnp.zeros((6, 3))
    return Batch(rows, rows[:, :2], rows[:, 0], rows, rows[:, 0], {}, {}, 3)


# --- The parts of a run ---


@dataclasses.dataclass(frozen=True)
class InParts(Rule):
    """Has the phases that a test gives it."""

    name: ClassVar[str] = "in-parts"

    parts: Any = ()

    def phases(self, updates):
        return self.parts


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (
            (Phase(Pooled(), 2), Phase(TargetOnly(), 3)),
            r"phases\(10\) gives phases of 2 and 3 .* 10 to all",
        ),
        ((Phase(Pooled(), 10), Phase(TargetOnly(), 10)), "phases of 10 and 10 updates"),
        ((Phase(Pooled(), 0), Phase(TargetOnly(), 10)), "phases of 0 and 10 updates; give at least one to each"),
        ((Phase(5, Pooled()), Phase(5, TargetOnly())), r"phases gives Phase\(rule=5, .*; give Phase\(rule, updates\)"),
        ((Phase(Pooled(), 5.0), Phase(TargetOnly(), 5.0)), "updates=5.0, .* in whole updates"),
        ((Pooled(), TargetOnly()), r"phases gives Pooled\(\); give Phase"),
        ((), "phases gives none; give Phase"),
        ((Phase(Pooled(), 5), Phase(MOPO(), 5)), "phase of mopo draws extra rows, .* give in-parts"),
    ],
)
def test_phases_that_are_not_the_run_are_one_line(parts, says):
    with pytest.raises(UsageError, match=says) as caught:
        _ = Program(IQL(), InParts(parts), 10).parts
    assert "\n" not in str(caught.value)


@dataclasses.dataclass(frozen=True)
class Late(Rule):
    """Says whether half of the run is over."""

    name: ClassVar[str] = "late"

    def weigh(self, step):
        return super().weigh(step)[0], {"late": step.is_past(0.5).astype(jnp.float32)}


def test_a_phase_knows_how_much_of_the_whole_run_is_over(sizes, domains, batch):
    """Of ten updates the last five, whichever phase they are in; the rate's schedule is that of the phase."""
    learner = Program(IQL(hidden=(8,), batch_size=8), InParts((Phase(Late(), 2), Phase(Late(), 8))), 10)
    state, data = learner.init(sizes, jax.random.key(1)), pack_data(domains, {})
    update = jax.jit(lambda state, number: update_once(learner, (), data, jax.random.key(2), state, number)[1]["late"])
    assert [float(update(state, jnp.asarray(number))) for number in range(10)] == [0.0] * 5 + [1.0] * 5
    given = [part.inputs((), batch, jax.random.key(0), jnp.asarray(0)) for _, part in learner.parts]
    assert [(one.updates, one.run_updates) for one in given] == [(2, 10), (8, 10)]
