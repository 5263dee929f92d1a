"""`--preset` on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from tabb.commands.options import take
from tabb.errors import UsageError
from tabb.registry import all_presets


def preset_of(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of `--preset`, and the other arguments."""
    try:
        return take(arguments, "--preset")
    except UsageError:
        raise UsageError("--preset: give its name, one of " + ", ".join(all_presets())) from None
