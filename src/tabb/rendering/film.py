"""The pictures of a film: recorded episodes, side by side and in step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tabb.environments.tasks import Task
from tabb.errors import UsageError
from tabb.field_types import TypedFields
from tabb.rendering.painter import Painter
from tabb.rendering.recording import Episode
from tabb.rendering.rendered import RenderedEpisode
from tabb.rendering.text import with_text
from tabb.rendering.views import follow, view_of
from tabb.shown import tenths

_LAST_SECONDS = 1.0  # the last picture stays for so long, so that it can be read


@dataclass(frozen=True)
class FilmFormat(TypedFields):
    """Size, speed and length of a film."""

    width: int = 640
    """Pixels of one policy's panel."""
    height: int = 480
    """Pixels of one policy's panel."""
    fps: int = 25
    """Pictures per second of film."""
    speed: float = 1.0
    """Simulated seconds per second of film."""
    steps: int | None = None
    """Most steps of an episode that are shown; all if None. The episode itself is not cut."""

    def __post_init__(self) -> None:
        if not 1 <= self.fps <= 100:
            raise UsageError(f"fps is {self.fps}: it must lie between 1 and 100")
        if not (math.isfinite(self.speed) and self.speed > 0):
            raise UsageError(f"speed is {self.speed}: it must be a number above 0")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"steps is {self.steps}: it must be at least 1")


Filmed = Episode | RenderedEpisode
"""an episode that tabb draws, or one that its environment has drawn"""


class _Panel:
    """One policy's part of the film: its episode, drawn anew when the state changes."""

    def __init__(
        self, draw: Callable[[int], NDArray[np.uint8]], name: str, label: str, episode: Filmed, format: FilmFormat
    ) -> None:
        self.draw, self.name, self.label, self.episode = draw, name, label, episode
        steps = len(episode.rewards)
        self.whole = episode.return_at(steps)
        self.last = steps if format.steps is None else min(steps, format.steps)
        self._drawn: tuple[int, NDArray[np.uint8]] | None = None

    def at(self, seconds: float) -> NDArray[np.uint8]:
        """The picture at a simulated time; after the end, the last picture."""
        episode = self.episode
        # The small offset keeps rounding from showing a step one picture late.
        step = min(math.floor(seconds / episode.seconds + 1e-6), self.last)
        if self._drawn is None or self._drawn[0] != step:
            told = tenths(episode.return_at(step), max(map(abs, (episode.return_at(step), self.whole))))
            lines = (
                f"{self.label}: {self.name}, episode {episode.number}",
                f"return {told}, step {step}, {step * episode.seconds:.2f} s",
            )
            self._drawn = (step, with_text(self.draw(step), lines, self._ending(step)))
        return self._drawn[1]

    def _ending(self, step: int) -> str | None:
        if step < len(self.episode.rewards):
            return None
        return f"ended after {step} steps" if self.episode.terminal else f"time limit, {step} steps"


def pictures(
    where: Task | str, labels: Sequence[str], columns: Sequence[Sequence[Filmed]], format: FilmFormat
) -> Iterator[NDArray[np.uint8]]:
    """The film's pictures [H, W, 3]: a panel per policy, with its episodes (`columns[policy]`) one after another.

    `where` is the task, or the name of another environment, whose episodes bring their pictures. Episode k of all
    policies starts in the same picture; the next episode starts when all have ended.
    """
    name = where if isinstance(where, str) else where.name
    for episodes in zip(*columns, strict=True):
        with ExitStack() as open_painters:
            panels = [
                _Panel(_drawing(episode, where, format, open_painters), name, label, episode, format)
                for label, episode in zip(labels, episodes, strict=True)
            ]
            count = picture_count(episodes, format)
            for number in range(count + round(_LAST_SECONDS * format.fps)):
                yield _arranged([panel.at(number * format.speed / format.fps) for panel in panels])


def _drawing(
    episode: Filmed, where: Task | str, format: FilmFormat, open_painters: ExitStack
) -> Callable[[int], NDArray[np.uint8]]:
    """What draws an episode after so many steps."""
    if isinstance(episode, RenderedEpisode):
        return lambda step: episode.picture(step, format.width, format.height)
    assert not isinstance(where, str)
    painter = open_painters.enter_context(Painter(episode.model, format.width, format.height))

    def draw(step: int) -> NDArray[np.uint8]:
        state = episode.states[step]
        return painter.paint(state, follow(where, view_of(where), state, episode.model), episode.marks)

    return draw


def picture_count(episodes: Sequence[Filmed], format: FilmFormat) -> int:
    """Pictures until the longest of these episodes has ended."""
    steps = (min(len(episode.rewards), format.steps or len(episode.rewards)) for episode in episodes)
    seconds = max(step * episode.seconds for step, episode in zip(steps, episodes, strict=True))
    return math.ceil(seconds * format.fps / format.speed - 1e-6) + 1


def _arranged(panels: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The panels in one row, or in two rows if they are more than three; an empty place is black."""
    if len(panels) <= 3:
        return np.concatenate(panels, axis=1)
    across = math.ceil(len(panels) / 2)
    filled = [*panels, *[np.zeros_like(panels[0])] * (2 * across - len(panels))]
    return np.concatenate([np.concatenate(filled[:across], axis=1), np.concatenate(filled[across:], axis=1)])
