"""Finished runs as rows of a table: what each one is, and what it scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tabb.backbones import for_task
from tabb.environments.tasks import get_task
from tabb.errors import RunError, RunWarning, warn_caller
from tabb.files import path_of
from tabb.plain import plain
from tabb.registry import backbone_named
from tabb.results.report.records import Record, read_record
from tabb.training.config import Settings, imitation_of


@dataclasses.dataclass(frozen=True)
class RunResult:
    """One finished run."""

    path: Path
    """The run folder."""
    task: str | None
    """None for a run without a task."""
    source: str | None
    """Names of the source data's files, joined by `+`; None for arrays, and for a rule that draws no source rows."""
    target: str | None
    """The same of the target data."""
    source_sha256: str
    """SHA-256 over the source rows that the run learned from: the same rows have the same hash."""
    target_sha256: str
    """The same of the target rows."""
    rule: str
    backbone: str
    learner: str
    """`tabb`, or `tabb@cql` on another backbone than the rule's own."""
    method: str
    """The learner, with those settings that tell it from the other runs of this learner in the same list."""
    settings: dict[str, Any]
    """Constants that differ from the learner's defaults in this task, by the name of their option: `rule.temperature`,
    `backbone.hidden`, `episodes`."""
    seed: int
    updates: int
    held_out: float
    """Share of the target's episodes that the run did not learn from."""
    score: float | None
    """Mean over the last three evaluations; None without evaluations."""
    measure: str
    """`normalised score` or `return`."""
    evaluations: tuple[tuple[int, float], ...]
    """(updates done, mean) of each evaluation."""
    seconds: dict[str, float]
    """Wall time of each part: prepare, compile, train, evaluate, checkpoint."""
    versions: dict[str, str]
    """Versions of tabb and of the packages that it rests on."""
    device: str

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON types: `pandas.DataFrame([row.to_dict() for row in rows])` is the table."""
        return {name: plain(value) for name, value in vars(self).items()} | {"path": str(self.path)}


def results(folder: str | Path) -> list[RunResult]:
    """Every finished run in or below `folder`, in the order of their paths.

    Unfinished runs are left out. One that this version cannot read is left out with a `RunWarning`.

    Raises `RunError` if there is no such folder.
    """
    root = path_of(folder, "folder")
    if not root.is_dir():
        raise RunError(f"{root}: no such folder; give a run folder, or a folder of them")
    records = []
    for file in sorted(root.rglob("result.json")):
        try:
            records.append(read_record(file.parent))
        except RunError as error:
            warn_caller(f"left out: {error}", RunWarning)
    changes = [changed_settings(record) for record in records]
    methods = method_names([record.learner for record in records], changes)
    return [_result(*row) for row in zip(records, changes, methods, strict=True)]


def _result(record: Record, settings: dict[str, Any], method: str) -> RunResult:
    config = record.config
    return RunResult(
        path=record.folder,
        task=record.task,
        source=_data_name(config, "source") if record.uses_source else None,
        target=_data_name(config, "target"),
        source_sha256=config["data"]["source"],
        target_sha256=config["data"]["target"],
        rule=record.rule.name,
        backbone=record.backbone.name,
        learner=record.learner,
        method=method,
        settings=settings,
        seed=record.seed,
        updates=record.settings.updates,
        held_out=record.settings.held_out or 0.0,
        score=record.score,
        measure=record.measure,
        evaluations=tuple(zip(*record.evaluations, strict=True)),
        seconds=record.seconds,
        versions=config["environment"]["versions"],
        device=config["environment"]["device"],
    )


def _data_name(config: dict[str, Any], domain: str) -> str | None:
    files = config.get("origin", {}).get(domain, {}).get("files", [])
    return "+".join(Path(file).name for file in files) or None


def changed_settings(record: Record) -> dict[str, Any]:
    """The constants of a run that differ from its learner's defaults, by the name of their option, as JSON types."""
    suites = get_task(record.task).suites if record.task is not None else ()
    own = for_task(record.rule, backbone_named(record.backbone.name, record.rule), suites)
    default = Settings(updates=record.settings.updates, held_out=record.settings.held_out)
    stepping = dataclasses.replace(default, online=record.settings.online)
    default = dataclasses.replace(default, imitation=imitation_of(stepping, record.rule, record.backbone))
    settings = dataclasses.replace(record.settings, backbone=None)
    return {
        **dict(_differences("rule.", record.rule, type(record.rule)().on(record.backbone))),
        **dict(_differences("backbone.", record.backbone, own)),
        **dict(_differences("", settings, default)),
    }


def _differences(prefix: str, values: Any, defaults: Any) -> Iterator[tuple[str, Any]]:
    """Fields of a dataclass, and of those within it, that differ from the defaults."""
    for field in dataclasses.fields(values):
        value, default = getattr(values, field.name), getattr(defaults, field.name)
        if dataclasses.is_dataclass(value) and type(value) is type(default):
            yield from _differences(f"{prefix}{field.name}.", value, default)
        elif value != default:
            yield prefix + field.name, plain(value)


def method_names(learners: Sequence[str], settings: Sequence[dict[str, Any]]) -> list[str]:
    """A name for each run: its learner, and its settings as far as not all runs of the learner share them."""
    names = []
    for learner, own in zip(learners, settings, strict=True):
        others = [other for name, other in zip(learners, settings, strict=True) if name == learner]
        telling = [name for name in sorted(own) if any(other.get(name) != own[name] for other in others)]
        names.append(" ".join([learner, *(f"{name}={own[name]}" for name in telling)]))
    return names
