"""The sinks of the runs of a process. An error in a sink ends tracking, never the training."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tabb.errors import TabbError, UsageError
from tabb.tracking.sink import Opener, Sink, TrackedRun


class TrackingWarning(UserWarning):
    """A sink failed, and training continues without it. The message is one line."""


class Tracker:
    """One sink per run, or None for a run that is not tracked; without an opener, no sinks.

    Raises `UsageError` (one line) if a sink cannot be opened, before anything is trained.
    """

    def __init__(self, opener: Opener | None, runs: Sequence[TrackedRun | None]) -> None:
        self._sinks: list[Sink | None] = []
        for run in runs:
            try:
                with prints_to_stderr():
                    self._sinks.append(None if opener is None or run is None else opener(run))
            except Exception as error:
                self.close()
                if isinstance(error, TabbError):
                    raise
                raise UsageError(
                    f"tracking cannot start ({one_line(error)}); fix this or leave tracking out; if the run folder "
                    "exists already, continue it with --resume"
                ) from error

    def log(self, i: int, line: Mapping[str, Any]) -> None:
        """Send a line of run `i`. The first failure of a sink is a `TrackingWarning` and ends all tracking."""
        sink = self._sinks[i]
        if sink is not None:
            try:
                sink.log(line)
            except Exception as error:
                self._give_up(error)

    def replay(self, i: int, lines: Iterable[Mapping[str, Any]]) -> None:
        """Send the lines that a resumed run already has."""
        for line in lines:
            self.log(i, line)

    def close(self) -> None:
        """Close all sinks; a failure is a `TrackingWarning` too."""
        sinks, self._sinks = self._sinks, [None] * len(self._sinks)
        for sink in sinks:
            if sink is not None:
                try:
                    with prints_to_stderr():
                        sink.close()
                except Exception as error:
                    self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        sinks, self._sinks = self._sinks, [None] * len(self._sinks)
        for sink in sinks:
            if sink is not None:
                with contextlib.suppress(Exception), prints_to_stderr():
                    sink.close()
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
