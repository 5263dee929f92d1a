"""The main comparison: a suite's tasks x data qualities x methods x seeds, as runs and their scores.

A cell is one run in a folder of its own, `<task>/<source>-<target>/<method>/seed<k>`; a cell that is finished is not
run again. Methods that draw no source rows have one cell for all source qualities, and likewise for the target.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tabb.backbones import Backbone
from tabb.data.catalogue import Domain, resolve
from tabb.environments.tasks import ALL_TASKS, Task
from tabb.errors import RunError, UsageError, meant
from tabb.files import read_json
from tabb.rules import Rule
from tabb.running.plan import Cell
from tabb.training.config import Settings
from tabb.training.folder import RunFolder
from tabb.training.spec import RunSpec

BUDGETS = {"paper": (1_000_000, 5), "short": (100_000, 3), "smoke": (2_000, 1)}
"""updates and seeds"""
BAR = "target-only"
"""what a method must beat to have transferred anything"""
SCORES = "scores.csv"
"""the file of a report that has every score, a line per run"""
CSV_COLUMNS = ("task", "source", "target", "method", "seed", "score")
NONE = "none"
"""in the name of a cell's folder the quality of a domain of which its method draws no rows"""


class Place(NamedTuple):
    """One row of the table."""

    task: str
    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.task} {self.source} to {self.target}"


class Learner(NamedTuple):
    """What a method is on one task with one seed."""

    rule: Rule
    backbone: Backbone
    settings: Settings
    """Length and limits of rows aside, which are the comparison's."""


@dataclasses.dataclass(frozen=True)
class Method:
    """What is compared: a learner, or a learner with something changed, under a name of its own."""

    name: str
    learner: str
    """RULE or RULE@BACKBONE: how tables tell what draws no rows of a domain"""
    make: Callable[[Task, int, bool], Learner]
    """What it is on a task with a seed; the flag says whether it takes its authors' constants for the task."""
    words: str | None = None
    """The learner and its options as `tabb train` takes them; None where the learner is as its name says."""


def plain_method(learner: str) -> Method:
    """A learner by name, with the constants of the task's suite and those its authors use there."""
    from tabb.registry import learners_of

    def make(task: Task, seed: int, presets: bool) -> Learner:
        del seed
        (chosen,) = learners_of([learner], preset_for(learner, task) if presets else None, task.suites)
        return Learner(chosen.rule, chosen.backbone, Settings())

    return Method(learner, learner, make)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is compared with what, and where."""

    places: tuple[Place, ...]
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    updates: int
    source_rows: int | None = None
    """learn from at most this many source rows, whatever the method; all if None"""
    target_rows: int | None = None
    """the same for the target"""
    presets: bool = True
    """whether a method takes its authors' constants for the robot or the shift, where it has them"""
    evaluations: int | None = None
    """evaluations of each run, the settings' default if None; a run's score is the mean of its last three"""
    episodes: int | None = None
    """episodes of each evaluation, likewise"""
    other_options: str = ""
    """what else was set for all methods, as `tabb train` takes it: the methods make it so"""

    @property
    def names(self) -> list[str]:
        """The names of the methods."""
        return [method.name for method in self.methods]

    def length(self) -> str:
        """Updates of a run, and what else was set for all: `100,000 updates, --source-rows 10000`."""
        limits = [f"--{name.replace('_', '-')} {value}" for name, value in self._limits().items()]
        options = " ".join([*limits, self.other_options]).strip()
        return ", ".join([f"{self.updates:,} updates", *([options] if options else [])])

    def learners(self) -> dict[str, str]:
        """The learner of each method."""
        return {method.name: method.learner for method in self.methods}

    def changed_methods(self) -> list[str]:
        """What the methods with options are, as lines of Markdown."""
        lines = [f"- `{method.name}`: `{method.words}`" for method in self.methods if method.words is not None]
        return [*lines, ""] if lines else []

    def _limits(self) -> dict[str, int]:
        limits = {
            "source_rows": self.source_rows,
            "target_rows": self.target_rows,
            "evaluations": self.evaluations,
            "episodes": self.episodes,
        }
        return {name: value for name, value in limits.items() if value is not None}

    def runs(self) -> Iterator[tuple[Place, Method, int, Path]]:
        """Place, method and seed of each score, and the run's folder: some runs count for several places."""
        for place in dict.fromkeys(self.places):
            for method in self.methods:
                run = shared(place, method.learner)
                folder = Path(run.task) / f"{run.source}-{run.target}" / method.name
                for seed in self.seeds:
                    yield place, method, seed, folder / f"seed{seed}"

    def learner(self, place: Place, method: Method, seed: int) -> Learner:
        """What the method is at this place with this seed, with the length and the limits of the comparison."""
        made = method.make(ALL_TASKS[place.task], seed, self.presets)
        own: dict[str, Any] = {"updates": self.updates, "backbone": None, **self._limits()}
        settings = dataclasses.replace(made.settings, **own)
        return made._replace(settings=settings)

    def plan(self) -> list[Cell]:
        """The runs without repetition: one seed of all methods first, so that an early stop leaves whole rows.

        Raises `DataError` for data that are not there.
        """
        cells: dict[str, Cell] = {}
        files = functools.cache(_data_files)
        for place, method, seed, folder in sorted(self.runs(), key=lambda run: self.seeds.index(run[2])):
            # The first place that shares a run names its data, whichever places are added later.
            if str(folder) not in cells:
                spec = self._spec(place, method, seed, files)
                cells[str(folder)] = Cell(f"{place} {method.name} seed {seed}", str(folder), spec)
        return list(cells.values())

    def _spec(
        self, place: Place, method: Method, seed: int, files: Callable[[str, str, Domain], tuple[str, ...]]
    ) -> RunSpec:
        learner = self.learner(place, method, seed)
        source = files(place.source, place.task, "source") if draws_source(method.learner) else None
        target = files(place.target, place.task, "target")
        return RunSpec(learner.rule, learner.backbone, source, target, place.task, None, seed, learner.settings)


