"""trackio: runs in a local data base, or on a server that trackio's own environment variables name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import trackio

from tabb.tracking.sink import PROJECT, TrackedRun, scalars


class Trackio:
    """A run of the project `tabb`, or of $TRACKIO_PROJECT; a resumed run is a new one there, in the same group."""

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
