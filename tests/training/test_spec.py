"""What a run is, as one object: it is plain JSON, and a started run is the same or says in what it is not."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

import tabb
from tabb.errors import RunError, UsageError
from tabb.models.imitation import BEST
from tabb.plain import plain
from tabb.registry import learners_of, rule_names
from tabb.training.spec import RunSpec, differences

SETTINGS = tabb.Settings(updates=7, target_rows=50, held_out=0.5)
SPEC = RunSpec(
    rule=tabb.TABB(temperature=math.inf, predictor=tabb.ResidualPredictor(heads=3)),
    backbone=tabb.IQL(policies=1, hidden=(8, 9)),
    source=("/a.hdf5", "/b.hdf5"),
    target=("/t.hdf5",),
    task="hopper-morph",
    env=None,
    seed=3,
    settings=SETTINGS,
)


def config_of(spec: RunSpec) -> dict:
    """`config.json` of a run of this spec."""
    origin = {name: {"files": [str(file) for file in files]} for name, files in spec.files.items()}
    return {
        "rule": plain(spec.rule),
        "settings": plain(spec.full_settings()),
        "task": spec.task,
        "seeds": [spec.seed],
        "seed": spec.seed,
        "origin": origin | {"env": spec.env},
    }


@pytest.mark.parametrize("name", rule_names())
def test_a_spec_of_every_rule_is_plain_json(name: str) -> None:
    (learner,) = learners_of([name])
    spec = dataclasses.replace(SPEC, rule=learner.rule, backbone=learner.backbone)
    assert RunSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert RunSpec.from_config(json.loads(json.dumps(config_of(spec)))) == spec
    assert spec.learner == name
    assert differences(config_of(spec), spec) == []


def test_where_it_takes_steps_that_may_be_a_robots() -> None:
    online = tabb.Online(target_steps=5, source_steps=5)
    spec = dataclasses.replace(SPEC, settings=dataclasses.replace(SETTINGS, online=online))
    assert SPEC.own_steps == spec.own_steps == ()
    spec = dataclasses.replace(spec, task=None, env="Arm-v0")
    assert spec.own_steps == ("Arm-v0",)
    assert dataclasses.replace(spec, source_env="Sim-v0").own_steps == ("Sim-v0", "Arm-v0")
    assert dataclasses.replace(spec, settings=SETTINGS).own_steps == ()  # it is evaluated there alone


def test_constants_survive() -> None:
    spec = RunSpec.from_json(json.loads(json.dumps(SPEC.to_json())))
    assert (spec.rule.temperature, spec.rule.predictor.heads, spec.backbone.hidden) == (math.inf, 3, (8, 9))
    assert (spec.source, spec.settings.held_out) == (("/a.hdf5", "/b.hdf5"), 0.5)
    assert spec.full_settings() == dataclasses.replace(
        SETTINGS,
        backbone=tabb.IQL(policies=1, hidden=(8, 9)),
        imitation=dataclasses.replace(BEST, matching=0.0),  # a short run: decided where it is specified
    )


def test_equal_runs_are_equal_specs() -> None:
    """A backbone within the settings and defaults that the backbone decides make no difference."""
    settings = dataclasses.replace(SETTINGS, backbone=tabb.CQL())
    assert dataclasses.replace(SPEC, settings=settings) == SPEC
    climbing = dataclasses.replace(SPEC, rule=tabb.TABB(), backbone=tabb.TD3BC())
    assert dataclasses.replace(climbing, rule=climbing.rule) == climbing


def test_a_config_written_before_is_read() -> None:
    """Without backbone, held-out share and rows, and with a rule's fields of that time."""
    settings = {"updates": 9, "evaluations": 2, "episodes": 1, "evaluation_seed": 5, "normalise": "pooled",
                "engine": "legacy"}  # fmt: skip
    config = {
        "rule": {"name": "pooled"},
        "settings": settings | {"backbone": {"hidden": [8, 8], "batch_size": 4}},
        "task": None,
        "seeds": [0, 2],
        "seed": 2,
        "origin": {"target": {"files": ["/t.npz"]}, "source": {"files": ["/s.npz"]}},
    }
    spec = RunSpec.from_config(config)
    assert spec.backbone == tabb.IQL(policies=1, hidden=(8, 8), batch_size=4, layer_norm=False)
    assert (spec.seed, spec.settings.held_out, spec.env, spec.settings.updates) == (2, 0.0, None, 9)
    assert RunSpec.from_config(config, seed=0).seed == 0


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"rule": tabb.TABB(temperature=2.0, predictor=SPEC.rule.predictor)}, ["rule temperature"]),
        ({"backbone": tabb.IQL(policies=1, hidden=(8, 8))}, ["settings backbone"]),
        ({"settings": dataclasses.replace(SETTINGS, updates=8)}, ["settings updates"]),
        ({"source": ("/a.hdf5",), "target": ("/u.hdf5",)}, ["source data", "target data"]),
        ({"task": None, "env": "Pendulum-v1"}, ["task", "env"]),
        ({"settings": dataclasses.replace(SETTINGS, held_out=None)}, []),  # decided by the data
        ({"seed": 9}, []),
        ({"start": "/elsewhere"}, ["start"]),
    ],
)
def test_differences_are_named(change: dict, names: list[str]) -> None:
    assert differences(config_of(SPEC), dataclasses.replace(SPEC, **change)) == names


