"""Markup as values: text is escaped unless it is `Html`, so that no file name or message can become markup."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from tabb import shown

VOID = frozenset({"br", "col", "hr", "img", "input", "meta"})
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]")


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def escaped(text: object) -> Html:
    """`text` as markup; control characters and bytes of a file name that are not text are replaced."""
    whole = str(text).encode("utf-8", "replace").decode("utf-8")
    return Html(html.escape(_CONTROL.sub("\ufffd", whole), quote=True))


def joined(children: Iterable[Any]) -> Html:
    """The children as one piece of markup: strings are escaped, lists are flattened and None is left out."""
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
    """An element. `class_` is the attribute `class` and `aria_label` is `aria-label`; None leaves an attribute out.

    Elements are closed as in XML, so that any parser can read the page.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = joined(children)
    if name in VOID:
        return Html(f"<{name}{written} />")
    return Html(f"<{name}{written}>{inner}</{name}>")


def say(*text: Any) -> Html:
    """A paragraph."""
    return element("p", *text)


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], words: int = 1, **attributes: Any) -> Html:
    """A table that scrolls in its own box on a narrow page; the first `words` columns are text, the others numbers."""

    def cells(name: str, values: Sequence[Any]) -> list[Html]:
        return [element(name, value, class_=None if i < words else "n") for i, value in enumerate(values)]

    head = element("thead", element("tr", *cells("th", heads)))
    body = element("tbody", *(element("tr", *cells("td", row)) for row in rows))
    return wide(element("table", head, body, **attributes), heads)


def wide(whole: Html, heads: Sequence[str]) -> Html:
    """A table in a box that scrolls; keyboards reach it by its tab index, and screen readers say what it holds."""
    told = ", ".join(filter(None, heads)) or "facts"
    return element("div", whole, class_="wide", tabindex="0", role="group", aria_label=f"Table: {told}")


def number(value: float | None) -> str:
    """A number with three significant digits and thousands separators; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if abs(value) >= 999.5:
        return f"{value:z,.0f}"
    return f"{value:#.3g}".rstrip(".") if value else "0"


def percent(share: float) -> str:
    """A share as a percentage: 0% is none of it, and 100% all of it."""
    return shown.percent(share, tenths_below=0.1)
