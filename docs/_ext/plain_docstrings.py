"""Docstrings as they are written, plain text with backticks and Google's sections, made safe for reStructuredText."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.ext.napoleon import Config, GoogleDocstring

CODE = re.compile(r"(`[^`]+`)")
EMPHASIS = re.compile(r"(?<!\w)\*(?=\S)[^*|]+?(?<=\S)\*(?!\w)")
ONE_LINE = ("attribute", "data", "property")
"""What has no sections in its docstring: there a colon is a colon."""
SIGNATURE = (
    (r"~numpy\.ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype\[~?([\w.]+)\]\]", r"NDArray[\1]"),
    (r"~?\b(?:[a-z_]+\.)+(?=\w)", ""),  # full names of types
    (r"_Buffer \| _SupportsArray.*?_NestedSequence\[complex \| bytes \| str\]", "ArrayLike"),
    (r"<factory>", "..."),
)
"""What makes signatures shorter: pattern, replacement."""


def plain(line: str) -> str:
    """The line with `|`, `*` and a last `_` taken literally outside of code; `*emphasis*` stays.

    In formulas of docstrings |x| is a magnitude, a * b a product and s_ a name: none is markup.
    """
    parts = CODE.split(line)
    return "".join(part if CODE.fullmatch(part) else _escaped(part) for part in parts)


def outside_examples(lines: list[str]) -> list[str]:
    """The lines made plain, but for examples: they begin with `>>>`, and end with an empty line."""
    made, inside = [], False
    for line in lines:
        inside = bool(line.strip()) and (inside or line.lstrip().startswith(">>> "))
        made.append(line if inside else plain(line))
    return made


def _escaped(text: str) -> str:
    stars = {place for match in EMPHASIS.finditer(text) for place in (match.start(), match.end() - 1)}
    text = "".join(f"\\{c}" if c in "|*" and i not in stars else c for i, c in enumerate(text))
    return re.sub(r"(?<=\w)_(?!\w)", r"\\_", text)


def short(signature: str | None) -> str | None:
    """A signature with the names that its source has."""
    for pattern, replacement in SIGNATURE:
        signature = signature and re.sub(pattern, replacement, signature)
    return signature


def _docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = outside_examples(lines)
    if what not in ONE_LINE:
        lines[:] = GoogleDocstring(lines, Config(), app, what, name, thing, options).lines()


def _signature(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    return short(signature), short(returned)


def _dashes(app: Any, doctree: nodes.document, docname: str) -> None:
    """Sphinx sets two hyphens between a parameter and its meaning, and leaves them to quotes that are made smart."""
    for text in list(doctree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" \N{EN DASH} "))


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("autodoc-process-signature", _signature)
    app.connect("doctree-resolved", _dashes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
