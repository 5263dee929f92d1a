"""Sinks: where a tracker receives the lines of one run's `metrics.jsonl`, one after another."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tabb.errors import UsageError

PROJECT = "tabb"
"""project of the runs, if the tracker has projects and its own environment variable does not name one"""


@dataclasses.dataclass(frozen=True)
class TrackedRun:
    """The run that a sink is opened for."""

    name: str
    """Name to show: learner, task and seed."""
    group: str
    """Runs that are shown together: those of one task."""
    folder: Path | None
    """The run folder, or None if the run has none."""
    config: Mapping[str, Any]
    """The contents of `config.json`."""
    resumed: bool = False
    """Whether the run was stopped and is resumed now; its earlier lines are sent again."""

    @classmethod
    def of(cls, config: Mapping[str, Any], folder: Path | None, resumed: bool = False) -> TrackedRun:
        """The run with this `config.json`."""
        from tabb.registry import learner_name

        task = config.get("task") or "no task"
        learner = learner_name(config["rule"]["name"], (config["settings"].get("backbone") or {}).get("name"))
        return cls(f"{learner} {task} seed {config['seed']}", task, folder, config, resumed)


class Sink(Protocol):
    """Takes the lines of one run. If it raises an exception, tabb warns once and continues without it."""

    def log(self, line: Mapping[str, Any]) -> None:
        """Take one line of `metrics.jsonl`: `kind`, `update` (updates done) and the values; see `scalars`."""

    def close(self) -> None:
        """Close it; no more lines follow."""


Opener = Callable[[TrackedRun], Sink]
"""Opens the sink of a run: a class whose instances are sinks, or a function."""


class Known(NamedTuple):
    """A sink that `--track` knows by name."""

    package: str
    """the package that it needs"""
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
    """The function that opens sinks: `track` itself, or the sink of that name; None for None.

    Raises:
        UsageError: the name is unknown, or its package is not installed.
    """
    if track is None or (callable(track) and not isinstance(track, str)):
        return track
    if track not in SINKS:
        raise UsageError(f"track={track!r}: use {', '.join(SINKS)}, or a function that opens a sink for a run")
    known = SINKS[track]
    if importlib.util.find_spec(known.package) is None:
        raise UsageError(f"tracking with {track} needs {known.package}: pip install {known.install}")
    module = importlib.import_module(f"tabb.tracking.{known.module}")
    sink_class: Opener = getattr(module, known.attribute)
    return sink_class


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line as `kind/name`, and the means of its lists of numbers as `kind/name_mean`."""
    kind = line["kind"]
    numbers = {}
    for name, value in line.items():
        if name in ("kind", "update") or isinstance(value, bool):
            continue
        if isinstance(value, int | float):
            numbers[f"{kind}/{name}"] = float(value)
        elif isinstance(value, list | tuple) and value and all(isinstance(one, int | float) for one in value):
            numbers[f"{kind}/{name}_mean"] = sum(value) / len(value)
    return numbers
