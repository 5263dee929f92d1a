"""What commands say of themselves with `--help`, taken apart: for completion in shells and pages of the site."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
from typing import NamedTuple

COLUMNS = 120
"""Width of the help that is read: one column of boxes, few broken lines (tyro sets boxes side by side from 130 on)."""


class Group(NamedTuple):
    """A box of the help: its title, what it says above its options, and (option, meaning) in order."""

    title: str
    about: str
    options: list[tuple[str, str]]


class Help(NamedTuple):
    """What a command says with `--help`: usage, description as it stands, groups of options."""

    usage: str
    text: str
    groups: list[Group]


def help_of(name: str, *words: str) -> Help:
    """The help of `tabb COMMAND WORDS`. Raises as the command does where it cannot explain itself."""
    command = importlib.import_module(f"tabb.commands.{name}")
    # tyro draws no boxes, which are what is read here, for a stream that does not say it takes UTF-8.
    told, before = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(COLUMNS)
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            command.run([*words, "--help"])
    except SystemExit:
        pass  # tyro's way to end once it has printed the help
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    told.seek(0)
    return read_help(told.read())


def read_help(text: str) -> Help:
    """Usage, description and options out of tyro's help, without its boxes and colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    outside: list[str] = []
    groups: list[Group] = []
    box: tuple[str, list[str]] | None = None
    for line in text.splitlines():
        if line.startswith(("╭", "┌")):
            box = (line.strip("╭╮┌┐─ "), [])
        elif line.startswith(("╰", "└")) and box is not None:
            groups.append(_group(*box))
            box = None
        elif box is not None:
            box[1].append(line.strip("│").removeprefix(" ").rstrip())
        else:
            outside.append(line.rstrip())
    usage = re.search(r"^usage: (.+(?:\n +.+)*)", "\n".join(outside))
    rest = "\n".join(outside)[usage.end() if usage else 0 :].strip("\n")
    return Help(usage.group(1) if usage else "", rest, [group for group in groups if group.options])


def _group(title: str, lines: list[str]) -> Group:
    about: list[str] = []
    options: list[tuple[str, str]] = []
    rule = next((i for i, line in enumerate(lines) if line and not line.strip("─ ")), -1)
    about = [line.strip() for line in lines[: max(rule, 0)]]
    for line in lines[rule + 1 :]:
        if line.startswith(" "):
            name, meaning = options[-1]
            options[-1] = (name, f"{meaning} {line.strip()}".strip())
        elif line:
            name, _, meaning = line.partition("  ")
            options.append((name, meaning.strip()))
    return Group(title, " ".join(about), [one for one in options if not one[0].startswith("-h,")])
