"""`tabb collect SUITE`: the data sets of a whole suite, by policies that are found in its simulators."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabb.behaviours.suite import (
    DataSet,
    Recipe,
    is_made,
    make_prerequisite,
    make_set,
    prerequisite_of,
    sets_of,
    write_manifest,
)
from tabb.commands.options import jobs_of, parse
from tabb.errors import RunError, Stopped, UsageError
from tabb.plain import from_plain, plain
from tabb.running.processes import Call, run_calls


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
    suite, rest = arguments[0], list(arguments[1:])
    about = f"Make the data sets of suite {suite}: behaviour policies are found in the simulator of each task."
    options = parse(Options, rest, f"tabb collect {suite}", about)
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
    suite = arguments[0]
    if options.first_in:
        for name in options.first_in:
            make_prerequisite(options.out, name, recipe, _say)
        return 0
    missing = [data for data in sets if not is_made(options.out, data, recipe)]
    tasks = list(dict.fromkeys(data.task.name for data in missing))
    jobs = jobs_of(options.jobs)
    if jobs > 1 and len(tasks) > 1:
        here = "tabb.commands.collect_suite"
        same = {"out": str(options.out), "recipe": plain(recipe)}
        of_sets = {name: getattr(options, name) for name in ("qualities", "rows", "source_rows")} | {"suite": suite}
        first = dict.fromkeys(filter(None, (prerequisite_of(data.task) for data in missing)))
        run_calls([Call(f"practice in {name}", f"{here}:practise", same | {"name": name}) for name in first], jobs)
        run_calls([Call(name, f"{here}:make_task", same | of_sets | {"task": name}) for name in tasks], jobs)
    else:
        for data in missing:
            make_set(options.out, data, recipe, _say)
    manifest = write_manifest(options.out, shlex.join(["tabb", "collect", *arguments]))
    print(f"{len(sets)} data sets of {suite}: {len(missing)} new, {len(sets) - len(missing)} were there; {manifest}")
    return 0


def practise(out: str, recipe: dict[str, Any], name: str) -> None:
    """The search or practice that several tasks begin with, in a process of its own: plain values only."""
    make_prerequisite(Path(out), name, from_plain(Recipe, recipe), _say)


def make_task(
    out: str, recipe: dict[str, Any], suite: str, task: str, qualities: Sequence[str], rows: int, source_rows: int
) -> None:
    """Make the data sets of one task that are missing, in a process of its own: plain values only."""
    made_by = from_plain(Recipe, recipe)
    for data in sets_of(suite, [task], qualities, rows, source_rows):
        if not is_made(Path(out), data, made_by):
            make_set(Path(out), data, made_by, _say)


def _recipe_of(options: Options) -> Recipe:
    return Recipe(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Recipe)})


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
