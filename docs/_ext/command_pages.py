"""A page per command of `tabb`, written anew at each build from what the commands say of themselves with `--help`.

Pages follow `tabb.cli.COMMANDS`; `docs/commands/examples/<command>.md` is put into a command's page where it exists.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from sphinx.errors import ExtensionError

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


def help_of(*words: str) -> Help:
    """The help of `tabb WORDS`. Raises `ExtensionError` if the command does not explain itself."""
    from tabb.cli import main

    # tyro draws no boxes, which are what is read here, for a stream that does not say it takes UTF-8.
    told, before = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(COLUMNS)
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            code = main([*words, "--help"])
    except SystemExit as stop:
        code = stop.code
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    told.seek(0)
    text = told.read()
    if code:
        raise ExtensionError(f"tabb {' '.join(words)} --help ended with {code}: {text}")
    return read_help(text)


def read_help(text: str) -> Help:
    """Usage, description and options out of tyro's help, without its boxes and colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    outside, groups, box = [], [], None
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


def literal(text: str) -> str:
    """Plain text as Markdown that shows just that; `code` stays code."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(p if i % 2 else re.sub(r"([\\*_{}\[\]<>()#+!|$~^-])", r"\\\1", p) for i, p in enumerate(parts))


UNTITLED = ("options", "positional arguments", "rule options", "backbone options")
"""Groups that need no heading: that of the section says it."""


def table(groups: list[Group], depth: int) -> str:
    """Groups of options as definition lists, each group below a heading that is `depth` deep if it needs one."""
    parts = []
    for group in groups:
        if group.title not in UNTITLED:
            parts.append(f"{'#' * depth} {literal(group.title)}\n\n{literal(group.about)}".rstrip())
        for name, meaning in group.options:
            parts.append(f"`{name}`\n: {literal(meaning.replace('(default: )', '(default: none)'))}")
    return "\n\n".join(parts)


def section(words: list[str], depth: int) -> str:
    """Usage, description and options of `tabb WORDS`."""
    told = help_of(*words)
    usage = f"```text\n{told.usage}\n```\n\n" if told.usage else ""
    first, _, rest = told.text.partition("\n\n")
    if "\n" in first or first.startswith(" "):
        first, rest = "", told.text.rstrip()
    description = (literal(first) + "\n\n" if first else "") + (f"```text\n{rest}\n```\n\n" if rest else "")
    return usage + description + table(told.groups, depth)


def page(name: str, what: str, examples: str) -> str:
    """The page of one command in Markdown."""
    parts = [f"# tabb {name}", literal(what[:1].upper() + what[1:] + "."), examples.strip(), "## Options"]
    parts.append(section([name], 3))
    module = importlib.import_module(f"tabb.commands.{name}")
    for word in (*getattr(module, "ACTIONS", ()), *getattr(module, "FIGURES", ())):
        parts += [f"## tabb {name} {word}", section([name, word], 3)]
    if name == "train":
        parts += _learners()
    return "\n\n".join(part for part in parts if part) + "\n"


def _learners() -> list[str]:
    """What rules and backbones add to the options of `tabb train`."""
    from tabb.backbones import BACKBONES
    from tabb.models.predictors import PREDICTORS
    from tabb.rules import RULES

    parts = []
    for kind, names in (("rule", RULES), ("backbone", BACKBONES)):
        for name in names:
            words = ["train", name if kind == "rule" else f"pooled@{name}"]
            groups = [group for group in help_of(*words).groups if group.title.split(" ")[0].split(".")[0] == kind]
            if groups:
                parts += [f"## The {kind} {name}", table(sorted(groups), 3)]
    for name in PREDICTORS:
        groups = help_of("train", "tabb", "--rule.predictor", name).groups
        chosen = [group for group in groups if group.title.startswith("rule.predictor")]
        parts += [f"## The predictor {name} of tabb", table(chosen, 3)]
    return parts


def write_pages(folder: Path) -> list[Path]:
    """Write the pages of all commands into `folder`; a page that is as it should be is left alone."""
    from tabb.cli import COMMANDS
    from tabb.files import atomic

    written = []
    for name, what in COMMANDS.items():
        examples = folder / "examples" / f"{name}.md"
        told = examples.read_text(encoding="utf-8") if examples.exists() else ""
        # Links of the examples hold where these lie, as a code host shows them; the page is a folder higher.
        text = page(name, what, told.replace("](../../", "](../"))
        file = folder / f"{name}.md"
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            with atomic(file) as part:  # another build may read it now
                part.write_text(text, encoding="utf-8")
        written.append(file)
    for file in set(folder.glob("*.md")) - {*written, folder / "index.md"}:
        file.unlink(missing_ok=True)  # of a command that is no more
    return written


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / "commands"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
