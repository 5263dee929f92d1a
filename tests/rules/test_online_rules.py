"""The rules for steps in an environment: each formula by hand, and the rows that each of them changes."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steps import step_of
from tabb.backbones import SAC, own_backbone
from tabb.backbones.backbone import critic_error
from tabb.batch import Batch, Sizes
from tabb.errors import UsageError
from tabb.models.step_classifiers import StepClassifierConfig, StepClassifiers
from tabb.networks import mlp
from tabb.rules import BCSAC, DARC, H2O, PAR, RLPD, SACTune, VGDFOnline
from tabb.rules.bc_sac import cloning_weight
from tabb.rules.darc import side_weights
from tabb.rules.h2o import gap_weights, pushed_gap
from tabb.rules.par import departure
from tabb.rules.vgdf_online import Members, likely

SIZES = Sizes(1, 1)


def linear(weights, bias=0.0):
    """A network without hidden layers: x · weights + bias."""
    network = mlp(jax.random.key(0), (len(weights), 1))
    column = jnp.asarray(weights, jnp.float32)[:, None]
    return dataclasses.replace(network, weights=(column,), biases=(jnp.array([bias], jnp.float32),))


def classifiers():
    """ln q(T | s, a, s') - ln q(S | s, a, s') = s + 2 s' and that of (s, a) = s - a: ln P_T / P_S = 2 s' + a."""
    return StepClassifiers(linear([1.0, 0.0, 2.0]), linear([1.0, -1.0]), ())


@pytest.fixture
def rows():
    """Two source and two target rows of one entry; the second and the last are terminal."""

    def column(*values):
        return jnp.asarray(values, jnp.float32)[:, None]

    return Batch(
        column(0.1, 0.2, 0.3, 0.4),
        column(0.5, -0.5, 0.25, 0.0),
        jnp.array([1.0, 2.0, 3.0, 4.0]),
        column(-0.25, 9.0, 0.5, 9.0),
        jnp.array([0.0, 1.0, 0.0, 1.0]),
        {},
        {},
        2,
    )


# --- DARC and its classifiers ---


def test_log_ratio_of_the_dynamics_by_hand(rows):
    np.testing.assert_allclose(classifiers().log_ratio(rows), [2 * -0.25 + 0.5, 0.0, 2 * 0.5 + 0.25, 0.0], atol=1e-6)


def test_darc_pays_source_rows_from_its_update_on(rows):
    rule = DARC(bonus_scale=2.0, after=0.05)
    learned = StepClassifiers(linear([0.0, 0.0, 4.0]), linear([0.0, 0.0]), ())  # ratio 4 s'
    step = step_of(rows, learned=learned)
    np.testing.assert_allclose(rule.reward(step), rows.reward)
    np.testing.assert_allclose(rule.reward(dataclasses.replace(step, number=jnp.asarray(4))), rows.reward)
    late = dataclasses.replace(step, number=jnp.asarray(5))  # of 100
    np.testing.assert_allclose(rule.reward(late), [1.0 + 2.0 * 4 * -0.25, 2.0, 3.0, 4.0])


def test_darc_learns_from_source_rows_alone(rows):
    np.testing.assert_allclose(side_weights(rows, 0.0), [2.0, 2.0, 0.0, 0.0])
    np.testing.assert_allclose(side_weights(rows, 0.5), [4 / 3, 4 / 3, 2 / 3, 2 / 3], rtol=1e-6)
    weights, _ = DARC().weigh(step_of(rows))
    assert weights.policy.tolist() == weights.critic.tolist() == [2.0, 2.0, 0.0, 0.0]


@pytest.mark.slow
def test_classifiers_learn_the_ratio_where_it_is_known():
    """Next states are N(0, 1) in the source and N(1, 1) in the target: ln P_T / P_S = s' - 1/2."""
    config = StepClassifierConfig(noise=0.0, learning_rate=1e-2, hidden=(16,))
    draw = np.random.default_rng(0)
    count = 512

    def batch():
        same = draw.normal(size=(2, 2 * count, 1))
        following = draw.normal(size=(2 * count, 1)) + np.repeat([0.0, 1.0], count)[:, None]
        return Batch(*(jnp.asarray(x, jnp.float32) for x in (same[0], same[1], np.zeros(2 * count), following,
                       np.zeros(2 * count))), {}, {}, count)  # fmt: skip

    learned = config.init(SIZES, jax.random.key(0))
    learn = jax.jit(config.learn)
    for number in range(300):
        learned, _ = learn(learned, batch(), jax.random.key(number))
    rows = batch()
    error = learned.log_ratio(rows) - (rows.next_observation[:, 0] - 0.5)
    assert float(jnp.sqrt(jnp.mean(error**2))) < 0.25


