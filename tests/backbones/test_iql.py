"""Whole IQL updates against an implementation in NumPy that shares nothing with the library."""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.backbones import Inputs
from tabb.backbones.iql import IQL
from tabb.batch import Batch, Sizes
from tabb.errors import UsageError
from tabb.rules.baselines import Pooled

UPDATES = 4
UNUSED = (jax.random.key(0), jnp.asarray(0))  # IQL draws nothing and treats every update alike
ALGORITHM = IQL(
    policies=1,
    expectile=0.8, temperature=4.0, largest_advantage_weight=2.0, discount=0.9, slow_rate=0.25, learning_rate=0.01,
    hidden=(5, 4), batch_size=8, layer_norm=False,
)  # fmt: skip


# --- NumPy: a network is a list [W1, b1, W2, b2, ...] ---


def forward(network, x):
    """Output, and what the backward pass needs."""
    inputs = []
    for i in range(0, len(network), 2):
        inputs.append(x)
        x = x @ network[i] + network[i + 1]
        if i < len(network) - 2:
            x = np.where(x > 0, x, 0)
    return x, inputs


def backward(network, inputs, slope):
    """Gradient of a scalar by every array of the network; `slope` is its gradient by the output."""
    gradient = [None] * len(network)
    for i in reversed(range(0, len(network), 2)):
        x = inputs[i // 2]
        gradient[i], gradient[i + 1] = x.T @ slope, slope.sum(axis=0)
        slope = (slope @ network[i].T) * (x > 0)
    return gradient


class Adam:
    def __init__(self, network):
        self.mean = [np.zeros_like(a) for a in network]
        self.square = [np.zeros_like(a) for a in network]
        self.count = 0

    def __call__(self, network, gradient, rate):
        self.count += 1
        result = []
        for i, g in enumerate(gradient):
            self.mean[i] = 0.9 * self.mean[i] + 0.1 * g
            self.square[i] = 0.999 * self.square[i] + 0.001 * g**2
            mean = self.mean[i] / (1 - 0.9**self.count)
            square = self.square[i] / (1 - 0.999**self.count)
            result.append(network[i] - rate * mean / (np.sqrt(square) + 1e-8))
        return result


class Reference:
    """IQL in the order of the ODRL benchmark."""

    def __init__(self, value, first, second, slow_first, slow_second, policy):
        self.value, self.critics, self.slow, self.policy = (
            value,
            [first, second],
            [slow_first, slow_second],
            policy,
        )
        self.adams = [Adam(network) for network in (value, first, second, policy)]

    def update(self, s, a, r, following, terminal):
        rows = len(r)
        sa = np.concatenate([s, a], axis=1)
        # V on the slow critics
        q = np.minimum(*(forward(network, sa)[0][:, 0] for network in self.slow))
        v, inputs = forward(self.value, s)
        advantage = q - v[:, 0]
        asymmetry = np.where(advantage < 0, 1 - ALGORITHM.expectile, ALGORITHM.expectile)
        slope = -2 * asymmetry * advantage / rows
        self.value = self.adams[0](self.value, backward(self.value, inputs, slope[:, None]), ALGORITHM.learning_rate)
        # Q on the new V
        backup = r + ALGORITHM.discount * (1 - terminal) * forward(self.value, following)[0][:, 0]
        critic_loss = 0.0
        for i in range(2):
            answer, inputs = forward(self.critics[i], sa)
            error = answer[:, 0] - backup
            critic_loss += np.mean(error**2)
            gradient = backward(self.critics[i], inputs, (2 * error / rows)[:, None])
            self.critics[i] = self.adams[1 + i](self.critics[i], gradient, ALGORITHM.learning_rate)
            self.slow[i] = [
                (1 - ALGORITHM.slow_rate) * slow + ALGORITHM.slow_rate * fast
                for slow, fast in zip(self.slow[i], self.critics[i], strict=True)
            ]
        # policy by the advantage from before
        weight = np.minimum(np.exp(ALGORITHM.temperature * advantage), ALGORITHM.largest_advantage_weight)
        mu, inputs = forward(self.policy, s)
        action = np.tanh(mu)
        policy_loss = np.mean(weight[:, None] * (action - a) ** 2)
        slope = weight[:, None] * 2 * (action - a) * (1 - action**2) / action.size
        rate = ALGORITHM.learning_rate * 0.5 * (1 + np.cos(np.pi * self.adams[3].count / UPDATES))
        self.policy = self.adams[3](self.policy, backward(self.policy, inputs, slope), rate)
        return {
            "value_loss": np.mean(asymmetry * advantage**2),
            "critic_loss": critic_loss,
            "policy_loss": policy_loss,
            "mean_value": np.mean(v),
            "mean_backup": np.mean(backup),
        }, advantage


# --- The comparison ---


def arrays(network):
    return [np.asarray(a, np.float64) for pair in zip(network.weights, network.biases, strict=True) for a in pair]


def rows_of(number):
    generator = np.random.default_rng(100 + number)
    s, following = 3 * generator.normal(size=(2, 8, 3))
    a = np.tanh(generator.normal(size=(8, 2)))
    return s, a, generator.normal(size=8), following, np.array([0, 0, 1, 0, 0, 1, 0, 0])


@pytest.fixture(scope="module")
def history():
    """State and metrics after each of three updates, of the library and of the reference."""
    rule, sizes = Pooled(), Sizes(3, 2)
    state = ALGORITHM.init(rule, sizes, UPDATES, jax.random.key(0))
    # A slow critic that differs from the critic from the start, and advantages that meet every branch of the losses.
    slow_critic = jax.tree.map(lambda leaf: 2.5 * leaf, ALGORITHM.init(rule, sizes, UPDATES, jax.random.key(1)).critic)
    value = eqx.tree_at(lambda v: v.biases[-1], state.value, replace_fn=lambda bias: bias - 0.6)
    state = state._replace(slow_critic=slow_critic, value=value)
    reference = Reference(
        *map(arrays, (state.value, state.critic.first, state.critic.second)),
        *map(arrays, (state.slow_critic.first, state.slow_critic.second, state.policy)),
    )
    update = jax.jit(lambda state, batch: ALGORITHM.update(state, Inputs(rule, (), batch, *UNUSED, UPDATES, UPDATES)))
    steps = []
    for number in range(3):
        rows = rows_of(number)
        batch = Batch(
            *(jnp.asarray(column, jnp.float32) for column in rows), columns={}, target_columns={}, source_rows=4
        )
        state, metrics = update(state, batch)
        wanted, advantage = reference.update(*rows)
        networks = {
            "value": (state.value, reference.value),
            "critic, first": (state.critic.first, reference.critics[0]),
            "critic, second": (state.critic.second, reference.critics[1]),
            "slow critic, first": (state.slow_critic.first, reference.slow[0]),
            "slow critic, second": (state.slow_critic.second, reference.slow[1]),
            "policy": (state.policy, reference.policy),
        }
        networks = {name: (arrays(ours), [a.copy() for a in theirs]) for name, (ours, theirs) in networks.items()}
        moments = [
            (state.value_optimiser[0].nu, reference.adams[0].square),
            (state.critic_optimiser[0].nu.first, reference.adams[1].square),
            (state.critic_optimiser[0].nu.second, reference.adams[2].square),
            (state.policy_optimiser[0].nu, reference.adams[3].square),
        ]
        moments = [(arrays(ours), [a.copy() for a in theirs]) for ours, theirs in moments]
        steps.append((networks, moments, metrics, wanted, advantage))
    return steps


def test_rows_make_every_branch_matter(history):
    for *_, advantage in history:
        assert 0 < np.sum(advantage < 0) < 8
        weight = np.exp(ALGORITHM.temperature * advantage)
        assert 0 < np.sum(weight > ALGORITHM.largest_advantage_weight) < 8


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize(
    "name",
    ["value", "critic, first", "critic, second", "slow critic, first", "slow critic, second", "policy"],
)
def test_networks_after_each_update(history, number, name):
    for ours, theirs in zip(*history[number][0][name], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("number", range(3))
def test_second_moments_after_each_update(history, number):
    for ours, theirs in history[number][1]:
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("number", range(3))
def test_metrics_of_each_update(history, number):
    _, _, metrics, wanted, _ = history[number]
    assert set(metrics) == set(wanted)
    for name, number in wanted.items():
        assert float(metrics[name]) == pytest.approx(number, rel=1e-4, abs=1e-6), name


def test_policy_rate_ends_at_zero():
    algorithm = IQL(policies=1, hidden=(4,), batch_size=8)
    state = algorithm.init(Pooled(), Sizes(3, 2), 2, jax.random.key(0))
    update = jax.jit(lambda state, batch: algorithm.update(state, Inputs(Pooled(), (), batch, *UNUSED, 2, 2)))
    batch = Batch(*(jnp.asarray(c, jnp.float32) for c in rows_of(0)), columns={}, target_columns={}, source_rows=4)
    states = [state]
    for _ in range(4):
        states.append(update(states[-1], batch)[0])
    moved = [float(np.max(np.abs(b.policy.weights[0] - a.policy.weights[0]))) for a, b in itertools.pairwise(states)]
    # cos schedule over 2 updates: rate 3e-4, 1.5e-4, 0, 0; V's rate stays.
    assert moved[0] == pytest.approx(3e-4, rel=0.02)
    assert moved[1] == pytest.approx(1.5e-4, rel=0.1)
    assert moved[2:] == [0.0, 0.0]
    assert not np.array_equal(states[3].value.weights[0], states[4].value.weights[0])


def test_slow_critic_starts_as_a_copy_with_buffers_of_its_own(same_bits):
    state = IQL(policies=1, hidden=(4,)).init(Pooled(), Sizes(3, 2), 10, jax.random.key(0))
    assert same_bits(state.critic, state.slow_critic)
    for a, b in zip(jax.tree.leaves(state.critic), jax.tree.leaves(state.slow_critic), strict=True):
        assert a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer()


# --- The policy that climbs Q ---


def _improved(state, rows, rule=None, **constants):
    algorithm = dataclasses.replace(ALGORITHM, extraction="improvement", **constants)
    batch = Batch(*(jnp.asarray(column, jnp.float32) for column in rows), columns={}, target_columns={}, source_rows=4)
    update = jax.jit(
        lambda state, batch: algorithm.update(state, Inputs(rule or Pooled(), (), batch, *UNUSED, UPDATES, UPDATES))
    )
    return update(state, batch)


def test_improvement_climbs_the_new_critic():
    """Loss and gradient of the policy by numerical differences, in NumPy."""
    state = ALGORITHM.init(Pooled(), Sizes(3, 2), UPDATES, jax.random.key(0))
    rows = rows_of(0)
    after, metrics = _improved(state, rows, value_weight=0.7)
    critics = [arrays(after.critic.first), arrays(after.critic.second)]
    s, a = rows[:2]
    scale = None

    def loss(policy):
        nonlocal scale
        action = np.tanh(forward(policy, s)[0])
        q = np.minimum(*(forward(network, np.concatenate([s, action], axis=1))[0][:, 0] for network in critics))
        scale = np.mean(np.abs(q)) if scale is None else scale  # no gradient goes through it
        return np.mean(np.mean((action - a) ** 2, axis=1) - 0.7 * q / scale)

    policy = arrays(state.policy)
    assert float(metrics["policy_loss"]) == pytest.approx(loss(policy), rel=1e-4)
    taken = arrays(after.policy_optimiser[0].mu)  # Adam's first mean: a tenth of the gradient
    for layer, found in zip(policy, taken, strict=True):
        for place in np.ndindex(layer.shape):
            kept = layer[place]
            ends = []
            for step in (1e-5, -1e-5):
                layer[place] = kept + step
                ends.append(loss(policy))
            layer[place] = kept
            assert 10 * found[place] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=2e-3, abs=2e-5)


def test_improvement_of_no_weight_is_cloning():
    state = ALGORITHM.init(Pooled(), Sizes(3, 2), UPDATES, jax.random.key(0))
    rows = rows_of(0)
    _, metrics = _improved(state, rows, value_weight=0.0)
    action = np.tanh(forward(arrays(state.policy), rows[0])[0])
    assert float(metrics["policy_loss"]) == pytest.approx(np.mean((action - rows[1]) ** 2), rel=1e-5)


def test_only_the_policy_differs():
    state = ALGORITHM.init(Pooled(), Sizes(3, 2), UPDATES, jax.random.key(0))
    one, other = (_improved(state, rows_of(0), value_weight=weight)[0] for weight in (0.2, 2.0))
    for name in ("value", "critic", "slow_critic"):
        assert eqx.tree_equal(getattr(one, name), getattr(other, name))
    assert not eqx.tree_equal(one.policy, other.policy)


def test_a_rule_that_does_not_imitate_a_row_does_not_climb_there():
    """TABB leaves source rows to the critics: the policy sees target rows alone, in the scale of Q too."""
    state = ALGORITHM.init(Pooled(), Sizes(3, 2), UPDATES, jax.random.key(0))

    class Aside(Pooled):
        def weigh(self, step):
            weights, metrics = super().weigh(step)
            return weights._replace(policy=jnp.where(jnp.arange(8) < 4, 0.0, 1.0)), metrics

    rows = rows_of(0)
    first, _ = _improved(state, rows, Aside())
    after = arrays(first.policy_optimiser[0].mu)
    target = [column[4:] for column in rows]
    critics = [arrays(first.critic.first), arrays(first.critic.second)]

    def loss(policy):
        action = np.tanh(forward(policy, target[0])[0])
        seen = np.concatenate([target[0], action], axis=1)
        q = np.minimum(*(forward(network, seen)[0][:, 0] for network in critics))
        return np.sum(np.mean((action - target[1]) ** 2, axis=1) - 0.5 * q / scale) / 8

    policy = arrays(state.policy)
    action = np.tanh(forward(policy, target[0])[0])
    seen = np.concatenate([target[0], action], axis=1)
    scale = np.mean(np.abs(np.minimum(*(forward(network, seen)[0][:, 0] for network in critics))))
    last = policy[-1]
    for k in range(last.size):
        kept = last[k]
        last[k] = kept + 1e-5
        up = loss(policy)
        last[k] = kept - 1e-5
        down = loss(policy)
        last[k] = kept
        assert 10 * after[-1][k] == pytest.approx((up - down) / 2e-5, rel=2e-3, abs=2e-5)


def test_an_unknown_extraction_is_refused():
    wrong = IQL()
    object.__setattr__(wrong, "extraction", "climb")  # the tests' own type checks stop it at the door
    with pytest.raises(UsageError, match="extraction='climb' is unknown: use imitation, improvement or optimised"):
        wrong.__post_init__()
