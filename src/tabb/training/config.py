"""What a run is made of, as plain data: written to `config.json`, read back to continue the run."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import platform
import typing
from typing import Any, TypeVar

import jax
import numpy as np

from tabb.backbones import BACKBONES, Backbone, own_backbone
from tabb.errors import RunError, UsageError
from tabb.rules import RULES, Rule
from tabb.transitions import Transitions

C = TypeVar("C")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a run is trained and scored; the same for every method under comparison."""

    updates: int = 100_000
    """updates of the run; the policy's cosine schedule spans them"""
    evaluations: int = 20
    """evaluations during the run, evenly spaced, the last one at its end; 0 for none"""
    episodes: int = 10
    """episodes of each evaluation"""
    evaluation_seed: int = 10_000
    """first reset seed of the evaluation episodes"""
    normalise: typing.Literal["pooled", "none"] = "pooled"
    """standardise observations by both domains (each counting half), or not at all"""
    engine: typing.Literal["legacy", "native"] = "legacy"
    """physics of the evaluation: MuJoCo 2.1's, as in D4RL, ODRL and OTDF data, or today's"""
    held_out: float | None = None
    """share of the target's episodes that training does not see; policies are judged by them where nothing is rolled
    out (`tabb select`). If not given, 0.2 without a task or environment, if there are three episodes, else 0"""
    source_rows: int | None = None
    """learn from at most so many source rows: whole episodes drawn by `rows_seed`, the last one cut where the number is
    reached; all if not given"""
    target_rows: int | None = None
    """the same of the target"""
    rows_seed: int = 0
    """which episodes are drawn for `source_rows` and `target_rows`; not the seed of training"""
    backbone: Backbone | None = None
    """the single-domain learner and its constants; None is the rule's own (IQL for most), with the constants that the
    rule (BOSA) or the task's suite (AntMaze, Adroit) has for it. In Python one that is given is taken as it is: start
    from `tabb.backbones.for_task(rule, own_backbone(rule), task.suites)` to keep those constants"""

    def __post_init__(self) -> None:
        given = [name for name in ("source_rows", "target_rows") if getattr(self, name) is not None]
        for name in ("updates", "evaluations", "episodes", "evaluation_seed", "rows_seed", *given):
            if not isinstance(getattr(self, name), int):
                raise UsageError(f"{name}={getattr(self, name)}: give a whole number")
        least_of = {"updates": 1, "evaluations": 0, "episodes": 1, "rows_seed": 0} | dict.fromkeys(given, 1)
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise UsageError(f"{name}={getattr(self, name)}: must be at least {least}")
        for name, known in (("engine", ("legacy", "native")), ("normalise", ("pooled", "none"))):
            if getattr(self, name) not in known:
                raise UsageError(f"{name}={getattr(self, name)!r} is unknown: use {' or '.join(known)}")
        if self.held_out is not None and not 0 <= self.held_out < 1:
            raise UsageError(f"held_out={self.held_out}: a share of the target's episodes lies in [0, 1)")

    def on(self, rule: Rule) -> Settings:
        """These settings with the rule's own backbone where none is named."""
        return dataclasses.replace(self, backbone=backbone_of(self, rule))

    def evaluation_points(self) -> list[int]:
        """After how many updates the policy is evaluated."""
        return [round(self.updates * (i + 1) / self.evaluations) for i in range(self.evaluations)]

    def stretch(self) -> int:
        """Updates per compiled call: long enough that calls cost nothing, short enough to show and stop."""
        return max(1, min(1000, self.updates // 100))


def backbone_of(settings: Settings, rule: Rule) -> Backbone:
    """The backbone of a run: the settings', or else the rule's own."""
    return settings.backbone or own_backbone(rule)


def learner_name(rule: str, backbone: str | None) -> str:
    """`tabb`, or `tabb@cql` on a backbone that is not the rule's own: what tables and folders call a learner."""
    own = RULES[rule].backbone if rule in RULES else "iql"
    return rule if backbone in (None, own) else f"{rule}@{backbone}"


def plain(value: Any) -> Any:
    """Dataclasses, tuples and infinities as JSON types; `from_plain` is its inverse for dataclasses."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"name": value.name} | fields if isinstance(value, Rule | Backbone) else fields
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no infinity; float("inf") reads it back
    return value


def from_plain(kind: type[C], values: dict[str, Any]) -> C:
    """The dataclass `kind` from what `plain` made of it. Raises `RunError` for names that it does not have."""
    types = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    unknown = [name for name in values if name not in names]
    if unknown:
        raise RunError(f"{kind.__name__} has no {unknown[0]!r}: the run was written by another version of tabb")
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        wanted = types[name]
        if name == "backbone" and isinstance(value, dict):
            value = backbone_from_plain(value)
        elif isinstance(wanted, type) and issubclass(wanted, Rule):
            value = rule_from_plain(value)
        elif dataclasses.is_dataclass(wanted):
            value = from_plain(wanted, value)  # type: ignore[arg-type]
        elif wanted is float:
            value = float(value)
        elif isinstance(value, list):
            value = tuple(value)
        arguments[name] = value
    return kind(**arguments)


def settings_from(config: dict[str, Any]) -> Settings:
    """The settings of a run's config; a run from before episodes could be held out held out none."""
    return from_plain(Settings, {"held_out": 0.0} | (config.get("settings") or {}))


def rule_from_plain(values: dict[str, Any]) -> Rule:
    """The rule that `plain` wrote, found by its name."""
    values = dict(values)
    name = values.pop("name")
    if name not in RULES:
        raise RunError(f"rule {name!r} is unknown: it was registered by other code, import that first")
    return from_plain(RULES[name], values)


def backbone_from_plain(values: dict[str, Any]) -> Backbone:
    """The backbone that `plain` wrote, found by its name; runs from before there were several have IQL."""
    values = dict(values)
    name = values.pop("name", "iql")
    if name not in BACKBONES:
        raise RunError(f"backbone {name!r} is unknown: it was registered by other code, import that first")
    return from_plain(BACKBONES[name], values)


def fingerprint(data: Transitions) -> str:
    """SHA-256 over all columns: tells on resuming whether the data are the same."""
    digest = hashlib.sha256()
    for field in dataclasses.fields(data):
        array = np.ascontiguousarray(getattr(data, field.name))
        digest.update(f"{field.name} {array.shape} {array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def environment() -> dict[str, Any]:
    """Versions and machine of this process, for the record of a run."""
    from importlib.metadata import PackageNotFoundError, version

    names = ("tabb-rl", "jax", "jaxlib", "equinox", "optax", "numpy", "mujoco", "gymnasium")
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "unknown"
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device.platform}: {device.device_kind}",
        "versions": versions,
    }
