"""The pages as people meet them: in a browser, wide and narrow, light and dark, by keyboard and by screen reader."""

from __future__ import annotations

import itertools

import pytest

import tabb
from browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

CONTRASTS = """(() => {
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const numbers = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
  const ground = one => {
    for (; one; one = one.parentElement) {
      const colour = numbers(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const ratio = (one, two) => {
    const [high, low] = [luminance(one), luminance(two)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const faults = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement, style = getComputedStyle(one);
    if (!walker.currentNode.data.trim() || one.closest("title")) continue;
    const ink = numbers(one.closest("svg") ? style.fill : style.color);
    const found = ratio(ink, ground(one));
    if (found < 4.5) faults.push(`${walker.currentNode.data.trim()}: ${found.toFixed(2)}`);
  }
  for (const one of document.querySelectorAll("path.l, circle.f")) {
    const style = getComputedStyle(one), mark = numbers(one.matches("path") ? style.stroke : style.fill);
    if (!one.classList.contains("thin") && ratio(mark, ground(one.closest("svg"))) < 3) faults.push(one.outerHTML);
  }
  return faults;
})()"""
"""What stands out less than the Web Content Accessibility Guidelines ask: text by 4.5 to 1, marks by 3 to 1."""

NAMED = {"image", "img", "link", "checkbox", "navigation", "Video"}
"""Roles that say nothing without a name."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def files(two_seeds, tmp_path_factory):
    """A report of a run with two seeds, and a comparison of each of them as if they were two runs."""
    folder = tmp_path_factory.mktemp("pages")
    seeds = [two_seeds / "seed1", two_seeds / "seed3"]
    return tabb.write_report(two_seeds, folder / "report.html"), tabb.write_comparison(seeds, folder / "both.html")


@pytest.mark.parametrize(
    ("which", "width", "scheme"), [(0, 1280, "light"), (0, 390, "dark"), (1, 1280, "dark"), (1, 390, "light")]
)
def test_everything_fits_and_stands_out(which, width, scheme, files, browser):
    browser.open(files[which], width, scheme)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(CONTRASTS) == []
    dark = browser.value("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")


@pytest.mark.parametrize("which", [0, 1])
def test_a_screen_reader_has_names_for_all(which, files, browser):
    browser.open(files[which], 1280, "light")
    roles = browser.roles()
    told = {role for role, _ in roles}
    assert {"main", "navigation", "banner", "contentinfo", "heading", "table", "columnheader"} <= told
    assert not [role for role, name in roles if role in NAMED and not name.strip()]
    assert browser.value("[...document.querySelectorAll('[tabindex]')].filter(one => !one.ariaLabel).length") == 0
    levels = browser.value("[...document.querySelectorAll('h1, h2, h3')].map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_what_stands_out_too_little_is_found(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<body style='background: white'><p style='color: #777'>dim</p><p style='color: #767676'>fair</p>")
    browser.open(page, 390, "light")
    assert browser.value(CONTRASTS) == ["dim: 4.48"]


def test_the_keyboard_chooses_runs(files, browser):
    """Tab goes through the links to the boxes; the space key hides a run everywhere, and shows it again."""
    browser.open(files[1], 1280, "light")
    shown = "[...document.querySelectorAll('.run0')].filter(one => one.checkVisibility()).length"
    every = browser.value(shown)
    assert every > 3
    for _ in range(20):
        browser.press("Tab")
        if browser.value("document.activeElement.id") == "show-run0":
            break
    else:
        pytest.fail("Tab does not reach the box of the first run")
    assert browser.value("getComputedStyle(document.activeElement).outlineStyle") != "none"
    browser.press("Space")
    assert browser.value(shown) == 0
    assert browser.value(shown.replace("run0", "run1")) > 3
    browser.press("Space")
    assert browser.value(shown) == every


def test_boxes_that_scroll_are_reached_by_keyboard(files, browser):
    browser.open(files[0], 390, "light")
    cut = "[...document.querySelectorAll('*')].filter(one => one.scrollWidth > one.clientWidth + 1"
    cut += " && ['auto', 'scroll'].includes(getComputedStyle(one).overflowX) && one.tabIndex < 0)"
    assert browser.value(f"{cut}.map(one => one.outerHTML.slice(0, 80))") == []
