"""Several runs as processes, one core each: on a CPU the fastest way to train several seeds or rules.

A plan (`plan.json`) lists the runs, so that a stopped plan is resumed whole: finished runs are left alone,
started ones go on, the others begin.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tabb.errors import RunError, Stopped
from tabb.files import read_json, write_json
from tabb.running.plan_progress import PlanProgress
from tabb.training.folder import RunFolder
from tabb.training.progress import Style

PLAN = "plan.json"
PARENT = "TABB_PARENT"
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a plan."""

    label: str
    folder: str
    """Run folder, relative to the plan's."""
    arguments: list[str]
    """Of `tabb train`, without --out."""
    updates: int


def write_plan(root: Path, cells: Sequence[Cell], replace: bool = False) -> None:
    """Write the plan into a new folder. Raises `RunError` if it holds one already, unless that is to be replaced."""
    if (root / PLAN).exists() and not replace:
        raise RunError(
            f"{root}: already holds runs; go on with `tabb train --resume {root}`, or choose another folder with --out"
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{root}: cannot be made ({error.strerror}); choose another folder") from None
    write_json(root / PLAN, {"cells": [dataclasses.asdict(cell) for cell in cells]})


def read_plan(root: Path) -> list[Cell]:
    """The cells of a plan."""
    try:
        return [Cell(**cell) for cell in read_json(root / PLAN)["cells"]]
    except (KeyError, TypeError) as error:
        raise RunError(f"{root / PLAN}: is not a plan of tabb ({error}); start the runs again") from None


def unfinished(root: Path, only: Path | None = None) -> list[Cell]:
    """The cells of the plan that have no result yet; `only` those in this folder of the plan."""
    cells = [cell for cell in read_plan(root) if not RunFolder(root / cell.folder).result_file.exists()]
    if only is not None:
        cells = [cell for cell in cells if (root / cell.folder).resolve().is_relative_to(only.resolve())]
    return cells


def run_plan(root: Path, jobs: int, progress: Style, track: str | None = None, only: Path | None = None) -> None:
    """Run or go on with all cells of the plan in `root`, `jobs` at a time, each on a core of its own.

    `track` is `tabb train --track` of each: no part of the plan. `only` is a folder of the plan: its cells alone.

    Raises:
        Stopped: Ctrl-C or SIGTERM; the running cells have saved their state.
        RunError: a cell failed; the message is the cell's own last line.
    """
    waiting = unfinished(root, only)
    running: dict[subprocess.Popen[bytes], tuple[Cell, int]] = {}
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    free = list(range(jobs))
    stopped = threading.Event()
    handlers = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    display = PlanProgress(root, waiting, progress)
    try:
        while waiting or running:
            while waiting and free and not stopped.is_set():
                cell, slot = waiting.pop(0), free.pop(0)
                running[_start(root, cell, cores[slot % len(cores)], track)] = (cell, slot)
            time.sleep(0.25)
            display.update([cell for cell, _ in running.values()])
            for process in [process for process in running if process.poll() is not None]:
                cell, slot = running.pop(process)
                free.append(slot)
                if process.returncode != 0 and not stopped.is_set():
                    raise RunError(f"{cell.label}: {last_words(log_file(root, cell))}")
                display.update([cell])
            if stopped.is_set():
                raise Stopped(f"stopped and saved; go on with `tabb train --resume {root}`")
    finally:
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            process.wait()
        display.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _start(root: Path, cell: Cell, core: int, track: str | None) -> subprocess.Popen[bytes]:
    """A child of its own session (Ctrl-C reaches it through us alone), with one thread on one core."""
    folder = root / cell.folder
    if RunFolder(folder).config_file.exists():
        arguments = ["--resume", str(folder)]
    else:
        arguments = [*cell.arguments, "--out", str(folder.parent)]
    if track is not None:
        arguments += ["--track", track]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(log_file(root, cell), "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tabb", "train", *arguments, "--progress", "none", "--jobs", "1"],
            env=one_core_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _pin(process, core)
    return process


def one_core_environment() -> dict[str, str]:
    """Environment of a child that is to use one thread, and to end with this process."""
    flags = " ".join(filter(None, [os.environ.get("XLA_FLAGS"), ONE_THREAD]))
    # OpenBLAS: that of NumPy's rollouts.
    threads = {"XLA_FLAGS": flags, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return os.environ | threads | {PARENT: str(os.getpid())}


def _pin(process: subprocess.Popen[bytes], core: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, {core})


def run_commands(commands: Sequence[Sequence[str]], jobs: int) -> None:
    """Run `tabb` with each of these arguments, `jobs` at a time on a core each; they tell on our standard error.

    Raises `RunError` after the first that fails, whose own error stands above; the others are stopped.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    waiting, free = [list(command) for command in commands], list(range(jobs))
    running: dict[subprocess.Popen[bytes], tuple[list[str], int]] = {}
    try:
        while waiting or running:
            while waiting and free:
                command, slot = waiting.pop(0), free.pop(0)
                process = subprocess.Popen(
                    [sys.executable, "-m", "tabb", *command],
                    env=one_core_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
                _pin(process, cores[slot % len(cores)])
                running[process] = (command, slot)
            time.sleep(0.1)
            for process in [process for process in running if process.poll() is not None]:
                command, slot = running.pop(process)
                free.append(slot)
                if process.returncode != 0:
                    raise RunError(f"`tabb {' '.join(command)}` failed, see above; the others were stopped")
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def log_file(root: Path, cell: Cell) -> Path:
    """Where the words of a cell's process go."""
    folder = root / cell.folder
    return folder.parent / f"{folder.name}.log"


def last_words(log: Path) -> str:
    """The error that a process ended with, from its log."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("tabb: warning: ")]
    return (lines[-1] if lines else "ended without a word").removeprefix("tabb: error: ")


def follow_parent() -> None:
    """In a child of a plan: stop (and save) when the parent is gone, rather than train on unseen."""
    parent = os.environ.get(PARENT)
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
