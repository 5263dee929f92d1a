"""The main comparison: a suite's tasks x data qualities x methods x seeds, and what can honestly be said of it.

A cell is one run in a folder of its own, `<task>/<source>-<target>/<method>/seed<k>`; a cell that is finished is not
run again. Methods that draw no source rows have one cell for all source qualities, and likewise for the target.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tabb.backbones import Backbone
from tabb.data.catalogue import Domain, resolve
from tabb.environments.tasks import ALL_TASKS, Task
from tabb.errors import RunError, UsageError, meant
from tabb.evaluation.statistics import (
    bootstrap,
    interquartile_mean,
    not_significantly_worse,
    paired_t_test,
    performance_profile,
    probability_of_improvement,
    share_of_tasks_won,
)
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
    """learn from at most so many source rows, whatever the method; all if None"""
    target_rows: int | None = None
    """the same of the target"""
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


def as_csv(table: Table) -> str:
    """One line per run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for place, row in table.items():
        for method, scores in row.items():
            writer.writerows([*place, method, seed, f"{score:z.4f}"] for seed, score in scores.items())
    return text.getvalue()


def as_markdown(table: Table, methods: Sequence[str]) -> str:
    """Mean ± standard deviation (seeds) of each cell; the best of a row, and those not significantly worse, bold."""
    lines = [f"| task, source to target | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    for place, row in table.items():
        scores_of_method = {method: list(row.get(method, {}).values()) for method in methods}
        marked = not_significantly_worse(scores_of_method)
        cells = [_cell(scores, method in marked) for method, scores in scores_of_method.items()]
        lines.append(f"| {place} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(scores: list[float], marked: bool) -> str:
    if not scores:
        return "-"
    spread = f" ± {np.std(scores, ddof=1):.1f}" if len(scores) > 1 else ""
    text = f"{np.mean(scores):z.1f}{spread} ({len(scores)})"
    return f"**{text}**" if marked else text


def scores_of(table: Table, method: str) -> dict[str, list[float]]:
    """The scores of one method, by place."""
    return {str(place): list(row[method].values()) for place, row in table.items() if method in row}


def verdicts(
    table: Table, methods: Sequence[str], ours: str, learners: Mapping[str, str] | None = None
) -> dict[str, dict[str, Any]]:
    """What can be said of each method over all rows: its interquartile mean, and how it stands to target-only.

    A method's interquartile mean is over the rows that it has (`rows` of them), each run counted once: a method that
    draws no source rows has the same runs for all source qualities, and likewise for the target. How it stands to
    another is over the rows that both have; of such a method, a pair is one run against the other's mean over the
    qualities. `learners` says which learner a method is, where its name does not.
    """
    learner = {method: method for method in methods} | dict(learners or {})
    verdict_of: dict[str, dict[str, Any]] = {}
    for method in methods:
        own = scores_of(table, method)
        if not own:
            continue
        once = _once(table, method, learner[method])
        verdict: dict[str, Any] = {"rows": len(own), "runs": sum(map(len, once.values()))}
        verdict["interquartile_mean"] = _estimate(interquartile_mean, once)
        bar = scores_of(table, BAR)
        if method != BAR and set(own) & set(bar):
            verdict["share_of_rows_above_target_only"] = _estimate(share_of_tasks_won, own, bar)
            verdict["probability_of_improvement_over_target_only"] = _estimate(probability_of_improvement, own, bar)
        if method != ours:
            both = (learner[ours], learner[method])
            pairs = [_paired(table, name, both) for name in (ours, method)]
            if len(set(pairs[0]) & set(pairs[1])) > 1:
                verdict[f"{ours}_less_this"] = paired_t_test(*pairs)._asdict()
        verdict_of[method] = verdict
    return verdict_of


def _estimate(statistic: Callable[..., float], *methods: dict[str, list[float]]) -> dict[str, float | None]:
    """The statistic with its bootstrap interval: None where a row has one run, which says nothing of other seeds."""
    estimate = bootstrap(statistic, *methods)
    known = all(len(scores) > 1 for method in methods for scores in method.values())
    return {"value": estimate.value, "low": estimate.low if known else None, "high": estimate.high if known else None}


def _once(table: Table, method: str, learner: str) -> dict[str, list[float]]:
    """The scores of a method, each run once."""
    return {str(shared(place, learner)): list(row[method].values()) for place, row in table.items() if method in row}


def _paired(table: Table, method: str, learners: tuple[str, ...]) -> dict[tuple[str, int], float]:
    """Scores by place and seed, means over the qualities for which one of the learners has one run."""
    by_run: dict[tuple[str, int], list[float]] = {}
    for place, row in table.items():
        for seed, score in row.get(method, {}).items():
            by_run.setdefault((str(shared(place, *learners)), seed), []).append(score)
    return {key: float(np.mean(scores)) for key, scores in by_run.items()}


FEWER = " †"
"""mark of a mean over fewer rows than the table has"""


def verdicts_as_markdown(verdict_of: Mapping[str, Mapping[str, Any]], ours: str) -> str:
    """The same as a table."""
    headings = ("method", "rows", "runs", "interquartile mean", "rows above target-only", "P(run beats target-only)")
    lines = [f"| {' | '.join(headings)} | {ours} less this (paired t) |", "|---" * (len(headings) + 1) + "|"]
    most = max((verdict["rows"] for verdict in verdict_of.values()), default=0)
    for method, verdict in verdict_of.items():
        cells = [_interval(verdict["interquartile_mean"], "z.1f") + (FEWER if verdict["rows"] < most else "")]
        for name in ("share_of_rows_above_target_only", "probability_of_improvement_over_target_only"):
            cells.append(_interval(verdict[name], ".0%") if name in verdict else "-")
        test = verdict.get(f"{ours}_less_this")
        cells.append(
            "-" if test is None else f"{test['difference']:+z.1f} (p = {test['p']:.2g}, {test['pairs']} pairs)"
        )
        lines.append(f"| `{method}` | {verdict['rows']} | {verdict['runs']} | {' | '.join(cells)} |")
    if any(verdict["rows"] < most for verdict in verdict_of.values()):
        lines += ["", f"{FEWER} over fewer rows than {most}: not to be compared with means over all of them."]
    return "\n".join(lines)


def _interval(estimate: Mapping[str, float | None], form: str) -> str:
    """A value, with its interval where there is one."""
    value = format(estimate["value"], form)
    return value if estimate["low"] is None else f"{value} [{estimate['low']:{form}}, {estimate['high']:{form}}]"


# --- Pictures ---


def draw_profiles(scores: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Draw the share of runs above each score, one curve per method; every task has the same weight."""
    from tabb.evaluation.figures import colours, draw_legend, new_figure, save_png

    highest = max(max(seeds) for method in scores.values() for seeds in method.values())
    limits = np.linspace(0.0, max(highest, 1.0) * 1.05, 200)
    figure = new_figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for name, colour in zip(scores, colours(scores), strict=True):
        axes.plot(limits, performance_profile(scores[name], limits), color=colour, linewidth=1.8, label=name)
    axes.set_xlabel("normalised score")
    axes.set_ylabel("share of runs above it")
    axes.set_xlim(0, limits[-1])
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    draw_legend(figure, axes)
    save_png(figure, path)


def draw_intervals(
    estimates: Mapping[str, Mapping[str, Any]], path: Path, rows: Mapping[str, int] | None = None
) -> None:
    """Draw each method's interquartile mean and its interval (if there is one), the best on top.

    `rows` are how many rows of the table each mean is over; a mean over fewer than another says so.
    """
    from tabb.evaluation.figures import ENDS, colours, new_figure, save_png, width_for, wrapped

    names = sorted(estimates, key=lambda name: estimates[name]["value"])
    rows = rows or {}
    most = max(rows.values(), default=0)
    # A mean over fewer rows is of other tasks: it stands beside the others and may not be read as one of them.
    fewer = {name: f"{name} ({rows[name]} of {most} rows)" for name in names if rows.get(name, most) < most}
    labels = [wrapped(fewer.get(name, name)) for name in names]
    figure = new_figure(figsize=(width_for(labels, 6.4), 0.9 + 0.4 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    colour_of = dict(zip(estimates, colours(estimates), strict=True))  # by the methods' order, as in other figures
    for height, name in enumerate(names):
        estimate, colour = estimates[name], colour_of[name]
        if estimate["low"] is not None:
            axes.plot(
                [estimate["low"], estimate["high"]], [height, height], color=colour, linewidth=6, alpha=0.4, **ENDS
            )
        axes.plot(estimate["value"], height, marker="|", markersize=14, markeredgewidth=2.5, color=colour)
    axes.set_yticks(range(len(names)), labels)
    axes.set_ylim(-0.7, len(names) - 0.3)
    known = any(estimate["low"] is not None for estimate in estimates.values())
    axes.set_xlabel("interquartile mean of normalised scores" + (", with 95 % interval" if known else ""))
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    save_png(figure, path)
