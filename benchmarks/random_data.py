"""Random data with a robot's sizes, so that benchmarks need no files."""

from __future__ import annotations

import dataclasses

import numpy as np

from tabb.batch import Domains, Sizes, make_domains
from tabb.transitions import Transitions

ROBOTS = {
    "hopper": Sizes(11, 3),
    "halfcheetah": Sizes(17, 6),
    "walker2d": Sizes(17, 6),
    "ant": Sizes(111, 8),
}
"""widths of observation and action, written out so that speed can be measured without MuJoCo"""

EPISODE = 500
"""rows per episode"""


def random_transitions(sizes: Sizes, rows: int, seed: int) -> Transitions:
    """`rows` transitions of Gaussian observations and rewards, uniform actions, one terminal row in a hundred."""
    draw = np.random.default_rng(seed)
    states = draw.standard_normal((rows + 1, sizes.observation), dtype=np.float32)
    return Transitions(
        observation=states[:-1],
        action=draw.uniform(-1.0, 1.0, (rows, sizes.action)).astype(np.float32),
        reward=draw.standard_normal(rows, dtype=np.float32),
        next_observation=states[1:],
        terminal=(draw.random(rows) < 0.01).astype(np.float32),
        episode=(np.arange(rows) // EPISODE).astype(np.int32),
    )


def random_domains(sizes: Sizes, source_rows: int = 100_000, target_rows: int = 5_000) -> Domains:
    """Source and target data of usual sizes."""
    return make_domains(random_transitions(sizes, source_rows, 0), random_transitions(sizes, target_rows, 1))


def with_costs(rows: Transitions) -> Transitions:
    """The rows with costs, which CPQ reads: one row in twenty costs 1."""
    cost = np.random.default_rng(2).random(len(rows)) < 0.05
    return dataclasses.replace(rows, extras={"cost": cost.astype(np.float32)})
