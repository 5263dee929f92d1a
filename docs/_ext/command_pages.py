"""A page per command of `tabb`, written anew at each build from what the commands say of themselves with `--help`.

Pages follow `tabb.commands.COMMANDS`; `docs/commands/examples/<command>.md` is put into a page where it exists.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from tabb.commands.help_text import Group, help_of


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
    from tabb.commands import COMMANDS
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
