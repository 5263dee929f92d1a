"""What the documentation site makes of help texts, docstrings and equations."""

import importlib.util
import sys
import warnings
from pathlib import Path

import pytest

EXTENSIONS = Path(__file__).resolve().parents[2] / "docs" / "_ext"
pytestmark = pytest.mark.skipif(
    not EXTENSIONS.exists() or any(importlib.util.find_spec(name) is None for name in ("sphinx", "ziamath")),
    reason='the site needs docs/ and the extra `docs`: pip install -e ".[docs]"',
)


@pytest.fixture(scope="module", autouse=True)
def importable():
    sys.path.insert(0, str(EXTENSIONS))
    yield
    sys.path.remove(str(EXTENSIONS))


def test_page_of_a_command_that_is_no_more_goes_away(tmp_path):
    from command_pages import write_pages

    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "tasks.md").write_text("An example.\n", encoding="utf-8")
    (tmp_path / "index.md").write_text("# Commands\n", encoding="utf-8")
    (tmp_path / "gone.md").write_text("# tabb gone\n", encoding="utf-8")
    written = write_pages(tmp_path)
    assert {file.name for file in tmp_path.glob("*.md")} == {"index.md", *(file.name for file in written)}
    assert "An example." in (tmp_path / "tasks.md").read_text(encoding="utf-8")
    before = {file: file.stat().st_mtime_ns for file in written}
    write_pages(tmp_path)
    assert {file: file.stat().st_mtime_ns for file in written} == before


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("|x| of `a|b` and a * b", "\\|x\\| of `a|b` and a \\* b"),
        ("each *domain* counts", "each *domain* counts"),
        ("u_ and `v_` and w_i", "u\\_ and `v_` and w_i"),
    ],
)
def test_docstrings_mean_what_they_say(line, expected):
    from plain_docstrings import plain

    assert plain(line) == expected


def test_examples_in_docstrings_stay_as_they_are():
    from plain_docstrings import outside_examples

    lines = ["|x| first", "", ">>> a * b | c_", "'*'", "", "|x| last"]
    assert outside_examples(lines) == ["\\|x\\| first", "", ">>> a * b | c_", "'*'", "", "\\|x\\| last"]


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        (
            "(x: ~numpy.ndarray[tuple[~typing.Any, ...], ~numpy.dtype[~numpy.float32]], y: ~typing.Any = <factory>)",
            "(x: NDArray[float32], y: Any = ...)",
        ),
        ("(share: float = 0.5, name: str = 'a')", "(share: float = 0.5, name: str = 'a')"),
        (None, None),
    ],
)
def test_signatures_have_the_names_of_their_source(signature, expected):
    from plain_docstrings import short

    assert short(signature) == expected


def test_literal_text_stays_code_in_code_only():
    from command_pages import literal

    assert literal("<task> in `$A_B` or $A_B") == r"\<task\> in `$A_B` or \$A\_B"


def test_equation_that_cannot_be_drawn_is_named():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of ziamath, at its import
        from equations import _drawn, svg
    from docutils import nodes
    from sphinx.errors import ExtensionError

    assert "<path" in svg(r"\hat b - b", block=False).replace("ns0:", "")
    node = nodes.math(r"\frac{a", r"\frac{a")
    node.source, node.line = "method.md", 7
    with pytest.raises(ExtensionError, match=r"method.md:7: equation .* cannot be drawn"):
        _drawn(node, block=False)
