"""A run's updates as a generator of stretches: many updates in one compiled call, then the caller's turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tabb.training.config import Settings
from tabb.training.folder import Saved

Updates = Callable[..., tuple[Any, dict[str, Any]]]
"""(models, rows, key, state, first, last) -> state after updates `first` to `last` - 1, mean metrics over them."""


class Stretch(NamedTuple):
    """Some updates that are done."""

    update: int
    """How many updates of the run are done by now."""
    state: Any
    """The learner's state. The next stretch uses it up: copy what must outlive it."""
    metrics: dict[str, Any]
    """Mean of each metric over the stretch, on the host; with a seed axis if there are several seeds."""
    rate: float
    """Updates per second."""
    seconds: float
    """Wall time of the updates."""


def stretches(
    program: Updates, models: Any, rows: Any, key: Any, start: Saved, last: int, ends: Collection[int]
) -> Iterator[Stretch]:
    """Run the updates from `start`, whose state is used up, until `last` are done; yield after each stretch of them.

    Stretches end at `last` and at each of `ends`.

    The ends depend on nothing but the settings, so a resumed run writes the same metrics as one never stopped.
    """
    done, state = start.update, start.state
    for end in sorted({end for end in ends if done < end < last} | {last}):
        started = time.monotonic()
        bounds = jnp.asarray(done, jnp.int32), jnp.asarray(end, jnp.int32)
        state, metrics = program(models, rows, key, state, *bounds)
        jax.block_until_ready(state)
        seconds = time.monotonic() - started
        rate = (end - done) / max(seconds, 1e-9)  # some clocks stand still for milliseconds
        yield Stretch(end, state, jax.device_get(metrics), rate, seconds)
        done = end


def stretch_ends(settings: Settings) -> set[int]:
    """After how many updates a stretch ends: evenly spaced, and wherever the policy is evaluated."""
    return {*range(settings.stretch(), settings.updates, settings.stretch()), *settings.evaluation_points()}
