"""The sinks of the runs of a process. An error in a sink ends tracking, never the training."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tabb.errors import TabbError, UsageError
from tabb.tracking.sink import Opener, Sink, TrackedRun


class TrackingWarning(UserWarning):
    """A sink failed, and training continues without it. The message is one line."""


@dataclasses.dataclass
class Told:
    """The sink of a run, and how many lines it has."""

    sink: Sink
    lines: int = 0
    again: int = 0
    """so many of these lines come once more, as the run goes on from its checkpoint; the sink does not get them"""


@contextlib.contextmanager
def kept_sinks() -> Iterator[dict[str, Told]]:
    """Sinks, by name of run, that one `Tracker` leaves to the next; those that none has taken are closed at the end."""
    kept: dict[str, Told] = {}
    try:
        yield kept
    finally:
        for told in kept.values():
            with contextlib.suppress(Exception), prints_to_stderr():
                told.sink.close()


class Tracker:
    """One sink per run, or None for a run that is not tracked; without an opener, no sinks.

    `kept` are sinks of runs that go on: another tracker of this process had them. See `keep`.

    Raises `UsageError` (one line) if a sink cannot be opened, before anything is trained.
    """

    def __init__(
        self, opener: Opener | None, runs: Sequence[TrackedRun | None], kept: dict[str, Told] | None = None
    ) -> None:
        self._sinks: list[Told | None] = []
        self._names = ["" if run is None else run.name for run in runs]
        self._kept = {} if kept is None else kept
        for run in runs:
            try:
                with prints_to_stderr():
                    self._sinks.append(None if opener is None or run is None else self._open(opener, run))
            except Exception as error:
                self.close()
                if isinstance(error, TabbError):
                    raise
                raise UsageError(
                    f"tracking cannot start ({one_line(error)}); fix this or leave tracking out; if the run folder "
                    "exists already, continue it with --resume"
                ) from error

    def _open(self, opener: Opener, run: TrackedRun) -> Told:
        told = self._kept.pop(run.name, None) or Told(opener(run))
        told.again = told.lines
        return told

    def keep(self, i: int) -> None:
        """Leave the sink of run `i` to the next tracker, with which the run goes on, rather than close it."""
        told, self._sinks[i] = self._sinks[i], None
        if told is not None:
            self._kept[self._names[i]] = told

    def log(self, i: int, line: Mapping[str, Any]) -> None:
        """Send a line of run `i`. The first failure of a sink is a `TrackingWarning` and ends all tracking."""
        told = self._sinks[i]
        if told is None:
            return
        if told.again:
            told.again -= 1
            return
        try:
            told.sink.log(line)
            told.lines += 1
        except Exception as error:
            self._give_up(error)

    def replay(self, i: int, lines: Iterable[Mapping[str, Any]]) -> None:
        """Send the lines that a resumed run already has."""
        for line in lines:
            self.log(i, line)

    def close(self) -> None:
        """Close all sinks; a failure is a `TrackingWarning` too."""
        sinks, self._sinks = self._sinks, [None] * len(self._sinks)
        for told in sinks:
            if told is not None:
                try:
                    with prints_to_stderr():
                        told.sink.close()
                except Exception as error:
                    self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        sinks, self._sinks = self._sinks, [None] * len(self._sinks)
        for told in sinks:
            if told is not None:
                with contextlib.suppress(Exception), prints_to_stderr():
                    told.sink.close()
        warnings.warn(
            f"tracking failed and is off ({one_line(error)}); the run continues, and metrics.jsonl has every line: "
            "send them with `tabb track RUN`",
            TrackingWarning,
            stacklevel=3,
        )


def prints_to_stderr() -> contextlib.AbstractContextManager[Any]:
    """Redirect the messages that trackers print, because standard output is for a command's answer."""
    return contextlib.redirect_stdout(sys.stderr)


def one_line(error: Exception) -> str:
    """The type and message of an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
