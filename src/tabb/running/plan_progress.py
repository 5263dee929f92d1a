"""Progress of a plan: one bar per run on a terminal, plain lines elsewhere, or nothing; read from the run folders."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tabb.running.plan import Cell
from tabb.shown import alone
from tabb.training.folder import RunFolder
from tabb.training.progress import Style, say, shown_loss, terminal, told_steps


class PlanProgress:
    """One bar per run; or a line at each evaluation, and every twentieth of a run that is not evaluated."""

    def __init__(self, root: Path, cells: Sequence[Cell], style: Style) -> None:
        self._root = root
        if style == "auto":
            style = "bar" if sys.stderr.isatty() else "lines"
        self._style = style
        self._begun: set[str] = set()
        self._last_told: dict[str, int] = {}
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            console=terminal(),
        )
        if style == "bar":
            for cell in cells:
                self._bars[cell.label] = self._progress.add_task(
                    cell.label, total=cell.updates, status="waiting", start=False
                )
            self._progress.start()

    def update(self, cells: Sequence[Cell]) -> None:
        """Tell what is new in the folders of these cells."""
        if self._style == "none":
            return
        for cell in cells:
            lines = _tail(RunFolder(self._root / cell.folder).metrics_file)
            training, scored = (_last_of(kind, lines) for kind in ("training", "evaluation"))
            if self._style == "bar":
                self._bar(cell, training, scored)
            else:
                self._lines(cell, training, scored)

    def _lines(self, cell: Cell, training: dict[str, Any] | None, scored: dict[str, Any] | None) -> None:
        if cell.label not in self._begun:
            self._begun.add(cell.label)
            say(f"{cell.label}: preparing ...")
        evaluated = (cell.spec.task or cell.spec.env) is not None and cell.spec.settings.evaluations > 0
        told, last = (scored if evaluated else training), self._last_told.get(cell.label, 0)
        if told is None or told["update"] <= last:
            return
        if not evaluated and told["update"] < min(last + cell.updates / 20, cell.updates):
            return
        self._last_told[cell.label] = told["update"]
        score = f", score {alone(told['mean'])}" if evaluated else f", loss {shown_loss(told):.3g}"
        rate = f", {training['rate']:,.0f} updates/s" if training else ""
        steps = "".join(f", {one}" for one in _told_steps(cell, training))
        say(f"{cell.label}: {told['update']:,}/{cell.updates:,} updates{score}{rate}{steps}")

    def _bar(self, cell: Cell, training: dict[str, Any] | None, scored: dict[str, Any] | None) -> None:
        bar = self._bars[cell.label]
        self._progress.start_task(bar)
        status = "preparing"
        if training is not None:
            left = (cell.updates - training["update"]) / max(training["rate"], 1e-9)
            status = f"{training['rate']:4.0f} updates/s {left:4.0f} s left  loss {shown_loss(training):.2g}"
        if scored is not None:
            status += f"  score {alone(scored['mean'])}"
        status += "".join(f"  {one}" for one in _told_steps(cell, training))
        done = training["update"] if training else 0
        if done >= cell.updates:
            self._progress.stop_task(bar)
        self._progress.update(bar, completed=done, status=status)

    def note(self, text: str) -> None:
        """Something that the user should know, in one line."""
        if self._style == "bar":
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif self._style == "lines":
            say(text)

    def close(self) -> None:
        if self._style == "bar":
            self._progress.stop()


def _told_steps(cell: Cell, training: dict[str, Any] | None) -> list[str]:
    """What to say of the steps that a cell has taken."""
    online = cell.spec.settings.online
    return told_steps(
        [(domain, int((training or {}).get(f"{domain}_steps", 0)), online.steps(domain)) for domain in online.domains]
    )


def _tail(path: Path, size: int = 131_072) -> list[bytes]:
    """The last lines of a metrics file, the first and the last of which may be cut.

    An evaluation of a thousand episodes is a line of 50 kB.
    """
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - size))
            return file.read().splitlines()
    except OSError:
        return []


def _last_of(kind: str, lines: Sequence[bytes]) -> dict[str, Any] | None:
    """The last whole line of this kind; None if there is none."""
    for text in reversed(lines):
        if kind.encode() not in text:  # to parse all lines, of all runs, several times a second would take a core
            continue
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and line.get("kind") == kind:
            return line
    return None
