"""All rival methods alike: the neutral setting, runs cut, seeds as an axis, what is fitted, wrong settings."""

import dataclasses
import functools
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.backbones import own_backbone
from tabb.batch import make_domains
from tabb.errors import UsageError
from tabb.rules import (
    BOSA,
    DARA,
    DROCO,
    DVDF,
    IGDF,
    OTDF,
    RULES,
    SRPO,
    CVAEConfig,
    EnsembleConfig,
    Pooled,
    SparseQConfig,
)
from tabb.training import Settings, train
from tabb.training.loop import Program, compiled_updates, compiled_updates_of_seeds, pack_data

SMALL = {"updates": 40, "batch_size": 16, "hidden": (16,)}
SMALL_ENSEMBLE = EnsembleConfig(members=3, elites=2, updates=40, batch_size=16, hidden=(16, 16))
SMALL_CVAE = CVAEConfig(hidden=(16,), updates=40, batch_size=16)
RIVALS = {
    "dara": DARA(**SMALL),
    "igdf": IGDF(**SMALL, latent_size=4),
    "srpo": SRPO(hidden=(16,)),
    "droco": DROCO(ensemble=SMALL_ENSEMBLE),
    "otdf": OTDF(samples=2, iterations=20, chunk=600, cvae=SMALL_CVAE),
    "dvdf": DVDF(**SMALL, latent_size=4, values=SparseQConfig(updates=40, batch_size=16, hidden=(16,))),
    "bosa": BOSA(members=2, cvae=SMALL_CVAE, least_likelihood=1e-9),
}
NEUTRAL = {
    "dara": {"bonus_scale": 0.0},
    "igdf": {"keep": 1.0, "weight_scale": 0.0},
    "srpo": {"bonus_scale": 0.0},
    "droco": {"penalty_scale": 0.0, "huber_threshold": math.inf},
    "otdf": {"keep": 1.0, "weigh_rows": False, "behaviour_scale": 0.0},
    "dvdf": {"keep": 1.0, "weight_scale": 0.0},
    "bosa": {"policy_scale": 0.0, "least_likelihood": 0.0, "conservatism": 0.0},
}


def silent(what, share):
    pass


@pytest.fixture(scope="module")
def prepared(domains):
    """Models and data of each rival on the session's domains."""
    made = {}
    for name, rule in RIVALS.items():
        models = rule.prepare(domains, jax.random.key(3), silent)
        made[name] = (models, pack_data(domains, rule.columns(models, domains), rule.target_columns(models, domains)))
    return made


@pytest.fixture(scope="module")
def small_backbone(backbone):
    """`small_backbone(rule)`: the rule's own, small."""

    def small(rule):
        sizes = {name: getattr(backbone, name) for name in ("hidden", "batch_size", "learning_rate")}
        return dataclasses.replace(own_backbone(rule), **sizes)

    return small


@pytest.fixture(scope="module")
def run(prepared, sizes, small_backbone):
    """`run(name, rule, cuts)`: state and metrics after 12 updates, in calls that end at `cuts`."""

    def run(name, rule, cuts=(12,)):
        learner = Program(small_backbone(rule), rule, 12)
        models, data = prepared[name]
        state, first = learner.init(sizes, jax.random.key(1)), 0
        for last in cuts:
            state, metrics = compiled_updates(learner, models, data, jax.random.key(2), state, first, last)
            first = last
        return state, metrics

    return run


@pytest.fixture(scope="module")
def pooled_run(domains, sizes, small_backbone):
    """`pooled_run(rule)`: pooled data on the rule's backbone."""

    @functools.cache
    def pooled(backbone):
        learner = Program(backbone, Pooled(), 12)
        state = learner.init(sizes, jax.random.key(1))
        return compiled_updates(learner, (), pack_data(domains, {}), jax.random.key(2), state, 0, 12)[0]

    return lambda rule: pooled(small_backbone(rule))


def test_every_rival_is_on_the_command_line():
    assert set(RIVALS) <= set(RULES)
    assert all(RULES[name] is type(rule) for name, rule in RIVALS.items())


