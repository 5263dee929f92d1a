"""The code of each tutorial runs, in order and in an empty folder, and says what the page shows.

`python` blocks share one namespace; lines of `sh` blocks that begin with `tabb` run through the command line; each
line of a `text` block must have been said by the block above it, numbers and spaces aside.
"""

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tabb.cli import main
from tabb.rules import RULES

TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
FORMATS = TUTORIALS.with_name("formats")
FAST = {"4-add-a-rule"}
pytestmark = pytest.mark.skipif(not TUTORIALS.exists(), reason="docs/ is not here: it is no part of a source archive")


def blocks(text: str) -> list[tuple[str, str, int]]:
    """(language, code, line number) of the fenced blocks of a page."""
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [(match[1], match[2], text[: match.start()].count("\n") + 1) for match in found]


def commands(code: str) -> list[list[str]]:
    """The arguments of each command `tabb ...` of a shell block."""
    lines = code.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("tabb ")]


def masked(line: str) -> str:
    """A line without what differs between machines: numbers, spaces, rules."""
    return re.sub(r"[\s-]+", " ", re.sub(r"-?\d[\d,.]*", "#", line)).strip()


def was_said(line: str, said: str) -> bool:
    """Whether a line of the page is one of those that were said; what follows a last `...` may be anything."""
    known = [masked(one) for one in said.splitlines()]
    if line.endswith("..."):
        return any(one.startswith(masked(line.removesuffix("..."))) for one in known)
    return masked(line) in known


def run_page(page: Path) -> None:
    """Run a page's blocks in the present folder. Raises `AssertionError` where it is not as the page says."""
    namespace: dict[str, object] = {"__name__": page.stem}
    said = ""
    for language, code, line in blocks(page.read_text(encoding="utf-8")):
        where = f"{page.name}, line {line}"
        if language == "text":
            for one in code.splitlines():
                assert was_said(one, said), f"{where}: {one!r} was not said, but:\n{said}"
            continue
        told = io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            if language == "python":
                exec(compile("\n" * line + code, str(page), "exec"), namespace)
            elif language == "sh":
                for arguments in commands(code):
                    ended = main(arguments)
                    assert ended == 0, f"{where}: tabb {' '.join(arguments)} ended with {ended}:\n{told.getvalue()}"
        said = told.getvalue()


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
def test_tutorial_runs_and_says_what_its_page_shows(name: str, empty_folder: Path) -> None:
    run_page(TUTORIALS / f"{name}.md")


@pytest.mark.parametrize("name", [page.stem for page in sorted(FORMATS.glob("*.md"))])
def test_the_page_of_a_format_runs_and_says_what_it_shows(name: str, empty_folder: Path) -> None:
    pytest.importorskip("pyarrow", reason="formats of data need the extra `parquet`")
    run_page(FORMATS / f"{name}.md")


def test_the_page_for_those_who_come_from_other_code_runs(empty_folder: Path) -> None:
    run_page(TUTORIALS.with_name("coming-from.md"))


def test_there_are_the_tutorials_that_run_fast() -> None:
    assert {page.stem for page in TUTORIALS.glob("*.md")} >= FAST


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("```python\nprint('score 1.5')\n```\n\n```text\nscore 2.5\n```\n", None),
        ("```python\nprint('score 1.5')\n```\n\n```text\nreturn 1.5\n```\n", "'return 1.5' was not said"),
        ("```python\nprint('rows 10, of which 3')\n```\n\n```text\nrows 9, ...\n```\n", None),
        ("```python\nprint('rows 10, of which 3')\n```\n\n```text\nlines 9, ...\n```\n", "'lines 9, ...' was not said"),
        ("```python\nx = 1\n```\n\n```python\nassert x == 2, 'x is 1'\n```\n", "x is 1"),
        ("```sh\ntabb --version\n```\n\n```text\ntabb 0.0.0\n```\n", None),
        ("```sh\ntabb tasks \\\n    nowhere\n```\n", "tabb tasks nowhere ended with 2"),
        ("```sh\nls --no-such-option\n```\n", None),
    ],
)
def test_a_page_that_is_wrong_is_found(page: str, complaint: str | None, empty_folder: Path) -> None:
    file = empty_folder / "page.md"
    file.write_text(page, encoding="utf-8")
    if complaint is None:
        run_page(file)
    else:
        with pytest.raises(AssertionError, match=re.escape(complaint)):
            run_page(file)
