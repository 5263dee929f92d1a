"""Timing on a noisy machine: contenders take turns, and the best and the median turn of each are reported."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

PACKAGES = ("tabb-rl", "jax", "jaxlib", "equinox", "optax", "numpy", "mujoco", "gymnasium", "torch", "onnxruntime")


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}
"""Wall-clock time, and time in which the process ran; on one core they differ by the time of other processes."""


def seconds(clock: str, call: Callable[[], Any]) -> float:
    """Seconds of one call by the given clock, until its results are ready."""
    begin = CLOCKS[clock]()
    jax.block_until_ready(call())
    return CLOCKS[clock]() - begin


class Times(NamedTuple):
    """Best and median of several turns."""

    least: float
    median: float


def take_turns(contenders: dict[Any, Callable[[], float]], rounds: int) -> Iterator[dict[Any, Times]]:
    """Call every contender once per round and yield the times after each round.

    Each round starts with the next contender, so that slow phases do not always hit the same one.
    """
    turns: dict[Any, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        at = number % len(names)
        for name in names[at:] + names[:at]:
            turns[name].append(contenders[name]())
        yield {name: Times(min(taken), statistics.median(taken)) for name, taken in turns.items()}


def threads() -> int:
    """Cores that this process may use; XLA and PyTorch (in these benchmarks) use one thread on each."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """The machine, its state and the versions, for a result file."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "threads": threads(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", ""),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def rounded(value: Any) -> Any:
    """A result whose numbers are rounded to four digits, for a readable file."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, float):
        return float(np.format_float_positional(value, 4, fractional=False))
    return value
