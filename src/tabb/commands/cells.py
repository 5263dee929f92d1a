"""Figures made of cells, a task and a seed each: which cells to compute, in how many processes, and the picture."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tabb.commands.options import jobs_of, parse, without
from tabb.errors import UsageError
from tabb.running.plan import PARENT, follow_parent, run_commands


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
    """`Cells`, the settings of a cell, and `out`."""
    settings: type[Any]
    """What a cell depends on, besides its task and seed; `options` extends it."""
    check: Callable[[Any], None]
    """Raises `UsageError` for settings that cannot work."""
    run_cell: Callable[..., None]
    """(options, settings, task, seed, source, target, tell): computes a cell and keeps it."""
    finish: Callable[[Sequence[Mapping[str, Any]], Any, int], None]
    """(results, options, seeds): draws the picture and prints the table."""


def run_figure(figure: CellFigure, arguments: list[str]) -> int:
    """Compute the cells that are missing and draw the picture."""
    from tabb.environments.tasks import TASKS, get_task
    from tabb.experiments.figure_results import read_result, result_file
    from tabb.training.run import check_seeds

    follow_parent()
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
    jobs = jobs_of(options.jobs)
    if jobs > 1 and len(missing) > 1:
        others = without(arguments, ("--tasks", "--seeds", "--jobs"))
        alone = [["--tasks", task, "--seeds", str(seed), "--jobs", "1"] for task, seed in missing]
        run_commands([["figure", figure.name, *others, *one] for one in alone], jobs)
    else:
        for task, seed in missing:
            _cell(figure, options, settings, task, seed)
    results = [read_result(options.out, task, seed, settings) for task, seed in cells]
    if not os.environ.get(PARENT):  # of several processes: the picture is the parent's
        figure.finish(results, options, len(options.seeds))
    return 0


def _cell(figure: CellFigure, options: Any, settings: Any, task: str, seed: int) -> None:
    from tabb.data import read
    from tabb.data.catalogue import resolve

    source = read(resolve(options.source, task, "source")).transitions
    target = read(resolve(options.target, task, "target")).transitions
    begun = set()

    def tell(what: str, share: float) -> None:
        if what not in begun:
            begun.add(what)
            print(f"{task} seed {seed}: {what} ...", file=sys.stderr, flush=True)

    figure.run_cell(options, settings, task, seed, source, target, tell)


def print_results(picture: Path, out: Path, *parts: str) -> None:
    """Print tables, then where everything is."""
    print("\n" + "\n\n".join(parts))
    print(f"\npicture: {picture}\nresults: {out}")
