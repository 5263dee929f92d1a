"""Runs as processes, one core each: on a CPU the fastest way to train several seeds or rules."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tabb.cores import cores_of_this_process
from tabb.errors import RunError, Stopped
from tabb.files import quoted
from tabb.running.child import CALL, PARENT, TRAIN
from tabb.running.plan import Cell, changed_data, failed_runs, forget_failures, log_file, note_failure, unfinished
from tabb.running.plan_progress import PlanProgress
from tabb.training.folder import RunFolder
from tabb.training.progress import Style
from tabb.training.signals import HANG_UP, SAVING, answered_by, told_at_once

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def run_plan(
    root: Path,
    jobs: int,
    progress: Style,
    track: str | None = None,
    only: Path | None = None,
    watch: Callable[[], str | None] | None = None,
) -> RunError | None:
    """Run or go on with all cells of the plan in `root`, `jobs` at a time, each on a core of its own.

    `track` is where the metrics of each go as well: no part of the plan. `only` is a folder of the plan: its cells
    alone. A cell that fails leaves the others alone; the error that names all that failed is returned once the others
    are through, or else that of data files which changed meanwhile; None without either. `watch` is called several
    times a second; what it returns is told.

    Raises:
        Stopped: Ctrl-C, SIGTERM or SIGHUP; the running cells have saved their state.
    """
    waiting = unfinished(root, only)
    cells = list(waiting)
    failed: list[tuple[Cell, str]] = []
    running: dict[subprocess.Popen[bytes], tuple[Cell, int]] = {}
    cores = cores_of_this_process()
    free = list(range(jobs))
    stopped, asked = threading.Event(), 0

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        asked += number != HANG_UP or not stopped.is_set()
        stopped.set()

    telling = contextlib.ExitStack()
    telling.enter_context(answered_by(ask))
    display = PlanProgress(root, waiting, progress)

    def fail(cell: Cell, reason: str) -> None:
        failed.append((cell, reason))
        note_failure(root, cell, reason)
        if waiting or running:
            display.note(f"tabb: warning: {cell.label} failed: {reason}; the other runs go on")

    telling.enter_context(told_at_once(SAVING))
    try:
        while waiting or running:
            while waiting and free and not stopped.is_set():
                cell, slot = waiting.pop(0), free.pop(0)
                try:
                    running[_start(root, cell, cores[slot % len(cores)], track)] = (cell, slot)
                except RunError as error:
                    free.append(slot)
                    fail(cell, str(error))
            time.sleep(0.25)
            display.update([cell for cell, _ in running.values()])
            if watch is not None and (news := watch()) is not None:
                display.note(news)
            for process in [process for process in running if process.poll() is not None]:
                cell, slot = running.pop(process)
                free.append(slot)
                reason = why_it_failed(process.returncode, log_file(root, cell), RunFolder(root / cell.folder))
                if reason is not None and not stopped.is_set():
                    fail(cell, reason)
                display.update([cell])
            if stopped.is_set():
                raise Stopped(f"stopped and saved; go on with `tabb train --resume {quoted(root)}`")
    finally:
        _end(running, lambda: asked)
        display.close()
        telling.close()
        forget_failures(root, cells)
    return failed_runs(root, failed) or changed_data(root)


def _end(running: Collection[subprocess.Popen[bytes]], asked: Callable[[], int]) -> None:
    """Have the children save and end; each further Ctrl-C of the user is passed on, and the third kills them."""
    told = 0
    while any(process.poll() is None for process in running):
        if (wanted := max(1, asked())) > told:
            told = wanted
            for process in running:
                if process.poll() is None:
                    process.send_signal(signal.SIGINT if told < 3 else signal.SIGKILL)
        time.sleep(0.05)


def _start(root: Path, cell: Cell, core: int, track: str | None) -> subprocess.Popen[bytes]:
    """A child of its own session (Ctrl-C reaches it through us alone), with one thread on one core.

    Raises `RunError` where its log cannot be written.
    """
    folder = root / cell.folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        log = open(log_file(root, cell), "ab")  # noqa: SIM115
    except OSError as error:
        raise RunError(f"{log_file(root, cell)}: cannot be written ({error.strerror}); mend that and go on") from None
    with log:
        process = start_child(
            [*TRAIN, "-", str(folder.resolve()), *([track] if track is not None else [])],
            cell.spec.to_json(),
            env=one_core_environment() | {"PYTHONPATH": import_path()},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    pin(process, core)
    return process


def start_child(words: Sequence[str], values: Any, **options: Any) -> subprocess.Popen[bytes]:
    """Start Python with `words`, and give it `values` as JSON on its standard input.

    `-P`: what lies in the working folder is not imported, be it called `tabb.py` or `random.py`.
    """
    process = subprocess.Popen([sys.executable, "-P", *words], stdin=subprocess.PIPE, **options)
    assert process.stdin is not None
    try:
        with process.stdin as stdin:
            stdin.write(json.dumps(values).encode())
    except BrokenPipeError:
        pass  # it ended before it read; its exit code says so
    return process


def import_path() -> str:
    """PYTHONPATH by which a child imports what this process imports, its script's folder included."""
    return os.pathsep.join(dict.fromkeys(str(entry) or os.getcwd() for entry in sys.path))


