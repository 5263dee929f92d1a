"""The driver: each unfinished cell of a plan is one Ray task; what comes back is written here, and nowhere else.

A task is a generator that yields the cell's files at each checkpoint. A cell whose node is lost is handed out again
with the files that have arrived, just as when the command is repeated later. Ray's own retries would begin with the
files of the first attempt, that is, with the first update.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tabb.errors import RunError, Stopped
from tabb.files import atomic, quoted
from tabb.running.cluster.connection import connected, look_at_nodes, task_of
from tabb.running.cluster.node import LATE, names
from tabb.running.cluster.options import Cluster
from tabb.running.cluster.shipping import Shipping, check_files
from tabb.running.cluster.versions import versions
from tabb.running.plan import Cell, changed_data, failed_runs, forget_failures, log_file, note_failure, unfinished
from tabb.running.plan_progress import PlanProgress
from tabb.running.processes import last_words, one_core_environment
from tabb.training.folder import RunFolder
from tabb.training.progress import Style
from tabb.training.signals import answer, told_at_once

AT_ONCE = 256
"""cells in Ray's hands at the same time, unless the user says otherwise; each holds a lock file open"""
CANCEL_SECONDS = 10.0


def run_plan_on(
    cluster: Cluster, root: Path, jobs: int | None, cpus: int, progress: Style, only: Path | None = None
) -> RunError | None:
    """Run or go on with all cells of the plan in `root` on a Ray cluster, at most `jobs` at a time.

    `cpus` is how many a `local` cluster has. `only` is a folder of the plan: its cells alone. A cell that fails, or is
    lost too often, leaves the others alone; the error that names all of these is returned at the end, or else that of
    data files which changed meanwhile; None without either.

    Raises:
        Stopped: Ctrl-C, SIGTERM or SIGHUP; what cells had sent is saved.
        RunError: no cluster, a node with other versions or without space.
    """
    waiting = unfinished(root, only)
    if not waiting:
        return None
    cells = list(waiting)
    failed: list[tuple[Cell, str]] = []
    environment = one_core_environment()
    shared = {name: environment[name] for name in ("XLA_FLAGS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    check_files([cell.spec for cell in waiting])
    stopped = threading.Event()
    with connected(cluster, cpus) as ray, ExitStack() as held:
        answer(lambda *_: stopped.set())
        held.enter_context(told_at_once("stopping; what the cells have sent is here"))
        display = PlanProgress(root, waiting, progress)
        held.callback(display.close)
        held.callback(forget_failures, root, cells)

        def fail(cell: Cell, reason: str) -> None:
            failed.append((cell, reason))
            note_failure(root, cell, reason)
            if waiting or running:
                display.note(f"tabb: warning: {cell.label} failed: {reason}; the other runs go on")

        resources = {"num_cpus": 1, "num_gpus": cluster.gpus or None}
        remote = ray.remote(num_returns="streaming", max_retries=0, **resources)(task_of())
        _announce(display, cluster, waiting, look_at_nodes(ray, remote))
        shipping, here = Shipping(ray), versions()
        running: dict[Any, _Attempt] = {}
        lost: dict[str, int] = {}
        held.callback(_cancel, ray, running)
        while waiting or running:
            while waiting and len(running) < (jobs or AT_ONCE) and not stopped.is_set():
                cell = waiting.pop(0)
                try:
                    attempt = _Attempt(root, cell, held)
                except RunError as error:  # another process trains there
                    fail(cell, str(error))
                    continue
                job = attempt.job(shipping.data_of(attempt.cell.spec.files))
                job |= {"environment": shared, "gpus": cluster.gpus}
                running[remote.remote(here, job)] = attempt
            ready, _ = ray.wait(list(running), num_returns=1, timeout=0.25)
            if stopped.is_set():
                raise Stopped(
                    "stopped; what the cells had saved is here; go on with "
                    f"`tabb train --resume {quoted(root)} --ray {cluster.address}`"
                )
            for generator in ready:
                attempt = running[generator]
                cell = attempt.cell
                try:
                    message = ray.get(next(generator))
                except (StopIteration, ray.exceptions.RayError) as error:
                    del running[generator]
                    attempt.close()
                    if attempt.done:
                        continue
                    lost[cell.folder] = 1 + (0 if attempt.progressed else lost.get(cell.folder, 0))
                    ray.cancel(generator)  # should it live on after all: never two of one cell
                    reason = _given_up(ray, cluster, cell, lost[cell.folder], error, display)
                    if reason is None:
                        waiting.append(cell)
                    else:
                        fail(cell, reason)
                    continue
                reason = attempt.write(message)
                if reason is not None:
                    fail(cell, reason)
                display.update([cell])
    return failed_runs(root, failed) or changed_data(root)


class _Attempt:
    """A cell in Ray's hands."""

    def __init__(self, root: Path, cell: Cell, held: ExitStack) -> None:
        self.cell, self.folder = cell, RunFolder(root / cell.folder)
        self.done, self.progressed = False, False
        self._log = log_file(root, cell)
        try:
            self.folder.path.mkdir(parents=True, exist_ok=True)
            # What earlier attempts said stays.
            self._said = self._log.read_bytes() if self._log.exists() else b""
        except OSError as error:
            raise RunError(f"{self.folder.path}: cannot be used ({error.strerror}); change that and go on") from None
        self._lock = held.enter_context(ExitStack())
        self._lock.enter_context(self.folder.locked())

    def job(self, data: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
        """What the node is told: the spec, and the files that the cell goes on from."""
        path = self.folder.path
        there = names(path) if self.folder.config_file.exists() else []
        return {
            "name": path.name,
            "spec": self.cell.spec.to_json(),
            "files": {name: (path / name).read_bytes() for name in there},
            "data": data,
        }

    def write(self, message: dict[str, Any]) -> str | None:
        """Write what a node sent; the file that says that the run is finished comes last.

        Returns the cell's own error, None without one. Raises `RunError` for a node that no cell can use.
        """
        path = self.folder.path
        if message["log"]:
            _write(self._log, self._said + message["log"])
        # A checkpoint counts on the metrics: it must not be there before them.
        order = {"checkpoint.npz": 1, **dict.fromkeys(LATE, 2), "result.json": 3}
        for name, content in sorted(message["files"].items(), key=lambda item: order.get(item[0], 0)):
            if not (path / name).resolve().is_relative_to(path.resolve()):
                raise RunError(f"{self.cell.label}: a node sent a file that is none of the run's ({name})")
            _write(path / name, content)
            self.progressed |= name == "checkpoint.npz"
        problem = message.get("failed")
        if problem:
            raise RunError(f"{self.cell.label}: {problem}")
        self.done = problem is not None or message.get("done", False)
        return None if problem is None else last_words(self._log)

    def close(self) -> None:
        """Let go of the run folder."""
        self._lock.close()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as part:
        part.write_bytes(content)


def _given_up(ray: Any, cluster: Cluster, cell: Cell, lost: int, error: Exception, display: PlanProgress) -> str | None:
    """Why a cell that was lost is not handed out again; None if it is. Raises `RunError` where Ray itself has ended."""
    what = type(error).__name__
    if isinstance(error, ray.exceptions.RayTaskError):
        return str(error.cause)[:300] or what
    if isinstance(error, ray.exceptions.LocalRayletDiedError):
        raise RunError("Ray ended on this machine; start it and give the same command again") from None
    if lost > cluster.retries:
        return (
            f"its worker was lost {lost} times without a new checkpoint ({what}); look into Ray's logs (memory?), or "
            "allow more with --ray-retries"
        )
    display.note(f"{cell.label}: its worker was lost ({what}); goes on from what is saved, {lost} of {cluster.retries}")
    return None


def _announce(
    display: PlanProgress, cluster: Cluster, waiting: list[Cell], resources: tuple[int, float, float]
) -> None:
    nodes, cpus, gpus = resources
    kind = _counted(gpus, "GPU") if cluster.gpus else _counted(cpus, "CPU")
    display.note(f"{_counted(len(waiting), 'cell')} for {_counted(nodes, 'node')} with {kind}")
    if (gpus if cluster.gpus else cpus) < (cluster.gpus or 1) or cpus < 1:
        display.note("tabb: warning: no node has what a cell asks for; the cells wait for one that has")


def _counted(number: float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"


def _cancel(ray: Any, running: dict[Any, _Attempt]) -> None:
    """Stop what still runs, and wait a while for its processes to end."""
    left = [generator for generator, attempt in running.items() if not attempt.done]
    for generator in left:
        ray.cancel(generator)
    deadline = time.monotonic() + CANCEL_SECONDS
    while left and time.monotonic() < deadline:
        for generator in ray.wait(left, num_returns=1, timeout=0.25)[0]:
            try:
                ray.get(next(generator))
            except (StopIteration, ray.exceptions.RayError):
                left.remove(generator)
