"""The code of each tutorial runs, in order and in an empty folder, and says what the page shows.

`docs/tools/tutorials.py` runs the pages, compares, and renews them.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tabb.rules import RULES

DOCS = Path(__file__).resolve().parents[2] / "docs"
TUTORIALS, FORMATS = DOCS / "tutorials", DOCS / "formats"
FAST = {"4-add-a-rule"}
pytestmark = pytest.mark.skipif(not TUTORIALS.exists(), reason="docs/ is not here: it is no part of a source archive")


@pytest.fixture(scope="module")
def tool():
    sys.path.insert(0, str(DOCS / "tools"))
    try:
        import tutorials

        yield tutorials
    finally:
        sys.path.remove(str(DOCS / "tools"))


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TABB_DATA", raising=False)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    # Processes that a page starts compile the same few programs; this one has configured JAX already.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "xla"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    before = dict(RULES)
    yield tmp_path
    RULES.clear()  # a page may register a rule, which no other test must meet
    RULES.update(before)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(page.stem, marks=() if page.stem in FAST else pytest.mark.slow)
        for page in sorted(TUTORIALS.glob("*.md"))
    ],
)
def test_tutorial_runs_and_says_what_its_page_shows(name: str, tool, empty_folder: Path) -> None:
    tool.run_page(TUTORIALS / f"{name}.md")


@pytest.mark.parametrize("name", [page.stem for page in sorted(FORMATS.glob("*.md"))])
def test_the_page_of_a_format_runs_and_says_what_it_shows(
    name: str, tool, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow", reason="formats of data need the extra `parquet`")
    monkeypatch.setenv("TABB_CACHE", str(empty_folder / "cache"))
    tool.run_page(FORMATS / f"{name}.md")


def test_the_page_for_those_who_come_from_other_code_runs(tool, empty_folder: Path) -> None:
    tool.run_page(DOCS / "coming-from.md")


def test_there_are_the_tutorials_that_run_fast() -> None:
    assert {page.stem for page in TUTORIALS.glob("*.md")} >= FAST


SAYS = "```python\n{}\n```\n\n{}```text\n{}\n```\n"


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        (SAYS.format("print('score  1.5')", "", "score 1.5"), None),
        (SAYS.format("print('score 1.5')", "", "score 2.5"), "'score 2.5' was not said"),
        (SAYS.format("print('score 1.5 of 3')", "<!-- decimals vary -->\n", "score 2.5 of 3"), None),
        (SAYS.format("print('score 1.5 of 3')", "<!-- decimals vary -->\n", "score 2.5 of 4"), "of 4' was not said"),
        (SAYS.format("print('82 updates/s')", "<!-- decimals vary -->\n", "90 updates/s"), None),
        (SAYS.format("print('tabb  300  612  0.5')", "<!-- decimals vary -->\n", "tabb  300  74  0.6"), None),
        (SAYS.format("print('tabb  300  612  0.5')", "<!-- decimals vary -->\n", "tabb  200  74  0.6"), "was not said"),
        (SAYS.format("print('score 1.5 of 3')", "<!-- numbers vary -->\n", "score -2.5 of 4"), None),
        (SAYS.format("print('score 1.5')", "<!-- numbers vary -->\n", "return 1.5"), "'return 1.5' was not said"),
        (SAYS.format("print('rows 10, of which 3')", "", "rows 10, ..."), None),
        (SAYS.format("print('rows 10, of which 3')", "", "rows 9, ..."), "'rows 9, ...' was not said"),
        (SAYS.format("print('first\\nsecond')", "", "first\nsecond"), None),
        (SAYS.format("print('first\\nsecond')", "", "second\nfirst"), "'first' was not said"),
        ("```python\nx = 1\n```\n\n```python\nassert x == 2, 'x is 1'\n```\n", "x is 1"),
        ("```sh\ntabb tasks \\\n    nowhere\n```\n", "tabb tasks nowhere ended with 2"),
        ("```sh\nls --no-such-option\n```\n", None),
    ],
)
def test_a_page_that_is_wrong_is_found(page: str, complaint: str | None, tool, empty_folder: Path) -> None:
    file = empty_folder / "page.md"
    file.write_text(page, encoding="utf-8")
    if complaint is None:
        tool.run_page(file)
    else:
        with pytest.raises(AssertionError, match=re.escape(complaint)):
            tool.run_page(file)


def test_a_page_is_renewed(tool, empty_folder: Path) -> None:
    code = "print('rows 10, of which 3')\nprint('not shown')\nprint('score  1.5')"
    page = "Before.\n\n" + SAYS.format(code, "", "rows 9, ...\nscore 2.25") + "After.\n"
    assert tool.renewed(page, "page") == "Before.\n\n" + SAYS.format(code, "", "rows 10, ...\nscore  1.5") + "After.\n"
    with pytest.raises(AssertionError, match="'lines 9' was not said"):
        tool.renewed(SAYS.format(code, "", "lines 9"), "page")
    with pytest.raises(ValueError, match="'letters vary' is unknown"):
        tool.renewed(SAYS.format(code, "<!-- letters vary -->\n", "rows"), "page")
