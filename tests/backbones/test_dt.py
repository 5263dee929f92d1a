"""Decision Transformer: windows in the draw, its loss by hand, what it is asked for, runs, what is refused."""

import dataclasses
import functools

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.backbones import DT
from tabb.backbones.dt import asked_return, imitation_loss
from tabb.batch import make_domains
from tabb.data import from_arrays
from tabb.errors import UsageError
from tabb.evaluation.scores import evaluate
from tabb.models.returns_to_go import places, returns_to_go
from tabb.policy import Policy
from tabb.results.row_scores import score_rows
from tabb.rules import IGDF, TABB, FineTune, Pooled, SourceOnly, TargetOnly
from tabb.training import Settings, train
from tabb.training.checkpoint import load_tree, save_tree
from tabb.training.drawing import draw, pack_data, pack_series
from tabb.training.loop import Program, compiled_updates, compiled_updates_of_seeds
from tabb.training.online import Online

TINY = DT(context=4, width=8, layers=1, longest=12, batch_size=8, learning_rate=1e-3)


def data_of(learner, domains):
    """What batches are drawn from, and what to ask for."""
    conditions = learner.conditions((), domains)
    series = pack_series(domains, conditions, learner.backbone.window)
    return pack_data(domains, {})._replace(series=series), conditions.aim


@pytest.fixture(scope="module")
def beginning(domains, sizes):
    def begin(rule=None, seed=1):
        learner = Program(TINY, rule or Pooled(), 12)
        data, aim = data_of(learner, domains)
        return learner, data, learner.init(sizes, jax.random.key(seed), aim=aim)

    return begin


@pytest.fixture(scope="module")
def run(beginning):
    @functools.cache
    def run(rule=None, cuts=(12,), seed=1):
        (learner, data, state), first = beginning(rule, seed), 0
        for last in cuts:
            state, metrics = compiled_updates(learner, (), data, jax.random.key(1 + seed), state, first, last)
            first = last
        return state, metrics

    return run


# --- Windows ---


def test_windows_are_the_rows_before_each_row_of_its_episode(beginning, domains):
    learner, data, _ = beginning()
    drawn = jax.jit(draw, static_argnums=1)
    batch = drawn(data, learner.shares, jax.random.key(0))
    plain = drawn(data._replace(series=None), learner.shares, jax.random.key(0))
    np.testing.assert_array_equal(batch.observation, plain.observation)  # the same rows as any learner draws
    assert plain.windows is None
    windows, conditions = jax.tree.map(np.asarray, batch.windows), learner.conditions((), domains)
    unit = float(conditions.aim.unit)
    lengths = set()
    for row in range(len(batch)):
        side = "source" if row < learner.shares[0] else "target"
        rows = jax.tree.map(np.asarray, getattr(domains, side))
        place = places(rows)
        (number,) = np.flatnonzero((rows.observation == np.asarray(batch.observation)[row]).all(axis=1))
        known = min(place[number] + 1, TINY.context)
        lengths.add(int(known))
        past = slice(number - known + 1, number + 1)
        assert windows.mask[row].tolist() == [0] * (TINY.context - known) + [1] * known
        np.testing.assert_array_equal(windows.observation[row, -known:], rows.observation[past])
        np.testing.assert_array_equal(windows.action[row, -known:], rows.action[past])
        np.testing.assert_array_equal(windows.time[row, -known:], place[past])
        np.testing.assert_allclose(
            windows.condition[row, -known:], returns_to_go(rows.reward, place)[past] / unit, rtol=1e-5
        )
        assert not any(np.abs(part[row, :-known]).any() for part in windows)
    assert len(lengths) > 1


def test_a_batch_less_some_source_rows_has_their_windows_alone(beginning):
    learner, data, _ = beginning()
    batch = jax.jit(draw, static_argnums=1)(data, learner.shares, jax.random.key(0))
    kept = jax.jit(lambda batch: batch.best_source(jnp.asarray([0.0, 3.0, 1.0, 2.0]), 2))(batch)
    wanted = [1, 3, 4, 5, 6, 7]
    np.testing.assert_array_equal(kept.windows.observation, batch.windows.observation[np.array(wanted)])
    np.testing.assert_array_equal(kept.windows.mask, batch.windows.mask[np.array(wanted)])


# --- The loss ---


def test_the_loss_by_hand():
    action = jnp.asarray([[[1.0, 0.0], [0.5, 0.5]], [[9.0, 9.0], [0.0, 1.0]]])
    mask = jnp.asarray([[1.0, 1.0], [0.0, 1.0]])
    loss = imitation_loss(action, jnp.zeros((2, 2, 2)), mask, jnp.asarray([1.0, 4.0]))
    # Steps that there are: (1 + 0) / 2, (0.25 + 0.25) / 2, and (0 + 1) / 2 with weight 4.
    assert float(loss) == pytest.approx((0.5 + 0.25 + 4 * 0.5) / 3)


