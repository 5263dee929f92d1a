"""The metrics of a run on disk, sent to a tracker line by line."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tabb.errors import RunError
from tabb.tracking.sink import Opener, TrackedRun
from tabb.tracking.tracker import prints_to_stderr, words_of
from tabb.training.folder import RunFolder


def replay_run(folder: Path, opener: Opener) -> int:
    """Send all metrics lines of the run in `folder`; returns their number.

    Raises `RunError` (one line) where there is no run, or where the sink fails.
    """
    run = RunFolder(folder)
    config, lines = run.config(), run.metrics()
    try:
        tracked = TrackedRun.of(config, folder)
        with prints_to_stderr(), contextlib.closing(opener(tracked)) as sink:
            for line in lines:
                sink.log(line)
    except Exception as error:
        raise RunError(f"{folder}: its metrics could not be sent ({words_of(error)}); mend that and repeat") from error
    return len(lines)