@pytest.mark.slow
def test_what_a_terminal_row_is_said_to_lead_to_teaches_nothing(rows):
    config = StepClassifierConfig(hidden=(4,))
    learned = config.init(SIZES, jax.random.key(0))
    other = dataclasses.replace(rows, next_observation=rows.next_observation.at[1].set(-5.0).at[3].set(7.0))
    learn = jax.jit(config.learn)
    one, two = (learn(learned, batch, jax.random.key(1))[0] for batch in (rows, other))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)
    third, _ = learn(learned, dataclasses.replace(rows, next_observation=rows.next_observation + 1), jax.random.key(1))
    assert float(jnp.abs(third.step.weights[0] - one.step.weights[0]).max()) > 1e-6


# --- H2O ---


def test_h2o_weighs_source_rows_by_the_ratio(rows):
    learned = StepClassifiers(linear([0.0, 0.0, 4.0]), linear([0.0, 0.0]), ())
    weights, _ = H2O().weigh(step_of(rows, learned=learned))
    np.testing.assert_allclose(weights.critic, [math.exp(-1.0), 1.0, 1.0, 1.0], rtol=1e-6)
    assert weights.policy.tolist() == [1.0] * 4
    far, _ = H2O(least_ratio=0.5).weigh(step_of(rows, learned=learned))
    assert float(far.critic[0]) == pytest.approx(0.5)


def test_h2o_pushes_source_values_where_the_dynamics_depart():
    """Of two rows the first departs (by 1 and 3), the second is likelier in the target: all weight on the first."""
    weight = gap_weights(jnp.array([[-1.0, 2.0], [-3.0, 4.0]]))
    np.testing.assert_allclose(weight, [1.0, 0.0], atol=1e-6)
    likelier = gap_weights(jnp.array([[1.0, 2.0]]))  # no row departs: all count alike, and Q keeps a finite slope
    np.testing.assert_allclose(likelier, [0.5, 0.5])
    slope = jax.grad(lambda source: pushed_gap(source, likelier, jnp.zeros((1, 1)), 1e3))(jnp.array([[3.0, 3.0]]))
    np.testing.assert_allclose(slope, [[0.5, 0.5]], rtol=1e-6)
    source, target = jnp.array([[2.0, 50.0], [1.0, 0.0]]), jnp.array([[1.0, 3.0], [0.0, 0.0]])
    assert float(pushed_gap(source, weight, target, 1e3)) == pytest.approx((2.0 - 2.0) + (1.0 - 0.0), abs=1e-5)
    half = jnp.array([0.5, 0.5])
    by_hand = math.log(0.5 * math.exp(1.0) + 0.5)
    assert float(pushed_gap(source[1:], half, target[1:], 1e3)) == pytest.approx(by_hand, rel=1e-5)
    assert float(pushed_gap(source[:1], half, target[:1], 5.0)) == 5.0


def test_h2os_term_lowers_source_values_and_lifts_target_values(rows):
    learned = StepClassifiers(linear([0.0, 0.0, 4.0]), linear([0.0, 0.0]), ())
    step = step_of(rows, learned=learned)
    slope = jax.grad(lambda values: H2O().critic_term(step, values))(jnp.zeros((2, 4)))
    assert (slope[:, :2] >= 0).all()
    np.testing.assert_allclose(slope[:, :2].sum(axis=1), 5.0, rtol=1e-5)
    np.testing.assert_allclose(slope[:, 2:], -2.5)


