"""Copies of target rows that the policy alone imitates: drawn beside the rows, made once, part of a run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_extra_rows import extra_rows

import tabb
from tabb.backbones import BCQ, BEAR, CQL, IQL, TD3BC, own_backbone
from tabb.commands.train_options import parse_train, settings_of
from tabb.errors import UsageError
from tabb.models.imitation import (
    BEST,
    LOGGED,
    ImitatedRows,
    Imitation,
    imitated_rows,
    imitated_template,
    of_best_episodes,
)
from tabb.plain import backbone_from_plain, plain
from tabb.results.train_command import train_command
from tabb.rules import BOSA, CPQ, MOBODY, Pooled, TargetOnly
from tabb.training import Settings, train
from tabb.training.config import imitation_of, own_imitation, settings_from
from tabb.training.drawing import draw, pack_data, pack_extra, pack_imitated
from tabb.training.loop import Program, update_once
from tabb.training.spec import RunSpec
from tabb.transitions import Transitions

SMALL = Imitation(rows="corrective", copies=2, model_updates=3)


def numbered(domains, copies):
    """Rows whose state and action tell the number of the target row and of the copy."""
    number = jnp.arange(len(domains.target), dtype=jnp.float32)[None, :, None]
    copy = jnp.arange(1.0 + copies)[:, None, None]
    together = 1000 * copy + number
    ones = jnp.ones(3)
    return ImitatedRows(together * ones, together * ones[:2], 1.0 - together[..., 0] % 2)


@pytest.fixture(scope="module")
def plain_data(domains):
    return pack_data(domains, {}, {"number": jnp.arange(len(domains.target))})


def test_a_target_row_stands_for_itself_or_one_of_its_copies(domains, plain_data):
    data = plain_data._replace(imitated=pack_imitated(numbered(domains, 3)))
    batch = draw(data, (6, 4_000), jax.random.key(0), 5, pack_extra(extra_rows(5)))
    alone = draw(plain_data, (6, 4_000), jax.random.key(0), 5, pack_extra(extra_rows(5)))
    for name in ("observation", "action", "reward", "next_observation", "terminal"):
        np.testing.assert_array_equal(getattr(batch, name), getattr(alone, name))
    observation, action = batch.to_imitate()
    assert (observation.shape, action.shape) == (batch.observation.shape, batch.action.shape)
    for rows, copies in ((batch.observation, observation), (batch.action, action)):
        np.testing.assert_array_equal(copies[:6], rows[:6])
        np.testing.assert_array_equal(copies[-5:], rows[-5:])
    drawn = np.asarray(observation[6:-5, 0])
    np.testing.assert_array_equal(drawn % 1000, batch.target_columns["number"])
    np.testing.assert_array_equal(drawn, action[6:-5, 1])
    shares = np.bincount((drawn // 1000).astype(int)) / len(drawn)
    np.testing.assert_allclose(shares, 1 / 4, atol=0.03)
    weights = batch.imitation_weight(jnp.arange(1.0, len(batch) + 1))
    np.testing.assert_array_equal(weights[6:-5], jnp.where(drawn % 2, 0.0, jnp.arange(7.0, len(batch) - 4)))
    np.testing.assert_array_equal(jnp.delete(weights, slice(6, -5)), [1, 2, 3, 4, 5, 6, *range(4007, 4012)])
    # They stay beside their rows where source rows are left out.
    best = batch.best_source(jnp.arange(6.0), 2)
    np.testing.assert_array_equal(best.to_imitate()[0], observation[4:].at[:2].set(batch.observation[4:6]))
    # Without copies the policy imitates the rows.
    assert alone.to_imitate()[0] is alone.observation


@pytest.mark.parametrize("backbone", [IQL, TD3BC, BCQ], ids=lambda kind: kind.name)
def test_copies_that_are_the_rows_change_nothing_and_others_the_policy_alone(domains, sizes, backbone, plain_data):
    widths = {"cvae_hidden": (8,)} if backbone is BCQ else {}
    backbone = backbone(hidden=(8,), batch_size=8, **widths)
    learner = Program(backbone, Pooled(), 4)
    target = domains.target
    same = ImitatedRows(jnp.stack([target.observation] * 3), jnp.stack([target.action] * 3), jnp.ones((3, len(target))))
    other = same._replace(action=-same.action)

    def after_two(imitated):
        data = plain_data._replace(imitated=None if imitated is None else pack_imitated(imitated))
        state = learner.init(sizes, jax.random.key(1))
        for number in (0, 1):
            state, _ = jax.jit(update_once, static_argnums=0)(learner, (), data, jax.random.key(2), state, number)
        return state

    logged, copied, changed = after_two(None), after_two(same), after_two(other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), logged, copied)
    name = backbone.parts["policy"][0]

    def distance(field):
        before, after = getattr(logged, field), getattr(changed, field)
        return max(float(jnp.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True))

    assert distance(name) > 1e-4
    if isinstance(backbone, IQL):  # the only one whose critic does not look at the policy
        for field in ("value", "critic", "slow_critic"):
            assert distance(field) == 0


# --- how they are made ---


def test_rows_and_their_copies(domains):
    key = jax.random.key(0)
    for config in (SMALL, dataclasses.replace(SMALL, rows="noisy", noise=0.1)):
        made = imitated_rows(config, domains, key)
        assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, imitated_template(config, domains))
        np.testing.assert_array_equal(made.observation[0], domains.target.observation)
        np.testing.assert_array_equal(made.action[0], domains.target.action)
        deviation = made.observation[1:] - made.observation[0]
        spread = np.std(domains.target.observation, axis=0)
        np.testing.assert_allclose(np.std(deviation, axis=(0, 1)) / spread, config.noise, rtol=0.35)
        moved = np.abs(made.action[1:] - made.action[0]).max()
        assert (moved == 0) == (config.rows == "noisy")


def test_the_source_counts_only_where_it_is_asked_for(domains):
    key = jax.random.key(0)
    alone = domains._replace(source=domains.source[:0])
    both, target = SMALL, dataclasses.replace(SMALL, model="target")
    actions = [
        imitated_rows(config, d, key).action for config, d in ((both, domains), (target, domains), (both, alone))
    ]
    np.testing.assert_array_equal(actions[1], actions[2])
    assert np.abs(actions[0] - actions[1]).max() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": "perfect"}, "rows='perfect' is unknown: use logged, noisy or corrective"),
        ({"model": "source"}, "model='source' is unknown: use both or target"),
        ({"copies": 0}, "copies=0: give a whole number, 1 or more"),
        ({"copies": 1.5}, "copies=1.5: give a whole number"),
        ({"noise": -0.1}, "noise=-0.1: must be a positive number"),
        ({"stay": float("inf")}, "stay=inf: must be a positive number"),
        ({"best": 1.1}, r"best=1.1: a share of the best return lies in \[0, 1\]"),
        ({"others": -0.1}, r"others=-0.1: a weight beside that of the best episodes, in \[0, 1\]"),
    ],
)
def test_settings_that_cannot_work(changes, message):
    with pytest.raises(UsageError, match=message):
        Imitation(**changes)


# --- runs ---


def settings(**changes):
    values = {
        "updates": 6,
        "evaluations": 0,
        "imitation": SMALL,
        "backbone": IQL(policies=1, hidden=(8,), batch_size=8),
    }
    return Settings(**(values | changes))


@pytest.mark.slow
def test_a_run_makes_them_once_and_goes_on_with_them(pair, tmp_path, monkeypatch, same_bits):
    monkeypatch.setenv("TABB_CACHE", str(tmp_path / "cache"))
    source, target = pair
    (whole,) = train(Pooled(), source, target, settings=settings(), folder=tmp_path / "whole")
    file = tmp_path / "whole" / "seed0" / "imitated.npz"
    assert file.exists()
    assert [one.name.partition("-")[0] for one in (tmp_path / "cache").glob("*.npz")] == ["imitated"]
    # Another learner of the same data takes them from the cache; target-only has a model of its own.
    train(Pooled(), source, target, settings=settings(updates=3), folder=tmp_path / "other")
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 1
    for given in (source, None):
        train(TargetOnly(), given, target, settings=settings(), folder=tmp_path / f"target-only {given is None}")
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 2
    # A run that goes on reads its own, whatever has become of the cache.
    monkeypatch.setenv("TABB_CACHE", "off")
    folder = tmp_path / "whole" / "seed0"
    (folder / "result.json").unlink()
    (folder / "checkpoint.npz").unlink()
    (again,) = train(Pooled(), source, target, settings=settings(), folder=tmp_path / "whole", resume=True)
    assert same_bits(again.policy.weights, whole.policy.weights)
    (logged,) = train(Pooled(), source, target, settings=settings(imitation=Imitation()))
    assert not same_bits(logged.policy.weights, whole.policy.weights)


def test_what_has_no_effect_says_what_it_counts_with():
    every = {field.name for field in dataclasses.fields(Imitation)}
    assert set(LOGGED.without_effect()) == every - {"best", "rows", "matching"}
    assert set(BEST.without_effect()) == {"copies", "stay"}  # it may be held to paths
    assert set(SMALL.without_effect()) == {"others", "horizon", "rollouts"}
    assert set(Imitation(rows="noisy").without_effect()) == {
        "others",
        "stay",
        "horizon",
        "rollouts",
        "model",
        "model_updates",
    }


def test_a_policy_that_imitates_nothing_is_refused(pair):
    with pytest.raises(UsageError, match="the policy of backbone cql imitates no rows; use rows=logged best=0"):
        train(Pooled(), *pair, settings=settings(backbone=CQL(hidden=(8,), batch_size=8)))


def test_a_policy_that_cannot_leave_rows_out_is_refused(pair):
    backbone = BCQ(hidden=(8,), cvae_hidden=(8,), batch_size=8)
    with pytest.raises(UsageError, match=r"best=0\.5: backbone bcq imitates all rows alike; use best=0"):
        train(Pooled(), *pair, settings=settings(imitation=Imitation(best=0.5), backbone=backbone))


def test_the_wrong_type_is_refused():
    with pytest.raises(UsageError, match=r"imitation='corrective': give an instance"):
        tabb.Settings(imitation="corrective")


# --- the best episodes ---


def episodes(*rewards, terminal=()):
    """Rows of episodes with these rewards, of which those numbered in `terminal` end."""
    reward = np.concatenate([np.float32(one) for one in rewards])
    episode = np.repeat(np.arange(len(rewards)) + 7, [len(one) for one in rewards]).astype(np.int32)
    last = np.append(np.diff(episode) > 0, True)
    ends = (last & np.isin(episode - 7, terminal)).astype(np.float32)
    zeros = np.zeros((len(reward), 1), np.float32)
    return Transitions(zeros, zeros, reward, zeros, ends, episode)


def near_best(rows, share=0.8):
    """For each episode."""
    near = of_best_episodes(rows, share)
    return [bool(near[np.asarray(rows.episode) == number].all()) for number in np.unique(rows.episode)]


def test_episodes_near_the_best():
    rewards = [1.0] * 4, [2.0] * 4, [1.7] * 4, [0.1] * 4
    assert near_best(episodes(*rewards)) == [False, True, True, False]
    assert near_best(episodes(*rewards), 0.0) == [True] * 4
    assert near_best(episodes(*rewards), 1.0) == [False, True, False, False]
    # One that the log cuts is judged by its mean reward; one that ended earlier is not.
    assert near_best(episodes([2.0] * 4, [1.9] * 2)) == [True, True]
    assert near_best(episodes([2.0] * 4, [1.9] * 2, terminal=[1])) == [True, False]
    # One episode of ten is too little to learn from.
    assert near_best(episodes([9.0], *([float(i)] for i in range(9)))) == [True, *[False] * 8, True]
    # Returns below zero: within a fifth of their range, 9 to 1.
    assert near_best(episodes([-9.0], [-1.0], [-2.5], [-3.0])) == [False, True, True, False]


def test_rows_of_other_episodes_teach_the_critic_alone(domains):
    whole = imitated_rows(Imitation(best=1.0), domains, jax.random.key(0))
    assert whole.observation.shape == (1, *domains.target.observation.shape)
    best = of_best_episodes(domains.target, 1.0)
    np.testing.assert_allclose(whole.weight[0], best / best.mean(), rtol=1e-6)
    assert 0 < best.mean() < 1
    copies = imitated_rows(dataclasses.replace(SMALL, rows="noisy", best=1.0), domains, jax.random.key(0))
    np.testing.assert_array_equal(copies.weight, np.repeat(whole.weight, 3, axis=0))


def test_rows_of_other_episodes_count_little(domains):
    best = of_best_episodes(domains.target, 1.0)
    aside = np.arange(len(best)) % 7 == 0
    little = Imitation(best=1.0, others=0.25)
    weight = imitated_rows(little, domains, jax.random.key(0)).weight[0]
    np.testing.assert_allclose(weight / weight[best][0], np.where(best, 1.0, 0.25), rtol=1e-6)
    assert weight.mean() == pytest.approx(1.0)  # beside source rows they count as all rows would
    weight = imitated_rows(little, domains, jax.random.key(0), aside=aside).weight[0]
    assert not weight[aside].any()
    np.testing.assert_allclose(np.unique(weight[~aside]) / weight.max(), [0.25, 1.0], rtol=1e-6)
    assert weight.mean() == pytest.approx(1.0)


# --- whose choice it is ---


@dataclasses.dataclass(frozen=True)
class Steady(Pooled):
    """A rule whose policy imitates noisy rows unless told otherwise."""

    imitation = Imitation(rows="noisy")


def test_a_rule_has_a_choice_of_its_own_where_the_backbone_imitates():
    assert own_imitation(Pooled(), IQL()) == BEST
    assert imitation_of(Settings(), Pooled(), BCQ()) == LOGGED  # it cannot leave rows out
    assert imitation_of(Settings(), Steady(), IQL()) == Steady.imitation
    assert imitation_of(Settings(), Steady(), CQL()) == LOGGED
    assert imitation_of(Settings(imitation=SMALL), Steady(), IQL()) == SMALL
    # Episodes of the largest return may be those that cost most.
    assert imitation_of(Settings(), CPQ(), TD3BC()) == LOGGED


def test_the_policy_is_held_to_logged_paths_where_that_pays_unless_the_settings_say_otherwise():
    long, short, open_ = Settings(updates=5_000), Settings(updates=4_999), Imitation(best=0.5, matching=None)
    assert imitation_of(long, Pooled(), IQL()) == Imitation(best=0.8, others=0.01, matching=0.1)
    assert imitation_of(short, Pooled(), IQL()) == Imitation(best=0.8, others=0.01)
    assert imitation_of(long, Pooled(), IQL(), stored=True) == Imitation(best=0.8, others=0.01)  # no paths to draw
    assert imitation_of(long, Pooled(), BEAR()) == Imitation(best=0.8, others=0.01)  # its policy cannot act in a model
    assert imitation_of(dataclasses.replace(long, imitation=open_), Pooled(), IQL()) == Imitation(0.5, matching=0.1)
    for rule in (BOSA(), MOBODY()):  # their TD3 imitates nothing, against which matching would have no weight
        assert imitation_of(long, rule, own_backbone(rule)) == Imitation(best=0.8, others=0.01)
    assert imitation_of(long, BOSA(), TD3BC()) == Imitation(best=0.8, others=0.01, matching=0.1)
    chosen = Imitation(matching=0.0)
    assert imitation_of(dataclasses.replace(long, imitation=chosen), Pooled(), IQL()) == chosen
    spec = RunSpec(Pooled(), IQL(), ("/s.npz",), ("/t.npz",), None, None, 0, long)
    assert spec.settings.imitation == Imitation(best=0.8, others=0.01, matching=0.1)  # it says what is trained


def test_runs_from_before_there_was_a_choice_imitated_logged_rows():
    spec = RunSpec(Pooled(), IQL(), ("/s.npz",), ("/t.npz",), None, None, 0, Settings(imitation=SMALL))
    values = spec.to_json()
    assert RunSpec.from_json(values) == spec
    del values["settings"]["imitation"]
    assert RunSpec.from_json(values).settings.imitation == LOGGED
    assert settings_from({"settings": {"updates": 5}}).imitation == LOGGED
    before = plain(IQL(policies=1))
    del before["policies"], before["layer_norm"]
    assert backbone_from_plain(before) == IQL(policies=1, layer_norm=False)


def test_the_command_says_it_for_one_learner_or_for_all():
    words = ["--imitation.rows", "corrective", "--imitation.copies", "2"]
    for names in (["tabb"], ["tabb", "target-only", "pooled@td3-bc"]):
        learners, options = parse_train(names, words)
        assert len(learners) == len(names)
        assert settings_of(options).imitation == Imitation(
            best=0.8, others=0.01, rows="corrective", copies=2, matching=None
        )
    spec = RunSpec(Pooled(), IQL(), ("/s.npz",), ("/t.npz",), None, None, 0, settings_of(options))
    command = train_command(spec, [0])
    assert "--imitation.rows corrective --imitation.copies 2" in command
    assert "imitation" not in train_command(dataclasses.replace(spec, settings=Settings()), [0])