@pytest.mark.parametrize("name", RIVALS)
def test_neutral_is_pooled_bit_for_bit(name, run, pooled_run, same_bits, largest_difference):
    neutral, _ = run(name, dataclasses.replace(RIVALS[name], **NEUTRAL[name]))
    pooled = pooled_run(RIVALS[name])
    assert same_bits(neutral._replace(learned=()), pooled)
    usual, _ = run(name, RIVALS[name])
    assert largest_difference(usual.critic, pooled.critic) > 1e-4


@pytest.mark.parametrize("name", RIVALS)
def test_cut_into_calls_is_the_same_run(name, run, same_bits):
    assert same_bits(run(name, RIVALS[name])[0], run(name, RIVALS[name], (5, 12))[0])


@pytest.mark.parametrize("name", RIVALS)
def test_a_seed_axis_is_the_seed_alone(name, prepared, domains, sizes, small_backbone, run, largest_difference):
    """Two lanes with models, columns and keys of their own: each ends as it would alone."""
    rule, (first, data) = RIVALS[name], prepared[name]
    second = jax.tree.map(lambda leaf: 0.5 * leaf, first)
    other = pack_data(domains, rule.columns(second, domains), rule.target_columns(second, domains))
    learner = Program(small_backbone(rule), rule, 12)
    keys = [jax.random.key(2), jax.random.key(9)]
    states = [learner.init(sizes, jax.random.key(seed)) for seed in (1, 8)]

    def lanes(*trees):
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    both, _ = compiled_updates_of_seeds(
        learner,
        lanes(first, second),
        data._replace(
            columns=lanes(data.columns, other.columns),
            target_columns=data.target_columns and lanes(data.target_columns, other.target_columns),
        ),
        jnp.stack(keys),
        lanes(*states),
        jnp.asarray(0),
        jnp.asarray(12),
    )
    alone = [run(name, rule)[0], compiled_updates(learner, second, other, keys[1], states[1], 0, 12)[0]]
    for lane, wanted in enumerate(alone):
        assert largest_difference(jax.tree.map(lambda leaf, lane=lane: leaf[lane], both), wanted) < 1e-4
    assert largest_difference(*alone) > 1e-2


@pytest.mark.parametrize("name", RIVALS)
def test_preparation_repeats(name, prepared, domains, same_bits):
    models, _ = prepared[name]
    assert same_bits(models, RIVALS[name].prepare(domains, jax.random.key(3), silent))


@pytest.mark.parametrize("name", RIVALS)
def test_a_finished_preparation_is_read_back(name, pair, tmp_path, monkeypatch):
    """A run that goes on takes its models from the folder, and ends as it did."""
    rule = RIVALS[name]
    backbone = dataclasses.replace(own_backbone(rule), hidden=(8,), batch_size=16)
    settings = Settings(updates=4, evaluations=0, backbone=backbone)
    (whole,) = train(rule, *pair, settings=settings, folder=tmp_path)
    folder = tmp_path / "seed0"
    wanted = (folder / "policy.npz").read_bytes()
    for file in ("result.json", "policy.npz", "checkpoint.npz"):
        (folder / file).unlink()
    if (folder / "prepared.npz").exists():  # all but SRPO's, which fits nothing before training
        monkeypatch.setattr(type(rule), "prepare", lambda *_: pytest.fail("fitted again"))
    else:
        assert name == "srpo"
    (again,) = train(rule, *pair, settings=settings, folder=tmp_path, resume=True)
    assert (folder / "policy.npz").read_bytes() == wanted
    np.testing.assert_array_equal(again.policy.act(np.zeros(3)), whole.policy.act(np.zeros(3)))


@pytest.mark.parametrize("name", RIVALS)
def test_a_template_has_the_shapes_of_what_is_prepared(name, prepared, domains):
    models, _ = prepared[name]
    template = RIVALS[name].template(domains, jax.random.key(0))
    assert jax.tree.structure(template) == jax.tree.structure(models)
    assert [leaf.shape for leaf in jax.tree.leaves(template)] == [leaf.shape for leaf in jax.tree.leaves(models)]


