"""Recorded episodes, side by side and in step, as the pictures of one film."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tabb.environments.tasks import Task
from tabb.errors import UsageError
from tabb.rendering.lettering import lettered
from tabb.rendering.painter import Painter
from tabb.rendering.recording import Episode
from tabb.rendering.views import follow, view_of

_LAST_SECONDS = 1.0  # the end of a film stands still for so long, so that it can be read


@dataclass(frozen=True)
class Look:
    """How a film looks."""

    width: int = 640
    """Pixels of one policy's panel."""
    height: int = 480
    """Pixels of one policy's panel."""
    fps: int = 25
    """Pictures per second of film."""
    speed: float = 1.0
    """Simulated seconds per second of film."""
    steps: int | None = None
    """Show no more than so many steps of an episode; all if None. The episode itself is not cut."""

    def __post_init__(self) -> None:
        if not 1 <= self.fps <= 100:
            raise UsageError(f"fps is {self.fps}: it must lie between 1 and 100")
        if not (math.isfinite(self.speed) and self.speed > 0):
            raise UsageError(f"speed is {self.speed}: it must be a number above 0")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"steps is {self.steps}: it must be at least 1")


class _Panel:
    """One policy's part of the film: its episode, drawn where its state has changed."""

    def __init__(self, painter: Painter, task: Task, label: str, episode: Episode, look: Look) -> None:
        self.painter, self.task, self.label, self.episode = painter, task, label, episode
        steps = len(episode.rewards)
        self.last = steps if look.steps is None else min(steps, look.steps)
        self._drawn: tuple[int, NDArray[np.uint8]] | None = None

    def at(self, seconds: float) -> NDArray[np.uint8]:
        """The picture at a simulated time; from its end on, the last one."""
        episode = self.episode
        # A hair more, so that rounding does not show a step one picture late.
        step = min(math.floor(seconds / episode.seconds + 1e-6), self.last)
        if self._drawn is None or self._drawn[0] != step:
            state = episode.states[step]
            camera = follow(self.task, view_of(self.task), state, episode.model)
            picture = self.painter.paint(state, camera, episode.marks)
            lines = (
                f"{self.label}: {self.task.name}, episode {episode.number}",
                f"return {episode.return_at(step):.1f}, step {step}, {step * episode.seconds:.2f} s",
            )
            self._drawn = (step, lettered(picture, lines, self._ending(step)))
        return self._drawn[1]

    def _ending(self, step: int) -> str | None:
        if step < len(self.episode.rewards):
            return None
        return f"ended after {step} steps" if self.episode.terminal else f"time limit, {step} steps"


def pictures(
    task: Task, labels: Sequence[str], columns: Sequence[Sequence[Episode]], look: Look
) -> Iterator[NDArray[np.uint8]]:
    """The film's pictures [H, W, 3]: a panel per policy, its episodes (`columns[policy]`) one after another.

    Episode k of every policy begins at the same picture; the next one begins when all have ended.
    """
    for round_ in zip(*columns, strict=True):
        with ExitStack() as open_painters:
            panels = [
                _Panel(
                    open_painters.enter_context(Painter(episode.model, look.width, look.height)),
                    task,
                    label,
                    episode,
                    look,
                )
                for label, episode in zip(labels, round_, strict=True)
            ]
            count = picture_count(round_, look)
            for number in range(count + round(_LAST_SECONDS * look.fps)):
                yield _grid([panel.at(number * look.speed / look.fps) for panel in panels])


def picture_count(episodes: Sequence[Episode], look: Look) -> int:
    """Pictures until the longest of these episodes has ended."""
    steps = (min(len(episode.rewards), look.steps or len(episode.rewards)) for episode in episodes)
    seconds = max(step * episode.seconds for step, episode in zip(steps, episodes, strict=True))
    return math.ceil(seconds * look.fps / look.speed - 1e-6) + 1


def _grid(panels: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Up to three panels in a row, more in two rows; a place that stays empty is black."""
    if len(panels) <= 3:
        return np.concatenate(panels, axis=1)
    across = math.ceil(len(panels) / 2)
    filled = [*panels, *[np.zeros_like(panels[0])] * (2 * across - len(panels))]
    return np.concatenate([np.concatenate(filled[:across], axis=1), np.concatenate(filled[across:], axis=1)])
