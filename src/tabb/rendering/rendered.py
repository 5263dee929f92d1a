"""Runs an evaluation in any Gymnasium environment and keeps the pictures that the environment draws of itself."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tabb.environments.own_environment import check_action_space, name_of, open_environment
from tabb.environments.rollout import rollout
from tabb.errors import TabbError, UsageError
from tabb.policy import Policy

SECONDS = 1 / 30
"""seconds of a step where an environment says neither its `dt` nor `render_fps`"""

MakeEnvironment = Callable[[bool], gymnasium.Env[Any, Any]]
"""Makes the environment, to be drawn or not."""


@dataclass
class RenderedEpisode:
    """One episode of an evaluation, T steps long, with its pictures."""

    number: int
    """Its index in the evaluation: it started with reset(seed = first seed + number)."""
    seconds: float
    """Seconds of film per step at speed 1."""
    frames: list[tuple[tuple[int, ...], bytes]] = field(default_factory=list)
    """Shape and compressed bytes of T + 1 pictures: as arrays, a thousand of them would take most of a gigabyte."""
    rewards: list[float] = field(default_factory=list)
    """T rewards."""
    terminal: bool = False
    """Whether the task ended the episode; else a limit cut it."""

    def return_at(self, step: int) -> float:
        """Undiscounted return of the first `step` steps, summed as evaluations do."""
        return math.fsum(self.rewards[:step])

    def picture(self, step: int, width: int, height: int) -> NDArray[np.uint8]:
        """The picture [height, width, 3] after `step` steps: as large as fits, on black."""
        shape, pressed = self.frames[step]
        image = Image.fromarray(np.frombuffer(zlib.decompress(pressed), np.uint8).reshape(shape))
        scale = min(width / image.width, height / image.height)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
        around = Image.new("RGB", (width, height))
        around.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        return np.array(around)


class _Recorder(gymnasium.Wrapper):
    """Wraps an environment and records its only episode."""

    def __init__(self, env: Any, number: int) -> None:
        super().__init__(env)
        self.episode = RenderedEpisode(number, _seconds_of(env))

    def _keep_picture(self) -> None:
        name = name_of(self.env)
        try:
            picture = np.asarray(self.env.render())
        except TabbError:
            raise
        except Exception as error:  # a renderer may raise anything
            raise UsageError(f"environment {name}: render() raised {type(error).__name__}: {error}") from None
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise UsageError(
                f"environment {name}: render() gives {_told(picture)}; films need pictures of uint8, (height, width, "
                "3), as render_mode='rgb_array' gives"
            )
        self.episode.frames.append((picture.shape, zlib.compress(np.ascontiguousarray(picture).tobytes(), 1)))

    def reset(self, **options: Any) -> Any:
        result = self.env.reset(**options)
        self._keep_picture()
        return result

    def step(self, action: Any) -> Any:
        result = self.env.step(action)
        self._keep_picture()
        self.episode.rewards.append(float(result[1]))
        self.episode.terminal = bool(result[2])
        return result


def _seconds_of(env: Any) -> float:
    step = getattr(env.unwrapped, "dt", None)
    fps = (getattr(env, "metadata", None) or {}).get("render_fps")
    if isinstance(step, float) and math.isfinite(step) and step > 0:
        return step
    return 1 / float(fps) if fps else SECONDS


def _told(picture: NDArray[Any]) -> str:
    return "nothing" if picture.dtype == object else f"{picture.dtype} of shape {picture.shape}"


def maker_of(env: str | Callable[[], gymnasium.Env[Any, Any]]) -> MakeEnvironment:
    """What makes an environment by its Gymnasium id or with the user's function.

    Raises `UsageError` where Gymnasium does not know the id, or has no pictures of it.
    """
    if not isinstance(env, str):
        return lambda drawn: env()

    def make(drawn: bool) -> gymnasium.Env[Any, Any]:
        # Gymnasium's checker would stop at what `CheckedEnvironment` says in one line.
        options: dict[str, Any] = {"render_mode": "rgb_array"} if drawn else {}
        return gymnasium.make(env, disable_env_checker=True, **options)

    try:
        make(True).close()
    except Exception as error:  # an environment's constructor may raise anything
        raise UsageError(f"environment {env!r} cannot be made to draw pictures: {error}") from None
    return make


def check_sizes(make: MakeEnvironment, policies: Collection[Policy]) -> str:
    """The environment's name. Raises `UsageError` where policies do not fit it."""
    env = open_environment(lambda: make(False))
    sizes = {"observation_size": env.observation_space.shape[0], "action_size": env.action_space.shape[0]}
    env.close()
    for policy in policies:
        for name, size in sizes.items():
            if getattr(policy, name) != size:
                raise UsageError(
                    f"a policy and environment {env.name} do not fit: {name} is {getattr(policy, name)} and {size}; "
                    "film in the environment that it was trained for"
                )
        check_action_space(env, policy.action_bounds)
    return str(env.name)


def record_rendered(
    policy: Policy, make: MakeEnvironment, episodes: int, seed: int, recorded: Collection[int]
) -> list[RenderedEpisode]:
    """The episodes `recorded` of `evaluate(policy, None, episodes, seed, env_factory=...)`, all of which are run."""
    records: list[RenderedEpisode] = []
    environments = 0

    def factory() -> gymnasium.Env[Any, Any]:
        nonlocal environments
        number, environments = environments, environments + 1
        env = make(number in recorded)
        if number not in recorded:
            return env
        recorder = _Recorder(env, number)
        records.append(recorder.episode)
        return recorder

    rollout(policy, None, episodes, seed, env_factory=factory)
    order = list(recorded)
    return sorted(records, key=lambda episode: order.index(episode.number))
