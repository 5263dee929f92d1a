"""Actions that are better than the policy's, for the policy to imitate (PA-RL, Mark et al. 2024).

    a_1 ... a_k    the policy's action with noise, and the logged action
    keep           the m of them with the highest Q
    climb          a <- clip(a + η ∇_a Q(s, a), ±1), J times; each keeps its best iterate
    a*             the best of all

Q is the mean of the critics. The policy is then fitted to a* as to data: whatever its class, no gradient of Q goes
through it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tabb.errors import UsageError
from tabb.field_types import TypedFields

ActionValue = Callable[[Float[Array, "b k a"]], Float[Array, "b k"]]
"""Q of k actions at each of the batch's states"""


NOISE = 0.1
"""deviation of the noise about the policy's action [the original's policy draws its actions; TD3: 0.1]"""


@dataclasses.dataclass(frozen=True)
class OptimisedActions(TypedFields):
    """How actions are optimised."""

    candidates: int = 32
    """k, actions per row; the logged one is among them [original: 32]"""
    kept: int = 10
    """m, of them the best that climb [original: 10]"""
    steps: int = 10
    """J, steps up the critic; 0 only chooses [original: 10]"""
    rate: float = 3e-4
    """η, length of a step in units of the gradient [original: 3e-4]"""

    def __post_init__(self) -> None:
        if not 1 <= self.kept <= self.candidates:
            raise UsageError(f"optimised kept={self.kept}: must be 1 to candidates, which is {self.candidates}")
        for name in ("steps", "rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"optimised {name}={getattr(self, name)}: must be a number, zero or more")

    def best(
        self, value: ActionValue, action: Float[Array, "b a"], logged: Float[Array, "b a"], noise: Float[Array, "b c a"]
    ) -> Float[Array, "b a"]:
        """a* of each row, from the policy's and the logged action; `noise` is standard normal, c = candidates - 1."""
        near = jnp.clip(action[:, None] + NOISE * noise, -1.0, 1.0)
        actions = jnp.concatenate([logged[:, None], near], axis=1)
        values, best = jax.lax.top_k(value(actions), self.kept)
        actions = jnp.take_along_axis(actions, best[..., None], axis=1)
        climb = jax.grad(lambda actions: jnp.sum(value(actions)))

        def step(_: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            now, values, actions = carry
            now = jnp.clip(now + self.rate * climb(now), -1.0, 1.0)
            reached = value(now)
            better = reached > values
            return now, jnp.where(better, reached, values), jnp.where(better[..., None], now, actions)

        _, values, actions = jax.lax.fori_loop(0, self.steps, step, (actions, values, actions))
        return jnp.take_along_axis(actions, jnp.argmax(values, axis=1)[:, None, None], axis=1)[:, 0]