def _data_files(quality: str, task: str, domain: Domain) -> tuple[str, ...]:
    return tuple(str(path.resolve()) for path in resolve(quality, task, domain))


def places_of(
    suite: str, robots: Sequence[str], tasks: Sequence[str], sources: Sequence[str], targets: Sequence[str]
) -> tuple[Place, ...]:
    """Rows of the table: tasks of the suite, narrowed to robots or to tasks by name, times the qualities."""
    names = [task.name for task in ALL_TASKS.values() if suite in task.suites and task.shift is not None]
    if not names:
        known = dict.fromkeys(suite for task in ALL_TASKS.values() if task.shift for suite in task.suites)
        raise UsageError(f"unknown suite {suite!r}: {meant(suite, known)}")
    for name in tasks:
        if name not in names:
            raise UsageError(f"{name} is no task of suite {suite}; `tabb tasks {suite}` lists them")
    there = list(dict.fromkeys(ALL_TASKS[name].robot for name in names))
    for robot in robots:
        if robot not in there:
            raise UsageError(f"suite {suite} has no robot {robot!r}: {meant(robot, there)}")
    for quality in (*sources, *targets):
        if not re.fullmatch(r"[a-z0-9_]+", quality):
            raise UsageError(
                f"{quality!r} is no quality of data (medium, medium_expert, ...); files of your own go to `tabb train`"
            )
    chosen = [name for name in tasks or names if not robots or ALL_TASKS[name].robot in robots]
    return tuple(Place(task, source, target) for task in chosen for source in sources for target in targets)


def preset_for(method: str, task: Task) -> str | None:
    """The method's preset for the task's shift or robot, if it has one."""
    from tabb.registry import takes_preset

    return next((name for name in (task.shift, task.robot) if name and takes_preset(method, name)), None)


def draws_source(method: str) -> bool:
    """Whether the learner's batches have source rows."""
    return _drawn(method)[0]


def draws_target(method: str) -> bool:
    """Whether the learner's batches have target rows."""
    return _drawn(method)[1]


def shared(place: Place, *learners: str) -> Place:
    """The place, less the qualities of domains of which one of the learners draws no rows: it has one run for all."""
    source, target = (all(map(draws, learners)) for draws in (draws_source, draws_target))
    return Place(place.task, place.source if source else NONE, place.target if target else NONE)


@functools.cache
def _drawn(method: str) -> tuple[bool, bool]:
    from tabb.registry import learners_of

    (learner,) = learners_of([method])
    reads: tuple[bool, bool] = learner.rule.reads(learner.backbone.batch_size)
    return reads


# --- What came of it ---

Table = dict[Place, dict[str, dict[int, float]]]
"""scores by place, method and seed"""


def gather(comparison: Comparison, root: Path) -> Table:
    """Scores of the cells that are finished. Raises `RunError` for cells of another length."""
    table: Table = {}
    for place, method, seed, folder in comparison.runs():
        file = RunFolder(root / folder).result_file
        if not file.exists():
            continue
        result = read_json(file)
        if result["updates"] != comparison.updates:
            raise RunError(
                f"{file}: is a run of {result['updates']:,} updates, not {comparison.updates:,}; "
                "choose another folder with --out"
            )
        table.setdefault(place, {}).setdefault(method.name, {})[seed] = result["score"]
    return table
