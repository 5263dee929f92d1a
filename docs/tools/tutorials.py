"""Runs the code of the tutorials and of other pages, and compares or renews what they show.

    python docs/tools/tutorials.py 2-your-own-data          run these pages and write what they say into them
    python docs/tools/tutorials.py --check 2-your-own-data  fail where a page differs

A page runs in a folder of its own. `python` blocks share one namespace; lines of `sh` blocks that begin with `tabb`
run through the command line; each line of a `text` block must have been said by the block above it. Spaces do not
count, and a last `...` stands for anything. A comment in the line above a `text` block says which of its numbers may
differ between machines, where training rounds otherwise:

    <!-- decimals vary -->    numbers with a decimal point, and updates per second
    <!-- numbers vary -->     all of them
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tabb.cli import main as tabb

PAGES = Path(__file__).resolve().parents[1]
ROOMS = ("tutorials/*.md", "formats/*.md", "coming-from.md")
NUMBER = r"-?\d[\d,.]*"
DECIMAL = r"-?\d[\d,]*\.\d+(?:e[+-]\d+)?|-?\de[+-]\d+"
SPEED = r"\d[\d,]*(?= updates/s)|\d[\d,]*(?=\s+\d+\.\d+\s*$)"
"""Updates per second, in a line or in the last column but one of the table of runs."""
VARYING = {"": (), "decimals vary": (SPEED, DECIMAL), "numbers vary": (NUMBER,)}


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    code: str
    varying: str
    """which of its numbers may differ, of `VARYING`"""
    line: int
    """number of its first line"""
    start: int
    """where its code begins in the page"""


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order. Raises `ValueError` where a comment in front of one is unknown."""
    found = []
    for match in re.finditer(r"^(?:<!-- ([a-z]+ vary) -->\n)?```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        varying = match[1] or ""
        if varying not in VARYING:
            raise ValueError(f"{varying!r} is unknown: use one of {', '.join(filter(None, VARYING))}")
        found.append(Block(match[2], match[3], varying, text[: match.start(2)].count("\n") + 1, match.start(3)))
    return found


def commands(code: str) -> list[list[str]]:
    """The arguments of each command `tabb ...` of a shell block."""
    lines = code.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("tabb ")]


def masked(line: str, varying: str) -> str:
    """A line without the numbers that may differ, and without what spaces and rules depend on."""
    for pattern in VARYING[varying]:
        line = re.sub(pattern, "#", line)
    return re.sub(r"\s+", " ", re.sub(r"-{2,}", "-", line)).strip()


def said_as(line: str, said: str, varying: str) -> bool:
    """Whether `said` is `line` of a page."""
    if masked(said, varying) == masked(line, varying):
        return True
    return line.endswith("...") and masked(said, varying).startswith(masked(line.removesuffix("..."), varying))


def found(block: Block, said: str, name: str, *masks: str) -> list[int]:
    """Where each line of a `text` block stands among those that were said, by the first of `masks` that finds it.

    Raises `AssertionError` for a line that was not said. Where numbers vary, the order of lines may (a table has the
    best first); else a line that was said too early was not said.
    """
    lines: list[int] = []
    for line in block.code.splitlines():
        begin = lines[-1] + 1 if lines and not block.varying else 0
        free = [(n, one) for n, one in enumerate(said.splitlines()) if n >= begin and n not in lines]
        number = next((n for mask in masks for n, one in free if said_as(line, one, mask)), None)
        assert number is not None, f"{name}, line {block.line}: {line!r} was not said, but:\n{said}"
        lines.append(number)
    return lines


def outputs(text: str, name: str) -> Iterator[tuple[Block, str]]:
    """Run a page's blocks in the present folder: each `text` block and what the block above it said.

    Raises `AssertionError` where a command fails.
    """
    namespace: dict[str, object] = {"__name__": name}
    said = ""
    for block in blocks(text):
        if block.language == "text":
            yield block, said
            continue
        told = io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            if block.language == "python":
                exec(compile("\n" * block.line + block.code, name, "exec", dont_inherit=True), namespace)
            elif block.language == "sh":
                for arguments in commands(block.code):
                    ended = tabb(arguments)
                    what = f"{name}, line {block.line}: tabb {' '.join(arguments)} ended with {ended}"
                    assert ended == 0, f"{what}:\n{told.getvalue()}"
        said = told.getvalue()


def run_page(page: Path) -> None:
    """Run a page in the present folder. Raises `AssertionError` where it is not as the page says."""
    for block, said in outputs(page.read_text(encoding="utf-8"), page.name):
        found(block, said, page.name, block.varying)


def renewed(text: str, name: str) -> str:
    """A page with what its blocks say now: the lines that say the same but for numbers, in the order they were said in.

    Raises `AssertionError` where a command fails or a line is not said at all.
    """
    parts, end = [], 0
    for block, said in outputs(text, name):
        there = found(block, said, name, block.varying, "numbers vary")
        lines = sorted(zip(there, block.code.splitlines(), strict=True))
        new = [(line, said.splitlines()[number]) for number, line in lines]
        code = [_cut_like(line, now) if line.endswith("...") else now.rstrip() for line, now in new]
        parts += [text[end : block.start], "".join(f"{line}\n" for line in code)]
        end = block.start + len(block.code)
    return "".join([*parts, text[end:]])


def _cut_like(line: str, said: str) -> str:
    """What was said, cut where `line`, which ends in `...`, is."""
    begin = line.removesuffix("...")
    wanted = masked(begin, "numbers vary")
    cut = max(k for k in range(len(said) + 1) if masked(said[:k], "numbers vary") == wanted)
    return said[:cut].rstrip() + begin[len(begin.rstrip()) :] + "..."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", help="names of pages; all if none is given")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    known = {page.stem: page for room in ROOMS for page in sorted(PAGES.glob(room))}
    os.environ.pop("TABB_DATA", None)
    os.environ["TABB_CACHE"] = "off"  # what was prepared before is not prepared again, and the page says so
    for name in options.pages or known:
        page, here = known[name], Path.cwd()
        with tempfile.TemporaryDirectory() as folder:
            os.environ["MINARI_DATASETS_PATH"] = f"{folder}/minari"
            os.chdir(folder)
            try:
                if options.check:
                    run_page(page)
                else:
                    page.write_text(renewed(page.read_text(encoding="utf-8"), page.name), encoding="utf-8")
            finally:
                os.chdir(here)
        print(f"{page}: as it says", file=sys.stderr)


if __name__ == "__main__":
    main()