@pytest.mark.parametrize(
    ("rule", "settings", "says"),
    [
        (DARA, {"bonus_scale": -1.0}, "bonus_scale=-1.0"),
        (DARA, {"noise": math.nan}, "noise=nan"),
        (DARA, {"updates": 0}, "updates=0"),
        (IGDF, {"keep": 0.0}, "keep=0.0"),
        (IGDF, {"keep": 1.5}, "keep=1.5"),
        (IGDF, {"weight_scale": math.inf}, "weight_scale=inf"),
        (IGDF, {"batch_size": 1}, "batch_size=1"),
        (SRPO, {"valuable_share": 1.0}, "valuable_share=1.0"),
        (SRPO, {"bonus_scale": math.nan}, "bonus_scale=nan"),
        (DROCO, {"penalty_scale": -0.1}, "penalty_scale=-0.1"),
        (DROCO, {"huber_threshold": math.nan}, "huber_threshold=nan"),
        (OTDF, {"keep": 0.0}, "keep=0.0"),
        (OTDF, {"behaviour_scale": math.nan}, "behaviour_scale=nan"),
        (OTDF, {"regularisation": 0.0}, "regularisation=0.0"),
        (OTDF, {"chunk": 0}, "chunk=0"),
        (CVAEConfig, {"divergence": -1.0}, "divergence=-1.0"),
        (CVAEConfig, {"hidden": ()}, "hidden layers"),
        (DVDF, {"likeness": 1.5}, "likeness=1.5"),
        (DVDF, {"keep": 0.0}, "keep=0.0"),
        (SparseQConfig, {"sparsity": 0.0}, "sparsity=0.0"),
        (SparseQConfig, {"discount": math.nan}, "discount=nan"),
        (SparseQConfig, {"updates": 0}, "at least 1"),
        (BOSA, {"policy_scale": math.nan}, "policy_scale=nan"),
        (BOSA, {"least_likelihood": -0.1}, "least_likelihood=-0.1"),
        (BOSA, {"variance": 0.0}, "variance=0.0"),
        (BOSA, {"members": 0}, "members=0"),
        (BOSA, {"dynamics_from": "source"}, "dynamics_from='source'"),
        (EnsembleConfig, {"elites": 8}, "elites=8"),
        (EnsembleConfig, {"held_out": 1.0}, "held_out=1.0"),
        (EnsembleConfig, {"learning_rate": math.nan}, "learning_rate=nan"),
        (EnsembleConfig, {"hidden": (0,)}, "at least 1"),
    ],
)
def test_wrong_settings(rule, settings, says):
    with pytest.raises(UsageError, match=says) as caught:
        rule(**settings)
    assert "\n" not in str(caught.value)


def test_wrong_words():
    """In a process without the tests' type checks, which would speak first."""
    script = (
        "import tabb\n"
        "for kind, options in ((tabb.SRPO, {'bonus': 'x'}), (tabb.TABB, {'scale': 'x'}),\n"
        "                      (tabb.PredictorConfig, {'form': 'x'}), (tabb.PredictorConfig, {'space': 'x'})):\n"
        "    try: kind(**options)\n"
        "    except tabb.errors.UsageError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    says = [line.split(" is unknown")[0] for line in done.stdout.splitlines()]
    assert says == ["bonus='x'", "scale='x'", "predictor form='x'", "predictor space='x'"]


@pytest.mark.parametrize("name", ["dara", "igdf", "droco", "otdf", "dvdf", "bosa"])
def test_next_states_of_terminal_rows_are_not_looked_at(name, prepared, pair, same_bits):
    def poisoned(data):
        ended = data.terminal[:, None] > 0
        return dataclasses.replace(data, next_observation=np.where(ended, np.float32(1e3), data.next_observation))

    poison = make_domains(*map(poisoned, pair))
    rule, (models, _) = RIVALS[name], prepared[name]
    again = rule.prepare(poison, jax.random.key(3), silent)
    assert same_bits(models, again)
    assert same_bits(rule.columns(models, make_domains(*pair)), rule.columns(again, poison))
