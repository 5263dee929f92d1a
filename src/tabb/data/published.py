"""Public data sets by name."""

from __future__ import annotations

import difflib

from tabb.data.checks import one_line
from tabb.data.published_d4rl import published_d4rl
from tabb.data.published_file import Published
from tabb.data.published_otdf import published_otdf
from tabb.errors import UsageError


def lookup(name: str) -> Published:
    """The public data set `name`, its dashes and underscores alike; `UsageError` (one line) names close ones."""
    entries = {entry.name: entry for entry in (*published_otdf(), *published_d4rl())}
    for key, entry in entries.items():
        if key.replace("-", "_") == name.strip().replace("-", "_"):
            return entry
    close = difflib.get_close_matches(name, entries, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "`tabb data list` shows all"
    raise UsageError(one_line(f"{name}: no such public data set; {hint}"))
