"""Learners of tabb, prepared and compiled, that wait to be timed."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from products import Product, products
from tabb.backbones import Backbone
from tabb.batch import Domains, Sizes
from tabb.rules import Rule
from tabb.training.loop import Learner, compiled_updates, pack_data, update_once

RUN = 100_000
"""length of the run that the policy's schedule is made for"""
Clock = Callable[[Callable[[], Any]], float]
"""seconds of a call"""


@dataclasses.dataclass
class Contender:
    """A learner that is ready to be timed."""

    turn: Callable[[], float]
    """seconds per update, measured over one turn"""
    counts: collections.Counter[Product]
    """the matrix products of one update"""
    compile_seconds: float | None = None
    prepare_seconds: float = 0.0
    """what is fitted before training, and the columns computed from it; compilation included"""


def our_contender(
    backbone: Backbone, rule: Rule, domains: Domains, sizes: Sizes, updates: int, clock: Clock
) -> Contender:
    """tabb's compiled loop with `rule` on `backbone`, in turns of `updates` updates."""
    learner = Learner(backbone, rule, RUN)
    init_key, prepare_key, draw_key = jax.random.split(jax.random.key(0), 3)
    models: Any = None
    data: Any = None

    def prepare() -> Any:
        nonlocal models, data
        models = rule.prepare(domains, prepare_key, lambda what, share: None)
        data = pack_data(domains, rule.columns(models, domains), rule.target_columns(models, domains))
        return data

    prepare_seconds = clock(prepare)
    state = learner.init(sizes, init_key)
    counts = products(functools.partial(update_once, learner), models, data, draw_key, state, jnp.asarray(0))
    at = 0

    def run(count: int) -> Any:
        nonlocal state, at
        state, metrics = compiled_updates(learner, models, data, draw_key, state, at, at + count)
        at += count
        return state, metrics

    first = clock(lambda: run(1))
    compile_seconds = first - clock(lambda: run(1))
    return Contender(lambda: clock(lambda: run(updates)) / updates, counts, compile_seconds, prepare_seconds)
