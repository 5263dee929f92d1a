"""`tabb benchmark`: compare methods over a suite of tasks."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from tabb.commands.options import parse
from tabb.errors import RunError, UsageError
from tabb.experiments.benchmark import BUDGETS, Comparison, Method, Place, Table, draws_source, draws_target


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where methods are compared, for how long, and where the runs are kept."""

    suite: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SUITE")]
    """otdf, odrl, adroit or antmaze"""
    budget: Literal["paper", "short", "smoke"] = "short"
    """paper: 1,000,000 updates and 5 seeds; short: 100,000 and 3; smoke: 2,000 and 1, which only proves that it runs"""
    robots: tuple[str, ...] = ()
    """robots of the suite; all if none is named"""
    tasks: tuple[str, ...] = ()
    """tasks of the suite; all if none is named"""
    sources: tuple[str, ...] = ("medium",)
    """qualities of the source data"""
    targets: tuple[str, ...] = ("medium",)
    """qualities of the target data"""
    updates: int | None = None
    """updates of a run, instead of the budget's"""
    source_rows: int | None = None
    """learn from at most this many source rows, drawn by whole episodes; all if not given"""
    target_rows: int | None = None
    """the same for the target"""
    evaluations: int | None = None
    """evaluations of each run, evenly spaced; 20 if not given. Its score is the mean of the last three"""
    episodes: int | None = None
    """episodes of each evaluation; 10 if not given"""
    seeds: tuple[int, ...] | None = None
    """seeds, instead of the budget's"""
    out: Path | None = None
    """folder of the runs and the report; runs/<command>/<suite>-<budget> if not given"""
    jobs: int | None = None
    """runs at the same time, one core each (CPU only); as many as there are cores if not given"""
    ray: str | None = None
    """train on a Ray cluster, one cell per task (docs/cluster.md): auto, local or HOST:PORT; jobs is a limit then"""
    ray_gpus: float = 0.0
    """accelerators per cell on a cluster; 0: one CPU core"""
    ray_retries: int = 3
    """how often a cell is handed out again after its node was lost, without a new checkpoint in between"""
    progress: Literal["lines", "none"] = "lines"
    """a line at each evaluation, or nothing"""
    report: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """run nothing; report what is finished"""


@dataclasses.dataclass(frozen=True)
class Options(Grid):
    """What to compare, and where."""

    methods: tuple[str, ...] = ("tabb", "target-only", "pooled")
    """learners, RULE or RULE@BACKBONE (`tabb train --help`); with options: NAME='LEARNER OPTIONS', as in
    sharp='tabb --rule.temperature 0.3'"""
    presets: bool = True
    """give a method its authors' constants for the robot or the shift, where it has them (`tabb train --preset`)"""


def run(arguments: Sequence[str]) -> int:
    from tabb.commands.imitation_options import FOR_ALL, imitating, imitation_words, names_of
    from tabb.commands.methods import methods_of

    words, others = imitation_words(arguments)
    about = f"Compare methods over the tasks of a suite.\n\n{FOR_ALL}"
    options = parse(Options, others, "tabb benchmark", about)
    given = [f"--{domain}-rows" for domain in ("source", "target") if getattr(options, f"{domain}_rows") is not None]
    methods = methods_of(options.methods, [*given, *names_of(words)])
    comparison = comparison_of(options, imitating(methods, words), options.presets, words)
    root = options.out or Path("runs") / "benchmark" / f"{options.suite}-{options.budget}"
    table, failed = finished(comparison, root, options)
    _report(comparison, table, root, options)
    if failed is not None:
        raise failed
    return 0


def comparison_of(
    grid: Grid, methods: tuple[Method, ...], presets: bool = True, other_options: Sequence[str] = ()
) -> Comparison:
    """The methods, which have the `other_options`, on all of the grid. Raises `UsageError` for unknown names."""
    from tabb.commands.imitation_options import check_effect
    from tabb.experiments.benchmark import places_of
    from tabb.training.checks import check_seeds

    if not (grid.sources and grid.targets):
        raise UsageError("name at least one source quality and one target quality")
    updates, count = BUDGETS[grid.budget]
    seeds = check_seeds(range(count) if grid.seeds is None else grid.seeds)
    updates = updates if grid.updates is None else grid.updates
    if updates < 1:
        raise UsageError(f"--updates {updates}: must be at least 1")
    places = places_of(grid.suite, grid.robots, grid.tasks, grid.sources, grid.targets)
    for domain, rows in (("source", grid.source_rows), ("target", grid.target_rows)):
        if rows is not None and rows < 1:
            raise UsageError(f"--{domain}-rows {rows}: must be at least 1")
    for name in ("evaluations", "episodes"):
        if (count := getattr(grid, name)) is not None and count < 1:
            raise UsageError(f"--{name} {count}: must be at least 1")
    limits = grid.source_rows, grid.target_rows
    lengths = grid.evaluations, grid.episodes
    comparison = Comparison(
        places, methods, tuple(seeds), updates, *limits, presets, *lengths, shlex.join(other_options)
    )
    if other_options:
        learners = (comparison.learner(place, method, seeds[0]) for place in places for method in methods)
        check_effect(other_options, [one.settings.imitation for one in learners if one.settings.imitation is not None])
    return comparison


