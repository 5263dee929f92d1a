"""The command that makes a run again: options that differ from their defaults, as `tabb train` reads them."""

from __future__ import annotations

import dataclasses
import math
import shlex
from pathlib import Path

import pytest

import tabb
from tabb.commands.options import parse
from tabb.commands.train import options_for
from tabb.registry import learners_of
from tabb.results.report.again import command
from tabb.results.report.records import Record
from tabb.training.config import backbone_of


def record(rule, settings, task=None, origin=None) -> Record:
    backbone = backbone_of(settings, rule)
    config = {"task": task, "origin": origin if origin is not None else {"source": {"files": ["/a b.hdf5", "/c.hdf5"]},
              "target": {"files": ["/t.hdf5"]}}}  # fmt: skip
    return Record(Path("x"), config, 0, rule.on(backbone), settings, backbone, None, "return", ((), ()), (), {}, None)


@pytest.mark.parametrize(
    ("rule", "settings", "task"),
    [
        (tabb.TABB(), tabb.Settings(), "hopper-morph"),
        (
            tabb.TABB(
                temperature=math.inf,
                weigh_value=False,
                imitate_source=0.5,
                predictor=tabb.PredictorConfig(heads=3, target_shares=(1.0, 0.5)),
            ),
            tabb.Settings(updates=77, engine="native", normalise="none", backbone=tabb.IQL(hidden=(8, 9))),
            None,
        ),
        (tabb.TABB(), tabb.Settings(backbone=tabb.TD3BC(batch_size=32)), None),
        (tabb.BOSA(), tabb.Settings(), "walker2d-kinematic"),
        (tabb.OTDF(), tabb.Settings(evaluations=0), None),
    ],
)
def test_options_read_back_are_the_run(rule, settings, task):
    run = record(rule, settings, task)
    program, verb, name, *arguments = shlex.split(command(run, [4, 2]))
    assert (program, verb) == ("tabb", "train")
    suites = tabb.get_task(task).suites if task else ()
    found = parse(options_for(learners_of([name], None, suites)), arguments, "tabb train", "")
    assert found.rule.on(found.backbone) == run.rule
    assert found.backbone == run.backbone
    for field in dataclasses.fields(tabb.Settings):
        if field.name != "backbone":
            assert getattr(found, field.name) == getattr(settings, field.name)
    assert (found.task, found.seeds) == (task, (4, 2))
    assert (found.source, found.target) == ("/a b.hdf5+/c.hdf5", "/t.hdf5")


def test_defaults_are_left_out():
    assert command(record(tabb.Pooled(), tabb.Settings(), "hopper-morph"), [0]) == (
        "tabb train pooled --source '/a b.hdf5+/c.hdf5' --target /t.hdf5 --task hopper-morph --seeds 0"
    )