def one_core_environment() -> dict[str, str]:
    """Environment of a child that is to use one thread, and to end with this process."""
    flags = " ".join(filter(None, [os.environ.get("XLA_FLAGS"), ONE_THREAD]))
    # OpenBLAS: that of NumPy's rollouts.
    threads = {"XLA_FLAGS": flags, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return os.environ | threads | {PARENT: str(os.getpid())}


def pin(process: subprocess.Popen[bytes], core: int) -> None:
    """Let the process use this core alone, where the system can do that."""
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.sched_setaffinity(process.pid, {core})


# --- Functions with plain arguments ---


class Call(NamedTuple):
    """A function of tabb to call in a process of its own."""

    label: str
    function: str
    """`package.module:function`"""
    arguments: dict[str, Any]
    """By name, as JSON types."""


def run_calls(calls: Sequence[Call], jobs: int) -> None:
    """Make these calls, `jobs` at a time on a core each; what they print goes to our standard error alone.

    Raises `RunError` after the first that fails, whose own error stands above; the others are stopped.
    """
    cores = cores_of_this_process()
    waiting, free = list(calls), list(range(jobs))
    running: dict[subprocess.Popen[bytes], tuple[Call, int]] = {}
    environment = one_core_environment() | {"PYTHONPATH": import_path()}
    try:
        while waiting or running:
            while waiting and free:
                call, slot = waiting.pop(0), free.pop(0)
                words = [*CALL, call.function]
                process = start_child(words, call.arguments, env=environment, stdout=subprocess.DEVNULL)
                pin(process, cores[slot % len(cores)])
                running[process] = (call, slot)
            time.sleep(0.1)
            for process in [process for process in running if process.poll() is not None]:
                call, slot = running.pop(process)
                free.append(slot)
                if process.returncode != 0:
                    how = _killed_by(process.returncode) or "failed, see above"
                    raise RunError(f"{call.label} {how}; the others were stopped")
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


# --- How a child ended ---


def why_it_failed(code: int, log: Path, folder: RunFolder) -> str | None:
    """Why a run's process did not finish it, in one line; None if it did."""
    if code == 0:
        return None if folder.result_file.exists() else f"ended without a result; see {log}"
    if (killed := _killed_by(code)) is not None:
        return f"{killed}; see {log}"
    return last_words(log)


def _killed_by(code: int) -> str | None:
    """Which signal ended a process with this exit code; None if none did."""
    if code >= 0:
        return None
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"


def last_words(log: Path) -> str:
    """The error that a process ended with, from its log."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("tabb: warning: ")]
    return (lines[-1] if lines else "ended without a word").removeprefix("tabb: error: ")
