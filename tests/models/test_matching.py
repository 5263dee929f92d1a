"""Trajectory matching: which paths, where rollouts begin, the loss by hand, its gradient, and what it is for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tabb
from tabb.backbones import BCQ, IQL, TD3BC, Clone
from tabb.backbones.backbone import held_to_paths
from tabb.batch import Batch, Rollouts
from tabb.errors import UsageError
from tabb.models.imitation import Imitation
from tabb.models.matching import draw_rollouts, matching_loss, path_starts, paths_with
from tabb.models.target_model import PredictedStep, TargetModelConfig, init_target_model
from tabb.networks import committee
from tabb.rules import Pooled, SourceOnly, TargetOnly
from tabb.training import Settings, train
from tabb.training.drawing import draw, pack_data

MATCHED = Imitation(matching=0.5, horizon=3, rollouts=7, model_updates=3)


@dataclasses.dataclass(frozen=True)
class FirstTarget(Pooled):
    """Reads both domains, as the model does, and imitates target rows alone: one source row in a batch."""

    def shares(self, batch_size):
        return 1, batch_size - 1


class Push:
    """A model in which each action entry pushes its state entry: s' = 0.5 s + a."""

    def __call__(self, observation, action):
        change = action - 0.5 * observation
        return PredictedStep(change, jnp.zeros(len(change)), jnp.zeros(len(change)))


def log_of(lengths, terminal=(), returns=None):
    """Episodes of these lengths whose observations count the rows; `terminal` rows end the task."""
    rows = sum(lengths)
    number = np.arange(rows, dtype=np.float32)
    episode = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    reward = np.ones(rows, np.float32) if returns is None else np.repeat(np.divide(returns, lengths), lengths)
    ends = np.isin(np.arange(rows), terminal).astype(np.float32)
    states = np.stack([number, np.full(rows, 3.0)], axis=1).astype(np.float32)
    following = states + np.asarray([1.0, 0.0], np.float32)
    actions = np.zeros((rows, 2), np.float32)
    return tabb.Transitions(states, actions, reward.astype(np.float32), following, ends, episode)


def test_paths_begin_where_enough_rows_of_an_episode_follow():
    starts = path_starts(MATCHED, log_of([4, 2, 5], terminal=[3, 8]))
    # Of rows 0..3 a path begins at 0 and 1, which ends with the terminal row 3; 6, 7, 8 end with it, 7..9 go through.
    assert starts.tolist() == [0, 1, 6]
    assert path_starts(MATCHED, log_of([4, 2, 5])).tolist() == [0, 1, 6, 7, 8]
    assert path_starts(MATCHED, log_of([2, 2])).tolist() == []
    assert path_starts(MATCHED, log_of([1])).tolist() == []


def test_paths_of_episodes_that_are_not_imitated_do_not_count():
    log = log_of([4, 4, 4], terminal=[3, 7, 11], returns=[10, 2, 9])
    assert path_starts(dataclasses.replace(MATCHED, best=0.8), log).tolist() == [0, 1, 8, 9]


def test_what_is_set_aside_makes_no_path_and_is_not_the_best():
    log = log_of([4, 4, 4], terminal=[3, 7, 11], returns=[10, 2, 7])
    config, aside = dataclasses.replace(MATCHED, best=0.8), np.arange(12) < 4
    assert path_starts(config, log).tolist() == [0, 1]
    assert path_starts(config, log, aside).tolist() == [8, 9]
    assert path_starts(MATCHED, log, aside).tolist() == [4, 5, 8, 9]
    paths, alone = paths_with(Push(), config, log, aside), paths_with(Push(), config, log[4:])
    assert paths.starts.tolist() == [4 + start for start in alone.starts]
    np.testing.assert_array_equal(paths.per_spread, alone.per_spread)


def test_rollouts_begin_beside_the_path_and_their_goals_follow_it():
    log = log_of([50, 50])
    paths = paths_with(Push(), dataclasses.replace(MATCHED, rollouts=4_000, noise=0.1), log)
    assert paths.per_spread[0] == pytest.approx(1 / np.std(np.arange(100)))
    assert paths.per_spread[1] == 0  # it never moves
    states, following = jnp.asarray(log.observation), jnp.asarray(log.next_observation)
    drawn = draw_rollouts(paths, lambda i: states[i], lambda i: following[i], jax.random.key(0))
    assert drawn.goals.shape == (3, 4_000, 2)
    row = drawn.goals[0, :, 0] - 1  # the next state of row i is i + 1
    assert set(np.asarray(row)) == {*range(48), *range(50, 98)}
    np.testing.assert_array_equal(drawn.goals[:, :, 0] - row, np.repeat([[1], [2], [3]], 4_000, axis=1))
    deviation = drawn.start - jnp.stack([row, jnp.full(4_000, 3.0)], axis=1)
    assert np.std(deviation[:, 0]) == pytest.approx(0.1 * np.std(np.arange(100)), rel=0.05)
    assert not np.any(deviation[:, 1])
    assert drawn.weight == 0.5


