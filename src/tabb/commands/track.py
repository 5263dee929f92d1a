"""`tabb track`: send the metrics that runs have on disk to a tracker."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tabb.commands.options import parse
from tabb.errors import RunError, UsageError


@dataclasses.dataclass(frozen=True)
class Options:
    """Which runs, and where to."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """run folders, or folders with runs below"""
    to: Literal["tensorboard", "trackio", "wandb"] = "tensorboard"
    """where the metrics go"""


def run(arguments: Sequence[str]) -> int:
    options = parse(Options, arguments, "tabb track", "Send the metrics of runs on disk to a tracker.")
    from tabb.results.replay import replay_run
    from tabb.tracking import opener
    from tabb.training.folder import runs_below

    opens = opener(options.to)
    if not options.runs or opens is None:
        raise UsageError("name run folders, such as runs/.../seed0, or a folder with runs below")
    folders = [folder for root in options.runs for folder in runs_below(root)]
    if not folders:
        raise RunError(f"{', '.join(map(str, options.runs))}: no run there (no config.json); check the path")
    for path in dict.fromkeys(folders):
        print(f"{path}: {replay_run(path, opens):,} lines to {options.to}")
    return 0
