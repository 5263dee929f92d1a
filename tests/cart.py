"""Logs of a cart, for tests of data: small, linear, and with ends of both kinds."""

import gymnasium
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


class Cart(gymnasium.Env):
    """The same cart, which starts beside the middle of its track and is paid for coming there: 1 - |place| per step."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, friction=0.02, limit=20):
        self.friction, self.limit = friction, limit

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.steps = np.array([self.np_random.choice([-0.6, 0.6]), 0.0]), 0
        return self.state.astype(np.float32), {}

    def step(self, action):
        speed = (1 - self.friction) * self.state[1] + 0.2 * float(action[0])
        self.state, self.steps = np.array([self.state[0] + 0.2 * speed, speed]), self.steps + 1
        over, late = bool(abs(self.state[0]) > 1), self.steps == self.limit
        return self.state.astype(np.float32), 1 - abs(self.state[0]), over, late and not over, {}


gymnasium.register("Cart-v0", entry_point=Cart)