def test_the_rate_rises_over_a_share_of_the_run():
    """After one update of a clipped gradient, Adam's step is the rate itself."""
    steps = []
    for warm_share in (0.0, 0.5):
        optimiser = dataclasses.replace(TINY, warm_share=warm_share, weight_decay=0.0).optimiser(8)
        change, _ = optimiser.update(jnp.ones(1), optimiser.init(jnp.zeros(1)), jnp.zeros(1))
        steps.append(float(-change[0]))
    assert steps == pytest.approx([1e-3, 1e-3 / 4], rel=1e-4)


@pytest.mark.parametrize(("best", "asked"), [(100.0, 120.0), (-100.0, -80.0)])
def test_larger_aim_asks_for_more_of_negative_returns_too(best, asked):
    assert float(asked_return(jnp.asarray(best), 1.2)) == pytest.approx(asked)
    assert float(asked_return(jnp.asarray(best), 1.0)) == best


# --- Runs ---


@pytest.mark.slow
def test_cut_into_calls_is_the_same_run(run, same_bits):
    assert same_bits(run()[0], run(cuts=(5, 7, 12))[0])


@pytest.mark.slow
def test_every_array_learns(run, beginning):
    before, (after, metrics) = beginning()[2], run()
    for path, leaf in jax.tree_util.tree_leaves_with_path(before.policy):
        moved = dict(jax.tree_util.tree_leaves_with_path(after.policy))[path]
        assert np.abs(np.asarray(leaf) - np.asarray(moved)).max() > 0, path
    assert np.isfinite(float(metrics["policy_loss"]))
    assert float(after.aim.start) == float(before.aim.start)


@pytest.mark.slow
def test_a_seed_axis_is_the_seed_alone(beginning, run, largest_difference):
    (learner, data, first), (*_, second) = beginning(seed=1), beginning(seed=8)
    series = data.series._replace(condition=jnp.stack([data.series.condition] * 2))
    both, _ = compiled_updates_of_seeds(
        learner,
        (),
        data._replace(series=series),
        jnp.stack([jax.random.key(2), jax.random.key(9)]),
        jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second),
        jnp.asarray(0),
        jnp.asarray(12),
    )
    for lane, seed in enumerate((1, 8)):
        alone = run(seed=seed)[0]
        assert largest_difference(jax.tree.map(lambda leaf, lane=lane: leaf[lane], both), alone) < 1e-4


class Told(gymnasium.Env):
    """Rewards the action that was done; ends after some steps, which differ by episode."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        self._time, self._last = 0, 6 + seed % 3
        return self._seen(), {}

    def _seen(self):
        return np.array([self._time / 10], np.float32)

    def step(self, action):
        self._time += 1
        return self._seen(), float(action[0]), self._time >= self._last, False, {}


@pytest.fixture(scope="module")
def log():
    """Episodes of ten steps in `Told`; in each all actions are alike: the return says which ones."""
    actions = np.repeat(np.linspace(-0.8, 0.8, 60), 10)[:, None]
    ends = np.arange(600) % 10 == 9
    seen = (np.arange(600) % 10)[:, None] / 10
    return from_arrays(seen, actions, actions[:, 0], seen + 0.1, terminals=ends)


LEARNING = dataclasses.replace(TINY, width=16, batch_size=32, learning_rate=3e-3, dropout=0.0)
SETTINGS = Settings(updates=400, evaluations=2, episodes=3, backbone=LEARNING)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def conditioned(log, folder):
    """Learns from the log for long enough to know what the return to go says."""
    (done,) = train(TargetOnly(), None, log, settings=SETTINGS, folder=folder, env_factory=Told)
    return done


def test_more_return_is_given_where_more_is_asked_for(conditioned):
    """The method's own point: one policy, and the return that it is asked for says what it does."""
    assert conditioned.policy.start == pytest.approx(8.0, abs=1e-4)

    def mean(start):
        policy = dataclasses.replace(conditioned.policy, start=start)
        return evaluate(policy, None, 3, 0, env_factory=Told).mean

    low, middle, high = (mean(start) for start in (-8.0, 0.0, 8.0))
    assert low + 2 < middle < high - 2


