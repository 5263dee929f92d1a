"""Predictors by name; settings of runs from before they had names; the numbers that those runs had."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steps import step_of
from tabb.batch import Batch
from tabb.errors import UsageError
from tabb.models.predictors import PREDICTORS, PredictorConfig, from_old
from tabb.plain import plain, rule_from_plain
from tabb.rules import (
    TABB,
    AgreedShift,
    DirectPredictor,
    LatentDirectPredictor,
    LatentPredictor,
    ResidualPredictor,
    Similarity,
    ValueNoise,
)

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "tabb_predictors.json").read_text())
OLD_PREDICTOR = {
    "space": "raw",
    "form": "residual",
    "source_head": True,
    "heads": 5,
    "updates": 5000,
    "batch_size": 256,
    "learning_rate": 0.001,
    "weight_decay": 0.001,
    "input_noise": 0.1,
    "latent_size": 64,
    "hidden": 256,
    "slow_rate": 0.005,
    "target_shares": [1.0, 0.1, 0.0],
    "shift_penalty": 0.01,
}
"""as `config.json` had it"""
OLD_RULE = {
    "name": "tabb",
    "temperature": "inf",
    "scale": "source",
    "least_weight": 0.2,
    "uncertainty": 0.3,
    "weigh_value": False,
    "weigh_policy": True,
    "imitate_source": None,
    "weigh_by": "mismatch",
    "value_noise": 0.0,
    "source_share": 0.25,
    "predictor": OLD_PREDICTOR,
}
FIELDS = ("observation", "action", "reward", "next_observation", "terminal")
AS_NOW = {"temperature": math.inf, "least_weight": 0.2, "weigh_value": False, "source_share": 0.25}
OF_TABB = {"uncertainty": 0.3, "predictor": ResidualPredictor()}


@pytest.mark.parametrize("kind", PREDICTORS.values())
def test_what_is_written_is_read_back(kind):
    rule = TABB(predictor=dataclasses.replace(kind(), updates=7))
    written = json.loads(json.dumps(plain(rule)))
    assert written["predictor"]["name"] == kind.name
    assert rule_from_plain(written) == rule


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, ResidualPredictor()),
        ({"heads": 2, "latent_size": 9}, ResidualPredictor(heads=2)),
        ({"form": "direct", "source_head": False}, DirectPredictor()),
        ({"space": "latent", "slow_rate": 0.1}, LatentPredictor(slow_rate=0.1)),
        ({"space": "latent", "form": "direct"}, LatentDirectPredictor()),
        ({"space": "latent", "form": "direct", "source_head": False}, LatentDirectPredictor(source_head=False)),
        ({"form": "agreed"}, AgreedShift(updates=5000, weight_decay=1e-3)),
        ({"form": "agreed", "target_shares": [0.5], "input_noise": 3.0}, AgreedShift(updates=5000, weight_decay=1e-3,
                                                                                      target_shares=(0.5,))),
    ],
)  # fmt: skip
def test_old_settings_are_the_predictor_that_they_meant(old, new):
    assert rule_from_plain(OLD_RULE | {"predictor": OLD_PREDICTOR | old}).predictor == new
    assert rule_from_plain(OLD_RULE | {"predictor": old}).predictor == new, "of a run that did not have all fields yet"
    with pytest.warns(DeprecationWarning, match=f"here tabb.{type(new).__name__}"):
        assert PredictorConfig(**old) == new


def test_old_rules_are_the_rules_that_they_meant():
    assert rule_from_plain(OLD_RULE) == TABB(**AS_NOW, **OF_TABB)
    assert rule_from_plain(OLD_RULE | {"weigh_by": "similarity"}) == Similarity(**AS_NOW)
    noisy = rule_from_plain(OLD_RULE | {"value_noise": 0.5, "scale": "target"})
    assert noisy == ValueNoise(**AS_NOW, **OF_TABB, scale="target", noise=0.5)
    # Where a run says nothing, it had the defaults of then.
    assert rule_from_plain({"name": "tabb"}) == TABB(uncertainty=1.0, predictor=ResidualPredictor())


@pytest.mark.parametrize(
    ("old", "says"),
    [
        ({"space": "latent", "form": "agreed"}, "form agreed works on observations"),
        ({"source_head": False}, "form residual builds on the source head"),
        ({"form": "direct", "depth": 3}, "predictor has no 'depth'"),
    ],
)
def test_old_settings_that_did_not_go_together(old, says):
    with pytest.raises(UsageError, match=says) as caught:
        from_old(old)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", [*GOLDEN])
def test_numbers_are_those_of_before(case, domains):
    """Each was computed at commit d255390, of rules written down as they were then; here to rounding.

    `agreed` looks at the next states of terminal rows no more, of which nothing is made: its mean of `next` is of now.
    """
    rule = rule_from_plain(GOLDEN[case]["rule"])
    models = rule.prepare(domains, jax.random.key(3), lambda what, share: None)
    columns, target_columns = rule.columns(models, domains), rule.target_columns(models, domains)
    source, target = domains.source[np.arange(64)], domains.target[np.arange(32)]
    rows = (jnp.concatenate([getattr(data, name) for data in (source, target)]) for name in FIELDS)
    batch = Batch(
        *rows,
        {name: column[:64] for name, column in columns.items()},
        {name: column[:32] for name, column in target_columns.items()},
        64,
    )
    step = step_of(batch, models, value=lambda x: x[..., 0] - 2 * x[..., 1])
    weights, metrics = rule.weigh(dataclasses.replace(step, represented=rule.represent(step)))
    numbers = {f"column {name}": float(np.mean(column)) for name, column in (columns | target_columns).items()}
    numbers |= {name: float(np.sum(weight)) for name, weight in weights._asdict().items()}
    numbers |= {name: float(number) for name, number in metrics.items()}
    before = GOLDEN[case]["numbers"]
    assert {name: numbers[name] for name in before} == pytest.approx(before, rel=1e-4, abs=1e-5)
