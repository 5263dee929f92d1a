"""Figures made of cells, a task and a seed each: which cells to compute, in how many processes, and the picture."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tabb.commands.options import jobs_of, parse
from tabb.errors import UsageError
from tabb.plain import from_plain, plain
from tabb.running.processes import Call, run_calls


@dataclasses.dataclass(frozen=True)
class Cells:
    """Which cells to compute, how many at once."""

    tasks: tuple[str, ...] = ()
    """tasks, see `tabb tasks`; the twelve of OTDF if none is named"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of V, of what rankings fit, and of the rows drawn"""
    jobs: int | None = None
    """cells at the same time, one core each (CPU only); as many as there are cores if not given"""


class CellFigure(NamedTuple):
    """A figure made of cells."""

    name: str
    about: str
    options: type[Any]
    """`Cells`, the settings of a cell, `out` and perhaps other folders."""
    settings: type[Any]
    """What a cell depends on, besides its task and seed; `options` extends it."""
    check: Callable[[Any], None]
    """Raises `UsageError` for settings that cannot work."""
    run_cell: Callable[..., None]
    """(folders, settings, task, seed, source, target, report): computes a cell and keeps it; `folders` by option."""
    finish: Callable[[Sequence[Mapping[str, Any]], Any, int], None]
    """(results, options, seeds): draws the picture and prints the table."""


def run_figure(figure: CellFigure, arguments: list[str]) -> int:
    """Compute the cells that are missing and draw the picture."""
    from tabb.environments.tasks import TASKS, get_task
    from tabb.experiments.figure_results import read_result, result_file
    from tabb.training.checks import check_seeds

    options = parse(figure.options, arguments, f"tabb figure {figure.name}", figure.about)
    fields = dataclasses.fields(figure.settings)
    settings = figure.settings(**{field.name: getattr(options, field.name) for field in fields})
    for name in ("rows", "updates"):
        if getattr(options, name) < 2:
            raise UsageError(f"--{name} {getattr(options, name)}: must be at least 2")
    figure.check(settings)
    tasks = options.tasks or tuple(task.name for task in TASKS.values() if "otdf" in task.suites)
    cells = [(get_task(task).name, seed) for task in tasks for seed in check_seeds(options.seeds)]
    missing = [cell for cell in cells if not result_file(options.out, *cell).exists()]
    for cell in cells:
        if cell not in missing:  # before hours are spent on the others: one picture shows one experiment
            read_result(options.out, *cell, settings)
    folders = {name: value for name, value in vars(options).items() if isinstance(value, Path)}
    jobs = jobs_of(options.jobs)
    if jobs > 1 and len(missing) > 1:
        same = {"figure": figure.name, "settings": plain(settings)}
        same["folders"] = {name: str(folder) for name, folder in folders.items()}
        run_calls(
            [
                Call(f"{task} seed {seed}", "tabb.commands.figure:compute_cell", same | {"task": task, "seed": seed})
                for task, seed in missing
            ],
            jobs,
        )
    else:
        for task, seed in missing:
            _compute(figure, folders, settings, task, seed)
    results = [read_result(options.out, task, seed, settings) for task, seed in cells]
    figure.finish(results, options, len(options.seeds))
    return 0


def compute_plain(figure: CellFigure, settings: dict[str, Any], folders: dict[str, str], task: str, seed: int) -> None:
    """Compute a cell from plain values, in a process of its own."""
    there = {name: Path(folder) for name, folder in folders.items()}
    _compute(figure, there, from_plain(figure.settings, settings), task, seed)


def _compute(figure: CellFigure, folders: dict[str, Path], settings: Any, task: str, seed: int) -> None:
    from tabb.data import read
    from tabb.data.catalogue import resolve

    source = read(resolve(settings.source, task, "source")).transitions
    target = read(resolve(settings.target, task, "target")).transitions
    begun = set()

    def report(what: str, share: float) -> None:
        if what not in begun:
            begun.add(what)
            print(f"{task} seed {seed}: {what} ...", file=sys.stderr, flush=True)

    figure.run_cell(folders, settings, task, seed, source, target, report)


def print_results(picture: Path, out: Path, *parts: str) -> None:
    """Print tables, then where everything is."""
    print("\n" + "\n\n".join(parts))
    print(f"\npicture: {picture}\nresults: {out}")
