"""On a node: one cell as a process of its own, as `tabb.running.processes` starts it; its files go to the driver.

Nodes share nothing. A cell gets the files of its run folder (none for a new one) and the data, by content; at each
checkpoint it gives the files that changed, so that another node can go on with it. Only plain
types cross the wire. Modules that import JAX are not imported here: the process has its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

import tabb
from tabb.errors import RunError, TabbError
from tabb.files import LOCK_HELD
from tabb.running.child import PARENT, TRAIN

POLL_SECONDS = 0.25
STOP_SECONDS = 10.0
"""how long a process whose cell was cancelled may take to end by itself"""
LATE = ("result.json", "policy.npz", "curve.png")
"""Files of a finished run; a driver that has `result.json` has all of it."""


def run_cell(job: dict[str, Any], node: str) -> Iterator[dict[str, Any]]:
    """Train one cell; yields `{"files": {name: bytes}, "log": bytes}` at each checkpoint and at the end.

    The last message has `"done": True`, or `"failed": line` after an error of the cell or of this node.
    """
    try:
        yield from _run_cell(job)
    except (TabbError, OSError) as error:
        yield {"files": {}, "log": b"", "failed": f"on node {node}: {' '.join(str(error).split())}"}


def _run_cell(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    shelf = _shelf()
    data = {domain: [_place(item, shelf / "data") for item in items] for domain, items in job["data"].items()}
    names_there = {str(path): item["path"] for domain in data
                   for path, item in zip(data[domain], job["data"][domain], strict=True)}  # fmt: skip
    cells = shelf / "cells"
    cells.mkdir(exist_ok=True)
    _clear(cells)
    scratch = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=cells))
    folder = scratch / job["name"]
    process = core = None
    try:
        _unpack(job["files"], folder)
        # The data are elsewhere here; else the run is what the driver says.
        spec = job["spec"] | {domain: [str(path) for path in paths] for domain, paths in data.items()}
        log, sent, saved = scratch / "log", _states(folder), _saved(folder)
        core = None if job["gpus"] else _Core(shelf)
        process = _start(spec, folder, job, scratch)
        if core is not None:
            core.pin(process.pid)
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            if (now := _saved(folder)) != saved:
                saved = now
                yield {"files": _changed(folder, sent, names_there, LATE), "log": log.read_bytes()}
        ended = {"files": _changed(folder, sent, names_there), "log": log.read_bytes()}
        yield ended | ({"done": True} if process.returncode == 0 else {"failed": ""})
    finally:
        if process is not None:
            _stop(process)
        if core is not None:
            core.free()
        shutil.rmtree(scratch, ignore_errors=True)


class _Core:
    """A core of the node that no other cell has; its lock goes with the worker that holds it.

    Ray counts cores but gives none, and how XLA rounds depends on how many a process may use: a cell has one, as on
    the driver's own machine.
    """

    def __init__(self, shelf: Path) -> None:
        self._lock = -1
        self.number: int | None = None
        if fcntl is None or not hasattr(os, "sched_setaffinity"):
            return
        (shelf / "cores").mkdir(exist_ok=True)
        for number in sorted(os.sched_getaffinity(0)):
            lock = os.open(shelf / "cores" / str(number), os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(lock)
                if error.errno in LOCK_HELD:
                    continue
                break  # a disk without locks
            self._lock, self.number = lock, number
            return
        self.number = random.choice(sorted(os.sched_getaffinity(0)))  # more cells than cores, or no locks: they share

    def pin(self, process: int) -> None:
        if self.number is not None:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(process, {self.number})

    def free(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)


def _start(spec: dict[str, Any], folder: Path, job: dict[str, Any], scratch: Path) -> subprocess.Popen[bytes]:
    # The process runs the code that this worker runs, and whose version was compared with the driver's.
    code = str(Path(tabb.__file__).parent.parent)
    there = os.environ.get("PYTHONPATH")
    environment = os.environ | job["environment"] | {"PYTHONPATH": os.pathsep.join(filter(None, [code, there]))}
    if job["gpus"]:
        environment.setdefault("JAX_PLATFORMS", "cuda")  # rather an error than a cell on the CPU
        if job["gpus"] < 1:
            environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 * job['gpus']:.2f}"
    else:
        environment["JAX_PLATFORMS"] = "cpu"
    environment[PARENT] = str(os.getpid())  # a process whose worker is gone ends by itself
    (scratch / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    with open(scratch / "log", "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-P", *TRAIN, str(scratch / "spec.json"), str(folder)],
            env=environment,
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# --- Files of the run folder ---


def _saved(folder: Path) -> list[tuple[int, int]]:
    """Changes when there is something new to go on from."""
    return [_state(folder / name) for name in ("prepared.npz", "checkpoint.npz")]


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def names(folder: Path) -> list[str]:
    """The files to send: no locks, no half-written files; metrics last, which hold all that a checkpoint counts on."""
    files = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()] if folder.exists() else []
    names = [file.as_posix() for file in files if not file.name.startswith(".") and file.name != "lock"]
    return sorted(names, key=lambda name: (name == "metrics.jsonl", name))


def _states(folder: Path) -> dict[str, tuple[int, int]]:
    return {name: _state(folder / name) for name in names(folder)}


def _changed(
    folder: Path, sent: dict[str, tuple[int, int]], names_there: dict[str, str], without: tuple[str, ...] = ()
) -> dict[str, bytes]:
    """Files that are not as they were sent last; `names_there` are the driver's paths of this node's data files."""
    files = {}
    for name in names(folder):
        if name in without or (state := _state(folder / name)) == sent.get(name):
            continue
        try:
            files[name] = (folder / name).read_bytes()
        except FileNotFoundError:  # replaced since it was listed
            continue
        sent[name] = state
        if name == "config.json":
            files[name] = _with_paths(files[name], names_there)
    return files


def _unpack(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _with_paths(config: bytes, names_there: dict[str, str]) -> bytes:
    """A run's config with the paths of its data files as the driver has them."""
    values = json.loads(config)
    for domain in ("source", "target"):
        if domain in values.get("origin", {}):
            files = values["origin"][domain]["files"]
            values["origin"][domain]["files"] = [names_there.get(file, file) for file in files]
    return (json.dumps(values, indent=2) + "\n").encode()


