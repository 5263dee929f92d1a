"""TD3+BC, CQL and BCQ: formulas by hand, a whole update written out again, seams, runs cut and resumed, policies."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tabb.backbones import BACKBONES, BCQ, CQL, IQL, TD3BC, own_backbone
from tabb.backbones.bcq import perturbed, soft_clipped_value
from tabb.backbones.cql import conservative_gap, mean_policy, squashed_sample
from tabb.backbones.td3_bc import cloned_improvement, smoothed_action
from tabb.candidate_policy import CandidatePolicy
from tabb.errors import RunError, UsageError
from tabb.networks import MLP, Normaliser, mlp
from tabb.policy import Policy
from tabb.rules import BOSA, TABB, Pooled, PredictorConfig, Rule, TargetOnly
from tabb.rules.rule import Weights
from tabb.training import Settings, train
from tabb.training.checkpoint import load_tree, save_tree
from tabb.training.loop import Learner, compiled_updates, compiled_updates_of_seeds, pack_data

SMALL = {"hidden": (16, 16), "batch_size": 16, "learning_rate": 1e-2}
SMALLS = {
    "td3-bc": TD3BC(**SMALL),
    "cql": CQL(**SMALL, actions=2, policy_learning_rate=1e-2),
    "bcq": BCQ(**SMALL, cvae_hidden=(16,), candidates=3),
}
WEIGHING = ("td3-bc", "cql")
TABB_SMALL = TABB(predictor=PredictorConfig(heads=2, updates=1, hidden=8, batch_size=8))
TABB_NEUTRAL = dataclasses.replace(TABB_SMALL, temperature=math.inf, imitate_source=1.0)


@pytest.fixture(scope="module")
def prepared(domains):
    models = TABB_SMALL.prepare(domains, jax.random.key(3), lambda what, share: None)
    return models, pack_data(domains, TABB_SMALL.columns(models, domains))


@pytest.fixture(scope="module")
def run(prepared, sizes):
    """`run(backbone, rule, cuts)`: state and metrics after 8 updates, in calls that end at `cuts`."""

    def run(name, rule, cuts=(8,), key=2, init=1):
        learner = Learner(SMALLS[name], rule, 8)
        models, data = prepared
        state, first = learner.init(sizes, jax.random.key(init)), 0
        for last in cuts:
            state, metrics = compiled_updates(learner, models, data, jax.random.key(key), state, first, last)
            first = last
        return state, metrics

    return functools.cache(run)


# --- all of them ---


def test_tabb_learns_from_source_states_where_the_critics_bootstrap_from_the_policy():
    assert [Learner(backbone, TABB(), 1).rule.imitate_source for backbone in (IQL(), TD3BC(), CQL())] == [0, 1, 1]
    assert Learner(TD3BC(), TABB(imitate_source=0.5), 1).rule.imitate_source == 0.5


def test_names():
    assert BACKBONES == {"iql": IQL, "td3-bc": TD3BC, "cql": CQL, "bcq": BCQ}
    assert own_backbone(TABB) == IQL()
    assert own_backbone(BOSA()) == TD3BC(value_weight=1.0, cloning=0.0)


@pytest.mark.parametrize("name", SMALLS)
def test_cut_into_calls_is_the_same_run(name, run, same_bits):
    # Cut after an odd number: the policy's delay counts on the update's number, not on the call.
    assert same_bits(run(name, Pooled())[0], run(name, Pooled(), (3, 8))[0])


@pytest.mark.parametrize("name", SMALLS)
def test_resumed_from_a_checkpoint_is_the_same_run(name, run, prepared, sizes, tmp_path, same_bits):
    half, _ = run(name, Pooled(), (5,))
    save_tree(tmp_path / "state.npz", half, {})
    learner = Learner(SMALLS[name], Pooled(), 8)
    state, _ = load_tree(tmp_path / "state.npz", learner.init(sizes, jax.random.key(9)))
    state, _ = compiled_updates(learner, *prepared, jax.random.key(2), state, 5, 8)
    assert same_bits(state, run(name, Pooled())[0])


@pytest.mark.parametrize("name", SMALLS)
def test_a_seed_axis_is_the_seed_alone(name, run, prepared, sizes, largest_difference):
    learner, (_, data) = Learner(SMALLS[name], Pooled(), 8), prepared
    states = [learner.init(sizes, jax.random.key(seed)) for seed in (1, 7)]
    keys = jnp.stack([jax.random.key(2), jax.random.key(3)])
    both, _ = compiled_updates_of_seeds(
        learner,
        (),
        data._replace(columns=None),
        keys,
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *states),
        jnp.asarray(0),
        jnp.asarray(8),
    )
    alone = [run(name, Pooled())[0], run(name, Pooled(), (8,), 3, 7)[0]]
    for lane, wanted in enumerate(alone):
        assert largest_difference(jax.tree.map(lambda leaf, lane=lane: leaf[lane], both), wanted) < 1e-4
    assert largest_difference(*alone) > 1e-2


@pytest.mark.parametrize("name", WEIGHING)
def test_neutral_tabb_is_pooled_bit_for_bit(name, run, same_bits, largest_difference):
    assert same_bits(run(name, TABB_NEUTRAL)[0], run(name, Pooled())[0])
    assert largest_difference(run(name, TABB_SMALL)[0].critic, run(name, Pooled())[0].critic) > 1e-4


@pytest.mark.parametrize("name", SMALLS)
def test_every_network_learns_and_numbers_stay_finite(name, run, sizes, largest_difference):
    begun = Learner(SMALLS[name], Pooled(), 8).init(sizes, jax.random.key(1))
    state, metrics = run(name, Pooled())
    for part in begun._fields:
        if part in ("latents", "learned"):
            continue
        assert largest_difference(getattr(begun, part), getattr(state, part)) > 0, part
    assert all(np.isfinite(float(value)) for value in metrics.values())


@dataclasses.dataclass(frozen=True)
class Blind(Rule):
    """Weighs row 2 of the batch by nothing, in every loss."""

    def weigh(self, models, batch, features, value, discount):
        weight = jnp.ones(len(batch)).at[2].set(0.0)
        return Weights(weight, weight, weight), {}


@pytest.mark.parametrize("name", WEIGHING)
def test_a_row_of_weight_zero_changes_nothing(name, batch, sizes, same_bits):
    # Not through batch statistics either: TD3+BC's mean |Q|, the entropy that CQL tunes.
    other = dataclasses.replace(
        batch,
        observation=batch.observation.at[2].set(3.0),
        action=batch.action.at[2].set(-0.9),
        reward=batch.reward.at[2].set(1e4),
        next_observation=batch.next_observation.at[2].set(-7.0),
        terminal=batch.terminal.at[2].set(1.0),
    )

    @functools.partial(jax.jit, static_argnums=0)
    def update(rule, batch):
        learner = Learner(SMALLS[name], rule, 8)
        state = learner.init(sizes, jax.random.key(1))
        return learner.update((), state, batch, jax.random.key(2), jnp.asarray(1))[0]

    assert same_bits(update(Blind(), batch), update(Blind(), other))
    assert not same_bits(update(Pooled(), batch), update(Pooled(), other))


@pytest.mark.parametrize("name", SMALLS)
def test_train_save_load_act(name, pair, tmp_path):
    settings = Settings(updates=4, evaluations=0, backbone=SMALLS[name])
    (done,) = train(Pooled(), *pair, settings=settings, folder=tmp_path)
    observation = np.random.default_rng(0).normal(size=(5, 3))
    actions = done.policy.act(observation)
    assert actions.shape == (5, 2)
    assert np.abs(actions).max() <= 1
    loaded = Policy.load(tmp_path / "seed0")
    assert type(loaded) is type(done.policy)
    assert loaded.about["backbone"] == name
    np.testing.assert_array_equal(loaded.act(observation), actions)
    np.testing.assert_allclose(loaded.act(observation[0]), actions[0], atol=1e-6)  # one observation, no batch
    (again,) = train(Pooled(), *pair, settings=settings, folder=tmp_path, resume=True)
    np.testing.assert_array_equal(again.policy.act(observation), actions)


def test_learners_that_cannot_be(pair):
    with pytest.raises(UsageError, match="bcq takes the rules pooled and target-only, not tabb"):
        train(TABB(), *pair, settings=Settings(updates=2, backbone=BCQ()))
    latent = TABB(predictor=PredictorConfig(space="latent"))
    with pytest.raises(UsageError, match="latent needs backbone iql, not cql"):
        train(latent, *pair, settings=Settings(updates=2, backbone=CQL()))
    SMALLS["bcq"].check_rule(TargetOnly())


@pytest.mark.parametrize(
    ("backbone", "constants", "says"),
    [
        (TD3BC, {"policy_delay": 0}, "policy_delay=0"),
        (TD3BC, {"noise": -1.0}, "noise=-1.0"),
        (TD3BC, {"discount": 0.0}, "discount=0.0"),
        (TD3BC, {"hidden": ()}, "hidden=()"),
        (CQL, {"actions": 0}, "actions=0"),
        (CQL, {"conservatism": math.nan}, "conservatism=nan"),
        (CQL, {"batch_size": 1}, "batch_size=1"),
        (BCQ, {"pessimism": 1.5}, "pessimism=1.5"),
        (BCQ, {"candidates": 0}, "candidates=0"),
        (BCQ, {"cvae_hidden": (0,)}, "cvae_hidden"),
    ],
)
def test_wrong_constants(backbone, constants, says):
    with pytest.raises(UsageError) as caught:
        backbone(**constants)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# --- TD3+BC ---


def test_smoothed_action_by_hand():
    found = smoothed_action(jnp.array([[0.0, 0.9, -0.9]]), jnp.array([[1.0, 10.0, -1.0]]), 0.2, 0.5)
    np.testing.assert_allclose(found, [[0.2, 1.0, -1.0]], atol=1e-6)


def test_cloned_improvement_by_hand():
    found = cloned_improvement(jnp.array([2.0, -4.0]), jnp.array([0.5, 0.0]), jnp.ones(2), 1.5, 2.0)
    np.testing.assert_allclose(found, [-0.5 * 2 + 1.0, 2.0], rtol=1e-6)  # 1.5 / mean |Q| = 0.5
    found = cloned_improvement(jnp.array([2.0, -4.0]), jnp.zeros(2), jnp.array([3.0, 1.0]), 1.5, 2.0)
    np.testing.assert_allclose(found, [-0.6 * 2, 0.6 * 4], rtol=1e-6)  # 1.5 / ((3 * 2 + 4) / 4)
    # the mean of |Q| carries no gradient
    slope = jax.grad(lambda q: jnp.sum(cloned_improvement(q, jnp.zeros(2), jnp.ones(2), 1.5, 1.0)))(
        jnp.array([2.0, -4.0])
    )
    np.testing.assert_allclose(slope, [-0.5, -0.5], rtol=1e-6)


@pytest.mark.parametrize("form", ["original", "odrl"])
def test_td3_bc_updates_written_out_again(form, batch, sizes):
    """Three updates, row by row and without the library's helpers; Adam is optax's in both."""
    backbone = TD3BC(**SMALL, **(TD3BC.presets["odrl"] if form == "odrl" else {}))
    learner = Learner(backbone, Pooled(), 3)
    state = learner.init(sizes, jax.random.key(5))
    state = state._replace(slow_critic=learner.init(sizes, jax.random.key(6)).critic)
    state = state._replace(slow_policy=learner.init(sizes, jax.random.key(7)).policy)
    adam = optax.adam(1e-2)
    critics, policy = (state.critic.first, state.critic.second), state.policy
    slow, slow_policy = (state.slow_critic.first, state.slow_critic.second), state.slow_policy
    memory = [adam.init(critics[0]), adam.init(critics[1]), adam.init(policy)]

    def q(network, s, a):
        return network(jnp.concatenate([s, a]))[0]

    update = jax.jit(lambda state, key, number: learner.update((), state, batch, key, number))
    for number in range(3):
        key = jax.random.key(10 + number)
        noise = np.asarray(jax.random.normal(key, (6, 2)))
        state, metrics = update(state, key, jnp.asarray(number))
        goals = []
        for i in range(6):
            following = batch.next_observation[i]
            action = jnp.tanh((policy if form == "odrl" else slow_policy)(following))
            if form == "original":
                action = jnp.clip(action + np.clip(0.2 * noise[i], -0.5, 0.5), -1, 1)
            ahead = min(q(slow[0], following, action), q(slow[1], following, action))
            goals.append(batch.reward[i] + 0.99 * (1 - batch.terminal[i]) * ahead)

        def critic_loss(network, goals=tuple(goals)):
            return sum((q(network, batch.observation[i], batch.action[i]) - goals[i]) ** 2 for i in range(6)) / 6

        losses, moved = [], []
        for j in range(2):
            loss, gradient = jax.value_and_grad(critic_loss)(critics[j])
            step, memory[j] = adam.update(gradient, memory[j])
            losses.append(loss)
            moved.append(optax.apply_updates(critics[j], step))
        critics = tuple(moved)
        assert float(metrics["critic_loss"]) == pytest.approx(float(sum(losses)), rel=1e-4)
        if form == "odrl" or number == 1:

            def values(policy, critics=critics):
                actions = [jnp.tanh(policy(s)) for s in batch.observation]
                pairs = list(zip(batch.observation, actions, strict=True))
                first = jnp.stack([q(critics[0], s, a) for s, a in pairs])
                second = jnp.stack([q(critics[1], s, a) for s, a in pairs])
                return jnp.stack(actions), jnp.minimum(first, second) if form == "odrl" else first

            scale = 2.5 / np.abs(values(policy)[1]).mean()

            def policy_loss(policy, scale=scale):
                actions, value = values(policy)
                return jnp.mean(-scale * value) + jnp.mean((actions - batch.action) ** 2)

            step, memory[2] = adam.update(jax.grad(policy_loss)(policy), memory[2])
            policy = optax.apply_updates(policy, step)
            slow, slow_policy = (
                jax.tree.map(lambda s, f: 0.995 * s + 0.005 * f, old, new)
                for old, new in ((slow, critics), (slow_policy, policy))
            )
        wanted = (critics, slow, policy, slow_policy)
        ours = (
            (state.critic.first, state.critic.second),
            (state.slow_critic.first, state.slow_critic.second),
            state.policy,
            state.slow_policy,
        )
        for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(ours), strict=True):
            np.testing.assert_allclose(a, b, atol=3e-5)


# --- CQL ---


def test_density_of_a_squashed_sample_integrates_to_one():
    policy = MLP((jnp.zeros((1, 2)),), (jnp.array([0.3, math.log(0.7)]),))

    noise = np.linspace(-7, 7, 4001)
    action, log_density = squashed_sample(policy, jnp.zeros((4001, 1)), jnp.asarray(noise[:, None], jnp.float32))
    np.testing.assert_allclose(action[:, 0], np.tanh(0.3 + 0.7 * noise), atol=1e-6)
    x, density = np.tanh(0.3 + 0.7 * noise), np.exp(np.asarray(log_density, np.float64))
    assert np.sum(0.5 * (density[1:] + density[:-1]) * np.diff(x)) == pytest.approx(1.0, abs=1e-4)
    # far out, where 1 - tanh² is zero in single precision
    _, far = squashed_sample(policy, jnp.zeros(1), jnp.asarray([20.0], jnp.float32))
    assert float(far) == pytest.approx(
        -200 - math.log(0.7) - 0.5 * math.log(2 * math.pi) - 2 * (math.log(2) - 14.3), rel=1e-5
    )


def test_conservative_gap_by_hand():
    sampled = jnp.array([[[1.0, 2.0]], [[0.0, 0.0]]])
    density = jnp.log(jnp.array([[0.5, 0.25]]))
    found = conservative_gap(sampled, density, jnp.array([[3.0], [1.0]]))
    wanted = [[math.log(math.e / 0.5 + math.e**2 / 0.25) - 3.0], [math.log(2 + 4) - 1.0]]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_candidates_are_what_their_densities_say(batch, sizes):
    backbone = CQL(**SMALL, actions=4)
    state = backbone.init(Pooled(), sizes, 10, jax.random.key(0))
    actions, log_density = backbone._candidates(state.policy, batch, jax.random.key(1))
    assert actions.shape == (6, 12, 2)
    np.testing.assert_allclose(log_density[:, :4], 2 * math.log(0.5))
    for part, states in ((slice(4, 8), batch.observation), (slice(8, 12), batch.next_observation)):
        mean, log_deviation = np.split(np.asarray(state.policy(states), np.float64), 2, axis=-1)
        inner = np.arctanh(np.asarray(actions[:, part], np.float64))
        deviation = np.exp(log_deviation)[:, None]
        normal = -0.5 * ((inner - mean[:, None]) / deviation) ** 2 - np.log(deviation * math.sqrt(2 * math.pi))
        wanted = (normal - np.log(1 - np.tanh(inner) ** 2)).sum(-1)
        np.testing.assert_allclose(log_density[:, part], wanted, atol=2e-3)


def test_conservatism_lowers_sampled_actions_against_the_datas(run, domains, sizes):
    # Data of actions near 0: where they are uniform, as sampled ones are, there is nothing to lower.
    near = {
        part: dataclasses.replace(getattr(domains, part), action=0.1 * getattr(domains, part).action)
        for part in ("source", "target")
    }
    domains = domains._replace(**near)

    def gap(conservatism):
        backbone = dataclasses.replace(SMALLS["cql"], conservatism=conservatism)
        learner, data = Learner(backbone, Pooled(), 200), pack_data(domains, {})
        state = learner.init(sizes, jax.random.key(1))
        _, metrics = compiled_updates(learner, (), data, jax.random.key(2), state, 0, 200)
        return float(metrics["conservative_gap"])

    assert gap(10.0) < gap(0.0) - 0.2


def test_entropy_weight_follows_the_wanted_entropy(batch, sizes):
    """A policy of less entropy than -A is to be paid more for it, one of more entropy less."""
    backbone = SMALLS["cql"]
    learner = Learner(backbone, Pooled(), 10)
    for log_deviation, rises in ((-6.0, True), (0.0, False)):
        state = learner.init(sizes, jax.random.key(0))
        last = state.policy.biases[-1].at[2:].set(log_deviation)
        weights = (*state.policy.weights[:-1], jnp.zeros_like(state.policy.weights[-1]))
        state = state._replace(policy=MLP(weights, (*state.policy.biases[:-1], last)))
        after, _ = learner.update((), state, batch, jax.random.key(1), jnp.asarray(0))
        assert (float(after.log_entropy_weight) > 0) == rises


def test_deployed_policy_is_the_mean_action(run):
    state, _ = run("cql", Pooled())
    policy = SMALLS["cql"].policy(state, Normaliser(jnp.zeros(3), jnp.ones(3)), {})
    x = jnp.asarray([[0.1, -0.2, 0.3]])
    np.testing.assert_allclose(policy.act(x), squashed_sample(state.policy, x, jnp.zeros((1, 2)))[0], atol=1e-6)
    np.testing.assert_array_equal(mean_policy(state.policy)(x), state.policy(x)[:, :2])


# --- BCQ ---


def test_soft_clipped_value_and_perturbation_by_hand():
    values = jnp.array([[[1.0, 5.0]], [[3.0, 1.0]]])  # two critics, one row, two candidates
    np.testing.assert_allclose(soft_clipped_value(values, 0.75), [0.75 * 1 + 0.25 * 5])
    np.testing.assert_allclose(soft_clipped_value(values, 0.0), [5.0])
    up = MLP((jnp.zeros((3, 2)),), (jnp.array([100.0, -100.0]),))
    found = perturbed(up, jnp.zeros((1, 1)), jnp.array([[0.97, 0.5]]), 0.05)
    np.testing.assert_allclose(found, [[1.0, 0.45]], atol=1e-6)


@pytest.fixture(scope="module")
def candidate_policy():
    keys = jax.random.split(jax.random.key(0), 4)
    decoder, perturbation, critic = (
        mlp(key, widths) for key, widths in zip(keys[:3], ((3 + 4, 8, 2), (3 + 2, 8, 2), (3 + 2, 8, 1)), strict=True)
    )
    latents = jax.random.normal(keys[3], (7, 4))
    normaliser = Normaliser(jnp.array([0.5, 0.0, 0.0]), jnp.array([2.0, 1.0, 1.0]))
    networks = (decoder, perturbation, critic, latents)
    return networks, CandidatePolicy.from_candidates(*networks, 0.05, normaliser, {"task": None})


def test_acting_takes_the_candidate_of_the_highest_value(candidate_policy):
    (decoder, perturbation, critic, latents), policy = candidate_policy
    for observation in np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32):
        x = (observation - np.array([0.5, 0, 0])) / np.array([2, 1, 1])
        best, highest = None, -math.inf
        for latent in latents:
            action = jnp.tanh(decoder(jnp.concatenate([x, latent])))
            action = jnp.clip(action + 0.05 * jnp.tanh(perturbation(jnp.concatenate([x, action]))), -1, 1)
            value = float(critic(jnp.concatenate([x, action]))[0])
            if value > highest:
                best, highest = action, value
        np.testing.assert_allclose(policy.act(observation), best, atol=1e-5)


def test_candidate_policy_of_damaged_files(candidate_policy, tmp_path):
    _, policy = candidate_policy
    file = policy.save(tmp_path / "policy.npz")
    with np.load(file, allow_pickle=False) as content:
        arrays = {name: content[name] for name in content.files}
    for change, says in (
        ({"critic_weight_0": np.zeros((4, 8), np.float32)}, "do not fit together"),
        ({"latents": np.zeros((7, 3), np.float32)}, "do not fit together"),
        ({"perturbation_bias_1": np.full(2, np.nan, np.float32)}, "not finite"),
        ({"critic_bias_1": None}, "damaged"),
        ({"weight_1": None, "bias_1": None}, "damaged"),
    ):
        changed = {name: array for name, array in (arrays | change).items() if array is not None}
        np.savez(tmp_path / "changed.npz", **changed)
        with pytest.raises(RunError, match=says) as caught:
            Policy.load(tmp_path / "changed.npz")
        assert "\n" not in str(caught.value)
