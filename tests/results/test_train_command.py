"""Runs as commands: options that differ from their defaults, as `tabb train` reads them."""

from __future__ import annotations

import dataclasses
import math
import shlex

import pytest

import tabb
from tabb.commands.train_options import parse_train, settings_of
from tabb.results.train_command import option, train_call, train_command
from tabb.training.config import backbone_of
from tabb.training.spec import RunSpec


def spec_of(rule, settings, task=None, env=None) -> RunSpec:
    source = None if isinstance(rule, tabb.TargetOnly) else ("/a b.hdf5", "/c.hdf5")
    return RunSpec(rule, backbone_of(settings, rule), source, ("/t.hdf5",), task, env, 4, settings)


@pytest.mark.parametrize(
    ("rule", "settings", "task"),
    [
        (tabb.TABB(), tabb.Settings(), "hopper-morph"),
        (
            tabb.TABB(
                temperature=math.inf,
                weigh_value=False,
                imitate_source=0.5,
                predictor=tabb.AgreedShift(heads=3, target_shares=(1.0, 0.5)),
            ),
            tabb.Settings(updates=77, engine="native", normalise="none", backbone=tabb.IQL(policies=1, hidden=(8, 9))),
            None,
        ),
        (tabb.TABB(), tabb.Settings(backbone=tabb.TD3BC(batch_size=32)), None),
        (tabb.BOSA(), tabb.Settings(), "walker2d-kinematic"),
        (tabb.OTDF(), tabb.Settings(evaluations=0), None),
    ],
)
def test_options_read_back_are_the_run(rule, settings, task):
    spec = spec_of(rule, settings, task)
    program, verb, name, *arguments = shlex.split(train_command(spec, [4, 2]))
    assert (program, verb) == ("tabb", "train")
    (learner,), options = parse_train([name], arguments)
    parsed = RunSpec(learner.rule, learner.backbone, spec.source, spec.target, task, None, 4, settings_of(options))
    assert parsed == spec
    assert (options.task, options.seeds) == (task, (4, 2))
    assert (options.source, options.target) == ("/a b.hdf5+/c.hdf5", "/t.hdf5")


def test_defaults_are_left_out():
    assert train_command(spec_of(tabb.Pooled(), tabb.Settings(), "hopper-morph"), [0]) == (
        "tabb train pooled --source '/a b.hdf5+/c.hdf5' --target /t.hdf5 --task hopper-morph --seeds 0"
    )
    # Without a task both data sets are named, also where the rule reads one of them.
    assert train_command(spec_of(tabb.TargetOnly(), tabb.Settings(), None, "a:B-v0"), [0]) == (
        "tabb train target-only --target /t.hdf5 --source /t.hdf5 --env a:B-v0 --seeds 0"
    )


@pytest.mark.parametrize("parts", [("policy",), ("policy", "critic")], ids="+".join)
def test_a_start_is_read_back(parts, tmp_path):
    spec = dataclasses.replace(
        spec_of(tabb.Pooled(), tabb.Settings()), start=str(tmp_path / "a run"), start_parts=parts
    )
    _, _, name, *arguments = shlex.split(train_command(spec, [4]))
    assert ("--start-parts" in arguments) == (parts == ("policy",))
    _, options = parse_train([name], arguments)
    assert (options.start, options.start_parts) == (tmp_path / "a run", parts)


def test_fits_again_are_not_asked_of_a_rule_that_has_none():
    settings = tabb.Settings(online=tabb.Online(target_steps=9, refits=2))
    assert "--online.refits 2" in train_command(spec_of(tabb.TABB(), settings, "hopper-morph"), [0])
    command = train_command(spec_of(tabb.Pooled(), settings, "hopper-morph"), [0])
    assert "--online.target-steps 9" in command
    assert "refits" not in command


def test_values_as_words():
    assert option("rule.least_weight", 0.0, 0.1) == ["--rule.least-weight", "0"]
    assert option("rule.temperature", math.inf, 1.0) == ["--rule.temperature", "inf"]
    assert option("rule.weigh_value", False, True) == ["--rule.no-weigh-value"]
    assert option("hidden", (8, 9), (8, 8)) == ["--hidden", "8", "9"]
    assert option("rate", 3e-4, 3e-4) == []


@pytest.mark.parametrize(
    ("rule", "backbone"),
    [
        (tabb.Pooled(), tabb.IQL()),
        (tabb.TABB(temperature=math.inf, predictor=tabb.AgreedShift(heads=3)), tabb.TD3BC(hidden=(8, 8))),
        (tabb.OTDF(cvae=tabb.CVAEConfig(updates=3)), tabb.CQL()),
    ],
)
def test_lines_of_python_make_the_call_again(rule, backbone):
    settings = tabb.Settings(updates=7, held_out=0.25, backbone=backbone)
    lines = train_call(rule, settings, [1, 3], {"task": "hopper-morph", "start_parts": ("policy",)})
    *before, call = lines.splitlines()
    assert call.startswith("tabb.train(")
    names: dict = {"source": 0, "target": 1, "called": lambda *given, **named: (given, named)}
    exec("\n".join(before), names)
    arguments = eval(call.replace("tabb.train", "called", 1), names)
    assert arguments == (
        (rule, 0, 1),
        {"seeds": [1, 3], "settings": settings, "task": "hopper-morph", "start_parts": ("policy",)},
    )


def test_lines_of_python_import_what_is_not_of_tabb():
    class Elsewhere(tabb.Pooled):
        """A rule of a package of the user's."""

    Elsewhere.__module__, Elsewhere.__qualname__ = "my.rules", "Elsewhere"
    lines = train_call(Elsewhere(), tabb.Settings(), [0], {})
    assert lines.splitlines()[:2] == ["import tabb", "from my.rules import Elsewhere"]
    assert "tabb.train(Elsewhere(), source, target, seeds=[0], settings=tabb.Settings())" in lines
