"""`train`: from two data sets to policies and their scores."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np

from tabb.backbones import for_task, own_backbone
from tabb.batch import make_domains
from tabb.data import check_domains, check_side
from tabb.environments.tasks import Task, get_task
from tabb.errors import DataWarning, UsageError
from tabb.evaluation.fqe import FQE
from tabb.plain import plain
from tabb.provenance import environment, fingerprint
from tabb.rules import Rule
from tabb.tracking import Opener, opener
from tabb.training.config import Settings, backbone_of
from tabb.training.folder import RunFolder
from tabb.training.held_out import HeldOut, share_of, split
from tabb.training.progress import Style
from tabb.training.record import Run
from tabb.training.row_limit import limited
from tabb.training.starting_weights import PARTS, start_from
from tabb.training.trainer import Trainer
from tabb.transitions import Transitions


def train(
    rule: Rule,
    source: Transitions | None,
    target: Transitions,
    *,
    task: str | Task | None = None,
    seeds: Sequence[int] = (0,),
    settings: Settings | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    env_factory: Callable[[], gymnasium.Env[Any, Any]] | None = None,
    progress: Style = "none",
    origin: dict[str, Any] | None = None,
    track: str | Opener | None = None,
    start: str | Path | Run | None = None,
    start_parts: Sequence[str] = PARTS,
) -> list[Run]:
    """Train `rule` on both data sets, one run per seed, and evaluate each in the target environment.

    Args:
        source: data of the source domain; None for a rule that draws none (target-only).
        target: data of the target domain.
        task: where to evaluate; None trains without rollouts (or rolls out in `env_factory`'s environment).
        seeds: one run each. On an accelerator they are one compiled program; on a CPU they follow one another.
        settings: length, evaluation, backbone; `Settings()` if None.
        folder: where runs are kept, `folder/seed0` and so on; None keeps nothing on disk.
        resume: go on with runs that `folder` holds; each ends bit-equal to one that was never stopped.
        progress: "auto" (bar or lines), "bar", "lines" or "none".
        origin: where the data come from, for the record (paths, reports).
        track: where metrics go besides the folder: "tensorboard", "trackio", "wandb", or what opens a
            `tabb.tracking.Sink` for a run; not part of the run, and nothing in its results depends on it.
        start: a finished run, or its folder, whose weights the new runs start from; a folder of runs (`seed0`, ...)
            gives each seed its own. Functions of raw observations are the same as there, whatever the normaliser.
        start_parts: what is taken from it: "policy", "critic", or both.

    Data that can be used but look wrong are a `DataWarning`.

    Raises:
        DataError: the two data sets do not belong together.
        UsageError: unknown task, options that cannot work.
        RunError: the folder holds other runs or cannot be written.
        Stopped: Ctrl-C or SIGTERM; what was done is saved.
    """
    settings = settings or Settings()
    _check_types(rule, source, target, settings)
    opens = opener(track)
    beginning = None if start is None else start_from(start, start_parts)
    task = None if task is None else get_task(task)
    if settings.backbone is None and task is not None:
        settings = dataclasses.replace(settings, backbone=for_task(rule, own_backbone(rule), task.suites))
    settings = settings.on(rule)
    rule = rule.on(backbone_of(settings, rule))
    backbone_of(settings, rule).check_rule(rule)
    source = _check(rule, source, target, task, settings)
    if env_factory is not None:
        _check_env(env_factory, target)
    seeds = check_seeds(seeds)
    if task is not None and task.reward_offset:
        source, target = (dataclasses.replace(d, reward=d.reward + task.reward_offset) for d in (source, target))
    source = limited(source, settings.source_rows, settings.rows_seed)
    target = limited(target, settings.target_rows, settings.rows_seed)
    rolls_out = task is not None or env_factory is not None
    settings = dataclasses.replace(settings, held_out=share_of(settings, rolls_out, target))
    parts = split(target, settings.held_out or 0.0)
    shares = rule.shares(backbone_of(settings, rule).batch_size)
    domains = make_domains(source, parts.train, settings.normalise, shares)
    config = {
        "rule": plain(rule),
        "settings": plain(settings),
        "task": None if task is None else task.name,
        "seeds": list(seeds),
        "origin": origin or {},
        "data": {"source": fingerprint(source), "target": fingerprint(target)},
        "environment": environment(),
    }
    held_out = None
    if parts.episodes:
        # What rules fit before training depends on it, so it belongs to the data that the cache knows them by.
        config["data"] |= {"held_out": parts.episodes}
        held_out = HeldOut(
            target, parts, domains.normaliser, FQE(discount=getattr(backbone_of(settings, rule), "discount", 0.99))
        )
    if folder is not None and not resume:
        for seed in seeds:  # before the first of them is trained, not when its turn comes
            RunFolder(Path(folder) / f"seed{seed}").check_new()
    at_once = len(seeds) if jax.default_backend() != "cpu" else 1
    runs: list[Run] = []
    for first in range(0, len(seeds), at_once):
        lanes = seeds[first : first + at_once]
        folders = [None if folder is None else RunFolder(Path(folder) / f"seed{seed}") for seed in lanes]
        trainer = Trainer(
            *(rule, domains, task, lanes, settings, folders, env_factory, config, resume, opens, held_out),
            beginning,
        )
        runs += trainer.run(progress)
    return runs


def check_seeds(seeds: Sequence[int]) -> list[int]:
    """`seeds` as a list; `UsageError` unless they are different whole numbers, none negative."""
    numbers = list(seeds) if isinstance(seeds, Sequence) else [seeds]
    if (
        not numbers
        or len(set(numbers)) < len(numbers)
        or not all(isinstance(n, int | np.integer) and n >= 0 for n in numbers)
    ):
        raise UsageError(f"seeds={seeds}: give one or more different whole numbers, none negative")
    return [int(n) for n in numbers]  # NumPy's integers are not JSON


def _check_types(rule: object, source: object, target: object, settings: object) -> None:
    """The mistakes that a user of the library makes first, each with its remedy."""
    if isinstance(rule, type) or not isinstance(rule, Rule):
        name = rule.__name__ if isinstance(rule, type) else repr(rule)
        raise UsageError(f"rule is {name}: give an instance, such as tabb.TABB() or tabb.Pooled()")
    for name, data in (("source", source), ("target", target)):
        if not isinstance(data, Transitions) and not (name == "source" and data is None):
            raise UsageError(
                f"{name} is {type(data).__name__}: give Transitions, from tabb.load(path) or tabb.from_arrays(...)"
            )
    if not isinstance(settings, Settings):
        raise UsageError(f"settings is {type(settings).__name__}: give tabb.Settings(updates=..., ...)")
    for name, part in (("rule", rule), ("backbone", settings.backbone)):
        if part is None:
            continue
        try:
            hash(part)  # what is compiled is known by its constants
        except TypeError:
            lists = [f"{field}={value}" for field, value in vars(part).items() if isinstance(value, list)]
            which = lists[0] if lists else f"a constant of {part}"
            raise UsageError(f"{name}: {which} is a list; give a tuple, such as (64, 64)") from None


def _check(
    rule: Rule, source: Transitions | None, target: Transitions, task: Task | None, settings: Settings
) -> Transitions:
    """The source data to use (no rows if the rule draws none), after all that must fit together was checked."""
    for size in ("observation_size", "action_size"):
        if task is not None and getattr(task, size) != getattr(target, size):
            raise UsageError(
                f"task {task.name} and the data do not fit: {size} is {getattr(task, size)} and "
                f"{getattr(target, size)}; name the task that the target data come from"
            )
    alone = rule.shares(backbone_of(settings, rule).batch_size)[0] == 0
    if alone:
        source = target[:0]
    if source is None:
        raise UsageError(f"rule {rule.name} needs source data: give them, or train target-only")
    for warning in check_side("target", target) if alone else check_domains(source, target):
        warnings.warn(warning, DataWarning, stacklevel=3)
    return source


def _check_env(env_factory: Callable[[], gymnasium.Env[Any, Any]], target: Transitions) -> None:
    """An environment of another size is found now, not at the first evaluation."""
    from tabb.environments.rollout import unit_actions

    env = unit_actions(env_factory())
    sizes = {"observation_size": env.observation_space.shape[0], "action_size": env.action_space.shape[0]}
    env.close()
    for name, size in sizes.items():
        if size != getattr(target, name):
            raise UsageError(
                f"the environment and the data do not fit: {name} is {size} and {getattr(target, name)}; "
                "evaluate in the environment that the target data come from"
            )