def test_what_was_gained_is_taken_off(conditioned):
    """Told of a reward that it did not expect, it acts otherwise in the next step."""
    policy, actions = conditioned.policy, []
    for reward in (0.8, -8.0):
        actor = policy.actor(1)
        actor.act([[0.0]])
        actor.told([[0.8]], [reward])
        actions.append(float(actor.act([[0.1]])[0, 0]))
    assert abs(actions[0] - actions[1]) > 0.05


def test_its_run_is_read_back(conditioned, log, folder):
    run = folder / "seed0"
    loaded = Policy.load(run)
    assert loaded.about["backbone"] == "dt"
    wanted = conditioned.evaluations[-1][1]
    assert evaluate(loaded, None, 3, env_factory=Told).returns == wanted.returns
    assert wanted.lengths == (7, 8, 6)  # they end at different steps
    kept = (run / "policy.npz").read_bytes()
    for file in ("result.json", "policy.npz"):
        (run / file).unlink()
    options = {"settings": SETTINGS, "env_factory": Told}
    (again,) = train(TargetOnly(), None, log, folder=folder, resume=True, **options)
    assert (run / "policy.npz").read_bytes() == kept
    assert again.evaluations[-1][1].returns == wanted.returns
    with pytest.raises(UsageError, match="draws no source rows"):
        score_rows(again, log, log)
    with pytest.raises(UsageError, match="does not start from another run's weights"):
        train(TargetOnly(), None, log, start=run, **options)


@pytest.mark.slow
def test_resumed_from_a_checkpoint_is_the_same_run(run, beginning, tmp_path, same_bits):
    half, _ = run(cuts=(5,))
    save_tree(tmp_path / "state.npz", half, {})
    learner, data, template = beginning(seed=9)
    state, _ = load_tree(tmp_path / "state.npz", template)
    state, _ = compiled_updates(learner, (), data, jax.random.key(2), state, 5, 12)
    assert same_bits(state, run()[0])


def test_domains_that_are_not_read_are_not_asked(domains):
    poor, rich = domains, domains._replace(source=dataclasses.replace(domains.source, reward=domains.source.reward + 9))
    for rule, sides in ((TargetOnly(), "target"), (SourceOnly(), "source")):
        one, other = (Program(TINY, rule, 4).conditions((), both) for both in (poor, rich))
        assert (float(one.aim.start) == float(other.aim.start)) == (sides == "target")
        assert len(one.source) == len(domains.source)
        assert len(one.target) == len(domains.target)
        assert not np.asarray(one.source if sides == "target" else one.target).any()


@pytest.mark.slow
def test_source_first_then_target(pair):
    """A rule with phases: the policy goes on with fresh optimisers."""
    settings = Settings(updates=4, evaluations=0, backbone=TINY)
    (done,) = train(FineTune(), *pair, settings=settings)
    (pooled,) = train(Pooled(), *pair, settings=settings)
    assert not np.array_equal(done.policy.weights[0], pooled.policy.weights[0])


@pytest.mark.parametrize(
    ("rule", "settings", "says"),
    [
        (TABB(), {}, "it has no place for see_state and see_action and weigh"),
        (IGDF(), {}, "not igdf: it has no place for select and weigh"),
        (Pooled(), {"held_out": 0.2}, "held_out=0.2: the policy of backbone dt remembers its episode"),
    ],
)
def test_what_cannot_be_is_one_line(pair, rule, settings, says):
    with pytest.raises(UsageError, match=says) as caught:
        train(rule, *pair, settings=Settings(updates=2, backbone=TINY, **settings))
    assert "\n" not in str(caught.value)


def test_steps_in_an_environment_are_refused(log):
    settings = Settings(updates=2, backbone=TINY, online=Online(target_steps=10))
    with pytest.raises(UsageError, match="online: backbone dt learns from episodes whose return is known") as caught:
        train(TargetOnly(), None, log, settings=settings, env_factory=Told)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("constants", "says"),
    [
        ({"context": 0}, "context=0"),
        ({"width": 9, "heads": 2}, "must be a multiple of heads=2"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"discount": 0.0}, "discount=0.0"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0"),
        ({"largest_gradient": 0.0}, "largest_gradient=0.0"),
        ({"batch_size": 1}, "batch_size=1"),
    ],
)
def test_wrong_constants(constants, says):
    with pytest.raises(UsageError, match=says) as caught:
        DT(**constants)
    assert "\n" not in str(caught.value)


def test_conditions_in_the_unit_of_the_target(pair):
    domains = make_domains(*pair)
    conditions = Program(TINY, Pooled(), 4).conditions((), domains)
    series = pack_series(domains, conditions, 4)
    target = np.asarray(series.condition)[len(domains.source) :]
    assert np.sqrt(np.mean(target**2)) == pytest.approx(1.0, rel=1e-4)