def test_h2os_loss_is_half_of_what_its_authors_add_up(rows):
    """Mean over target rows of (Q - b)², over source rows of w (Q - b)², and β times the gap: all of one proportion."""
    learned = StepClassifiers(linear([0.0, 0.0, 4.0]), linear([0.0, 0.0]), ())
    rule, backup = H2O(gap_weight=3.0), jnp.array([1.0, -2.0, 0.5, 4.0])
    step = step_of(rows, learned=learned)

    def ours(values):
        return critic_error(rule, step, rule.weigh(step)[0], values, backup)

    def theirs(values):
        error, weight = (values - backup) ** 2, rule.weigh(step)[0].critic[:2]
        ratios = rule._ratios_of_copies(step, jnp.std(rows.observation[2:], axis=0))
        gap = jax.nn.logsumexp(values[:, :2], axis=1, b=gap_weights(ratios)) - jnp.mean(values[:, 2:], axis=1)
        source = jnp.mean(weight * error[:, :2], axis=1)
        return jnp.sum(jnp.mean(error[:, 2:], axis=1) + source + 3.0 * gap)

    values = jnp.array([[0.3, 1.0, -1.0, 2.0], [0.0, 0.5, 0.2, -3.0]])
    both = jax.jit(lambda values: [jax.value_and_grad(loss)(values) for loss in (ours, theirs)])
    (one, slope), (other, steeper) = both(values)
    assert float(one) == pytest.approx(0.5 * float(other), rel=1e-5)
    np.testing.assert_allclose(slope, 0.5 * steeper, rtol=1e-5)


# --- PAR ---


def test_departure_by_hand():
    found = departure(jnp.array([[1.0, 2.0], [1.0, 2.0]]), jnp.array([[0.0, 4.0], [0.0, 4.0]]), jnp.array([0.0, 1.0]))
    assert found.tolist() == [2.5, 0.0]


def test_par_takes_from_source_rewards_alone(rows):
    rule = PAR(penalty=3.0, latent_size=4, hidden=(8,))
    step = step_of(rows, learned=rule.init_learned(SIZES, jax.random.key(0)))
    taken = rows.reward - rule.reward(step)
    assert float(taken[0]) > 0
    assert taken[1:].tolist() == [0.0, 0.0, 0.0]  # the second is terminal, the others are the target's
    slow = step.learned.slow
    by_hand = jnp.mean(
        (slow.following(rows.observation[0], rows.action[0]) - slow.encode(rows.next_observation[0])) ** 2
    )
    assert float(taken[0]) == pytest.approx(3.0 * float(by_hand), rel=1e-5)


@pytest.mark.slow
def test_par_learns_from_target_rows_alone(rows):
    rule = PAR(latent_size=4, hidden=(8,))
    learned = rule.init_learned(SIZES, jax.random.key(0))
    observe = jax.jit(lambda batch: rule.observe(step_of(batch, learned=learned))[0])
    once = observe(rows)
    source = dataclasses.replace(rows, action=rows.action.at[0].set(-1.0), reward=rows.reward.at[0].set(9.0))
    np.testing.assert_array_equal(observe(source).fast.dynamics.weights[0], once.fast.dynamics.weights[0])
    target = observe(dataclasses.replace(rows, action=rows.action.at[2].set(-1.0)))
    assert float(jnp.abs(target.fast.dynamics.weights[0] - once.fast.dynamics.weights[0]).max()) > 0
    moved = jax.tree.map(
        lambda slow, fast, old: slow - (old + 0.005 * (fast - old)), once.slow, once.fast, learned.slow
    )
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(moved)) < 1e-7


# --- VGDF online ---


def test_the_best_share_counts():
    assert likely(jnp.array([3.0, 1.0, 2.0, 4.0]), 0.25).tolist() == [0.0, 0.0, 0.0, 1.0]
    assert likely(jnp.array([3.0, 1.0, 2.0, 4.0]), 0.5).tolist() == [1.0, 0.0, 0.0, 1.0]


def members(*means):
    """Members that predict these changes [s' - s, r] everywhere."""
    networks = []
    for change, reward in means:
        network = mlp(jax.random.key(0), (2, 4))
        bias = jnp.array([change, reward, 0.0, 0.0])
        networks.append(dataclasses.replace(network, weights=(jnp.zeros((2, 4)),), biases=(bias,)))
    return Members(tuple(networks), ())