def _begun(comparison: Comparison, root: Path) -> Iterator[tuple[Place, Method, int, Path, dict[str, Any]]]:
    """The runs that there are in `root`, finished or not: row, method, seed, folder and what `config.json` says."""
    from tabb.training.folder import RunFolder

    for place, method, seed, path in comparison.runs():
        folder = RunFolder(root / path)
        if folder.config_file.exists():
            yield place, method, seed, folder.path, folder.config()


def check_runs(comparison: Comparison, root: Path) -> None:
    """Raise `RunError` for a run in `root`, finished or not, that is not the run which the comparison asks for."""
    from tabb.training.config import settings_from
    from tabb.training.spec import RunSpec, differences

    for place, method, seed, path, config in _begun(comparison, root):
        learner = comparison.learner(place, method, seed)
        before = settings_from(config)
        if before.updates != learner.settings.updates:
            raise RunError(
                f"{path}: is a run of {before.updates:,} updates, not {learner.settings.updates:,}; choose another "
                "folder with --out"
            )
        # Of the data the contents are compared, by `check_data_alike`: files may lie elsewhere now.
        spec = RunSpec(learner.rule, learner.backbone, None, (), config.get("task"), None, seed, learner.settings)
        if names := differences(config | {"origin": {}}, spec):
            raise RunError(
                f"{path}: was trained with other options than {method.name} has now ({names[0]}); choose another "
                "folder with --out"
            )


def check_data_alike(comparison: Comparison, root: Path) -> None:
    """Raise `RunError` for runs of one row of the table, finished or not, that learned from different data."""
    seen: dict[tuple[Any, ...], tuple[str, Path]] = {}
    for place, method, _, path, config in _begun(comparison, root):
        for domain, fingerprint in config.get("data", {}).items():
            if not (draws_source if domain == "source" else draws_target)(method.learner):
                continue
            rows = (config["settings"].get(f"{domain}_rows"), config["settings"].get("rows_seed"))
            quality = place.source if domain == "source" else place.target
            first, other = seen.setdefault((place.task, domain, quality, *rows), (fingerprint, path))
            if first != fingerprint:
                raise RunError(
                    f"{path}: learned from other {domain} data than {other}: the {quality} file is "
                    "another one now, or was; delete the runs of one of them, or choose another folder with --out"
                )


def finished(comparison: Comparison, root: Path, grid: Grid) -> tuple[Table, RunError | None]:
    """Run the cells that are missing in `root`, unless only a report is asked for.

    Returns the scores of all that are there, and the error that names the runs that failed now, None if none did.
    """
    from tabb.commands.carry_out import carry_out, check_ray
    from tabb.experiments.benchmark import gather
    from tabb.own_files import refuse_plan_files
    from tabb.running.plan import PLAN, refuse_comparison, write_plan

    refuse_comparison(root, wanted=True)
    check_runs(comparison, root)  # a folder of other runs is refused before anything is trained
    check_data_alike(comparison, root)
    failed = None
    if not grid.report:
        check_ray(grid)
        if not (root / PLAN).exists():
            refuse_plan_files(root)
        write_plan(root, comparison.plan(), replace=True)  # data that are not there are named before
        failed = carry_out(root, grid)
        check_data_alike(comparison, root)
    table = gather(comparison, root)
    if not table:
        raise failed or UsageError(f"{root}: no run is finished")
    return table, failed


def _report(comparison: Comparison, table: Table, root: Path, options: Options) -> None:
    """Print the tables, and write them with the figures."""
    from tabb.evaluation.scores import averaged
    from tabb.experiments.benchmark import SCORES
    from tabb.experiments.benchmark_scores import as_csv
    from tabb.experiments.verdicts import (
        as_markdown,
        draw_intervals,
        draw_profiles,
        scores_of,
        verdicts,
        verdicts_as_markdown,
    )
    from tabb.files import atomic, write_json

    names = comparison.names
    ours = names[0]
    verdict = verdicts(table, names, ours, comparison.learners())
    done = sum(len(scores) for row in table.values() for scores in row.values())
    text = "\n".join(
        [
            f"# {options.suite}: {', '.join(names)}",
            "",
            f"{comparison.length()}; normalised score, mean of a run's {averaged(comparison.evaluations or 3)}; mean ±",
            "standard deviation (seeds). Bold: the best mean of a row, and what Welch's t-test does not find worse",
            "at 5%.",
            "",
            *comparison.changed_methods(),
            as_markdown(table, names),
            "",
            "Over all rows, with stratified bootstrap 95% intervals (other seeds on the same rows) where each row has",
            "two runs at least. Each p is of one test alone, not corrected for their number:",
            "",
            verdicts_as_markdown(verdict, ours),
            "",
        ]
    )
    for name, content in (("report.md", text), (SCORES, as_csv(table))):
        with atomic(root / name) as part:
            part.write_text(content, encoding="utf-8")
    write_json(root / "verdicts.json", verdict)
    scores = {method: scores_of(table, method) for method in names if scores_of(table, method)}
    draw_profiles(scores, root / "profiles.png")
    rows = {method: of["rows"] for method, of in verdict.items()}
    draw_intervals({method: of["interquartile_mean"] for method, of in verdict.items()}, root / "intervals.png", rows)
    print(text)
    print(f"{done} of {len(list(comparison.runs()))} cells; report, scores.csv and figures: {root}")