def test_a_start_is_plain_json(tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, start=str(tmp_path / "a" / ".." / "b"), start_parts=("policy", "policy"))
    assert (spec.start, spec.start_parts) == (str(tmp_path / "b"), ("policy",))
    assert RunSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    # Parts of no run, and their order, make no difference; specs written before there was a start have none.
    assert dataclasses.replace(SPEC, start_parts=("critic",)) == SPEC
    reverse = dataclasses.replace(spec, start_parts=("critic", "policy"))
    assert reverse.start_parts == ("policy", "critic")
    before = {name: value for name, value in SPEC.to_json().items() if not name.startswith("start")}
    assert RunSpec.from_json(before) == SPEC
    with pytest.raises(UsageError, match="give one or more of policy, critic"):
        dataclasses.replace(SPEC, start="/b", start_parts=("actor",))


def finished_run(folder: Path, weights: bytes) -> None:
    folder.mkdir(parents=True)
    for name in ("config.json", "result.json", "policy.npz"):
        (folder / name).write_text("{}")
    (folder / "checkpoint.npz").write_bytes(weights)


def test_starts_are_compared_by_their_weights(tmp_path: Path) -> None:
    """Wherever these lie now; each seed has its own in a folder of runs."""
    for place in ("first", "copy"):
        for seed in (3, 4):
            finished_run(tmp_path / place / f"seed{seed}", b"weights of %d" % seed)
    spec = dataclasses.replace(SPEC, start=str(tmp_path / "first"))
    assert spec.starting_run is not None
    config = json.loads(json.dumps(config_of(spec) | {"start": spec.starting_run.record(spec.seed)}))
    assert RunSpec.from_config(config) == spec
    assert differences(config, spec) == []
    assert differences(config, dataclasses.replace(spec, seed=4)) == []
    assert differences(config, SPEC) == ["start"]
    assert differences(config, dataclasses.replace(spec, start_parts=("critic",))) == ["start"]
    for path, names in (("copy", []), ("copy/seed3", []), ("copy/seed4", ["start"]), ("nowhere", ["start"])):
        assert differences(config, dataclasses.replace(spec, start=str(tmp_path / path))) == names
    (tmp_path / "first" / "seed3" / "checkpoint.npz").write_bytes(b"trained again")
    assert differences(config, spec) == ["start"]
    (tmp_path / "first" / "seed3" / "checkpoint.npz").unlink()
    assert differences(config, spec) == []  # nothing to compare but the path
    # Records written before a folder could be named have the run alone.
    del config["start"]["path"]
    assert RunSpec.from_config(config).start == str(tmp_path / "first" / "seed3")


def test_what_is_no_spec() -> None:
    with pytest.raises(UsageError, match="task hopper-morph with env a-v0: give one of them"):
        dataclasses.replace(SPEC, env="a-v0")
    with pytest.raises(RunError, match="is no spec of a run"):
        RunSpec.from_json({"rule": {"name": "pooled"}})
    with pytest.raises(RunError, match="RunSpec has no 'sources'"):
        RunSpec.from_json(SPEC.to_json() | {"sources": []})
    with pytest.raises(RunError, match="rule 'gone' is unknown"):
        RunSpec.from_json(SPEC.to_json() | {"rule": {"name": "gone"}})
    with pytest.raises(UsageError, match="was trained from arrays"):
        RunSpec.from_config(config_of(SPEC) | {"origin": {}})
