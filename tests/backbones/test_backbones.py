"""The backbones beside IQL alike: seams, runs cut and resumed, seeds as an axis, policies saved, wrong constants."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.backbones import BACKBONES, BCQ, BEAR, CQL, DT, IQL, SAC, TD3BC, Clone, own_backbone
from tabb.errors import UsageError
from tabb.models.imitation import LOGGED
from tabb.networks import members_of
from tabb.policy import Policy
from tabb.rules import BOSA, TABB, LatentPredictor, Pooled, ResidualPredictor, Rule, SourceOnly, TargetOnly
from tabb.rules.rule import Weights
from tabb.training import Settings, train
from tabb.training.checkpoint import load_tree, save_tree
from tabb.training.drawing import pack_data
from tabb.training.loop import Program, compiled_updates, compiled_updates_of_seeds, run_updates

SMALL = {"hidden": (16, 16), "batch_size": 16, "learning_rate": 1e-2}
SMALLS = {
    "td3-bc": TD3BC(**SMALL),
    "cql": CQL(**SMALL, actions=2, policy_learning_rate=1e-2),
    "bcq": BCQ(**SMALL, cvae_hidden=(16,), candidates=3),
    "bear": BEAR(**SMALL, cvae_hidden=(16,), candidates=3, samples=2),
    "clone": Clone(**SMALL),
    "sac": SAC(**SMALL),
}
WEIGHING = ("td3-bc", "cql", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bear", "sac")))
# Those that take long to compile are held to some of the tests in the slow suite alone.
HEAVY = [
    pytest.param(name, marks=pytest.mark.slow) if name in ("bear", "bcq", "cql", "sac") else name for name in SMALLS
]
BEAR_SLOW = [pytest.param(name, marks=pytest.mark.slow) if name in ("bear", "sac") else name for name in SMALLS]
# Interaction runs it in every way that matters; see tests/training/test_interaction.py.
SLOW_SAC = [pytest.param(name, marks=pytest.mark.slow) if name == "sac" else name for name in SMALLS]
TABB_SMALL = TABB(predictor=ResidualPredictor(heads=2, updates=1, hidden=8, batch_size=8))
TABB_NEUTRAL = dataclasses.replace(TABB_SMALL, temperature=math.inf, imitate_source=1.0)


@pytest.fixture(scope="module")
def prepared(domains):
    models = TABB_SMALL.prepare(domains, jax.random.key(3), lambda what, share: None)
    return models, pack_data(domains, TABB_SMALL.columns(models, domains))


@pytest.fixture(scope="module")
def run(prepared, sizes):
    """`run(backbone, rule, cuts)`: state and metrics after 8 updates, in calls that end at `cuts`."""

    def run(name, rule, cuts=(8,), key=2, init=1):
        learner = Program(SMALLS[name], rule, 8)
        models, data = prepared
        state, first = learner.init(sizes, jax.random.key(init)), 0
        for last in cuts:
            state, metrics = compiled_updates(learner, models, data, jax.random.key(key), state, first, last)
            first = last
        return state, metrics

    return functools.cache(run)


def test_tabb_learns_from_source_states_where_the_critics_bootstrap_from_the_policy():
    assert [Program(backbone, TABB(), 1).rule.imitate_source for backbone in (IQL(), TD3BC(), CQL())] == [0, 1, 1]
    assert Program(TD3BC(), TABB(imitate_source=0.5), 1).rule.imitate_source == 0.5


@pytest.mark.parametrize(
    "backbone",
    [IQL(policies=1, **SMALL), SMALLS["td3-bc"], pytest.param(SMALLS["cql"], marks=pytest.mark.slow)],
    ids=lambda one: one.name,
)
def test_layer_norm_is_of_values_alone_and_keeps_them_down_off_the_data(backbone, prepared, sizes):
    """Far from any row a plain critic grows with the distance, a normed one cannot."""
    models, data = prepared
    far = 1e4 * jnp.ones((1, sizes.observation + sizes.action))

    def values(layer_norm):
        learner = Program(dataclasses.replace(backbone, layer_norm=layer_norm), Pooled(), 8)
        state = learner.init(sizes, jax.random.key(1))
        state, _ = compiled_updates(learner, models, data, jax.random.key(2), state, 0, 8)
        assert members_of(state.policy)[0].activation == "relu"  # the only one that a deployed policy knows
        found = [state.critic(far), state.slow_critic(far)]
        if backbone.name == "iql":
            found.append(state.value(far[:, : sizes.observation]))
        return [float(jnp.abs(one).max()) for one in found]

    assert max(values(True)) < 10 < 100 < min(values(False))


def test_names():
    known = {"iql": IQL, "td3-bc": TD3BC, "cql": CQL, "bcq": BCQ, "bear": BEAR, "clone": Clone}
    assert known | {"sac": SAC, "dt": DT} == BACKBONES
    assert own_backbone(TABB) == IQL()
    assert own_backbone(BOSA()) == TD3BC(value_weight=1.0, cloning=0.0)


@pytest.mark.parametrize("name", SLOW_SAC)
def test_cut_into_calls_is_the_same_run(name, run, same_bits):
    # Cut after an odd number: the policy's delay counts on the update's number, not on the call.
    assert same_bits(run(name, Pooled())[0], run(name, Pooled(), (3, 8))[0])


@pytest.mark.parametrize("name", SLOW_SAC)
def test_resumed_from_a_checkpoint_is_the_same_run(name, run, prepared, sizes, tmp_path, same_bits):
    half, _ = run(name, Pooled(), (5,))
    save_tree(tmp_path / "state.npz", half, {})
    learner = Program(SMALLS[name], Pooled(), 8)
    state, _ = load_tree(tmp_path / "state.npz", learner.init(sizes, jax.random.key(9)))
    state, _ = compiled_updates(learner, *prepared, jax.random.key(2), state, 5, 8)
    assert same_bits(state, run(name, Pooled())[0])


@pytest.mark.parametrize("name", HEAVY)
def test_a_seed_axis_is_the_seed_alone(name, run, prepared, sizes, largest_difference):
    learner, (_, data) = Program(SMALLS[name], Pooled(), 8), prepared
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


@pytest.mark.parametrize("name", [name for name in BEAR_SLOW if name not in ("bcq", "clone", "sac")])
def test_neutral_tabb_is_pooled_bit_for_bit(name, run, same_bits, largest_difference):
    assert same_bits(run(name, TABB_NEUTRAL)[0], run(name, Pooled())[0])
    assert largest_difference(run(name, TABB_SMALL)[0].critic, run(name, Pooled())[0].critic) > 1e-4


@pytest.mark.parametrize("name", SLOW_SAC)
def test_every_network_learns_and_numbers_stay_finite(name, run, sizes, largest_difference):
    begun = Program(SMALLS[name], Pooled(), 8).init(sizes, jax.random.key(1))
    state, metrics = run(name, Pooled())
    for part in begun._fields:
        if part in ("latents", "learned", "extra"):
            continue
        assert largest_difference(getattr(begun, part), getattr(state, part)) > 0, part
    assert all(np.isfinite(float(value)) for value in metrics.values())


@dataclasses.dataclass(frozen=True)
class Blind(Rule):
    """Weighs row 2 of the batch by nothing, in every loss."""

    def weigh(self, step):
        weight = jnp.ones(len(step.batch)).at[2].set(0.0)
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
        learner = Program(SMALLS[name], rule, 8)
        state = learner.init(sizes, jax.random.key(1))
        return learner.update((), state, batch, jax.random.key(2), jnp.asarray(1))[0]

    assert same_bits(update(Blind(), batch), update(Blind(), other))
    assert not same_bits(update(Pooled(), batch), update(Pooled(), other))


@pytest.mark.parametrize(
    "name", ["cql", *(pytest.param(name, marks=pytest.mark.slow) for name in ("td3-bc", "bcq", "bear", "sac"))]
)
def test_the_next_state_of_a_terminal_row_is_not_looked_at(name, batch, sizes, same_bits):
    """Not as a place to draw actions from either (CQL's candidates): a file may hold anything there."""

    @jax.jit
    def update(batch):
        learner = Program(SMALLS[name], Pooled(), 8)
        state = learner.init(sizes, jax.random.key(1))
        return learner.update((), state, batch, jax.random.key(2), jnp.asarray(1))[0]

    ended = dataclasses.replace(batch, terminal=batch.terminal.at[2].set(1.0))
    other = dataclasses.replace(ended, next_observation=ended.next_observation.at[2].set(-7.0))
    assert same_bits(update(ended), update(other))


@pytest.mark.parametrize("name", SLOW_SAC)
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


@pytest.mark.parametrize("name", HEAVY)
def test_source_only_is_target_only_on_exchanged_domains(name, pair):
    source, target = pair
    # Which episodes are the best is asked of target rows alone.
    settings = Settings(updates=4, evaluations=0, backbone=SMALLS[name], imitation=LOGGED)
    (one,) = train(SourceOnly(), source, target, settings=settings)
    (other,) = train(TargetOnly(), None, source, settings=settings)
    (own,) = train(TargetOnly(), None, target, settings=settings)
    observation = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_array_equal(one.policy.act(observation), other.policy.act(observation))
    assert not np.array_equal(one.policy.act(observation), own.policy.act(observation))


def test_learners_that_cannot_be(pair):
    with pytest.raises(
        UsageError,
        match="not tabb: it has no place for see_state and see_action and weigh",
    ):
        train(TABB(), *pair, settings=Settings(updates=2, backbone=BCQ()))
    latent = TABB(predictor=LatentPredictor())
    with pytest.raises(UsageError, match="latent needs a backbone with a value network, not cql"):
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
        (BEAR, {"bandwidth": 0.0}, "bandwidth=0.0"),
        (BEAR, {"warm_share": 1.5}, "warm_share=1.5"),
        (BEAR, {"samples": 0}, "samples=0"),
        (Clone, {"learning_rate": math.inf}, "learning_rate=inf"),
    ],
)
def test_wrong_constants(backbone, constants, says):
    with pytest.raises(UsageError) as caught:
        backbone(**constants)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [IQL, TD3BC, Clone], ids=lambda kind: kind.name)
def test_several_policies_act_as_their_mean(kind, domains, sizes):
    """Where the critic does not look at the policy, the first one learns as the only one would."""
    data = pack_data(domains, {})

    def trained(policies):
        learner = Program(kind(hidden=(8,), batch_size=8, policies=policies), Pooled(), 4)
        state = learner.init(sizes, jax.random.key(1))
        state, _ = jax.jit(run_updates, static_argnums=0)(learner, (), data, jax.random.key(2), state, 0, 4)
        return learner.backbone, state

    (_, alone), (backbone, together) = trained(1), trained(3)
    first, *others = together.policy.members
    if kind is not TD3BC:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), first, alone.policy)
    assert all(np.abs(first.weights[0] - other.weights[0]).max() > 0.1 for other in others)
    policy = backbone.policy(together, domains.normaliser, {})
    states = jax.random.normal(jax.random.key(3), (5, 3))
    np.testing.assert_allclose(
        policy.act(states), backbone.acts(together)(domains.normaliser(states)), rtol=1e-5, atol=1e-6
    )


def test_no_policy_is_no_policy():
    with pytest.raises(UsageError, match="policies=0: must be at least 1"):
        IQL(policies=0)
