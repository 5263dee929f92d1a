"""The pictures that explain are what the script draws, and no words in them run into each other."""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path

import pytest

from pictures import check_current
from tabb.cli import COMMANDS
from tabb.rules.rule import UPDATE_SEAMS

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "docs").exists(), reason="docs/ is no part of a source archive")
NAMES = ("two-backups", "data-flow", "one-update")
FINDINGS = ("finding-trust", "finding-rankings", "finding-source-policy", "finding-model", "finding-updates")
SCREENS = ("report", "comparison")
"""of pages of trained runs, which docs/tools/report_pictures.py opens in Chromium"""
SCENES = ("robots",)
"""drawn by MuJoCo: docs/tools/robots.py"""


@pytest.fixture(scope="module")
def tools():
    sys.path.insert(0, str(ROOT / "docs" / "tools"))
    try:
        import diagrams
        import findings

        yield diagrams, findings
    finally:
        sys.path.remove(str(ROOT / "docs" / "tools"))


@pytest.fixture(scope="module")
def diagrams(tools):
    return tools[0]


def texts(figure):
    """The words of a figure and their boxes in pixels."""
    from matplotlib.text import Text

    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), text.get_window_extent()) for text in found]


@pytest.mark.parametrize("name", NAMES)
def test_picture_is_what_the_script_draws_and_legible(name, diagrams):
    figure = diagrams.DRAWN[name]()
    drawn = diagrams.pixels(figure)
    advice = f"docs/pictures/{name}.png is not current: python docs/tools/diagrams.py {name}"
    check_current(drawn, diagrams.PICTURES / f"{name}.png", levels=100, share=0.02, advice=advice)

    height, width = drawn.shape[:2]
    words = texts(figure)
    for told, place in words:
        inside = place.x0 >= 0 and place.x1 <= width and place.y0 >= 0 and place.y1 <= height
        assert inside, f"{told!r} leaves the picture"
    for (one, its), (other, theirs) in itertools.combinations(words, 2):
        apart = its.x1 <= theirs.x0 or theirs.x1 <= its.x0 or its.y1 <= theirs.y0 or theirs.y1 <= its.y0
        assert apart, f"{one!r} and {other!r} overlap"


@pytest.mark.parametrize("name", FINDINGS)
def test_picture_of_a_finding_is_what_the_results_say(name, tools):
    diagrams, findings = tools
    advice = f"docs/pictures/{name}.png is not current: python docs/tools/findings.py"
    drawn = diagrams.pixels(findings.DRAWN[name]())
    check_current(drawn, diagrams.PICTURES / f"{name}.png", levels=100, share=0.02, advice=advice)


@pytest.mark.slow
def test_the_robots_move_as_the_simulator_has_it(tools):
    from tabb.errors import UsageError
    from tabb.rendering.backend import find_backend

    try:
        find_backend()
    except UsageError as error:
        pytest.skip(str(error))
    import robots

    advice = "docs/pictures/robots.png is not current: python docs/tools/robots.py"
    check_current(robots.robots(), robots.PICTURE, levels=60, share=0.01, advice=advice)


def test_every_picture_is_drawn_and_on_a_page(tools):
    assert tuple(tools[0].DRAWN) == NAMES
    assert tuple(tools[1].DRAWN) == FINDINGS
    assert {file.stem for file in tools[0].PICTURES.iterdir()} == {*NAMES, *FINDINGS, *SCREENS, *SCENES}
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md"))
    for name in (*NAMES, *FINDINGS, *SCREENS, *SCENES):
        assert f"pictures/{name}.png)" in pages


def test_one_update_has_every_seam_in_the_order_of_its_calls(diagrams):
    told = [words for words, _ in texts(diagrams.one_update())]
    assert tuple(word for word in told if word in UPDATE_SEAMS) == UPDATE_SEAMS
    assert "dara, srpo, mobody, darc, par" in told  # those that fill `reward`


def test_data_flow_names_commands_that_there_are(diagrams):
    told = [re.fullmatch(r"tabb (\w+)", words) for words, _ in texts(diagrams.data_flow())]
    named = {match[1] for match in told if match}
    assert named == {"audit", "train", "export", "evaluate", "select", "score", "report"}
    assert named <= set(COMMANDS)
