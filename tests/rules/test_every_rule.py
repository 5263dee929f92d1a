"""Every rule alike: the neutral setting, runs cut and read back, seeds as an axis, what is fitted; wrong settings.

A rule that is registered is tested here by itself. It says its neutral setting (`Rule.neutral`) and one that
is quick to fit (`Rule.small`).
"""

import dataclasses
import functools
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from made_rules import MADE
from tabb.backbones import DT, own_backbone
from tabb.batch import make_domains
from tabb.errors import UsageError
from tabb.policy import Policy
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
    Rule,
    SparseQConfig,
)
from tabb.training import Settings, train
from tabb.training.drawing import pack_data, pack_series
from tabb.training.loop import Program, compiled_updates, compiled_updates_of_seeds

PREPARE = jax.random.key(3)
KINDS = {kind.name: kind for kind in (*RULES.values(), *MADE)}
# They share what these tests look at with others (`mobile`): the slow suite alone holds them to what compiles much.
LIKE_OTHERS = ("mopo", "combo", "morel", "mobody", "dmc", "cpq", "v2a", "reag", "reag-dara", "taf-dt")
# So of rules on SAC, whose own tests tell what they change.
ON_SAC = tuple(name for name, kind in KINDS.items() if kind.backbone == "sac")
LONG = (*LIKE_OTHERS, *ON_SAC)
SPARED = [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in KINDS]
# One takes long to fit, however small.
FITTED = [pytest.param(name, marks=pytest.mark.slow) if name == "taf-dt" else name for name in KINDS]
# A seed axis is for accelerators: these hold all that can have one (columns, learned networks, phases, extra rows).
WITH_AXIS = ("tabb", "dara", "finetune", "otdf", "imagined")
AXES = [name if name in WITH_AXIS else pytest.param(name, marks=pytest.mark.slow) for name in KINDS]

# Their seams at neutral are those of rules that stay.
OTHERS_TELL = (*LONG, "mobile", "value-noise", "mirrored", "imagined")


@pytest.fixture(scope="module")
def pair(pair):
    """With costs, which a rule may ask for."""
    cost = [(data.action[:, 0] > 0).astype(np.float32) for data in pair]
    return tuple(dataclasses.replace(data, extras={"cost": one}) for data, one in zip(pair, cost, strict=True))


@pytest.fixture(scope="module")
def domains(pair):
    return make_domains(*pair, extras=("cost",))


def rule_of(name):
    """The rule of this name, quick to fit."""
    return KINDS[name](**KINDS[name].small)


def neutral_of(kind):
    """Its neutral setting; the test says how to give one where there is none."""
    assert kind.neutral is not None, (
        f"rule {kind.name} does not say when it changes nothing: give it neutral = {{...}}, the settings with which it "
        "equals the plain backbone, or {} if it only says which rows are drawn"
    )
    return kind(**(kind.small | kind.neutral))


@dataclasses.dataclass(frozen=True)
class Plain(Rule):
    """Draws the rows of another rule, and does nothing else."""

    like: Rule = dataclasses.field(default_factory=Rule)

    def shares(self, batch_size):
        return self.like.shares(batch_size)


def silent(what, share):
    pass


@pytest.fixture(scope="module")
def prepared(domains):
    """`prepared(name)`: the models of a rule on the session's domains."""

    @functools.cache
    def prepare(name):
        return rule_of(name).prepare(domains, PREPARE, silent)

    return prepare


def sized(backbone, hidden, batch_size, **others):
    """The backbone with these sizes and one policy network: what compiles in a moment."""
    if isinstance(backbone, DT):
        tiny = {"width": hidden[0], "context": 4, "layers": 1, "longest": 12}
        return dataclasses.replace(backbone, **tiny, batch_size=batch_size, **others)
    one = {"policies": 1} if hasattr(backbone, "policies") else {}
    return dataclasses.replace(backbone, hidden=hidden, batch_size=batch_size, **one, **others)


@pytest.fixture(scope="module")
def small_backbone(backbone):
    """`small_backbone(rule)`: the rule's own, small."""

    def small(rule):
        sizes = {name: getattr(backbone, name) for name in ("hidden", "batch_size", "learning_rate")}
        return sized(own_backbone(rule), **sizes)

    return small


