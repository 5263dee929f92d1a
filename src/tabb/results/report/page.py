"""Lays out the page from its sections and writes it atomically."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabb._version import __version__
from tabb.errors import RunError
from tabb.files import atomic, check_suffix, path_of
from tabb.own_files import GENERATOR, refuse_others
from tabb.results.report.gather import Gathered, gather
from tabb.results.report.headline import headline
from tabb.results.report.html import Html, element
from tabb.results.report.row_sections import Section, row_sections
from tabb.results.report.run_sections import audit_section, held_out, learning, provenance
from tabb.results.report.style import STYLE
from tabb.results.row_scores import Files

PAGES = (".html", ".htm")
"""how names of pages end"""


def write_report(
    run: str | Path, out: str | Path | None = None, source: Files | None = None, target: Files | None = None
) -> Path:
    """Write the transfer report of a finished run, one self-contained HTML page; returns its path.

    Args:
        run: folder of a run, or of the runs of several seeds (`seed0`, `seed1`, ...).
        out: the page's file; the default is `report.html` in the folder.
        source, target: the data, if the run was trained from arrays or its files have moved.

    Raises:
        RunError: there is no finished run, it is damaged, or the page cannot be written.
        UsageError: the data are unknown or not those that the run was trained on, or `out` does not end in .html, or
            is there and is no report.
        DataError: a data file is missing or damaged.
    """
    path = path_of(run, "run") / "report.html" if out is None else path_of(out, "out")
    if path.is_dir() or (out is not None and not path.parent.is_dir()):  # before the work, not after it
        why = "is a folder" if path.is_dir() else "its folder is missing"
        raise RunError(f"{path}: cannot be written ({why}); name a file in an existing folder")
    refuse_others(path, "page")
    check_suffix(path, "a page", *PAGES)
    text = page(gather(path_of(run, "run"), source, target))
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def page(gathered: Gathered) -> Html:
    """The page as markup that is valid HTML and XML."""
    first = gathered.records[0]
    title = f"{first.learner} on {first.task or 'own data'}: transfer report"
    sections: list[Section] = [("headline", "In short", headline(gathered)), *row_sections(gathered)]
    sections.append(("learning", "Learning", learning(gathered)))
    if held_out_parts := held_out(gathered):
        sections.append(("held-out", "Held-out target rows", held_out_parts))
    sections += [
        ("audit", "Audit of the data", audit_section(gathered)),
        ("provenance", "Provenance", provenance(gathered)),
    ]
    main = element("main", *(section(*one) for one in sections))
    end = f"Written by tabb {__version__}. Values and backups are those of the run's last update."
    return document(title, sections, main, end)


def document(title: str, sections: Sequence[Section], main: Html, end: str, style: str = "") -> Html:
    """A whole page: links to its sections, what it says, its last line, and what it adds to the style."""
    links = [element("li", element("a", heading, href=f"#{name}")) for name, heading, _ in sections]
    body = [
        element("header", element("h1", title), element("nav", element("ul", *links), aria_label="Sections")),
        main,
        element("footer", end),
    ]
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=f"{GENERATOR} {__version__}"),
        element("title", title),
        element("style", Html(STYLE + style)),
    ]
    return Html("<!DOCTYPE html>\n" + element("html", element("head", *head), element("body", *body), lang="en") + "\n")


def section(name: str, heading: str, contents: list[Any]) -> Html:
    """A section with its heading, to which links lead."""
    return element("section", element("h2", heading, id=name), *contents)
