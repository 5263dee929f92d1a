"""`tabb collect SUITE`: the data sets of a whole suite, by policies that are found in its simulators."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tabb.behaviours.suite import (
    DataSet,
    Recipe,
    first_practice,
    is_made,
    make_set,
    practise_first,
    sets_of,
    write_manifest,
)
from tabb.commands.options import jobs_of, parse, without
from tabb.errors import RunError, Stopped, UsageError
from tabb.running.plan import PARENT, follow_parent, run_commands


@dataclasses.dataclass(frozen=True)
class Options(Recipe):
    """What to make, and how."""

    out: Path = Path("data")
    """folder of the data sets, the policies and the manifest; can be used as TABB_DATA"""
    tasks: tuple[str, ...] = ()
    """tasks of the suite; all if none is named"""
    qualities: tuple[str, ...] = ("medium", "expert")
    """expert: the best policy of the search; medium: one that moves and is nearest to half its score (mazes have
    `diverse` alone)"""
    rows: int = 5_000
    """transitions of a target data set"""
    source_rows: int = 100_000
    """transitions of a source data set (hands and mazes)"""
    first_in: tuple[str, ...] = ()
    """search in these unshifted robots (for mazes: `walker` learns to walk) and make no data set"""
    jobs: int | None = None
    """tasks at the same time, one core each; as many as there are cores if not given"""


def run_suite(arguments: Sequence[str]) -> int:
    """`arguments` begin with the suite's name."""
    follow_parent()
    suite, rest = arguments[0], list(arguments[1:])
    told = f"Make the data sets of suite {suite}: behaviour policies are found in the simulator of each task."
    options = parse(Options, rest, f"tabb collect {suite}", told)
    recipe = _recipe_of(options)
    for name in ("rows", "source_rows", "first_steps", "shifted_steps"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name)}: must be at least 1")
    if options.seed < 0:
        raise UsageError(f"--seed {options.seed}: must not be negative")
    if not 0 <= options.noise <= 2:
        raise UsageError(f"--noise {options.noise}: must lie between 0 and 2")
    sets = sets_of(suite, options.tasks, options.qualities, options.rows, options.source_rows)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{options.out}: cannot be made ({error.strerror}); choose another folder with --out") from None
    try:
        return _make(arguments, options, recipe, sets)
    except KeyboardInterrupt:
        raise Stopped(f"stopped; what is finished is kept in {options.out}, and the same command goes on") from None


def _make(arguments: Sequence[str], options: Options, recipe: Recipe, sets: Sequence[DataSet]) -> int:
    suite, rest = arguments[0], list(arguments[1:])
    if options.first_in:
        for name in options.first_in:
            practise_first(options.out, name, recipe, _say)
        return 0
    missing = [data for data in sets if not is_made(options.out, data, recipe)]
    tasks = list(dict.fromkeys(data.task.name for data in missing))
    jobs = jobs_of(options.jobs)
    if jobs > 1 and len(tasks) > 1:
        others = without(rest, ("--tasks", "--jobs"))
        first = dict.fromkeys(filter(None, (first_practice(data.task) for data in missing)))
        run_commands([["collect", suite, *others, "--first-in", name, "--jobs", "1"] for name in first], jobs)
        run_commands([["collect", suite, *others, "--tasks", name, "--jobs", "1"] for name in tasks], jobs)
    else:
        for data in missing:
            make_set(options.out, data, recipe, _say)
    if os.environ.get(PARENT):
        return 0  # one of several processes: the manifest is the parent's
    manifest = write_manifest(options.out, shlex.join(["tabb", "collect", *arguments]))
    print(f"{len(sets)} data sets of {suite}: {len(missing)} new, {len(sets) - len(missing)} were there; {manifest}")
    return 0


def _recipe_of(options: Options) -> Recipe:
    return Recipe(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Recipe)})


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
