"""The sinks of a process's runs. What goes wrong in them ends tracking, never the training."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tabb.errors import TabbError, UsageError
from tabb.tracking.sink import Opener, Sink, TrackedRun


class TrackingWarning(UserWarning):
    """A sink failed: the training goes on without it. One line."""


class Tracker:
    """One sink per run, None for a run that is not tracked; without an opener, none at all.

    Raises `UsageError` (one line) where a sink cannot be opened: nothing has been trained by then.
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
                    f"tracking cannot start ({words_of(error)}); mend that or leave tracking out; a run that has its "
                    "folder by now goes on with --resume"
                ) from error

    def log(self, i: int, line: Mapping[str, Any]) -> None:
        """A line of the `i`-th run. The first failure of a sink is a `TrackingWarning` and ends all tracking."""
        sink = self._sinks[i]
        if sink is not None:
            try:
                sink.log(line)
            except Exception as error:
                self._give_up(error)

    def replay(self, i: int, lines: Iterable[Mapping[str, Any]]) -> None:
        """The lines that a resumed run has already."""
        for line in lines:
            self.log(i, line)

    def close(self) -> None:
        """Close all sinks; a failure is a warning here too."""
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
            f"tracking failed and is off ({words_of(error)}); the run goes on, metrics.jsonl has every line: "
            "send them again with `tabb track RUN`",
            TrackingWarning,
            stacklevel=3,
        )


def prints_to_stderr() -> contextlib.AbstractContextManager[Any]:
    """Trackers greet on standard output, which is kept for what a command answers."""
    return contextlib.redirect_stdout(sys.stderr)


def words_of(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
