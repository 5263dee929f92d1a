"""The user's own environments: what they return is checked at each step, and a fault is one line that names them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from tabb.action_bounds import ROUNDED, ActionBounds, same_bounds
from tabb.environments.safe_actions import APPLIED
from tabb.errors import TabbError, UsageError
from tabb.files import warn_once
from tabb.float32 import LARGEST, spacing

LOOKED_AT = 200
"""after so many observations of an environment it is checked whether float32 resolves its steps"""
SPACINGS = 8.0
"""a step of fewer float32 spacings than this keeps less than three bits"""
STEP_LIMIT = 1_000
"""steps after which an episode is cut where the environment states no limit; those of D4RL's robots"""


_OLD_STEP = (
    "step() must give (observation, reward, terminated, truncated, info), as in Gymnasium since 0.26; wrap or change it"
)

_RESCALE = "give it in other units"


class CheckedEnvironment:
    """An environment of flat boxes that gives finite numbers of the right shapes, or `UsageError` in one line."""

    def __init__(self, env: Any) -> None:
        self._env = env
        self.name = name_of(env)
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self._seen: list[tuple[NDArray[np.float64], bool]] | None = []
        """Its first observations, and whether an episode begins with each; None once they were looked at."""

    @property
    def step_limit(self) -> int | None:
        """The steps after which the environment says that it cuts an episode; None if it says nothing."""
        limit = getattr(getattr(self._env, "spec", None), "max_episode_steps", None)
        env = self._env
        while limit is None and isinstance(env, gymnasium.Wrapper):  # one that was not made by an id has no `spec`
            limit = env._max_episode_steps if isinstance(env, gymnasium.wrappers.TimeLimit) else None
            env = env.env
        return limit

    def is_that_of(self, other: CheckedEnvironment) -> bool:
        """Whether both act in one and the same environment, in whatever wrappers."""
        mine, others = (getattr(env._env, "unwrapped", env._env) for env in (self, other))
        return mine is others

    def reset(self, *, seed: int) -> tuple[NDArray[Any], Any]:
        result = self._call("reset()", lambda: self._env.reset(seed=seed))
        if not isinstance(result, tuple) or len(result) != 2:
            raise self._fault("reset() must give (observation, info), as in Gymnasium since 0.26; wrap or change it")
        observation = self._observation(result[0], "reset()")
        self._look(observation, True)
        return observation, result[1]

    def step(self, action: NDArray[Any]) -> tuple[NDArray[Any], float, bool, bool, Any]:
        given = self._in_space(action)
        result = self._call("step()", lambda: self._env.step(given))
        if not isinstance(result, tuple) or len(result) != 5:
            raise self._fault(_OLD_STEP)
        observation, reward, terminated, truncated, info = result
        ends = [self._end(name, end) for name, end in (("terminated", terminated), ("truncated", truncated))]
        if isinstance(info, dict) and APPLIED in info:
            info = info | {APPLIED: self._applied(info[APPLIED])}
        observation = self._observation(observation, "step()")
        self._look(observation, False)
        return observation, self._reward(reward), ends[0], ends[1], info

    def _in_space(self, action: NDArray[Any]) -> NDArray[Any]:
        """The action as one of the space, which in float32 may lie beyond a bound by rounding (0.1 does).

        A copy: an environment that scales what it is given, in place, must not change what is recorded.
        """
        space = self.action_space
        if space.dtype.kind != "f":
            return np.array(action)
        given: NDArray[Any] = np.minimum(np.maximum(action, space.low), space.high)  # `np.clip` takes twice as long
        return given.astype(space.dtype, copy=False)

    def close(self) -> None:
        self._call("close()", self._env.close)

    def _look(self, observation: NDArray[Any], begins: bool) -> None:
        """Warn once, after so many observations, where rows and policies in float32 do not see them move."""
        if self._seen is None:
            return
        self._seen.append((np.array(observation, np.float64), begins))
        if len(self._seen) < LOOKED_AT:
            return
        rows, starts = np.array([row for row, _ in self._seen]), np.array([begins for _, begins in self._seen])
        self._seen = None
        for entry, step, near in unresolved(rows, starts):
            warn_once(
                f"environment {self.name}: entry {entry} of its observations moves by about {step:.2g} a step, where "
                f"float32 resolves {near:.2g} only; subtract an origin (a number near the mean) in the environment"
            )

    def _call(self, what: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except TabbError:
            raise
        except TypeError as error:
            if what == "reset()" and "seed" in str(error):
                raise self._fault("reset() takes no seed; give it `seed=None` and pass it to super().reset") from None
            raise self._fault(f"{what} raised TypeError: {error}") from error
        except ValueError as error:
            if what == "step()" and "values to unpack" in str(error):  # Gymnasium's wrappers unpack five
                raise self._fault(_OLD_STEP) from None
            raise self._fault(f"{what} raised ValueError: {error}; mend the environment") from error
        except (Exception, SystemExit) as error:  # a simulator may raise anything
            raise self._fault(f"{what} raised {type(error).__name__}: {error}; mend the environment") from error

    def _observation(self, observation: Any, where: str) -> NDArray[Any]:
        wanted = self.observation_space.shape
        try:
            array = np.asarray(observation)
        except ValueError:  # lists of different lengths
            array = np.asarray(None)
        if array.shape != wanted or array.dtype.kind not in "biuf":
            raise self._fault(f"{where} gives an observation of {_told(array)}; its space says numbers, {wanted}")
        if not _fits_float32(array):
            if np.isfinite(array).all():
                raise self._fault(f"{where} gives an observation beyond what float32 holds; {_RESCALE}")
            raise self._fault(f"{where} gives an observation with NaN or infinity; mend the environment")
        return array

    def _applied(self, action: Any) -> NDArray[np.float32]:
        """The action that the robot was given: rows keep it, so it must be one of the action space's shape."""
        wanted = self.action_space.shape
        try:
            array = np.asarray(action)
        except ValueError:  # lists of different lengths
            array = np.asarray(None)
        if array.size != np.prod(wanted) or array.dtype.kind not in "biuf":
            what = f"step() gives info['{APPLIED}'] of {_told(array)}"
            raise self._fault(f"{what}; its action space says numbers, {wanted}")
        if not _fits_float32(array):
            if np.isfinite(array).all():
                raise self._fault(f"step() gives info['{APPLIED}'] beyond what float32 holds; {_RESCALE}")
            raise self._fault(f"step() gives info['{APPLIED}'] with NaN or infinity; mend the environment")
        applied: NDArray[np.float32] = array.astype(np.float32).reshape(wanted)
        low, high = self.action_space.low, self.action_space.high
        most = ROUNDED * (high - low) + spacing(applied)
        if ((applied < low - most) | (applied > high + most)).any():
            warn_once(
                f"environment {self.name}: info['{APPLIED}'] lies outside of its action space; rows keep the nearest "
                "action of the space. Say it in the units of that space, with no wrapper that scales actions around"
            )
        return applied

    def _reward(self, reward: Any) -> float:
        array = np.asarray(reward)
        if array.shape != () or array.dtype.kind not in "biuf":
            raise self._fault(f"step() gives a reward of {_told(array)}; give one number")
        if not _fits_float32(array):
            if np.isfinite(array):
                raise self._fault(f"step() gives the reward {float(array):g}, which is beyond float32; {_RESCALE}")
            raise self._fault(f"step() gives the reward {float(array)}; give a finite number")
        return float(array)

    def _end(self, name: str, end: Any) -> bool:
        array = np.asarray(end)
        if array.shape != () or array.dtype.kind not in "biu":
            raise self._fault(f"step() gives {name} of {_told(array)}; give True or False")
        return bool(array)

    def _fault(self, what: str) -> UsageError:
        return UsageError(f"environment {self.name}: {what}")


def unresolved(rows: NDArray[np.float64], starts: NDArray[np.bool_]) -> list[tuple[int, float, float]]:
    """Entries of observations [N, S] whose steps float32 hardly resolves: entry, mean step, spacing.

    `starts` [N] marks the first rows of episodes. An entry that only jitters around one place is left out.
    """
    steps = np.abs(np.diff(rows, axis=0))[~starts[1:]]
    if not len(steps):
        return []
    step, near = steps.mean(axis=0), spacing(np.median(np.abs(rows), axis=0))
    coarse = (step > 0) & (step < SPACINGS * near) & (np.ptp(rows, axis=0) >= SPACINGS * near)
    return [(int(entry), float(step[entry]), float(near[entry])) for entry in np.flatnonzero(coarse)]


def _fits_float32(array: NDArray[Any]) -> bool:
    """Whether all entries are finite as rows keep them."""
    return float(np.abs(array).max(initial=0)) <= LARGEST  # NaN is not


def _told(array: NDArray[Any]) -> str:
    """What something is that should have been numbers."""
    return f"shape {array.shape}" if array.dtype.kind in "biuf" else f"type {array.dtype}"


def name_of(env: Any) -> str:
    """What to call an environment: its Gymnasium id, or its class."""
    spec = getattr(env, "spec", None)
    return str(getattr(spec, "id", None) or type(getattr(env, "unwrapped", env)).__name__)


def open_environment(make: Callable[[], gymnasium.Env[Any, Any]]) -> CheckedEnvironment:
    """The environment that `make` makes.

    Raises `UsageError` where it cannot be made, is none, or its spaces are not flat boxes.
    """
    try:
        env = make()
    except TabbError:
        raise
    except Exception as error:  # a constructor may raise anything
        raise UsageError(f"env_factory raised {type(error).__name__}: {error}; mend the environment") from error
    if isinstance(env, CheckedEnvironment):
        return env
    for name in ("observation_space", "action_space", "reset", "step"):
        if not hasattr(env, name):
            raise UsageError(
                f"env_factory made {type(env).__name__}, which has no {name}; give a function that makes a "
                "gymnasium.Env"
            )
    return CheckedEnvironment(flat_spaces(env))


def check_one_step(env: CheckedEnvironment) -> None:
    """Reset the environment with a seed and take one step, so that what is wrong is found at the door.

    Raises `UsageError` for what the environment gives.
    """
    env.reset(seed=0)
    low, high = env.action_space.low, env.action_space.high
    env.step(((low + high) / 2).astype(np.float32))


def check_another(env: CheckedEnvironment, others: Iterable[CheckedEnvironment]) -> CheckedEnvironment:
    """`env` itself; raises `UsageError` where it is one of the others: two episodes in it would be mixed."""
    if any(env.is_that_of(other) for other in others):
        raise UsageError(
            f"environment {env.name}: env_factory made the same environment again, and several are used at once; make "
            "a new one in each call, or take one episode at a time (lanes=1, episodes=1; along steps: evaluations=0)"
        )
    return env


def flat_spaces(env: Any) -> Any:
    """`env` itself; raises `UsageError` unless its observations and actions are flat boxes."""
    spaces = gymnasium.spaces
    flat = isinstance(env.observation_space, spaces.Box) and len(env.observation_space.shape) == 1
    box = isinstance(env.action_space, spaces.Box) and len(env.action_space.shape) == 1
    if not (flat and box and np.isfinite([env.action_space.low, env.action_space.high]).all()):
        raise UsageError(
            "env_factory must make an environment of flat Box observations and bounded flat Box actions, not "
            f"{env.observation_space} and {env.action_space}"
        )
    for entry, (low, high) in enumerate(zip(env.action_space.low, env.action_space.high, strict=True)):
        if not low < high:
            raise UsageError(
                f"env_factory: entry {entry} of the action can be nothing but {low:g} in {env.action_space}; leave it "
                "out with a wrapper (gymnasium.wrappers.TransformAction), or give it a range"
            )
    return env


def check_action_space(env: Any, bounds: ActionBounds | None) -> Any:
    """`env` itself; raises `UsageError` unless its spaces are flat boxes and its actions lie in the policy's `bounds`.

    None stands for [-1, 1].
    """
    env = flat_spaces(env)
    space = env.action_space
    own = ActionBounds(tuple(space.low.tolist()), tuple(space.high.tolist()))
    fits = bounds is None or bounds.size == own.size  # other sizes are told as such
    if fits and not same_bounds(own, bounds):
        raise UsageError(
            f"the environment's actions lie in {own}, but those of the policy in {bounds or '[-1, 1]'}; state the "
            "environment's bounds as action_low and action_high of the data, or, where logged actions are scaled "
            "already, wrap it in gymnasium.wrappers.RescaleAction(env, -1, 1)"
        )
    return env


def check_task_takes(bounds: ActionBounds | None, task: str) -> None:
    """Raise `UsageError` for actions that are not in [-1, 1], which is what every task of the catalogue takes."""
    if bounds is not None:
        raise UsageError(
            f"task {task} takes actions in [-1, 1], and these are in {bounds}; leave action_low and action_high out, "
            "or evaluate in an environment of your own"
        )
