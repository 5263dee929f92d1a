"""Actions that a robot is spared: a wrapper that bounds them, and their change from one step to the next."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tabb.errors import UsageError

APPLIED = "applied_action"
"""key of a step's `info` under which the action is that the robot was given"""


class SafeActions(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """Hands on actions within bounds, and no farther from the last one than is allowed.

    >>> import gymnasium
    >>> env = tabb.environments.SafeActions(gymnasium.make("Pendulum-v1"), low=-1.0, high=1.0, change=0.25)
    >>> observation, _ = env.reset(seed=0)
    >>> env.step([2.0])[4]["applied_action"]  # 2 is too much, and 1 too far from rest
    array([0.25], dtype=float32)
    >>> env.step([2.0])[4]["applied_action"]
    array([0.5], dtype=float32)

    The action space stays that of the environment, so that logs and policies of it fit. `info["applied_action"]` is the
    action that the robot was given, and a run that takes steps keeps that one; an environment that says itself what was
    applied is believed. Its units are those of this action space: no wrapper that scales actions may lie around this
    one. An action that is not finite moves nothing: it is a `UsageError`, as are bounds that cannot be.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        low: ArrayLike | None = None,
        high: ArrayLike | None = None,
        change: ArrayLike | None = None,
        rest: ArrayLike | None = None,
    ) -> None:
        """All in the environment's units, a number or one for each entry of an action.

        Args:
            env: an environment of flat box actions.
            low: least action; the action space's own if not given.
            high: largest action, likewise.
            change: largest difference of two consecutive actions, entry by entry; any if not given.
            rest: the action in force where an episode begins, from which its first one may differ by `change`. Zero,
                or what is nearest to it within the bounds, if not given.
        """
        gymnasium.utils.RecordConstructorArgs.__init__(self, low=low, high=high, change=change, rest=rest)
        gymnasium.Wrapper.__init__(self, env)
        space = env.action_space
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise UsageError(f"SafeActions: needs an environment of flat box actions, not {space}")
        self._shape = space.shape
        self._low = np.maximum(self._entries("low", space.low if low is None else low), space.low)
        self._high = np.minimum(self._entries("high", space.high if high is None else high), space.high)
        if not (self._low <= self._high).all():
            raise UsageError(f"SafeActions: low={low!r} and high={high!r} leave no action of {space}; give low <= high")
        self._change = self._entries("change", np.inf if change is None else change)
        if not (self._change > 0).all():
            raise UsageError(f"SafeActions: change={change!r} must be positive")
        self._rest = np.clip(self._entries("rest", 0.0 if rest is None else rest), self._low, self._high)
        self._last = self._rest

    def _entries(self, name: str, value: ArrayLike) -> NDArray[np.float32]:
        try:
            entries = np.broadcast_to(np.asarray(value, np.float32), self._shape)
        except (TypeError, ValueError):
            raise UsageError(
                f"SafeActions: {name}={value!r} must be a number, or one for each of {self._shape[0]}"
            ) from None
        if np.isnan(entries).any():
            raise UsageError(f"SafeActions: {name}={value!r} must be a number, or one for each of {self._shape[0]}")
        return entries

    def applied(self, action: ArrayLike) -> NDArray[np.float32]:
        """The action [A] that the robot would be given now."""
        asked = np.asarray(action, np.float32)
        if asked.shape != self._shape or not np.isfinite(asked).all():
            raise UsageError(
                f"SafeActions: the action is {asked.tolist()}, not {self._shape[0]} finite numbers; nothing was moved"
            )
        near = np.clip(asked, self._last - self._change, self._last + self._change)
        return np.clip(near, self._low, self._high)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The action in force is then `rest`."""
        result = self.env.reset(seed=seed, options=options)
        self._last = self._rest
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """A step with the action that is safe."""
        given = self.applied(action)
        observation, reward, terminated, truncated, info = self.env.step(given.copy())
        self._last = given
        return observation, reward, terminated, truncated, {APPLIED: given.copy(), **info}
