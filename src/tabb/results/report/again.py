"""The command that makes a run again, from its record."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from tabb.results.report.records import Record
from tabb.training.config import Settings


def command(record: Record, seeds: Sequence[int]) -> str:
    """The `tabb train` command of these runs, for a shell; a line of Python where they were trained from arrays.

    Options that have their default are left out, the others are there in full: a preset's constants, too.
    """
    origin = record.config.get("origin", {})
    if not isinstance(origin.get("target"), dict):
        settings = dataclasses.replace(record.settings, backbone=record.backbone)
        return (
            f"tabb.train(tabb.{record.rule!r}, source, target, task={record.task!r}, seeds={list(seeds)}, "
            f"settings=tabb.{settings!r})"
        )
    from tabb.environments.tasks import get_task
    from tabb.registry import learners_of

    words = ["tabb", "train", record.learner]
    for domain in ("source", "target"):
        if domain in origin:
            words += [f"--{domain}", "+".join(origin[domain]["files"])]
    if "source" not in origin and record.task is None:
        # Outside the catalogue `tabb train` wants both named, though this rule reads the target alone.
        words += ["--source", words[-1]]
    for name, value in (("task", record.task), ("env", origin.get("env"))):
        words += [f"--{name}", value] if value else []
    words += ["--seeds", *map(str, seeds)]
    plain = Settings()
    for field in dataclasses.fields(Settings):
        if field.name != "backbone":
            words += option(field.name, getattr(record.settings, field.name), getattr(plain, field.name))
    suites = get_task(record.task).suites if record.task else ()
    usual = learners_of([record.learner], None, suites)[0]
    words += differences("rule", record.rule, usual.rule.on(record.backbone))
    words += differences("backbone", record.backbone, usual.backbone)
    return shlex.join(words)


def differences(prefix: str, value: Any, usual: Any) -> Iterator[str]:
    """Options that turn the dataclass `usual` into `value`."""
    for field in dataclasses.fields(value):
        here, there = getattr(value, field.name), getattr(usual, field.name)
        if dataclasses.is_dataclass(here):
            yield from differences(f"{prefix}.{field.name}", here, there)
        else:
            yield from option(f"{prefix}.{field.name}", here, there)


def option(name: str, value: Any, usual: Any) -> list[str]:
    """An option and its value as tyro reads them; nothing where it is the usual one."""
    if value == usual:
        return []
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        *path, last = flag.split(".")
        return ["--" + ".".join([*path, last if value else f"no-{last}"])]
    values = value if isinstance(value, tuple | list) else [value]
    return [f"--{flag}", *map(str, values)]
