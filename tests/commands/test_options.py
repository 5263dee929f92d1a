"""What `tabb` makes of tyro's errors: when these fail after an update of tyro, its wording has changed."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from tabb.commands.options import parse, take
from tabb.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a test."""

    updates: int = 5
    """how many"""
    rate: float | None = None
    """how
    fast"""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--updatse 3", "unknown option --updatse; perhaps you meant --updates; see `tabb test --help`"),
        ("--updates many", "--updates: 'many' is not a whole number; see `tabb test --help`"),
        ("--updates", "--updates: needs 1 value; see `tabb test --help`"),
        ("--rate fast", "--rate: 'fast' is not a number; see `tabb test --help`"),
        ("--rate 1 2", "2: belongs to no option; see `tabb test --help`"),
    ],
)
def test_tyros_wording(arguments: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(Options, arguments.split(), "tabb test", "")
    advice = (
        f"tyro {version('tyro')} words its errors in another way: mend tabb/commands/options.py, or lower the bound"
    )
    assert str(refused.value) == sentence, advice


def test_the_help_breaks_no_lines_where_docstrings_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(Options, ["--help"], "tabb test", "")
    assert "how fast (default: None)" in capsys.readouterr().out


@pytest.mark.parametrize("gone", [("tyro._gone", "parse_docstring_from_object"), ("tyro._docstrings", "gone")])
def test_a_tyro_that_reads_docstrings_elsewhere_parses_too(
    gone: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tabb.commands.options.DOCSTRINGS", gone)
    assert parse(Options, ["--updates", "3"], "tabb test", "").updates == 3


def test_tyro_has_an_upper_bound() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (needed,) = [line for line in project["dependencies"] if line.startswith("tyro")]
    assert ",<" in needed


def test_a_value_is_taken_out() -> None:
    assert take(["a", "--task", "x", "--updates", "3"], "--task") == ("x", ["a", "--updates", "3"])
    assert take(["--task=x", "--task", "y"], "--task") == ("y", [])
    assert take(["--tasks", "x"], "--task") == (None, ["--tasks", "x"])
    with pytest.raises(UsageError, match="--task: needs 1 value"):
        take(["--task"], "--task")


def test_the_terminal_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert parse(Options, ["--updates", "3"], "tabb test", "") == Options(updates=3)
    assert "COLUMNS" not in os.environ
