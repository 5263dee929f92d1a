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


HELP = """usage: tabb go [-h] [OPTIONS]
               [--more]

Go somewhere.

╭─ options ──────────────────────────────────────╮
│ -h, --help      show this help                 │
│ --far INT       how far, in steps that are     │
│                 counted (default: 3)           │
│ --a-long-option {one,two}                      │
│                 which of them                  │
╰────────────────────────────────────────────────╯
╭─ rule options ─────────────────────────────────╮
│ What the rule does.                            │
│ ────────────────────────────────────────────── │
│ --rule.on       on                             │
╰────────────────────────────────────────────────╯
"""


def test_help_is_read_without_its_boxes():
    from command_pages import Group, read_help

    told = read_help(HELP)
    assert told.usage.split() == ["tabb", "go", "[-h]", "[OPTIONS]", "[--more]"]
    assert told.text == "Go somewhere."
    assert told.groups == [
        Group(
            "options",
            "",
            [
                ("--far INT", "how far, in steps that are counted (default: 3)"),
                ("--a-long-option {one,two}", "which of them"),
            ],
        ),
        Group("rule options", "What the rule does.", [("--rule.on", "on")]),
    ]


def test_help_of_a_real_command_has_its_options():
    from command_pages import help_of

    told = help_of("collect")
    options = dict(told.groups[-1].options)
    assert options["--rows INT"].endswith("(default: 5000)")
    assert not any(name.startswith("-h") for name in options)


def test_command_without_help_stops_the_build():
    from sphinx.errors import ExtensionError

    from command_pages import help_of

    with pytest.raises(ExtensionError, match="tabb no-such --help ended with 2"):
        help_of("no-such")


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