# --- Data, by content ---


def _shelf() -> Path:
    """This user's folder on the node's own disk, where no other user can put anything."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    shelf = Path(tempfile.gettempdir()).resolve() / f"tabb-{user}"
    shelf.mkdir(mode=0o700, exist_ok=True)
    if shelf.is_symlink() or (hasattr(os, "getuid") and shelf.stat().st_uid != user):
        raise RunError(f"{shelf}: belongs to another user; remove it, or set TMPDIR where Ray is started")
    return shelf


def _place(item: dict[str, Any], shelf: Path) -> Path:
    """The local path of a data file (or folder of files); its content is fetched unless it is here and as it should be.

    `item`: its `name` and `key` and, of each file, the name within (empty for a file itself), SHA-256 and reference.
    """
    top = shelf / item["key"] / item["name"]
    for name, wanted, reference in item["parts"]:
        file = top / name if name else top
        if file.is_file() and sha256(file) == wanted:
            continue
        import ray

        from tabb.files import atomic

        file.parent.mkdir(parents=True, exist_ok=True)
        content = ray.get(reference)
        with atomic(file) as part:
            part.write_bytes(content)
    return top


def sha256(file: Path) -> str:
    """SHA-256 of a file's content."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _clear(cells: Path) -> None:
    """Remove what workers that were killed left behind."""
    for scratch in cells.iterdir():
        worker = scratch.name.partition("-")[0]
        if worker.isdigit() and not _lives(int(worker)):
            shutil.rmtree(scratch, ignore_errors=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
