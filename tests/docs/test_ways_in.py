"""Every page is near the front page, and the options and tasks that pages name are there."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from tabb.backbones import BACKBONES
from tabb.environments.tasks import ALL_TASKS
from tabb.models.imitation import Imitation
from tabb.rules import RULES

DOCS = Path(__file__).resolve().parents[2] / "docs"
pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="docs/ is no part of a source archive")
MADE = {"index", "contributing", "changelog", "benchmarks"}
"""pages that other files are shown as, and the front page itself"""


def pages() -> dict[Path, str]:
    """Text of every page that is written by hand, by its path."""
    found = [page for page in DOCS.rglob("*.md") if "_ext" not in page.parts]
    return {page.resolve(): page.read_text(encoding="utf-8") for page in found}


def linked(page: Path, text: str) -> set[Path]:
    """The pages that the text of a page links to; its table of contents does not count."""
    text = re.sub(r"```\{toctree\}.*?```", "", text, flags=re.DOTALL)
    named = re.findall(r"\]\(([^)#\s]+\.md)(?:#[^)]*)?\)", text)
    return {(page.parent / name).resolve() for name in named}


def test_every_page_is_at_most_three_clicks_from_the_front_page() -> None:
    known = pages()
    front = (DOCS / "index.md").resolve()
    clicks, edge = {front: 0}, {front}
    while edge:
        beyond = {
            other for page in edge for other in linked(page, known[page]) if other in known and other not in clicks
        }
        clicks |= dict.fromkeys(beyond, max(clicks.values()) + 1)
        edge = beyond
    listed = {page for page in known if page.parent.name in ("api", "commands", "examples")}  # by tables of contents
    far = {page for page in known if page not in listed and page.stem not in MADE and clicks.get(page, 99) > 3}
    assert not far, f"far from docs/index.md: {', '.join(sorted(page.name for page in far))}"
    for page in ("coming-from.md", "which-method.md", "tutorials/2-your-own-data.md", "methods/tabb.md"):
        assert clicks[(DOCS / page).resolve()] == 1


def fields_of(kinds: list[type]) -> set[str]:
    """Options of these dataclasses, as the command line spells them."""
    return {field.name.replace("_", "-") for kind in kinds for field in dataclasses.fields(kind)}


def test_options_and_tasks_on_pages_exist() -> None:
    options = {
        "rule": fields_of(list(RULES.values())),
        "backbone": fields_of(list(BACKBONES.values())),
        "imitation": fields_of([Imitation]),
    }
    own = {"sharpness"}  # of the rule that the fourth tutorial makes
    wrong, seen = [], 0
    for page, text in pages().items():
        for kind, name in re.findall(r"--(rule|backbone|imitation)\.([a-z][a-z-]*)", text):
            seen += 1
            if name.removeprefix("no-") not in options[kind] | own:
                wrong.append(f"{page.name}: --{kind}.{name}")
        for name in re.findall(r"--task ([a-z0-9][\w.-]*)", text):
            if name.rstrip(".") not in {*ALL_TASKS, "none"}:
                wrong.append(f"{page.name}: --task {name}")
    assert seen > 50
    assert not wrong, "; ".join(wrong)
