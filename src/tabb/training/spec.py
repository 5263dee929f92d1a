"""What one run is: rule, backbone, data, task, seed and settings, as one frozen object that is plain JSON.

A plan lists specs, a child process trains one, a cluster sends them to its nodes, and a report makes from one the
command that repeats the run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabb.backbones import Backbone
from tabb.data.reading import NOTHING_STATED, Reading
from tabb.errors import RunError, UsageError
from tabb.models.imitation import LOGGED
from tabb.plain import from_plain, plain, rule_from_plain
from tabb.registry import learner_name, module_of
from tabb.rules import Rule
from tabb.training.config import Settings, backbone_of, imitation_of, settings_from
from tabb.training.folder import files_of
from tabb.training.starting_weights import PARTS, Start, recorded_path, same_start, start_from


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """One run. Two specs that are equal describe the same run.

    `rule` takes on those defaults that depend on the backbone, `settings.imitation` is the rule's own where none is
    named, and `settings.backbone` is always None: the backbone has a field of its own.
    """

    rule: Rule
    backbone: Backbone
    source: tuple[str, ...] | None
    """Absolute paths of the source data's files; None where the rule draws no source rows, or all are steps."""
    target: tuple[str, ...] | None
    """The same of the target data; None where all target rows are steps of the run."""
    task: str | None
    """Name of the task to evaluate in; None to train without rollouts, or to roll out in `env`."""
    env: str | None
    """Gymnasium id of an environment to evaluate in, `module:Id-v0` where a module registers it."""
    seed: int
    settings: Settings
    start: str | None = None
    """Absolute path of the run, or of the folder of runs, whose weights it starts from; None for fresh weights."""
    start_parts: tuple[str, ...] = PARTS
    """What it takes from there."""
    reading: Reading = NOTHING_STATED
    """What is stated of the data files of both domains."""
    store: bool = False
    """Whether rows stay in files, where batches are drawn from; what is learned is the same."""
    source_env: str | None = None
    """Gymnasium id of the environment in which source steps are taken; None for that of the task's robot."""

    def __post_init__(self) -> None:
        if self.task is not None and self.env is not None:
            raise UsageError(f"task {self.task} with env {self.env}: give one of them")
        object.__setattr__(self, "rule", self.rule.on(self.backbone))
        imitation = imitation_of(self.settings, self.rule, self.backbone, self.store)
        object.__setattr__(self, "settings", dataclasses.replace(self.settings, backbone=None, imitation=imitation))
        start = self.starting_run
        object.__setattr__(self, "start", None if start is None else str(start.path))
        object.__setattr__(self, "start_parts", PARTS if start is None else start.parts)

    @property
    def learner(self) -> str:
        """`tabb`, or `tabb@cql` on another backbone than the rule's own."""
        return learner_name(self.rule.name, self.backbone.name)

    @property
    def starting_run(self) -> Start | None:
        """Where its first weights come from. Raises `UsageError` for unknown parts."""
        return None if self.start is None else start_from(self.start, self.start_parts)

    @property
    def files(self) -> dict[str, list[Path]]:
        """The data files of each domain that the run reads."""
        domains = {"source": self.source, "target": self.target}
        return {domain: [Path(file) for file in files] for domain, files in domains.items() if files is not None}

    @property
    def own_steps(self) -> tuple[str, ...]:
        """Ids of the environments, other than a task's simulators, in which it takes steps: each may be one robot."""
        own = {"target": self.env, "source": self.source_env}
        return tuple(name for domain in self.settings.online.domains if (name := own[domain]) is not None)

    def full_settings(self) -> Settings:
        """The settings with the backbone in them, as `train` takes them."""
        return dataclasses.replace(self.settings, backbone=self.backbone)

    def check_importable(self) -> None:
        """Raise `UsageError` for a rule or a backbone that no other process can import."""
        for part in (self.rule, self.backbone):
            module_of(type(part))

    def to_json(self) -> dict[str, Any]:
        """JSON types; `from_json` is the inverse."""
        return plain(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunSpec:
        """The spec that `to_json` wrote. Raises `RunError` for anything else."""
        try:
            settings = {"imitation": plain(LOGGED)} | dict(values["settings"])  # before there was a choice
            return from_plain(cls, dict(values) | {"settings": settings})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(f"is no spec of a run ({error}); it is damaged, or of another version of tabb") from None

    @classmethod
    def from_config(cls, config: Mapping[str, Any], seed: int | None = None) -> RunSpec:
        """The spec of a run that was started, from its `config.json`; `seed` for another one of the same call.

        Raises:
            UsageError: the run learned from arrays, or in an environment that Python code made: tabb keeps neither.
            RunError: a rule or backbone that cannot be found, or a config of another version.
        """
        origin = config.get("origin") or {}
        rule, settings = rule_from_plain(config["rule"]), settings_from(dict(config))
        without = "env" in origin and "target" not in origin and "target" in settings.online.domains
        named = {domain: files_of(origin, domain) for domain in ("source", "target")}
        if (named["target"] is None and not without) or any(named[one] is None for one in named if one in origin):
            raise UsageError(
                "was trained from arrays, which tabb does not keep; go on in Python with "
                "tabb.train(..., folder=..., resume=True) and the same data"
            )
        if origin.get("made"):
            raise UsageError(
                "its environment was made by Python code, which tabb does not keep; go on in Python with "
                "tabb.train(..., folder=..., resume=True) and the same env_factory and source_env"
            )
        files = {domain: tuple(paths) for domain, paths in named.items() if paths is not None}
        start = config.get("start")
        return cls(
            rule=rule,
            backbone=backbone_of(settings, rule),
            source=files.get("source"),
            target=files.get("target"),
            task=config["task"],
            env=origin.get("env"),
            seed=int(config["seed"]) if seed is None else seed,
            settings=settings,
            start=None if start is None else recorded_path(start),
            start_parts=PARTS if start is None else tuple(start["parts"]),
            reading=reading_from(origin),
            store=bool(origin.get("store", False)),
            source_env=origin.get("source_env"),
        )


def reading_from(origin: Mapping[str, Any]) -> Reading:
    """What was stated of the data files of a run, from the `origin` of its config."""
    return from_plain(Reading, dict(origin.get("reading") or {}))


def differences(config: Mapping[str, Any], spec: RunSpec) -> list[str]:
    """In what a started run (its `config.json`) is not what `spec` says, its seed aside: `rule keep`, `source data`.

    What is held out of the target is decided by its data where the spec leaves it open. Data are compared by the names
    of their files, where the run was made from files, starting weights by their hash.
    """
    before = settings_from(dict(config))
    held_out = before.held_out if spec.settings.held_out is None else spec.settings.held_out
    then = {"rule": plain(rule_from_plain(config["rule"])), "settings": plain(before)}
    now = {"rule": plain(spec.rule), "settings": plain(dataclasses.replace(spec.full_settings(), held_out=held_out))}
    if before.backbone is None:
        then["settings"]["backbone"] = plain(backbone_of(before, spec.rule))
    names = [f"{part} {name}" for part in now for name in {**now[part], **then[part]}
             if then[part].get(name) != now[part].get(name)]  # fmt: skip
    origin = config.get("origin") or {}
    names += ["task"] if config.get("task") != spec.task else []
    names += [name for name in ("env", "source_env") if origin.get(name) != getattr(spec, name)]
    for domain, files in (("source", spec.source), ("target", spec.target)):
        known = origin.get(domain)
        if isinstance(known, dict) and files is not None and tuple(known.get("files", files)) != files:
            names.append(f"{domain} data")
    names += ["reading"] if isinstance(origin.get("target"), dict) and reading_from(origin) != spec.reading else []
    names += [] if same_start(config, spec.starting_run) else ["start"]
    return names
