"""`--preset` on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from tabb.errors import UsageError
from tabb.registry import all_presets


def preset_of(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of `--preset`, and the other arguments."""
    chosen, others, waiting = None, [], False
    for argument in arguments:
        if waiting:
            chosen, waiting = argument, False
        elif argument == "--preset":
            waiting = True
        elif argument.startswith("--preset="):
            chosen = argument.partition("=")[2]
        else:
            others.append(argument)
    if waiting:
        raise UsageError("--preset: give its name, one of " + ", ".join(all_presets()))
    return chosen, others
