"""A child process: trains one run, or calls one function with plain arguments.

    python -m tabb.running.child SPEC.json RUNS/seed0 [tensorboard|trackio|wandb]
    python -m tabb.running.child --call package.module:function < arguments.json

SPEC.json is a `RunSpec` (`-`: on standard input). A run that its folder holds a part of goes on.
Errors are one line on standard error and exit codes those of `tabb`. A child ends, and saves, when its parent is gone.
Only the standard library and tabb's errors are imported at the start.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tabb.errors import RunError, TabbError, UsageError
from tabb.jax_switches import fault_of

TRAIN = ("-m", "tabb.running.child")
"""words after `python` that start a child that trains a run"""
CALL = (*TRAIN, "--call")
PARENT = "TABB_PARENT"
"""environment variable: the number of the process with which a child ends"""


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; returns the exit code."""
    follow_parent()
    for stream in (sys.stdout, sys.stderr):  # a log's encoding may not have every sign
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        if arguments and arguments[0] == "--call":
            _call(arguments[1], json.load(sys.stdin))
        else:
            _train(*arguments)
    except (AssertionError, RuntimeError, ValueError) as error:
        if (fault := fault_of(error)) is None:
            raise
        print(f"tabb: error: {fault}", file=sys.stderr)
        return fault.exit_code
    except TabbError as error:
        print(f"tabb: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("tabb: stopped", file=sys.stderr)
        return 130
    return 0


def _train(source: str = "", folder: str = "", track: str | None = None, *more: str) -> None:
    from tabb.training.from_files import finish_run
    from tabb.training.spec import RunSpec

    if not folder or more:
        raise UsageError(
            "give the file of a spec (- for standard input), the run folder and, if metrics go to one, a sink"
        )
    try:
        values = json.load(sys.stdin) if source == "-" else json.loads(Path(source).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{source}: cannot be read as the spec of a run ({error})") from None
    finish_run(RunSpec.from_json(values), Path(folder), track)


def _call(place: str, arguments: dict[str, object]) -> None:
    module, _, name = place.partition(":")
    functools.reduce(getattr, name.split("."), importlib.import_module(module))(**arguments)  # type: ignore[operator]


def follow_parent() -> None:
    """Stop (and save) when the parent is gone, rather than train on unseen."""
    parent = os.environ.get(PARENT)
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
