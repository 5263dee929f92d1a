"""The driver: each unfinished cell of a plan is one Ray task; what comes back is written here, and nowhere else.

A task is a generator that yields the cell's files at each checkpoint. A cell whose node is lost is handed out again
with the files that are here, as it is when the same command is given another day: Ray's own retries would begin with
the arguments of the first attempt, that is, with the first update.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tabb.commands.options import without
from tabb.errors import RunError, Stopped
from tabb.files import atomic
from tabb.running.cluster.connection import connected, look_at_nodes, task_of
from tabb.running.cluster.node import LATE, names
from tabb.running.cluster.options import Cluster
from tabb.running.cluster.shipping import OPTIONS, Shipping, files_of
from tabb.running.cluster.versions import versions
from tabb.running.plan import PARENT, Cell, last_words, log_file, one_core_environment, unfinished
from tabb.running.plan_progress import PlanProgress
from tabb.training.folder import RunFolder
from tabb.training.progress import Style

AT_ONCE = 256
"""cells in Ray's hands at the same time, unless the user says otherwise; each holds a lock file open"""
CANCEL_SECONDS = 10.0


def run_plan_on(
    cluster: Cluster, root: Path, jobs: int | None, cpus: int, progress: Style, only: Path | None = None
) -> None:
    """Run or go on with all cells of the plan in `root` on a Ray cluster, at most `jobs` at a time.

    `cpus` is how many a `local` cluster has. `only` is a folder of the plan: its cells alone.

    Raises:
        Stopped: Ctrl-C or SIGTERM; what cells had sent is saved.
        RunError: no cluster, a node with other versions, a cell that failed (the message is the cell's own last
            line) or was lost too often.
    """
    waiting = unfinished(root, only)
    if not waiting:
        return
    environment = one_core_environment()
    shared = {name: environment[name] for name in ("XLA_FLAGS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    files = {cell.folder: files_of(cell.arguments) for cell in waiting}  # data that are not here are named first
    stopped = threading.Event()
    with connected(cluster, cpus) as ray, ExitStack() as held:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        display = PlanProgress(root, waiting, progress)
        held.callback(display.close)
        resources = {"num_cpus": 1, "num_gpus": cluster.gpus or None}
        remote = ray.remote(num_returns="streaming", max_retries=0, **resources)(task_of())
        _tell(display, cluster, waiting, look_at_nodes(ray, remote))
        shipping, here = Shipping(ray), versions()
        running: dict[Any, _Attempt] = {}
        lost: dict[str, int] = {}
        held.callback(_cancel, ray, running)
        while waiting or running:
            while waiting and len(running) < (jobs or AT_ONCE) and not stopped.is_set():
                attempt = _Attempt(root, waiting.pop(0), held)
                task, data = files[attempt.cell.folder]
                job = attempt.job(task, shipping.data_of(data))
                job |= {"environment": shared, "parent": PARENT, "gpus": cluster.gpus}
                running[remote.remote(here, job)] = attempt
            ready, _ = ray.wait(list(running), num_returns=1, timeout=0.25)
            if stopped.is_set():
                raise Stopped(
                    "stopped; what the cells had saved is here; go on with "
                    f"`tabb train --resume {root} --ray {cluster.address}`"
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
                    _consider(ray, cluster, cell, lost[cell.folder], error, display)
                    waiting.append(cell)
                    continue
                attempt.write(message)
                display.update([cell])


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

    def job(self, task: str, data: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
        """What the node is told, with the files that the cell goes on from."""
        path = self.folder.path
        there = names(path) if self.folder.config_file.exists() else []
        given = [self.cell.arguments[0], *without(self.cell.arguments[1:], OPTIONS)]
        return {
            "name": path.name,
            "arguments": [*given, "--task", task],
            "files": {name: (path / name).read_bytes() for name in there},
            "data": data,
        }

    def write(self, message: dict[str, Any]) -> None:
        """Write what a node sent; the file that says that the run is finished comes last.

        Raises `RunError` if the cell failed.
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
        failed = message.get("failed")
        if failed is not None:
            raise RunError(f"{self.cell.label}: {failed or last_words(self._log)}")
        self.done = message.get("done", False)

    def close(self) -> None:
        """Let go of the run folder."""
        self._lock.close()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as part:
        part.write_bytes(content)


def _consider(ray: Any, cluster: Cluster, cell: Cell, lost: int, error: Exception, display: PlanProgress) -> None:
    """Raise `RunError` for a cell that must not be handed out again; else say that it is."""
    what = type(error).__name__
    if isinstance(error, ray.exceptions.RayTaskError):
        raise RunError(f"{cell.label}: {str(error.cause)[:300] or what}") from None
    if isinstance(error, ray.exceptions.LocalRayletDiedError):
        raise RunError("Ray ended on this machine; start it and give the same command again") from None
    if lost > cluster.retries:
        raise RunError(
            f"{cell.label}: its worker was lost {lost} times without a new checkpoint ({what}); look into Ray's logs "
            "(memory?), or allow more with --ray-retries"
        ) from None
    display.note(f"{cell.label}: its worker was lost ({what}); goes on from what is saved, {lost} of {cluster.retries}")


def _tell(display: PlanProgress, cluster: Cluster, waiting: list[Cell], found: tuple[int, float, float]) -> None:
    nodes, cpus, gpus = found
    kind = f"{gpus:g} GPUs" if cluster.gpus else f"{cpus:g} CPUs"
    display.note(f"{len(waiting)} cells for {nodes} nodes with {kind}")
    if (gpus if cluster.gpus else cpus) < (cluster.gpus or 1) or cpus < 1:
        display.note("tabb: warning: no node has what a cell asks for; the cells wait for one that has")


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