@pytest.fixture(scope="module")
def beginning(domains, sizes, small_backbone):
    """`beginning(rule, models, seed)`: learner, data and state before the first update, as a run has them."""

    def begin(rule, models, seed=1):
        learner = Program(small_backbone(rule.like if isinstance(rule, Plain) else rule), rule, 12)
        data = pack_data(domains, rule.columns(models, domains), rule.target_columns(models, domains))
        extra = learner.extra_rows(models, domains, jax.random.key(100 + seed))
        conditions = learner.conditions(models, domains)
        if conditions is not None:
            data = data._replace(series=pack_series(domains, conditions, learner.backbone.window))
        state = learner.init(sizes, jax.random.key(seed), extra, None if conditions is None else conditions.aim)
        return learner, data if learner.refresh_every else data._replace(extra=extra), state

    return begin


@pytest.fixture(scope="module")
def run(beginning):
    """`run(rule, models, cuts)`: state and metrics after 12 updates, in calls that end at `cuts`."""

    def run(rule, models, cuts=(12,), seed=1):
        (learner, data, state), first = beginning(rule, models, seed), 0
        for last in cuts:
            state, metrics = compiled_updates(learner, models, data, jax.random.key(1 + seed), state, first, last)
            first = last
        return state, metrics

    return run


@pytest.fixture(scope="module")
def run_of_plain(run, small_backbone):
    """`run_of_plain(rule)`: state after 12 updates of its backbone on the rows that it draws; each compiled once."""
    known = {}

    def plain(rule):
        backbone = small_backbone(rule)
        drawn = backbone, rule.shares(backbone.batch_size)
        if drawn not in known:
            known[drawn], _ = run(Plain(like=rule), ())
        return known[drawn]

    return plain


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in OTHERS_TELL else name for name in KINDS]
)
def test_neutral_is_the_plain_backbone_bit_for_bit(name, run, run_of_plain, prepared, same_bits, largest_difference):
    rule = neutral_of(KINDS[name])
    neutral, _ = run(rule, prepared(name))
    plain = run_of_plain(rule)
    assert same_bits(neutral._replace(learned=()), plain)
    if rule != rule_of(name):
        usual, _ = run(rule_of(name), prepared(name))
        part = "critic" if hasattr(plain, "critic") else "policy"
        assert largest_difference(getattr(usual, part), getattr(plain, part)) > 1e-4


def test_a_rule_without_a_neutral_setting_is_told_how_to_give_one():
    with pytest.raises(AssertionError, match="rule rule does not say when it changes nothing: give it neutral"):
        neutral_of(Rule)


@pytest.mark.parametrize("name", SPARED)
def test_cut_into_calls_is_the_same_run(name, run, prepared, same_bits):
    rule, models = rule_of(name), prepared(name)
    assert same_bits(run(rule, models)[0], run(rule, models, (5, 7, 12))[0])


@pytest.mark.parametrize("name", AXES)
def test_a_seed_axis_is_the_seed_alone(name, prepared, beginning, run, largest_difference):
    """Two lanes with models, columns, extra rows and keys of their own: each ends as it would alone."""
    rule, first = rule_of(name), prepared(name)
    second = jax.tree.map(lambda leaf: 0.5 * leaf, first)
    lanes = [beginning(rule, models, seed) for models, seed in ((first, 1), (second, 8))]

    def stacked(*trees):
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    learner, data, _ = lanes[0]
    per_lane = {
        part: stacked(*(getattr(lane[1], part) for lane in lanes)) for part in ("columns", "target_columns", "extra")
    }
    if data.series is not None:
        conditions = stacked(*(lane[1].series.condition for lane in lanes))
        data = data._replace(series=data.series._replace(condition=conditions))
    both, _ = compiled_updates_of_seeds(
        learner,
        stacked(first, second),
        data._replace(**per_lane),
        jnp.stack([jax.random.key(2), jax.random.key(9)]),
        stacked(*(lane[2] for lane in lanes)),
        jnp.asarray(0),
        jnp.asarray(12),
    )
    alone = [run(rule, models, seed=seed)[0] for models, seed in ((first, 1), (second, 8))]
    for lane, wanted in enumerate(alone):  # to rounding, of which unoptimised programs have more
        assert largest_difference(jax.tree.map(lambda leaf, lane=lane: leaf[lane], both), wanted) < 3e-4
    assert largest_difference(*alone) > 1e-2


