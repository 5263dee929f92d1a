"""Progress of a run: a bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from tabb.errors import UsageError
from tabb.shown import alone

Style = Literal["auto", "bar", "lines", "none"]


Steps = Sequence[tuple[str, int, int]]
"""of each domain that is stepped in: its name, steps so far, and all of the run"""


def say(text: str) -> None:
    """Write a line to standard error.

    Where that is not possible (a full disk, a pipe that nobody reads any more) the line is lost: no run ends for it.
    """
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


class Lossy:
    """Standard error as a bar writes to it: what cannot be written is lost, as with `say`.

    A terminal that is gone (an ssh session that ended) takes nothing more.
    """

    def __init__(self) -> None:
        self._file = sys.stderr

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def terminal() -> Console:
    """Where bars are drawn."""
    return Console(file=Lossy())  # type: ignore[arg-type]


def told_steps(steps: Steps) -> list[str]:
    """What to say of steps: `1,200/2,000 target steps`."""
    return [f"{taken:,}/{budget:,} {domain} steps" for domain, taken, budget in steps]


@runtime_checkable
class Reporter(Protocol):
    """Shows how far a run is."""

    def phase(self, what: str, share: float) -> None:
        """A part before training (fitting the predictor, compiling) has come this far, 0 to 1."""

    def training(self, update: int, rate: float, loss: float, score: float | None, steps: Steps = ()) -> None:
        """So many updates are done, at `rate` per second, with this loss (`shown_loss`) and last score.

        Of seeds that train together each does so many updates, at this rate. `steps` are those taken in environments.
        """

    def note(self, text: str) -> None:
        """Something that the user should know."""

    def close(self) -> None: ...


def shown_loss(metrics: Mapping[str, Any]) -> float:
    """The critics' loss, or the policy's where a learner has no critics."""
    return float(metrics["critic_loss"] if "critic_loss" in metrics else metrics["policy_loss"])


class Silent:
    """No output."""

    def phase(self, what: str, share: float) -> None: ...
    def training(self, update: int, rate: float, loss: float, score: float | None, steps: Steps = ()) -> None: ...
    def note(self, text: str) -> None: ...
    def close(self) -> None: ...


class Bar:
    """A bar with updates/s, time left, last score and loss."""

    def __init__(self, label: str, updates: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=terminal(),
        )
        self._label, self._updates = label, updates
        self._task = self._progress.add_task(label, total=updates, status="")
        self._phase: tuple[str, int] | None = None
        self._progress.start()

    def phase(self, what: str, share: float) -> None:
        if self._phase is None or self._phase[0] != what:
            self._phase = (what, int(self._progress.add_task(f"{self._label}: {what}", total=1.0, status="")))
        self._progress.update(self._phase[1], completed=share, visible=share < 1.0)  # type: ignore[arg-type]

    def training(self, update: int, rate: float, loss: float, score: float | None, steps: Steps = ()) -> None:
        status = f"{rate:,.0f} updates/s  loss {loss:.3g}" + ("" if score is None else f"  score {alone(score)}")
        status += "".join(f"  {told}" for told in told_steps(steps))
        self._progress.update(self._task, completed=update, status=status)

    def note(self, text: str) -> None:
        self._progress.console.print(f"{self._label}: {text}", markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


class Lines:
    """A line every twentieth of the run, and not more often than every two seconds."""

    def __init__(self, label: str, updates: int) -> None:
        self._label, self._updates = label, updates
        self._next, self._last_time, self._phase = 0.0, 0.0, ""

    def _say(self, text: str) -> None:
        say(f"{self._label}: {text}")

    def phase(self, what: str, share: float) -> None:
        if what != self._phase:
            self._phase = what
            self._say(f"{what} ...")

    def training(self, update: int, rate: float, loss: float, score: float | None, steps: Steps = ()) -> None:
        now = time.monotonic()
        if update < self._updates and (update < self._next or now - self._last_time < 2.0):
            return
        self._next, self._last_time = update + self._updates / 20, now
        left = (self._updates - update) / max(rate, 1e-9)
        last = ("" if score is None else f", score {alone(score)}") + "".join(f", {told}" for told in told_steps(steps))
        self._say(
            f"{update:,}/{self._updates:,} updates, {rate:,.0f} updates/s, {left:,.0f} s left, loss {loss:.3g}{last}"
        )

    def note(self, text: str) -> None:
        self._say(text)

    def close(self) -> None: ...


def check_style(style: object) -> None:
    """Raise `UsageError` unless there is such a style."""
    if style not in ("auto", "bar", "lines", "none"):
        raise UsageError(f"progress={style!r}: use auto, bar, lines or none")


def open_reporter(style: Style, label: str, updates: int) -> Reporter:
    """The reporter for `style`; "auto" is a bar on a terminal and lines elsewhere."""
    check_style(style)
    if style == "auto":
        style = "bar" if sys.stderr.isatty() else "lines"
    if style == "none":
        return Silent()
    return Bar(label, updates) if style == "bar" else Lines(label, updates)
