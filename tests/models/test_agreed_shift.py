"""The agreed shift: by hand, its loss, and whether it finds a shift of dynamics that is there."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.batch import make_domains
from tabb.errors import UsageError
from tabb.models.agreed_shift import (
    BLOCK,
    AgreedShift,
    Dynamics,
    Shift,
    ShiftEnsemble,
    agreed_shift,
    block_bootstrap,
    dynamics_loss,
)
from tabb.networks import MLP, Normaliser
from tabb.rules import TABB, Pooled
from tabb.training.drawing import pack_data
from tabb.training.loop import Program, compiled_updates
from tabb.transitions import Transitions

SMALL = AgreedShift(heads=2, updates=800, batch_size=64, hidden=32, learning_rate=3e-3)


def silent(what, share):
    pass


def robust(error):
    return math.sqrt(error**2 + 0.01)


def test_agreed_shift_by_hand():
    # One row, two entries, three hypotheses: 3, 4, 5 agree (mean 4, variance 1); -1, 0, 1 do not.
    found = agreed_shift(jnp.array([[[3.0, -1.0], [4.0, 0.0], [5.0, 1.0]]]))
    np.testing.assert_allclose(found, [[4 * (1 - 1 / 16), 0.0]], atol=1e-6)


def test_backup_and_doubt_by_hand():
    predicted = jnp.array([[10.0, 12.0, 6.0], [1.0, 1.0, 1.0]])
    own = jnp.array([8.0, 1.0])
    np.testing.assert_allclose(SMALL.predicted_backup(predicted), [10, 1])
    np.testing.assert_allclose(SMALL.doubt(predicted, own), [(4 + 2) / 2, 0])


def test_outcomes_by_hand():
    """Constants 1 and 3, linear shifts 2 z and 2 z: agreed from all four, then the mean of the linear ones."""
    constant = Shift(jnp.array([[1.0, 0.0], [3.0, 0.0]]))
    linear = Shift(jnp.zeros((2, 2)), jnp.array([[[2.0, 0.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]))
    nothing = Dynamics(MLP((), ()), (constant, linear), jnp.zeros(2), jnp.zeros((2, 2)))
    one = jax.tree.map(lambda leaf: leaf[None], nothing)
    rewards = Normaliser(jnp.array(1.0), jnp.array(5.0))
    ensemble = ShiftEnsemble(one, jnp.array([1.0, 0.0]), jnp.array([2.0, 1.0]), jnp.array([0.1]), rewards)
    rows = Transitions(
        jnp.array([[3.0], [999.0]]),
        jnp.zeros((2, 1)),
        jnp.array([7.0, 8.0]),
        jnp.array([[20.0], [30.0]]),
        jnp.array([0.0, 1.0]),
        jnp.zeros(2, jnp.int32),
    )
    found = SMALL.outcomes(ensemble, rows)
    near, far = 2.0 * (3 - 1) / 2, 2.0 * 5  # the second row's z is cut at 5
    wanted = []
    # A terminal row's next state is not looked at.
    for following, moved in ((20.0, near), (999.0, far)):
        all_of = np.array([1.0, 3.0, moved, moved])
        agreed = all_of.mean() * max(0.0, 1 - all_of.var(ddof=1) / all_of.mean() ** 2)
        wanted.append([[following + 0.1 * agreed], [following + 0.1 * moved]])
    np.testing.assert_allclose(found.following, wanted, rtol=1e-6)
    np.testing.assert_allclose(found.reward, [[7, 7], [8, 8]])
    np.testing.assert_allclose(found.terminal, [[0, 0], [1, 1]])


def test_outcomes_of_target_rows_by_hand():
    """f(s, a) = (s + a, 4) and linear shifts 2 z and 4 z, of which the mean counts; the constant ones say nothing."""
    model = MLP((jnp.array([[1.0, 0.0], [1.0, 0.0]]),), (jnp.array([0.0, 4.0]),))
    constant = Shift(jnp.array([[100.0, 100.0]]))
    linear = Shift(jnp.zeros((2, 2)), jnp.array([[[2.0, 0.0], [4.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]))
    one = jax.tree.map(lambda leaf: leaf[None], Dynamics(model, (constant, linear), jnp.zeros(2), jnp.zeros((2, 2))))
    rewards = Normaliser(jnp.array(1.0), jnp.array(5.0))
    ensemble = ShiftEnsemble(one, jnp.array([1.0, 0.0]), jnp.array([2.0, 1.0]), jnp.array([0.1]), rewards)
    rows = Transitions(
        jnp.array([[3.0]]),
        jnp.array([[0.5]]),
        jnp.array([7.0]),
        jnp.array([[20.0]]),
        jnp.array([1.0]),
        jnp.zeros(1, jnp.int32),
    )
    found = SMALL.target_outcomes(ensemble, rows)
    np.testing.assert_allclose(found.following, [[[3 + 0.1 * (3 + 0.5 + 3 * 1.0)]]], rtol=1e-6)
    np.testing.assert_allclose(found.reward, [[1 + 5 * 4]])
    np.testing.assert_allclose(found.terminal, [[1]])


def test_loss_by_hand_and_who_learns_from_target_rows():
    model = MLP((jnp.array([[1.0, 0.0]]),), (jnp.zeros(2),))  # f(x) = (x, 0)
    shift = Shift(jnp.array([[0.5, 0.0]]), jnp.array([[[1.0, 0.0]]]))  # δ(z) = (0.5 + z, 0)
    dynamics = Dynamics(model, (shift,), jnp.array([math.log(2.0), 0.0]), jnp.zeros((1, 2)))
    source = (jnp.array([[3.0]]), jnp.array([[1.0, 1.0]]), jnp.array([[0.0, 1.0]]))  # terminal: no change to fit
    target = (jnp.array([[1.0]]), jnp.array([[4.0, 0.0]]), jnp.ones((1, 2)))
    z = (jnp.array([[3.0]]), jnp.array([[2.0]]))

    def loss(dynamics, share, penalty=0.1, weight=2.0):
        return dynamics_loss(dynamics, source, target, z, jnp.full((1, 1), weight), share, penalty)

    size = robust(3 / 2) + robust(0) + robust(2 / 2) + robust(0)  # what varies, in units of the scale
    wanted = robust(1) + 0.5 * 2 * (robust(1 + 2.5 - 4) + robust(0)) + 0.5 * 0.1 * size
    assert float(loss(dynamics, 0.3)) == pytest.approx(wanted, rel=1e-5)

    def slope(share, weight):
        return jax.grad(loss)(dynamics, share, 0.0, weight)

    def of_model(share):
        """What target rows add to the model's gradient."""
        return np.asarray(slope(share, 2.0).model.weights[0] - slope(share, 0.0).model.weights[0])

    np.testing.assert_array_equal(of_model(0.0), np.zeros((1, 2)))
    assert abs(of_model(1.0)[0, 0]) > 0.1
    np.testing.assert_allclose(of_model(0.1), 0.1 * of_model(1.0), rtol=1e-4)
    assert float(slope(0.0, 2.0).shifts[0].constant[0, 0]) < -0.1  # too small a shift is to grow


