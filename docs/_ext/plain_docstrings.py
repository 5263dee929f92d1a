"""Docstrings as they are written, plain text with backticks, made safe for reStructuredText."""

from __future__ import annotations

import re
from typing import Any

CODE = re.compile(r"(`[^`]+`)")
WORD = re.compile(r"(?<!\w)\*(?=\S)[^*|]+?(?<=\S)\*(?!\w)")
"""*emphasis*, which stays"""


def plain(line: str) -> str:
    """The line with `|`, `*` and `_` taken literally outside of code; `*emphasis*` stays.

    In formulas of docstrings |x| is a magnitude, a * b a product and s_ a name: none is markup.
    """
    parts = CODE.split(line)
    return "".join(part if CODE.fullmatch(part) else _escaped(part) for part in parts)


def _escaped(text: str) -> str:
    kept = [(match.start(), match.end()) for match in WORD.finditer(text)]
    inside = {place for start, end in kept for place in (start, end - 1)}
    text = "".join(f"\\{c}" if c in "|*" and i not in inside else c for i, c in enumerate(text))
    return re.sub(r"(?<=\w)_(?!\w)", r"\\_", text)


def _process(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [plain(line) for line in lines]


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _process, priority=100)  # before napoleon reads the sections
    return {"parallel_read_safe": True, "parallel_write_safe": True}