def test_the_loss_by_hand():
    """Two steps of s' = 0.5 s + a from s = 2 with a = 0.5 s give 2 and 2; the goals are 2.3 and 1."""
    rollouts = Rollouts(
        jnp.asarray([[2.0, 7.0]]),
        jnp.asarray([[[2.3, 0.0]], [[1.0, 0.0]]]),
        jnp.asarray([2.0, 0.0]),
        jnp.asarray(1.0),
        Push(),
    )
    errors = [np.sqrt(0.6**2 + 0.01) - 0.1, np.sqrt(2.0**2 + 0.01) - 0.1]
    assert float(matching_loss(lambda s: 0.5 * s, rollouts)) == pytest.approx(np.mean(errors) / 2, rel=1e-5)
    # The gradient goes through the model: the second step's error depends on the first action.
    slope = jax.grad(lambda gain: matching_loss(lambda s: gain * s, rollouts))(0.5)
    step = 1e-2
    ends = [matching_loss(lambda s, g=g: g * s, rollouts) for g in (0.5 - step, 0.5 + step)]
    assert float(slope) == pytest.approx(float(ends[1] - ends[0]) / (2 * step), rel=1e-2)


def test_a_batch_has_rollouts_where_it_has_target_rows(domains):
    model = init_target_model(TargetModelConfig(hidden=(8,)), None, domains.target, jax.random.key(4))
    data = pack_data(domains, {})._replace(paths=paths_with(model, MATCHED, domains.target))
    rollouts = draw(data, (4, 4), jax.random.key(0)).rollouts
    assert rollouts.goals.shape == (3, 7, 3)
    # The goals are next states of the target's rows in a row.
    following = np.asarray(domains.target.next_observation)
    place = [int(np.flatnonzero((following == goal).all(axis=1))[0]) for goal in np.asarray(rollouts.goals[:, 2])]
    assert np.diff(place).tolist() == [1, 1]
    assert draw(data, (4, 0), jax.random.key(0)).rollouts is None
    assert draw(data._replace(paths=None), (4, 4), jax.random.key(0)).rollouts is None


def batch_with(rollouts):
    zeros = jnp.zeros((2, 2))
    return Batch(zeros, zeros, jnp.zeros(2), zeros, jnp.zeros(2), {}, {}, 0, rollouts=rollouts)


def test_it_joins_the_loss_in_proportion_to_the_weight_of_what_is_imitated():
    rollouts = Rollouts(jnp.ones((3, 2)), jnp.zeros((2, 3, 2)), jnp.ones(2), jnp.asarray(0.1), Push())
    policy = committee(jax.random.key(0), (2, 4, 2), 3)
    loss, unit = jnp.asarray(2.0), jnp.asarray(5.0)
    assert held_to_paths(loss, policy, batch_with(None), unit) is loss
    ell = matching_loss(lambda s: jnp.tanh(policy(s)), rollouts)
    held = float(held_to_paths(loss, policy, batch_with(rollouts), unit))
    assert held == pytest.approx(2 + 3 * 5 * 0.1 * float(ell), rel=1e-6)


def drive(place, phase, action):
    """A cart on a round: x' = x + 0.5 a, and the phase goes on."""
    return place + 0.5 * action, (phase + 0.05) % 1.0