def test_vgdf_online_scores_backups_by_hand(rows):
    """V(s) = s, γ = 0.9. Members: r̂ + 0.9 (s + change)."""
    step = step_of(rows, learned=members((0.0, 1.0), (0.2, 2.0)))
    score = VGDFOnline(members=2).score(step)
    b = np.array([1.0 + 0.9 * 0.1, 2.0 + 0.9 * 0.3])
    own = 1.0 + 0.9 * -0.25
    assert float(score[0]) == pytest.approx(-0.5 * ((own - b.mean()) / b.std()) ** 2 - math.log(b.std()), rel=1e-4)
    weights, _ = VGDFOnline(members=2, keep=0.5, after=0.03).weigh(step)
    assert weights.critic.tolist() == [1.0] * 4
    late, _ = VGDFOnline(members=2, keep=0.5, after=0.03).weigh(dataclasses.replace(step, number=jnp.asarray(3)))
    # The second row is terminal: its own backup is 2, the members' are 1 and 2.
    assert late.critic.tolist() == [0.0, 1.0, 1.0, 1.0]
    assert late.policy.tolist() == [1.0] * 4


@pytest.mark.slow
def test_the_ensemble_learns_from_target_rows_alone(rows):
    rule = VGDFOnline(members=2, hidden=(4,))
    learned = rule.init_learned(SIZES, jax.random.key(0))
    observe = jax.jit(lambda batch: rule.observe(step_of(batch, learned=learned))[0].networks)
    once = observe(rows)
    source = observe(dataclasses.replace(rows, reward=rows.reward.at[0].set(-9.0)))
    target = observe(dataclasses.replace(rows, reward=rows.reward.at[2].set(-9.0)))
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(source), strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(target), strict=True))


# --- BC-SAC, RLPD, SAC_tune ---


def test_bc_sac_imitates_source_rows_by_hand(rows):
    """mean|V| of 0.1, 0.2, 0.3, 0.4 is 0.25; of 2.5 a tenth. Distances 0.5² and 0.5²."""
    assert float(cloning_weight(jnp.array([-1.0, 3.0]), 4.0)) == 0.5
    term = BCSAC(cloning=2.0).actor_term
    assert float(term(step_of(rows), jnp.zeros((4, 1)))) == pytest.approx(2.0 * 0.1 * 0.25)
    slope = jax.grad(lambda action: term(step_of(rows), action))(jnp.zeros((4, 1)))
    assert slope[2:].tolist() == [[0.0], [0.0]]
    np.testing.assert_allclose(slope[:2, 0], [-0.1, 0.1], rtol=1e-5)  # 2 · 0.1 · 2 (0 - a) / 2 rows


def test_on_which_soft_actor_critic_they_stand():
    assert own_backbone(RLPD) == SAC(layer_norm=True, critics=10, entropy=0.5)
    assert RLPD().shares(256) == (128, 128)
    assert own_backbone(SACTune) == SAC()
    first, second = SACTune().phases(1_000)
    assert (first.updates, first.rule.shares(8), second.updates, second.rule.shares(8)) == (900, (8, 0), 100, (0, 8))
    assert {kind.backbone for kind in (BCSAC, DARC, H2O, PAR, VGDFOnline)} == {"sac"}


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        (DARC, {"bonus_scale": -1.0}, "bonus_scale=-1.0"),
        (H2O, {"least_ratio": 0.0}, "least_ratio=0.0"),
        (H2O, {"copies": 0}, "copies=0"),
        (PAR, {"penalty": math.inf}, "penalty=inf"),
        (PAR, {"latent_size": 0}, "latent_size=0"),
        (VGDFOnline, {"members": 1}, "members=1"),
        (VGDFOnline, {"keep": 0.0}, "keep=0.0"),
        (BCSAC, {"value_weight": 0.0}, "value_weight=0.0"),
        (StepClassifierConfig, {"noise": -1.0}, "noise=-1.0"),
    ],
)
def test_wrong_constants_of_online_rules(kind, settings, says):
    with pytest.raises(UsageError) as caught:
        kind(**settings)
    assert says in str(caught.value)
