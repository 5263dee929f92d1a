"""Markup as values: what is not markup yet is escaped, so that no file name or message can become some."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

VOID = frozenset({"br", "col", "hr", "meta"})
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]")


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def escaped(text: object) -> Html:
    """`text` as markup that shows it; bytes of a file name that are no text, and control characters, become marks."""
    whole = str(text).encode("utf-8", "replace").decode("utf-8")
    return Html(html.escape(_CONTROL.sub("\ufffd", whole), quote=True))


def joined(children: Iterable[Any]) -> Html:
    """Markup one after the other; strings are escaped, None is left out, lists are opened."""
    parts = []
    for child in children:
        if isinstance(child, Html):
            parts.append(child)
        elif isinstance(child, list | tuple):
            parts.append(joined(child))
        elif child is not None:
            parts.append(escaped(child))
    return Html("".join(parts))


def element(name: str, /, *children: Any, **attributes: Any) -> Html:
    """An element. `class_` is the attribute `class`, `aria_label` is `aria-label`; those that are None are left out.

    Elements are closed as in XML too, so that any parser reads the page.
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = joined(children)
    if name in VOID:
        return Html(f"<{name}{told} />")
    return Html(f"<{name}{told}>{inner}</{name}>")


def say(*text: Any) -> Html:
    """A paragraph."""
    return element("p", *text)


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], words: int = 1, **attributes: Any) -> Html:
    """A table that scrolls in its own box on a narrow page; the first `words` columns are text, the others numbers."""

    def cells(name: str, values: Sequence[Any]) -> list[Html]:
        return [element(name, value, class_=None if i < words else "n") for i, value in enumerate(values)]

    head = element("thead", element("tr", *cells("th", heads)))
    body = element("tbody", *(element("tr", *cells("td", row)) for row in rows))
    # A box that scrolls can be reached by keyboard.
    return element("div", element("table", head, body, **attributes), class_="wide", tabindex="0")


def number(value: float | None) -> str:
    """Three significant digits, thousands apart; a dash for what there is not."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".") if value else "0"


def percent(share: float) -> str:
    """A share as a percentage; what is not none does not look like none."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"
