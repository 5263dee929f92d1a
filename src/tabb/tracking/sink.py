"""What a tracker is to tabb: something that takes the lines of `metrics.jsonl`, of one run, one after the other."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tabb.errors import UsageError

PROJECT = "tabb"
"""project that runs are put in, where the tracker has projects and its own environment variable names none"""


@dataclasses.dataclass(frozen=True)
class TrackedRun:
    """The run that a sink is opened for."""

    name: str
    """What people call it: learner, task and seed."""
    group: str
    """Runs to be seen together: those of one task."""
    folder: Path | None
    """The run folder; None where the run has none."""
    config: Mapping[str, Any]
    """What `config.json` holds, as JSON types."""
    resumed: bool = False
    """Whether the run was stopped before and goes on now; its earlier lines are sent again."""

    @classmethod
    def of(cls, config: Mapping[str, Any], folder: Path | None, resumed: bool = False) -> TrackedRun:
        """The run with this `config.json`."""
        from tabb.registry import learner_name

        task = config.get("task") or "no task"
        learner = learner_name(config["rule"]["name"], (config["settings"].get("backbone") or {}).get("name"))
        return cls(f"{learner} {task} seed {config['seed']}", task, folder, config, resumed)


class Sink(Protocol):
    """Takes the lines of one run. May raise anything: tabb warns once and goes on without it."""

    def log(self, line: Mapping[str, Any]) -> None:
        """One line as `metrics.jsonl` holds it: `kind`, `update` (updates done) and the values; see `scalars`."""

    def close(self) -> None:
        """No more lines come."""


Opener = Callable[[TrackedRun], Sink]
"""Opens the sink of a run: a class whose instances are sinks, or a function."""


class Known(NamedTuple):
    """A sink with a name."""

    package: str
    """what it imports"""
    module: str
    attribute: str
    install: str


SINKS = {
    "tensorboard": Known("tensorboardX", "tensorboard_files", "TensorBoard", '"tabb-rl[track]"'),
    "trackio": Known("trackio", "trackio_runs", "Trackio", "trackio"),
    "wandb": Known("wandb", "wandb_runs", "Wandb", "wandb"),
}
"""Sinks by the name that `--track` takes."""


def opener(track: str | Opener | None) -> Opener | None:
    """What opens the sinks: `track` itself, or the one of that name; None for None.

    Raises:
        UsageError: there is no such name, or its package is not installed.
    """
    if track is None or (callable(track) and not isinstance(track, str)):
        return track
    if track not in SINKS:
        raise UsageError(f"track={track!r}: use {', '.join(SINKS)}, or a function that opens a sink for a run")
    known = SINKS[track]
    if importlib.util.find_spec(known.package) is None:
        raise UsageError(f"tracking with {track} needs {known.package}: pip install {known.install}")
    module = importlib.import_module(f"tabb.tracking.{known.module}")
    found: Opener = getattr(module, known.attribute)
    return found


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line as `kind/name`; of a list of numbers its mean, as `kind/name_mean`; others are left out."""
    kind = line["kind"]
    found = {}
    for name, value in line.items():
        if name in ("kind", "update") or isinstance(value, bool):
            continue
        if isinstance(value, int | float):
            found[f"{kind}/{name}"] = float(value)
        elif isinstance(value, list | tuple) and value and all(isinstance(one, int | float) for one in value):
            found[f"{kind}/{name}_mean"] = sum(value) / len(value)
    return found
