"""wandb: runs on its server, or on disk with WANDB_MODE=offline; wandb's environment variables apply."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import wandb

from tabb.tracking.sink import PROJECT, TrackedRun, scalars


class Wandb:
    """A run of the project `tabb`, or of $WANDB_PROJECT. A resumed run is a new run in the same group."""

    def __init__(self, run: TrackedRun) -> None:
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=f"{run.name} (resumed)" if run.resumed else run.name,
            group=run.group,
            config=dict(run.config),
            reinit="create_new",  # several seeds of one process are several runs at once
            settings=wandb.Settings(console="off"),
        )

    def log(self, line: Mapping[str, Any]) -> None:
        self._run.log(scalars(line), step=line["update"])

    def close(self) -> None:
        self._run.finish()