def test_a_policy_that_is_held_to_paths_comes_back_to_them():
    """The point: pushed off its one path, a clone stays off; held to it in a model of both domains, it returns.

    On the path the action follows from the phase, so target rows do not tell what an action does. Source rows do.
    """
    generator = np.random.default_rng(0)
    phase = np.arange(200) * 0.05 % 1.0
    wanted = 0.4 * np.sin(2 * np.pi * phase)  # where the path is
    action = 2 * (0.4 * np.sin(2 * np.pi * (phase + 0.05)) - wanted)
    place, at, move = generator.uniform(-1, 1, 2_000), generator.random(2_000), generator.uniform(-1, 1, 2_000)

    def rows(place, phase, action, episode):
        states, following = np.stack([place, phase], axis=1), np.stack(drive(place, phase, action), axis=1)
        ones = np.ones(len(place))
        columns = (
            column.astype(np.float32) for column in (states, action[:, None], 1 - np.abs(place), following, 0 * ones)
        )
        return tabb.Transitions(*columns, episode.astype(np.int32))

    source, target = rows(place, at, move, np.arange(2_000)), rows(wanted, phase, action, np.arange(200) // 50)
    clone = Clone(hidden=(32,), batch_size=32, policies=1, learning_rate=3e-3)
    left = {}
    for name, imitation in (
        ("cloned", Imitation()),
        ("held", Imitation(matching=1.0, horizon=4, rollouts=32, noise=0.5, model_updates=400)),
    ):
        settings = Settings(updates=800, evaluations=0, held_out=0.0, imitation=imitation, backbone=clone)
        (run,) = train(FirstTarget(), source, target, settings=settings)
        x, time = wanted[:20] + 0.3, phase[:20]
        for _ in range(20):
            x, time = drive(x, time, run.policy.act(np.stack([x, time], axis=1).astype(np.float32))[:, 0])
        left[name] = float(np.mean(np.abs(x - 0.4 * np.sin(2 * np.pi * time))))
    assert left["cloned"] > 0.15, left
    assert left["held"] < 0.6 * left["cloned"], left  # here 0.02 to 0.08 against 0.2, by the processor's rounding


# --- runs ---


def settings(**changes):
    backbone = IQL(policies=1, hidden=(8,), batch_size=8)
    return Settings(**({"updates": 4, "evaluations": 0, "imitation": MATCHED, "backbone": backbone} | changes))


def test_a_run_fits_its_model_once_and_goes_on_with_it(pair, tmp_path, monkeypatch, same_bits):
    monkeypatch.setenv("TABB_CACHE", str(tmp_path / "cache"))
    source, target = pair
    (whole,) = train(Pooled(), source, target, settings=settings(), folder=tmp_path / "whole")
    folder = tmp_path / "whole" / "seed0"
    assert (folder / "path-model.npz").exists()
    cache = tmp_path / "cache"
    assert [one.name.rpartition("-")[0] for one in cache.glob("*.npz")] == ["path-model"]
    # What is learned from the model is no part of it; target-only has one of its own.
    longer = dataclasses.replace(MATCHED, horizon=2, matching=0.1)
    train(Pooled(), source, target, settings=settings(updates=2, imitation=longer))
    assert len(list(cache.glob("*.npz"))) == 1
    (alone,) = train(TargetOnly(), source, target, settings=settings(updates=2))
    assert len(list(cache.glob("*.npz"))) == 2
    (target_alone,) = train(TargetOnly(), None, target, settings=settings(updates=2))
    assert same_bits(alone.policy.weights, target_alone.policy.weights)
    # A run that goes on reads its own, whatever has become of the cache.
    monkeypatch.setenv("TABB_CACHE", "off")
    (folder / "result.json").unlink()
    (folder / "checkpoint.npz").unlink()
    (again,) = train(Pooled(), source, target, settings=settings(), folder=tmp_path / "whole", resume=True)
    assert same_bits(again.policy.weights, whole.policy.weights)


@pytest.mark.parametrize("backbone", [IQL(policies=2, hidden=(8,), batch_size=8), TD3BC(hidden=(8,), batch_size=8)])
def test_it_changes_the_policy_and_of_iql_nothing_else(pair, backbone, same_bits):
    runs = [
        train(Pooled(), *pair, settings=settings(imitation=imitation, backbone=backbone))[0]
        for imitation in (Imitation(), MATCHED)
    ]
    before, after = (run.learned.state for run in runs)
    assert not same_bits(before.policy, after.policy)
    # The critic of TD3+BC backs up what the policy does.
    critics = [(state.critic, state.slow_critic) for state in (before, after)]
    assert isinstance(backbone, TD3BC) or same_bits(*critics)


def test_without_target_rows_or_paths_there_is_nothing_to_keep_to(pair, same_bits):
    source, target = pair
    plain = settings(imitation=Imitation())
    for rule, data in ((SourceOnly(), target), (Pooled(), dataclasses.replace(target, episode=np.arange(len(target))))):
        runs = [train(rule, source, data, settings=one)[0] for one in (plain, settings())]
        assert same_bits(runs[0].policy.weights, runs[1].policy.weights)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"matching": -0.1}, "matching=-0.1: must be a number, zero or more"),
        ({"matching": float("nan")}, "matching=nan: give a number"),
        ({"horizon": 0}, "horizon=0: give a whole number, 1 or more"),
        ({"rollouts": 0}, "rollouts=0: give a whole number, 1 or more"),
    ],
)
def test_settings_that_cannot_work(changes, message):
    with pytest.raises(UsageError, match=message):
        Imitation(**changes)


def test_a_policy_that_cannot_be_held_to_paths_is_refused(pair):
    backbone = BCQ(hidden=(8,), cvae_hidden=(8,), batch_size=8)
    with pytest.raises(UsageError, match="the policy of backbone bcq cannot be held to logged paths; use matching=0"):
        train(Pooled(), *pair, settings=settings(backbone=backbone))
