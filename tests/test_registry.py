"""Rules and backbones of other packages and of scripts: found by name, written and read back as plain values."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tabb
from tabb import registry
from tabb.backbones import BACKBONES, own_backbone
from tabb.cli import main
from tabb.commands.train_options import parse_train
from tabb.errors import RunError, UsageError
from tabb.plain import backbone_from_plain, plain, rule_from_plain
from tabb.registry import about_rule, all_presets, learner_name, learners_of, module_of, rule_class, rule_names
from tabb.rules import RULES, Pooled
from tabb.running.cluster.versions import plugins

CODE = '''
import dataclasses

import jax.numpy as jnp
from tabb.backbones import IQL
from tabb.rules import Pooled

@dataclasses.dataclass(frozen=True)
class Near(Pooled):
    """Pooled, from another package."""
    name = "near"
    trust_meaning = "nearness, from another package"
    radius: float = 1.0

    def prepare(self, domains, key, report):
        return jnp.mean(domains.target.observation, axis=0)

    def template(self, domains, key):
        return jnp.zeros(domains.target.observation.shape[1])

    def columns(self, models, domains):
        return {"nearness": -jnp.linalg.norm(domains.source.observation - models, axis=-1) / self.radius}

@dataclasses.dataclass(frozen=True)
class Far(Pooled):
    """Pooled, on a backbone of its own package."""
    name = "far"
    backbone = "wide"

@dataclasses.dataclass(frozen=True)
class Wide(IQL):
    """IQL, from another package."""
    name = "wide"
    hidden: tuple[int, ...] = (8, 8)
'''


@pytest.fixture
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package `nearby` with a rule and a backbone."""
    (tmp_path / "nearby.py").write_text(CODE)
    about = tmp_path / "nearby-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: nearby\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[tabb.rules]\nnear = nearby:Near\nfar = nearby:Far\nlost = nearby:Lost\nfalse = nearby:Wide\n"
        "[tabb.backbones]\nwide = nearby:Wide\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._entries.cache_clear()
    yield tmp_path
    BACKBONES.pop("wide", None)
    registry._entries.cache_clear()
    sys.modules.pop("nearby", None)


def test_a_rule_and_a_backbone_of_another_package(other_package: Path) -> None:
    (learner,) = learners_of(["near@wide"])
    assert learner.name == learner_name("near", "wide") == "near@wide"
    assert (type(learner.rule).__module__, learner.backbone.hidden) == ("nearby", (8, 8))
    assert learner_name("near", "iql") == "near"
    assert "near" in rule_names()
    assert plugins() == {"package nearby": "1.0"}
    assert own_backbone(rule_class("far")) == learner.backbone
    assert learners_of(["far"])[0].name == "far"
    values = json.loads(json.dumps([plain(learner.rule), plain(learner.backbone)]))
    assert values[0] == {"name": "near", "class": "nearby:Near", "radius": 1.0}
    assert rule_from_plain(values[0]) == learner.rule
    assert backbone_from_plain(values[1]) == learner.backbone


def test_another_process_finds_them_by_the_class_alone(other_package: Path, tmp_path: Path) -> None:
    written = plain(rule_class("near")(radius=3.0))
    (other_package / "nearby-1.0.dist-info" / "entry_points.txt").unlink()
    script = f"from tabb.plain import rule_from_plain; print(rule_from_plain({written}).radius)"
    found = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout == "3.0\n"


def test_what_cannot_be_found_is_named(other_package: Path) -> None:
    for name, module, says in (
        ("lost", None, "rule 'lost' is unknown: nearby:Lost cannot be imported"),
        ("false", None, "nearby:Wide: is no rule whose name is 'false'"),
        ("near", "nowhere:Near", None),  # the entry point stands in for a class that has moved
        ("gone", "nowhere:Gone", "rule 'gone' is unknown: nowhere:Gone cannot be imported (No module named 'nowhere')"),
        ("gone", "nearby:Near", "nearby:Near: is no rule whose name is 'gone'"),
        ("gone", None, "rule 'gone' is unknown: it was registered by other code, import that first"),
    ):
        if says is None:
            assert rule_class(name, module).name == name
            continue
        with pytest.raises(RunError) as refused:
            rule_class(name, module)
        assert says in str(refused.value)


def test_a_broken_package_leaves_the_others_usable(other_package: Path) -> None:
    """`lost` and `false` cannot be had: only who asks for them is told so."""
    assert "quick" in all_presets()
    assert about_rule("near") == "Pooled, from another package."
    assert about_rule("lost").startswith("rule 'lost' is unknown: nearby:Lost cannot be imported")
    (learner,), _ = parse_train(["near"], [])
    assert learner.name == "near"
    with pytest.raises(RunError, match="rule 'lost' is unknown"):
        parse_train(["lost"], [])


@pytest.mark.slow
def test_another_packages_learner_is_trained_and_reported_by_children(
    other_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs of a plan, each a process of its own, then what reads them: the cache, a resumed plan, scores, a report."""
    monkeypatch.delenv("TABB_DATA", raising=False)
    monkeypatch.setenv("TABB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    small = ["--updates", "4", "--evaluations", "1", "--episodes", "1", "--backbone.policies", "1"]
    assert main(["train", "near@wide", "far", *small, "--progress", "none", "--jobs", "1", "--out", "runs"]) == 0
    assert [run.learner for run in tabb.results("runs")] == ["far", "near@wide"]
    assert [file.name.partition("-")[0] for file in (tmp_path / "cache").glob("near-*")] == ["near"]
    run = tmp_path / "runs" / "near@wide" / "seed0"
    policy = (run / "policy.npz").read_bytes()
    for name in ("result.json", "policy.npz", "checkpoint.npz", "prepared.npz"):
        (run / name).unlink()
    assert main(["train", "--resume", "runs", "--progress", "none"]) == 0
    assert (run / "policy.npz").read_bytes() == policy
    assert main(["score", str(run)]) == 0
    assert main(["report", str(run)]) == 0
    capsys.readouterr()
    assert "nearness, from another package" in (run / "report.html").read_text(encoding="utf-8")


def test_a_class_of_a_script_stays_in_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass(frozen=True)
    class Mine(Pooled):
        name = "mine"

    monkeypatch.setitem(RULES, "mine", Mine)
    with pytest.raises(UsageError, match=r"mine: class .*Mine of test_registry cannot be imported by another process"):
        module_of(Mine)
    assert plain(Mine()) == {"name": "mine"}
    assert rule_from_plain({"name": "mine"}) == Mine()
    assert module_of(Pooled) is None
