"""Sends the metrics of a run on disk to a tracker."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tabb.errors import RunError
from tabb.tracking.sink import Opener, TrackedRun
from tabb.tracking.tracker import one_line, prints_to_stderr
from tabb.training.folder import RunFolder


def replay_run(folder: Path, opener: Opener) -> int:
    """Send all lines of the metrics of the run in `folder`; returns their number.

    Raises `RunError` (one line) if there is no run, or if the sink fails.
    """
    run = RunFolder(folder)
    config, lines = run.config(), run.metrics()
    try:
        tracked = TrackedRun.of(config, folder)
        with prints_to_stderr(), contextlib.closing(opener(tracked)) as sink:
            for line in lines:
                sink.log(line)
    except Exception as error:
        raise RunError(f"{folder}: its metrics could not be sent ({one_line(error)}); fix this and repeat") from error
    return len(lines)
