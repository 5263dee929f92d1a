"""What can be wrong with the arguments of `train`, found before anything is trained."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from tabb.backbones import Backbone, for_task, own_backbone
from tabb.data import check_domains, check_side
from tabb.environments.own_environment import (
    check_action_space,
    check_another,
    check_one_step,
    check_task_takes,
    open_environment,
)
from tabb.environments.tasks import Task
from tabb.errors import DataError, UsageError
from tabb.field_types import check_field_types
from tabb.plain import plain
from tabb.registry import backbone_named
from tabb.rules import Rule
from tabb.training.config import Settings
from tabb.transitions import COLUMNS, PIECE, Transitions, pieces_of

SEEDS = 2**32
"""how many seeds there are: JAX makes the same key of numbers that differ by a multiple of it"""
LARGEST_ACTION = 1.001
"""bound of actions, 1, with room for rounding"""


def check_seeds(seeds: Sequence[int]) -> list[int]:
    """`seeds` as a list; `UsageError` unless they are different whole numbers from 0 to 2^32 - 1."""
    numbers = list(seeds) if isinstance(seeds, Sequence) else [seeds]
    if (
        not numbers
        or len(set(numbers)) < len(numbers)
        or not all(isinstance(n, int | np.integer) and 0 <= n < SEEDS for n in numbers)
    ):
        raise UsageError(f"seeds={seeds}: give one or more different whole numbers from 0 to {SEEDS - 1:,}")
    return [int(n) for n in numbers]  # NumPy's integers are not JSON


def check_types(
    rule: object, source: object, target: object, settings: object, backbone: object, env_factory: object
) -> None:
    """The mistakes that a user of the library makes first, each with its remedy."""
    if isinstance(rule, type) or not isinstance(rule, Rule):
        name = rule.__name__ if isinstance(rule, type) else repr(rule)
        raise UsageError(f"rule is {name}: give an instance, such as tabb.TABB() or tabb.Pooled()")
    for name, data in (("source", source), ("target", target)):
        optional = name == "source" or (isinstance(settings, Settings) and bool(settings.online.domains))
        if not isinstance(data, Transitions) and not (optional and data is None):
            raise UsageError(
                f"{name} is {type(data).__name__}: give Transitions, from tabb.load(path) or tabb.from_arrays(...)"
            )
    if not isinstance(settings, Settings):
        raise UsageError(f"settings is {type(settings).__name__}: give tabb.Settings(updates=..., ...)")
    check_backbone(backbone)
    if env_factory is not None and not isinstance(env_factory, str) and not callable(env_factory):
        raise UsageError(
            f"env_factory is {type(env_factory).__name__}: give a function that makes an environment, or the id of one"
        )
    for name, part in (("rule", rule), ("backbone", backbone or settings.backbone)):
        if part is None:
            continue
        if dataclasses.is_dataclass(part):
            check_field_types(part)  # as when it was made, for what was changed since
        try:
            hash(part)  # what is compiled is known by its constants
        except TypeError:
            lists = [f"{field}={value}" for field, value in vars(part).items() if isinstance(value, list)]
            which = lists[0] if lists else f"a constant of {part}"
            raise UsageError(f"{name}: {which} is a list; give a tuple, such as (64, 64)") from None


def check_origin(origin: object) -> dict[str, Any]:
    """Where data come from as JSON types, nothing for None. Raises `UsageError` for what JSON cannot hold."""
    if origin is not None and not isinstance(origin, Mapping):
        raise UsageError(f"origin is {type(origin).__name__}: give a dictionary, such as {{'target': 'robot.hdf5'}}")
    try:
        known: dict[str, Any] = json.loads(json.dumps(plain(dict(origin or {})), default=os.fspath))
    except (TypeError, ValueError) as error:
        raise UsageError(f"origin holds what JSON cannot ({error}); give text, numbers, lists and dicts") from None
    return known


def check_backbone(backbone: object) -> None:
    """Raise `UsageError` unless this is a backbone, a name, or None."""
    if backbone is not None and not isinstance(backbone, Backbone | str):
        name = backbone.__name__ if isinstance(backbone, type) else repr(backbone)
        raise UsageError(f"backbone is {name}: give an instance such as tabb.IQL(), or a name such as 'iql'")


def check_held_out(settings: Settings, backbone: Backbone) -> Settings:
    """The settings for this backbone: nothing is held out by default for a policy that remembers its episode.

    Raises `UsageError` where something is: such a policy cannot be valued off-policy.
    """
    if not backbone.remembers:
        return settings
    if settings.held_out:
        raise UsageError(
            f"held_out={settings.held_out}: the policy of backbone {backbone.name} remembers its episode, so held-out "
            "rows cannot judge it; use held_out=0, and a task or an environment to evaluate in"
        )
    return dataclasses.replace(settings, held_out=0.0)


def resolved_backbone(rule: Rule, backbone: Backbone | str | None, settings: Settings, task: Task | None) -> Backbone:
    """The backbone of a run: the one that is given, else the settings', else the rule's own.

    One that is given by name, and the rule's own, have the constants of the rule and of the task's suite.

    Raises `UsageError` for an unknown name, and where the settings have another backbone than is given.
    """
    if backbone is not None and settings.backbone not in (None, backbone):
        raise UsageError(f"backbone={backbone} and settings.backbone={settings.backbone}: give one of them")
    if isinstance(backbone, Backbone):
        return backbone
    if backbone is None and settings.backbone is not None:
        return settings.backbone
    named = own_backbone(rule) if backbone is None else backbone_named(backbone, rule)
    return for_task(rule, named, task.suites if task is not None else ())


def usable_target(target: Transitions, read: bool, worlds: Collection[str]) -> Transitions:
    """The target data. Raises `UsageError` if they have no rows and the run needs some.

    `read` says whether batches hold target rows, `worlds` in which domains steps are taken.
    """
    if not len(target) and "target" not in worlds and (read or not worlds):
        raise UsageError("target has no rows; give logged transitions of the target domain")
    return target


def usable_source(
    rule: Rule, source: Transitions | None, target: Transitions, needed: bool, steps: bool = False
) -> Transitions:
    """The source data, with no rows if the run needs none; with `steps` in the source it may begin without rows.

    Raises `UsageError` if they are missing.
    """
    if not needed:
        return target[:0]
    if source is None or (not len(source) and not steps):
        raise UsageError(f"rule {rule.name} needs source data: give them, or train target-only")
    return source


def check_data(source: Transitions, target: Transitions, task: Task | None) -> list[str]:
    """Warnings about data that can be used but look wrong.

    Raises:
        UsageError: the data are not of the task's robot.
        DataError: columns of a data set do not fit together, or the two data sets do not.
    """
    check_columns("target", target)
    check_columns("source", source)
    for size in ("observation_size", "action_size"):
        if task is not None and getattr(task, size) != getattr(target, size):
            raise UsageError(
                f"task {task.name} and the data do not fit: {size} is {getattr(task, size)} and "
                f"{getattr(target, size)}; name the task that the target data come from"
            )
    if task is not None:
        check_task_takes(target.action_bounds, task.name)
    if len(source) and len(target):
        return check_domains(source, target)
    return [
        warning
        for name, rows in (("source", source), ("target", target))
        if len(rows)
        for warning in check_side(name, rows)
    ]


def check_columns(domain: str, data: Transitions) -> None:
    """Raise `DataError` for columns that do not fit together, as those of transitions changed by hand may not."""
    rows, sizes = len(data), (data.observation_size, data.action_size)
    shapes = {"observation": (rows, sizes[0]), "action": (rows, sizes[1]), "next_observation": (rows, sizes[0])}
    for name in COLUMNS:
        column, shape = np.asarray(getattr(data, name)), shapes.get(name, (rows,))
        if column.shape != shape:
            raise DataError(f"{domain}: {name} has shape {column.shape}; give {shape}, like the other columns")
        if not all(np.isfinite(column[begin : begin + PIECE]).all() for begin in range(0, rows, PIECE)):
            raise DataError(f"{domain}: {name} holds NaN or infinity; remove these rows, or mend their source")
    largest = max((float(np.abs(np.asarray(piece.action)).max()) for piece in pieces_of(data)), default=0.0)
    if largest > LARGEST_ACTION:
        raise DataError(
            f"{domain}: action reaches {largest:.6g}, outside [-1, 1]; give tabb.from_arrays the bounds of the "
            "action space as action_low and action_high"
        )


def check_environment(
    env_factory: Callable[[], gymnasium.Env[Any, Any]], target: Transitions, several: bool = False
) -> None:
    """An environment of another size, or one whose first step fails, is found now, not at the first evaluation.

    `several` says that the run will use more than one at once.
    """
    env = check_action_space(open_environment(env_factory), target.action_bounds)
    sizes = {"observation_size": env.observation_space.shape[0], "action_size": env.action_space.shape[0]}
    for name, size in sizes.items():
        if size != getattr(target, name):
            raise UsageError(
                f"the environment and the data do not fit: {name} is {size} and {getattr(target, name)}; "
                "evaluate in the environment that the target data come from"
            )
    check_one_step(env)
    env.close()
    if several:
        check_another(open_environment(env_factory), [env]).close()
