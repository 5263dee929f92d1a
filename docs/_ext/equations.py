"""Equations as pictures drawn at build time (SVG, by ziamath): the site needs no script, font or network for them.

Docutils' MathML was tried first: without a math font on the reader's machine, signs and accents fall apart.
"""

from __future__ import annotations

import re
from typing import Any

import ziafont
import ziamath
from docutils import nodes
from sphinx.errors import ExtensionError

SIZE = 17.0
"""font size, in the pixels that ziamath counts in; the page's own size scales it"""


def svg(tex: str, block: bool) -> str:
    """An equation as SVG in units of the text's size, on the baseline of the text around it and in its colour."""
    ziafont.config.svg2 = False  # glyphs as paths: pictures that share glyphs by id would mix them up on one page
    drawn = ziamath.Latex(tex, size=SIZE, color="currentColor", inline=not block).svgxml()
    top, width, height = float(drawn.get("viewBox").split()[1]), float(drawn.get("width")), float(drawn.get("height"))
    for name, pixels in (("width", width), ("height", height)):
        drawn.set(name, f"{pixels / SIZE:.4f}em")
    drawn.set("class", "equation" if block else "math")
    drawn.set("style", f"vertical-align: {-(top + height) / SIZE:.4f}em")
    drawn.set("role", "img")
    drawn.set("aria-label", re.sub(r"\s+", " ", tex).strip())
    from xml.etree import ElementTree

    return ElementTree.tostring(drawn, encoding="unicode")


def _drawn(node: nodes.Element, block: bool) -> str:
    tex = node.astext()
    try:
        return svg(tex, block)
    except Exception as error:  # whatever a parser of equations raises, the equation is what is wrong
        raise ExtensionError(f"{node.source}:{node.line}: equation {tex!r} cannot be drawn: {error}") from error


def _inline(self: Any, node: nodes.Element) -> None:
    self.body.append(_drawn(node, block=False))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.Element) -> None:
    self.body.append(f'<div class="equation">{_drawn(node, block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("pictures", inline_renderers=(_inline, None), block_renderers=(_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
