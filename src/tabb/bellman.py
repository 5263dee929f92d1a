"""The Bellman backup: the regression target of Q."""

from __future__ import annotations

from jaxtyping import Array, Float


def bellman_backup(
    reward: Float[Array, "*b"], terminal: Float[Array, "*b"], next_value: Float[Array, "*b"], discount: float
) -> Float[Array, "*b"]:
    """r + γ (1 - d) V(s'). A terminal row has no value after it; a truncation never is a terminal."""
    return reward + discount * (1.0 - terminal) * next_value
