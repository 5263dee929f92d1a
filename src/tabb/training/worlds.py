"""The environments that a run takes steps in, and what does not go together with steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np

from tabb.action_bounds import same_bounds
from tabb.backbones import Backbone
from tabb.environments.engine import Engine
from tabb.environments.running_episodes import World, world_of_environment, world_of_task
from tabb.environments.tasks import Task, get_task
from tabb.errors import UsageError
from tabb.rules import Rule
from tabb.training.config import Settings
from tabb.training.online import DOMAINS, Domain
from tabb.training.refits import fits_along
from tabb.transitions import Transitions, is_stored

Make = Callable[[], gymnasium.Env[Any, Any]]


def worlds_of(
    settings: Settings, task: Task | None, env_factory: Make | None, source_env: Make | None
) -> dict[Domain, World]:
    """Where a run takes steps: the task's simulators, or the environments that are given.

    Raises `UsageError` where there is none to take them in.
    """
    worlds: dict[Domain, World] = {}
    for domain in settings.online.domains:
        steps, make = settings.online.steps(domain), env_factory if domain == "target" else source_env
        if make is not None:
            worlds[domain] = world_of_environment(make)
        elif task is not None:
            there = task if domain == "target" else get_task(task.robot)
            worlds[domain] = world_of_task(there, settings.engine)
        else:
            given = "env_factory (--env)" if domain == "target" else "source_env (--source-env)"
            raise UsageError(
                f"online {domain}_steps={steps}: there is no environment to take them in; name a task, or give {given}"
            )
    if source_env is not None and "source" not in worlds:
        raise UsageError("source_env: no steps are taken in it; say how many as online source_steps, or leave it out")
    return worlds


def target_world(worlds: Mapping[Domain, World], task: Task | None, engine: Engine, env_factory: Make | None) -> World:
    """The world whose sizes the policy has where there are no target data: the target's, or else the source's."""
    if "target" in worlds:
        return worlds["target"]
    if env_factory is not None:
        return world_of_environment(env_factory)
    return worlds["source"] if task is None else world_of_task(task, engine)


def check_online(settings: Settings, rule: Rule, backbone: Backbone, worlds: Mapping[Domain, World]) -> None:
    """Raise `UsageError` for a rule or settings that do not go together with steps in these worlds."""
    if worlds and backbone.remembers:
        raise UsageError(
            f"online: backbone {backbone.name} learns from episodes whose return is known, which steps to come do not "
            "have; take no steps, or another backbone"
        )
    reads = dict(zip(DOMAINS, rule.reads(backbone.batch_size), strict=True))
    for domain in worlds:
        if not reads[domain]:
            steps = settings.online.steps(domain)
            raise UsageError(
                f"online {domain}_steps={steps}: rule {rule.name} draws no {domain} rows; leave {domain}_steps out"
            )
        seam = "columns" if domain == "source" else "target_columns"
        if rule.computes(seam) and not fits_along(rule, tuple(worlds)):
            raise UsageError(
                f"online {domain}_steps: rule {rule.name} computes numbers of each {domain} row before training, which "
                f"steps to come do not have; take no steps in the {domain}, or another rule (docs/online.md)"
            )
    if worlds and fits_along(rule, tuple(worlds)) and rule.changes_features:
        raise UsageError(
            f"online: rule {rule.name} has encoders that V and Q see states by, which a new fit would change; use "
            "predictor residual or agreed"
        )
    if worlds and settings.held_out:
        raise UsageError(f"held_out={settings.held_out}: steps are not held out; use held_out=0")
    if worlds and settings.imitation is not None and not settings.imitation.plain:
        raise UsageError(
            f"imitation rows={settings.imitation.rows} best={settings.imitation.best}: are of logged rows alone; with "
            "steps in an environment use rows=logged best=0 matching=0"
        )


def check_rows(
    rule: Rule, backbone: Backbone, rows: Mapping[Domain, Transitions], worlds: Mapping[Domain, World]
) -> None:
    """Raise `UsageError` where logged rows are missing or do not fit the worlds in which steps are taken."""
    for domain, read in zip(DOMAINS, rule.reads(backbone.batch_size), strict=True):
        data = rows[domain]
        if is_stored(data):
            raise UsageError(
                f"{domain}: its rows stay in a file, to which no steps can be added; read it without --store"
            )
        along = domain in worlds and fits_along(rule, tuple(worlds))
        if read and not len(data) and not along and (_fills(rule, "prepare") or _fills(rule, "extra_rows")):
            raise UsageError(
                f"rule {rule.name} fits models to {domain} rows before training, and there are none; give {domain} "
                "data, or take another rule (docs/online.md)"
            )
        world = worlds.get(domain)
        if world is None:
            continue
        sizes = (world.observation_size, world.action_size)
        if sizes != (data.observation_size, data.action_size):
            raise UsageError(
                f"environment {world.name}: has {sizes[0]} observation and {sizes[1]} action entries, the {domain} "
                f"data {data.observation_size} and {data.action_size}; take steps where they come from"
            )
        if len(data) and not same_bounds(world.action_bounds, data.action_bounds):
            raise UsageError(
                f"environment {world.name}: takes actions in {world.action_bounds or '[-1, 1]'}, those of the "
                f"{domain} data are in {data.action_bounds or '[-1, 1]'}; state the bounds as action_low and "
                "action_high of the data"
            )


def in_units_of(worlds: Mapping[Domain, World], rows: Mapping[Domain, Transitions]) -> dict[Domain, World]:
    """The worlds, with actions scaled by the very bounds of the domain's logged rows, where it has some."""
    return {
        domain: dataclasses.replace(world, action_bounds=rows[domain].action_bounds) if len(rows[domain]) else world
        for domain, world in worlds.items()
    }


def _fills(rule: Rule, seam: str) -> bool:
    return getattr(type(rule), seam) is not getattr(Rule, seam)


def no_rows(world: World) -> Transitions:
    """A data set of the world's sizes without rows."""
    observation = np.zeros((0, world.observation_size), np.float32)
    nothing = np.zeros(0, np.float32)
    return Transitions(
        observation,
        np.zeros((0, world.action_size), np.float32),
        nothing,
        observation,
        nothing,
        np.zeros(0, np.int32),
        world.action_bounds,
    )
