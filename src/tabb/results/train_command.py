"""Runs as commands: the options of `tabb train` that make a rule, a backbone or a whole run what it is."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tabb.data.names import joined
from tabb.data.reading import NOTHING_STATED
from tabb.environments.tasks import get_task
from tabb.field_types import TypedFields, default_of
from tabb.models.target_predictor import TargetPredictor
from tabb.registry import learners_of
from tabb.rules import Rule
from tabb.training.config import Settings, imitation_of
from tabb.training.online import OFFLINE
from tabb.training.spec import RunSpec
from tabb.training.starting_weights import PARTS


def train_command(spec: RunSpec, seeds: Sequence[int]) -> str:
    """The command that trains these seeds of a run, for a shell.

    Options that have their default are left out, the others are there in full: a preset's constants, too.
    """
    words = ["tabb", "train", spec.learner]
    for domain, files in spec.files.items():
        words += [f"--{domain}", joined(files)]
    if spec.source is None and spec.task is None and not spec.settings.online.domains:
        # Outside the catalogue `tabb train` wants both named, though this rule reads the target alone.
        words += ["--source", words[-1]]
    for name, value in (("task", spec.task), ("env", spec.env), ("source-env", spec.source_env)):
        words += [f"--{name}", value] if value else []
    words += ["--seeds", *map(str, seeds)]
    words += [*option("start", spec.start, None), *option("start_parts", spec.start_parts, PARTS)]
    words += changed_options("", spec.reading, NOTHING_STATED)
    as_long = Settings(updates=spec.settings.updates, online=spec.settings.online)
    usual_imitation = imitation_of(as_long, spec.rule, spec.backbone, spec.store)
    settings = spec.settings
    if not spec.rule.fits_again:  # the command line refuses it
        settings = dataclasses.replace(settings, online=dataclasses.replace(settings.online, refits=OFFLINE.refits))
    words += setting_options(settings, Settings(imitation=usual_imitation))
    suites = get_task(spec.task).suites if spec.task else ()
    (usual,) = learners_of([spec.learner], None, suites)
    words += changed_options("rule", spec.rule, usual.rule.on(spec.backbone))
    words += changed_options("backbone", spec.backbone, usual.backbone)
    return shlex.join(words)


def train_call(rule: Rule, settings: Settings, seeds: Sequence[int], more: Mapping[str, Any]) -> str:
    """The lines of Python that train these seeds again, for runs from arrays, which no command can name.

    `settings` has the backbone in it; `more` are other arguments of `tabb.train`.
    """
    made: dict[str, str] = {}
    arguments = [
        _written(rule, made),
        "source",
        "target",
        f"seeds={list(seeds)}",
        f"settings={_written(settings, made)}",
    ]
    arguments += [f"{name}={_written(value, made)}" for name, value in more.items()]
    imports = {module: sorted(name for name, of in made.items() if of == module) for module in set(made.values())}
    lines = ["import tabb"]
    lines += [
        f"from {module} import {', '.join(names)}" for module, names in sorted(imports.items()) if module != "tabb"
    ]
    return "\n".join(
        [
            *lines,
            "",
            "# source, target: the transitions, as tabb.from_arrays made them",
            f"tabb.train({', '.join(arguments)})",
        ]
    )


def _written(value: Any, made: dict[str, str]) -> str:
    """A value as Python reads it back, constants that have their default left out; `made` gets the classes' modules."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        import tabb

        kind, own = type(value), getattr(tabb, type(value).__name__, None) is type(value)
        made[kind.__name__] = "tabb" if own else kind.__module__
        changed = [
            f"{field.name}={_written(there, made)}"
            for field in dataclasses.fields(value)
            if (there := getattr(value, field.name)) != default_of(field)
        ]
        return f"{'tabb.' if own else ''}{kind.__name__}({', '.join(changed)})"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    return repr(value)


def setting_options(settings: Settings, usual: Settings) -> list[str]:
    """Options that turn the settings `usual` into `settings`, the backbone aside."""
    words: list[str] = []
    for field in dataclasses.fields(Settings):
        if field.name in ("imitation", "online"):
            words += changed_options(field.name, getattr(settings, field.name), getattr(usual, field.name))
        elif field.name != "backbone":
            words += option(field.name, getattr(settings, field.name), getattr(usual, field.name))
    return words


def changed_options(prefix: str, value: Any, usual: Any) -> Iterator[str]:
    """Options that turn the dataclass `usual` into `value`: `--rule.temperature 0.3`."""
    silent = value.without_effect() if isinstance(value, TypedFields) else {}  # the command line refuses them
    for field in dataclasses.fields(value):
        if field.name in silent:
            continue
        here, there = getattr(value, field.name), getattr(usual, field.name)
        name = f"{prefix}.{field.name}" if prefix else field.name
        if isinstance(here, TargetPredictor) and type(here) is not type(there):
            yield from predictor_options(name, here)
        elif dataclasses.is_dataclass(here):
            yield from changed_options(name, here, there)
        else:
            yield from option(name, here, there)


def predictor_options(name: str, predictor: TargetPredictor) -> list[str]:
    """Options that choose this predictor by name and set those of its constants that are not its defaults."""
    return [f"--{name}", predictor.name, *changed_options(name, predictor, type(predictor)())]


def option(name: str, value: Any, usual: Any) -> list[str]:
    """An option and its value as the command line reads them; nothing where it is the usual one."""
    if value == usual:
        return []
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        *path, last = flag.split(".")
        return ["--" + ".".join([*path, last if value else f"no-{last}"])]
    values = value if isinstance(value, tuple | list) else [value]
    return [f"--{flag}", *map(_word, values)]


def _word(value: Any) -> str:
    """3.0 as `3`: what reads back as the same number."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)
