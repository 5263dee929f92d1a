"""trackio: runs in a local database, or on the server that trackio's environment variables name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import trackio

from tabb.tracking.sink import PROJECT, TrackedRun, scalars


class Trackio:
    """A run of the project `tabb`, or of $TRACKIO_PROJECT. A resumed run is a new run in the same group."""

    def __init__(self, run: TrackedRun) -> None:
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=f"{run.name} (resumed)" if run.resumed else run.name,
            group=run.group,
            config=dict(run.config),
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )

    def log(self, line: Mapping[str, Any]) -> None:
        self._run.log(scalars(line), step=line["update"])

    def close(self) -> None:
        self._run.finish()
