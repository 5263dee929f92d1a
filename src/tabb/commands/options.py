"""Options from dataclasses (tyro), with errors in one line."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import TypeVar

import tyro

from tabb.errors import UsageError

T = TypeVar("T")


def parse(kind: type[T], arguments: Sequence[str], program: str, description: str) -> T:
    """The dataclass `kind` from `arguments`; its docstrings are the help.

    Raises:
        UsageError: unknown or malformed options, in one line.
        SystemExit: after `--help` was printed.
    """
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(kind, args=list(arguments), prog=program, description=description)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_one_line(told.getvalue(), program)) from None
    finally:
        if sys.exc_info()[0] is None:
            sys.stderr.write(told.getvalue())


def _one_line(text: str, program: str) -> str:
    """tyro's error box as one line: without colours, frame and the pointer to the help at its end."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.strip(" │╭╮╰╯─┌┐└┘|") for line in text.splitlines()]
    kept = []
    for line in lines:
        if line.startswith(("For full helptext", "Argument helptext")):
            break
        if line.strip("-") and line not in (
            "Parsing error",
            "Value error",
            "Invalid choice",
            "Missing required options",
            "Required options",
        ):
            kept.append(line)
    told, _, meant = " ".join(kept).partition("Perhaps you meant:")
    close = list(dict.fromkeys(re.findall(r"--[\w.-]+", meant)))[:3]
    told = re.sub(r"invalid literal for int\(\) with base 10: ('.*?')", r"\1 is not a whole number", told)
    told = re.sub(r"could not convert string to float: ('.*?')", r"\1 is not a number", told)
    told = re.sub(r"invalid choice ('.*?') for argument '(.*?)'\. Expected one of (\(.*?\))\.", _choices, told)
    hint = f"; perhaps you meant {' or '.join(close)}" if close else ""
    return f"{told.strip()}{hint}; see `{program} --help`"


def _choices(found: re.Match[str]) -> str:
    """--progress: 'loud' is none of auto, bar, lines, none"""
    value, option, choices = found.groups()
    return f"{option}: {value} is none of {choices.strip('(,)').replace(chr(39), '')}"


def jobs_of(asked: int | None) -> int:
    """How many runs to train at once: 1 on an accelerator (seeds are an axis there), else one per core."""
    if asked is not None:
        if asked < 1:
            raise UsageError(f"--jobs {asked}: must be at least 1")
        return asked
    import jax

    if jax.default_backend() != "cpu":
        return 1
    return cores()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def without(arguments: Sequence[str], options: Sequence[str]) -> list[str]:
    """Arguments less the given options (written with dashes) and their values."""
    kept, skipping = [], False
    for argument in arguments:
        if argument.startswith("--"):
            skipping = argument.split("=")[0].replace("_", "-") in options
        if not skipping:
            kept.append(argument)
    return kept
