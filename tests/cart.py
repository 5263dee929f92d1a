"""Logs of a cart, for tests of data: small, linear, and with ends of both kinds."""

import numpy as np


def cart(rows, seed=0, friction=0.02, limit=20):
    """Logs of a cart (place, speed) pushed at random: off the track is terminal, `limit` steps are a timeout."""
    draw = np.random.default_rng(seed)
    names = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
    log, state, steps = {name: [] for name in names}, draw.normal(0, 0.3, 2), 0
    for _ in range(rows):
        push = draw.uniform(-1, 1)
        speed = (1 - friction) * state[1] + 0.2 * push
        after, steps = np.array([state[0] + 0.2 * speed, speed]), steps + 1
        over = abs(after[0]) > 1
        values = (state, [push], 1 - abs(after[0]), over, steps == limit and not over, after)
        for name, value in zip(names, values, strict=True):
            log[name].append(value)
        state = after
        if over or steps == limit:
            state, steps = draw.normal(0, 0.3, 2), 0
    return {name: np.array(values) for name, values in log.items()}