def test_bootstrap_keeps_neighbours_together():
    weights = np.asarray(block_bootstrap(jax.random.key(0), 3 * BLOCK + 7, 4))
    assert weights.shape == (3 * BLOCK + 7, 4)
    np.testing.assert_allclose(weights.mean(0), 1, rtol=1e-5)
    np.testing.assert_array_equal(weights[:BLOCK], np.broadcast_to(weights[0], (BLOCK, 4)))
    assert (np.abs(weights[BLOCK] - weights[BLOCK - 1]) > 1e-6).all()


def walk(shift, count, seed):
    """s' = s + 0.1 a + noise, entry by entry, plus a shift of the first entry."""
    generator = np.random.default_rng(seed)
    s, a = generator.normal(size=(count, 2)).astype(np.float32), generator.uniform(-1, 1, (count, 2))
    following = s + 0.1 * a + 0.02 * generator.normal(size=(count, 2)) + shift * np.array([1, 0])
    return s, a.astype(np.float32), following.astype(np.float32)


@pytest.fixture(scope="module")
def found(rows):
    """Source rows moved by what was fitted, where the target's first entry falls by 0.1 at each step."""
    empty = rows([0, 0], [0, 0], [0, 0], [0, 0])

    def domain(shift, count, seed):
        s, a, following = walk(shift, count, seed)
        return dataclasses.replace(
            empty,
            observation=s,
            action=a,
            reward=np.zeros(count, np.float32),
            next_observation=following,
            terminal=np.zeros(count, np.float32),
            episode=np.zeros(count, np.int32),
        )

    domains = make_domains(domain(0.0, 4_000, 0), domain(-0.1, 1_000, 1), "none")
    ensemble = SMALL.fit(domains, jax.random.key(0), silent)
    some = domains.source[np.arange(500)]
    outcome = SMALL.outcomes(ensemble, some)
    return domains, ensemble, np.asarray(outcome.following - some.next_observation[:, None])


def test_a_shift_that_is_there_is_agreed_on(found):
    _, _, moved = found
    assert moved.shape == (500, 7, 2)  # agreed, and two that vary for each of three models
    np.testing.assert_allclose(moved[:, 0].mean(0), [-0.1, 0.0], atol=0.03)
    assert np.abs(moved[:, 0, 1]).mean() < 0.5 * np.abs(moved[:, 1:, 1]).mean(), "no shift is what is left of noise"


def test_fit_repeats_and_template_has_its_shapes(found, same_bits):
    domains, ensemble, _ = found
    assert same_bits(ensemble, SMALL.fit(domains, jax.random.key(0), silent))
    template = TABB(predictor=SMALL).template(domains, jax.random.key(1))
    assert jax.tree.structure(template) == jax.tree.structure(ensemble)
    assert [leaf.shape for leaf in jax.tree.leaves(template)] == [leaf.shape for leaf in jax.tree.leaves(ensemble)]


@pytest.mark.slow
def test_neutral_is_pooled_bit_for_bit(domains, sizes, backbone, same_bits, largest_difference):
    rule = TABB(predictor=dataclasses.replace(SMALL, updates=5))
    models = rule.prepare(domains, jax.random.key(3), silent)
    data = pack_data(domains, rule.columns(models, domains))

    def after(rule, models, data):
        learner = Program(backbone, rule, 6)
        state = learner.init(sizes, jax.random.key(1))
        return compiled_updates(learner, models, data, jax.random.key(2), state, 0, 6)[0]

    pooled = after(Pooled(), (), pack_data(domains, {}))
    neutral = dataclasses.replace(rule, temperature=math.inf, imitate_source=1.0)
    assert same_bits(after(neutral, models, data), pooled)
    assert largest_difference(after(rule, models, data).critic, pooled.critic) > 1e-5


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"target_shares": ()}, "target_shares"),
        ({"target_shares": (0.5, 1.5)}, "target_shares"),
        ({"shift_penalty": -1.0}, "shift_penalty=-1.0"),
    ],
)
def test_wrong_settings(settings, says):
    with pytest.raises(UsageError, match=says) as caught:
        AgreedShift(**settings)
    assert "\n" not in str(caught.value)