@pytest.mark.parametrize("name", FITTED)
def test_preparation_repeats(name, prepared, domains, same_bits):
    assert same_bits(prepared(name), rule_of(name).prepare(domains, PREPARE, silent))


@pytest.mark.parametrize("name", SPARED)
def test_a_run_that_goes_on_and_its_policy_are_read_back(name, pair, tmp_path, monkeypatch):
    """What was fitted comes from the folder, and the run ends as it did."""
    rule = rule_of(name)
    backbone = sized(own_backbone(rule), hidden=(8,), batch_size=16)
    settings = Settings(updates=4, evaluations=0, backbone=backbone)
    (whole,) = train(rule, *pair, settings=settings, folder=tmp_path)
    folder = tmp_path / "seed0"
    observation = np.random.default_rng(0).normal(size=(5, 3))
    wanted_actions = whole.policy.actor(5).act(observation)
    np.testing.assert_array_equal(Policy.load(folder).actor(5).act(observation), wanted_actions)
    wanted = (folder / "policy.npz").read_bytes()
    for file in ("result.json", "policy.npz", "checkpoint.npz"):
        (folder / file).unlink()
    if (folder / "prepared.npz").exists():
        monkeypatch.setattr(type(rule), "prepare", lambda *_: pytest.fail("fitted again"))
    (again,) = train(rule, *pair, settings=settings, folder=tmp_path, resume=True)
    assert (folder / "policy.npz").read_bytes() == wanted
    np.testing.assert_array_equal(again.policy.actor(5).act(observation), wanted_actions)


@pytest.mark.parametrize("name", FITTED)
def test_a_template_has_the_shapes_of_what_is_prepared(name, prepared, domains):
    models = prepared(name)
    template = rule_of(name).template(domains, jax.random.key(0))
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
        "import warnings, tabb\n"
        "warnings.simplefilter('ignore')\n"
        "for kind, options in ((tabb.SRPO, {'bonus': 'x'}), (tabb.TABB, {'scale': 'x'}),\n"
        "                      (tabb.PredictorConfig, {'form': 'x'}), (tabb.PredictorConfig, {'space': 'x'})):\n"
        "    try: kind(**options)\n"
        "    except tabb.errors.UsageError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    says = [line.split(" is unknown")[0] for line in done.stdout.splitlines()]
    assert says == ["SRPO bonus='x'", "TABB scale='x'", "predictor form='x'", "predictor space='x'"]


def poisoned(data):
    """Something else where terminal rows have their next states, as files may hold."""
    ended = data.terminal[:, None] > 0
    return dataclasses.replace(data, next_observation=np.where(ended, np.float32(1e3), data.next_observation))


@pytest.mark.parametrize("name", FITTED[: len(RULES)])
def test_next_states_of_terminal_rows_are_not_looked_at(name, prepared, pair, same_bits):
    poison = make_domains(*map(poisoned, pair), extras=("cost",))
    rule, models = rule_of(name), prepared(name)
    again = rule.prepare(poison, PREPARE, silent)
    assert same_bits(models, again)
    assert same_bits(rule.columns(models, make_domains(*pair, extras=("cost",))), rule.columns(again, poison))


# The errors of value-noise, an ablation, are in units of the spread of V at all next states.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) for name in RULES if name != "value-noise"]
)
def test_updates_do_not_look_at_them_either(name, prepared, pair, domains, beginning, same_bits):
    rule, models = rule_of(name), prepared(name)
    poison = make_domains(*map(poisoned, pair), extras=("cost",))
    ends = []
    for data_of_run in (domains, poison):
        learner, data, state = beginning(rule, models)
        packed = pack_data(data_of_run, rule.columns(models, data_of_run), rule.target_columns(models, data_of_run))
        data = data._replace(rows=packed.rows, columns=packed.columns, target_columns=packed.target_columns)
        ends.append(compiled_updates(learner, models, data, jax.random.key(2), state, 0, 12)[0])
    assert same_bits(*ends)
