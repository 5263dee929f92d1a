"""`tabb figure`: figures and tables of the paper, computed anew."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tabb.commands.options import jobs_of, parse, without
from tabb.errors import UsageError
from tabb.experiments.oracle import RANKINGS, Oracle
from tabb.training.pool import PARENT, follow_parent, run_commands

FIGURES = {"oracle": "which ranking of source rows foresees the oracle Bellman error? (the paper's Figure 3)"}


@dataclasses.dataclass(frozen=True)
class Options(Oracle):
    """What to compute, and where to keep it."""

    tasks: tuple[str, ...] = ()
    """tasks, see `tabb tasks`; the twelve of OTDF if none is named"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """seeds of V, of what rankings fit, and of the rows drawn"""
    out: Path = Path("runs/figures/oracle")
    """folder of the results; what it holds is not computed again"""
    jobs: int | None = None
    """cells at the same time, one core each (CPU only); as many as there are cores if not given"""


def run(arguments: Sequence[str]) -> int:
    names = list(FIGURES)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        raise UsageError(f"name the figure: {', '.join(names)}")
    if arguments[0] in ("-h", "--help"):
        told = "\n".join(f"  {name}: {what}" for name, what in FIGURES.items())
        print(f"usage: tabb figure NAME [options]      tabb figure NAME --help tells its options\n\n{told}")
        return 0
    if arguments[0] not in FIGURES:
        raise UsageError(f"unknown figure {arguments[0]!r}: use one of {', '.join(names)}")
    return _oracle(list(arguments[1:]))


def _oracle(arguments: list[str]) -> int:
    from tabb.environments.tasks import TASKS, get_task
    from tabb.evaluation.figures import kept_curves
    from tabb.experiments.oracle import cell_file, read_cell, table
    from tabb.training.run import check_seeds

    follow_parent()
    options = parse(Options, arguments, "tabb figure oracle", FIGURES["oracle"])
    unknown = [name for name in options.rankings if name not in RANKINGS]
    if unknown or not options.rankings:
        raise UsageError(f"--rankings {' '.join(unknown)}: use some of {', '.join(RANKINGS)}")
    for name in ("rows", "updates"):
        if getattr(options, name) < 2:
            raise UsageError(f"--{name} {getattr(options, name)}: must be at least 2")
    tasks = options.tasks or tuple(task.name for task in TASKS.values() if "otdf" in task.suites)
    cells = [(get_task(task).name, seed) for task in tasks for seed in check_seeds(options.seeds)]
    missing = [cell for cell in cells if not cell_file(options.out, *cell).exists()]
    jobs = jobs_of(options.jobs)
    if jobs > 1 and len(missing) > 1:
        others = without(arguments, ("--tasks", "--seeds", "--jobs"))
        alone = [["--tasks", task, "--seeds", str(seed), "--jobs", "1"] for task, seed in missing]
        run_commands([["figure", "oracle", *others, *one] for one in alone], jobs)
    else:
        for task, seed in missing:
            _cell(options, task, seed)
    results = [read_cell(options.out, task, seed, _oracle_of(options)) for task, seed in cells]
    if os.environ.get(PARENT):
        return 0  # one of several processes: the picture is the parent's
    picture = options.out / "oracle.png"
    kept_curves(results, picture)
    print(f"\nrank correlation with the oracle Bellman error, mean over {len(options.seeds)} seed(s):\n")
    print(table(results))
    print(f"\npicture: {picture}\nresults: {options.out}")
    return 0


def _cell(options: Options, task: str, seed: int) -> None:
    from tabb.data import read
    from tabb.data.catalogue import resolve
    from tabb.experiments.oracle import run_cell

    source = read(resolve(options.source, task, "source")).transitions
    target = read(resolve(options.target, task, "target")).transitions
    begun = set()

    def tell(what: str, share: float) -> None:
        if what not in begun:
            begun.add(what)
            print(f"{task} seed {seed}: {what} ...", file=sys.stderr, flush=True)

    run_cell(_oracle_of(options), task, seed, source, target, options.out, tell)


def _oracle_of(options: Options) -> Oracle:
    """The part of the options that a cell depends on."""
    return Oracle(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Oracle)})
