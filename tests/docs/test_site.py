"""The documentation site builds without a warning, its links lead somewhere, and it loads nothing from elsewhere."""

import html
import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import tabb
from tabb.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("sphinx", "myst_parser", "furo", "ziamath")
pytestmark = pytest.mark.skipif(
    not (ROOT / "docs").exists() or any(importlib.util.find_spec(name) is None for name in NEEDED),
    reason='the site needs docs/ and the extra `docs`: pip install -e ".[docs]"',
)


class Page(HTMLParser):
    """Ids of a page, addresses that it links to, and addresses that a browser loads with it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        self.ids |= {told[name] for name in ("id", "name") if name in told}
        if tag == "a":
            self.links += [told["href"]] if "href" in told else []
        elif tag == "link" and not {"index", "search", "next", "prev", "canonical"} & set(told.get("rel", "").split()):
            self.loaded.append(told["href"])
        self.loaded += [told[name] for name in ("src", "srcset", "data", "poster") if name in told]


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(source), str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "80"})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT / "docs", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file.read_text(encoding="utf-8")) for file in site.rglob("*.html")}


def test_links_and_anchors_lead_somewhere(pages: dict[Path, Page]) -> None:
    wrong, followed = [], 0
    for file, page in pages.items():
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            followed += 1
            meant = file if not parts.path else (file.parent / unquote(parts.path)).resolve()
            if not meant.is_file():
                wrong.append(f"{file.name}: {link} is no file")
            elif parts.fragment and meant in pages and unquote(parts.fragment) not in pages[meant].ids | {"top"}:
                wrong.append(f"{file.name}: {link} has no such anchor")
    assert not wrong
    assert followed > 1000


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    loaded = {address for page in pages.values() for address in page.loaded}
    assert not [a for a in loaded if urlsplit(a).netloc or urlsplit(a).scheme not in ("", "data")]
    for sheet in site.rglob("*.css"):
        addresses = re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s;]+)", sheet.read_text(encoding="utf-8"))
        assert not [a for a in addresses if urlsplit(a).netloc], sheet


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text('extensions = ["myst_parser"]\nmyst_heading_anchors = 4\n', encoding="utf-8")
    for text, complaint in (("[x](nowhere.md)", "nowhere.md"), ("[x](#nowhere)", "nowhere"), ("[x](#here)", None)):
        (tmp_path / "index.md").write_text(f"# Here\n\n{text}\n", encoding="utf-8")
        done = build(tmp_path, tmp_path / "out")
        assert (done.returncode == 0) == (complaint is None), done.stderr
        assert complaint is None or complaint in done.stderr


def test_every_command_has_a_page_with_its_options(site: Path) -> None:
    told = {}
    for name in COMMANDS:
        text = (site / "commands" / f"{name}.html").read_text(encoding="utf-8")
        told[name] = html.unescape(re.sub(r"<[^>]+>", "", text))
        assert f"tabb {name}" in told[name]
    for name, option, meaning in (
        ("audit", "--source {None}|STR", "source data of a pair"),
        ("benchmark", "--budget {paper,short,smoke}", "paper: 1,000,000 updates and 5 seeds"),
        ("collect", "--rows INT", "transitions; the last episode is cut where they are reached (default: 5000)"),
        ("data", "--columns", "also minimum, maximum"),
        ("evaluate", "--episodes INT", "episodes (default: 10)"),
        ("figure", "--rankings [STR [STR ...]]", "rankings to compare"),
        ("score", "--out {None}|PATH", "HDF5 or Parquet file to write"),
        ("tasks", "--json", "print JSON"),
        ("train", "--backbone.expectile FLOAT", "λ of the value loss"),
        ("train", "--rule.predictor.heads INT", "K, the number of target heads"),
    ):
        assert option + meaning in told[name], (name, option)


def test_every_public_name_is_in_the_reference(pages: dict[Path, Page]) -> None:
    ids = {name for file, page in pages.items() if file.parent.name == "api" for name in page.ids}
    missing = [name for name in tabb.__all__ if name != "__version__" and f"tabb.{name}" not in ids]
    assert not missing, f"{', '.join(missing)}: public, but on no page of docs/api; add them there"


def test_links_into_the_repository_lead_to_its_files(site: Path) -> None:
    code = (site / "repository" / "src" / "tabb" / "rules" / "tabb.py.html").read_text(encoding="utf-8")
    assert "def target_bellman_mismatch" in re.sub(r"<[^>]+>", "", code)
    results = ROOT / "benchmarks" / "results" / "oracle"
    listing = (site / "repository" / "benchmarks" / "results" / "oracle" / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{file.name}"' in listing for file in results.iterdir())
    assert 'href="project/benchmarks.html' in (site / "methods" / "README.html").read_text(encoding="utf-8").replace(
        "../", ""
    )


def test_equations_are_drawn(site: Path) -> None:
    text = (site / "method.html").read_text(encoding="utf-8")
    assert text.count('class="equation"') >= 10
    assert "<path" in text
    assert "$$" not in re.sub(r'aria-label="[^"]*"', "", text)
