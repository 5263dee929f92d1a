"""Options from dataclasses (tyro), with errors in one line.

tyro prints its errors as a box and offers them in no other form, as wide as the environment variable COLUMNS says. What
depends on its wording is in this file alone; `tests/commands/test_options.py` says when a new version changes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

import tyro

from tabb.cores import core_count
from tabb.errors import UsageError

T = TypeVar("T")

UNKNOWN = "Unrecognized options:"
"""how tyro's list of them begins"""
DOCSTRINGS = ("tyro._docstrings", "parse_docstring_from_object")
"""module and function of tyro's own that read the docstrings of a class: no public name does"""


def parse(kind: type[T], arguments: Sequence[str], program: str, description: str) -> T:
    """The dataclass `kind` from `arguments`; its docstrings are the help.

    Raises:
        UsageError: unknown or malformed options, in one line.
        SystemExit: after `--help` was printed.
    """
    _refuse_empty(arguments)
    chosen, arguments = _with_predictors(kind, list(arguments))
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed), _wide(not {"-h", "--help"} & set(arguments)), _in_one_paragraph():
            return tyro.cli(chosen, args=arguments, prog=program, description=description)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_one_line(printed.getvalue(), program)) from None
    finally:
        if sys.exc_info()[0] is None:
            sys.stderr.write(printed.getvalue())


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Raise `UsageError` for an empty word, which a path would take for the working folder: `--out "$NOT_SET"`."""
    for before, word in zip(("", *arguments), arguments, strict=False):
        if not word or (word.startswith("--") and word.endswith("=")):
            option = word.rstrip("=") or (before if before.startswith("--") else "an argument")
            raise UsageError(f"{option}: is empty; give a value, or leave it out")


def _with_predictors(kind: type[T], arguments: list[str]) -> tuple[type[T], list[str]]:
    """Options and arguments after predictors of the target domain were chosen, where some option is a rule's."""
    defaults = (field.default_factory if field.default is dataclasses.MISSING else field.default
                for field in dataclasses.fields(kind))  # type: ignore[arg-type]  # fmt: skip
    if not any(hasattr(default, "predictor") for default in defaults):
        return kind, arguments
    from tabb.commands.predictors import choose_predictors  # waits for JAX, which other commands need not

    return choose_predictors(kind, arguments)


@contextlib.contextmanager
def _wide(wanted: bool) -> Iterator[None]:
    """Lay errors out on very long lines, because names that are cut could not be put together again."""
    before = os.environ.get("COLUMNS")
    if wanted:
        os.environ["COLUMNS"] = "20000"
    try:
        yield
    finally:
        if wanted:
            del os.environ["COLUMNS"]
            if before is not None:
                os.environ["COLUMNS"] = before


@contextlib.contextmanager
def _in_one_paragraph() -> Iterator[None]:
    """Give tyro the docstring of a field as one paragraph: it would break lines of the help where the source does.

    Under a tyro without that function it does, and no command fails.
    """
    module, function = DOCSTRINGS
    owner, before = None, None
    with contextlib.suppress(ImportError):
        owner = importlib.import_module(module)
        before = getattr(owner, function, None)
    if before is None:
        yield
        return

    def joined(kind: object) -> dict[str, str]:
        return {name: " ".join(text.split()) for name, text in before(kind).items()}

    setattr(owner, function, joined)
    try:
        yield
    finally:
        setattr(owner, function, before)


