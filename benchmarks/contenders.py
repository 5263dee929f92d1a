"""Learners of tabb, prepared and compiled for timing."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from products import Product, products
from tabb.backbones import Backbone
from tabb.batch import Domains, Sizes
from tabb.rules import Rule
from tabb.training.drawing import pack_data, pack_series
from tabb.training.loop import Program, compiled_updates, update_once
from timing import CLOCKS, seconds

RUN = 100_000
"""length of the run, for the policy's schedule"""


@dataclasses.dataclass
class Contender:
    """A learner that is ready to be timed."""

    turn: Callable[[int], float]
    """measures a turn of so many updates; returns seconds per update"""
    counts: collections.Counter[Product]
    """the matrix products of one update"""
    compile_seconds: float | None = None
    prepare_seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    """seconds of each part of the preparation and of the columns, with compilation"""


def our_contender(backbone: Backbone, rule: Rule, domains: Domains, sizes: Sizes, kind: str) -> Contender:
    """tabb's compiled loop with `rule` on `backbone`, timed by the clock `kind`."""
    learner = Program(backbone, rule, RUN)
    init_key, prepare_key, draw_key = jax.random.split(jax.random.key(0), 3)
    marks: dict[str, float] = {}

    def mark(part: str, share: float = 0.0) -> None:
        del share
        marks.setdefault(part, CLOCKS[kind]())

    mark("set-up")
    models = jax.block_until_ready(rule.prepare(domains, prepare_key, mark))
    mark("columns")
    columns = rule.columns(models, domains), rule.target_columns(models, domains)
    conditions = learner.conditions(models, domains)
    series = None if conditions is None else pack_series(domains, conditions, backbone.window)
    data = jax.block_until_ready(pack_data(domains, *columns)._replace(series=series))
    mark("end")
    prepare_seconds = {part: marks[after] - marks[part] for part, after in itertools.pairwise(marks)}

    extra = learner.extra_rows(models, domains, prepare_key)
    if not learner.refresh_every:
        data = data._replace(extra=extra)
    state = learner.init(sizes, init_key, extra, None if conditions is None else conditions.aim)
    counts = products(functools.partial(update_once, learner), models, data, draw_key, state, jnp.asarray(0))
    at = 0

    def run(count: int) -> Any:
        nonlocal state, at
        state, metrics = compiled_updates(learner, models, data, draw_key, state, at, at + count)
        at += count
        return state, metrics

    first = seconds(kind, lambda: run(1))
    compile_seconds = first - seconds(kind, lambda: run(1))

    def turn(count: int) -> float:
        return seconds(kind, lambda: run(count)) / count

    return Contender(turn, counts, compile_seconds, prepare_seconds)