def _one_line(text: str, program: str) -> str:
    """tyro's error box as one line: without colours, frame, the help of each option and the pointer to all of it."""
    sections: list[list[str]] = [[]]
    for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines():
        line = re.sub(r"^[│|] ?", "", line.rstrip(" │|"))
        if not line.strip("─- "):
            sections.append([])
        elif not re.match("[╭╰]", line):
            sections[-1].append(line)
    # Where the output is not UTF-8 the box has no frame, and its title stands above the first rule.
    problem, *others = [section for section in sections[0 if "╭" in text else 1 :] if section] or [[text]]
    hint = _close(others)
    line = " ".join(line.strip() for line in problem)
    unknown = next((part for part in (problem, *others) if part[0].strip().startswith(UNKNOWN)), None)
    if line.startswith("Missing from "):
        line = f"give {_missing(problem[1:])}" + (f"; {_unknown(unknown)}" if unknown else "")
    elif unknown:
        line = _unknown(unknown)
    line = re.sub(r"no type matching (\S.*) could be instantiated from \[('.*')\]\.?", _no_type, line)
    line = re.sub(r"^Error parsing (--\S+:)", r"\1", line)
    line = re.sub(r"^Missing value for argument '(.*?)'\. Expected (1 value)s\.", r"\1: needs \2", line)
    line = re.sub(r"Could not find valid parse for arguments: \[('.*')\]", r"\1 is no value for it", line)
    line = re.sub(r"invalid literal for int\(\) with base 10: ('.*?')", r"\1 is not a whole number", line)
    line = re.sub(r"could not convert string to float: ('.*?')", r"\1 is not a number", line)
    line = re.sub(r"invalid choice ('.*?') for argument '(.*?)'\. Expected one of (\(.*?\))\.", _choices, line)
    return f"{line}{hint}; see `{program} --help`"


def _unknown(lines: list[str]) -> str:
    """What to say of the options that are not known: on the first of these lines, or one on each other."""
    first = lines[0].strip().removeprefix(UNKNOWN).strip()
    given = first.split(", ") if first else [line.strip() for line in lines[1:]]
    # What follows an option that is not known was meant to be its value.
    options = [one for one in given if one.startswith("-")]
    return f"unknown option {' and '.join(options)}" if options else f"{' '.join(given)}: belongs to no option"


def _no_type(match: re.Match[str]) -> str:
    """'many' is not a whole number: of an option that may be left out"""
    kind, value = match.groups()
    words = {"INT": "is not a whole number", "FLOAT": "is not a number"}
    return f"{value} {words.get(kind.rpartition('|')[2], 'is no value for it')}"


def _missing(lines: list[str]) -> str:
    """`PATH (a finished run folder) and --format {onnx,npz}`: what is indented less is a name, the rest its help."""
    names: list[tuple[str, list[str]]] = []
    depth = min(len(line) - len(line.lstrip()) for line in lines)
    for line in lines:
        if len(line) - len(line.lstrip()) == depth:
            names.append((line.strip(), []))
        else:
            names[-1][1].append(line.strip())
    helps = [(name, " ".join(lines).replace("(required)", "").strip()) for name, lines in names]
    return " and ".join(name if name.startswith("-") or not text else f"{name} ({text})" for name, text in helps)


def _close(sections: list[list[str]]) -> str:
    """The options that sections of the error offer as similar to those that are not known."""
    offered = [section for section in sections if section[0].strip().startswith(("Perhaps you", "Arguments similar"))]
    lines = [line for section in offered for line in section[1:]]
    depth = min((len(line) - len(line.lstrip()) for line in lines), default=0)  # of names; their help lies deeper
    names = [line.split()[0] for line in lines if line[depth:].startswith("--")]
    close = list(dict.fromkeys(names))[:3]
    return f"; perhaps you meant {' or '.join(sorted(close))}" if close else ""  # tyro's order is that of a set


def _choices(match: re.Match[str]) -> str:
    """--progress: 'loud' is none of auto, bar, lines, none"""
    value, option, choices = match.groups()
    return f"{option}: {value} is none of {choices.strip('(,)').replace(chr(39), '')}"


def take(arguments: Sequence[str], option: str) -> tuple[str | None, list[str]]:
    """The value of `option` (the last one counts; None if it is not given) and the other arguments.

    For options that decide which others there are. Raises `UsageError` for one without a value.
    """
    value, others, waiting = None, [], False
    for argument in arguments:
        if waiting:
            value, waiting = argument, False
        elif argument == option:
            waiting = True
        elif argument.startswith(f"{option}="):
            value = argument.partition("=")[2]
        else:
            others.append(argument)
    if waiting:
        raise UsageError(f"{option}: needs 1 value")
    return value, others


def jobs_of(asked: int | None) -> int:
    """How many runs to train at once: 1 on an accelerator (seeds are an axis there), else one per core."""
    if asked is not None:
        if asked < 1:
            raise UsageError(f"--jobs {asked}: must be at least 1")
        return asked
    import jax

    if jax.default_backend() != "cpu":
        return 1
    return core_count()
