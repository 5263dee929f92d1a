"""`tabb benchmark`: compare methods over a suite of tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from tabb.commands.options import parse, without
from tabb.environments.tasks import ALL_TASKS
from tabb.errors import RunError, UsageError
from tabb.experiments.benchmark import BUDGETS, Comparison, Place, Table, draws_source, draws_target
from tabb.running.plan import Cell


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
    """learn from at most so many source rows, drawn by whole episodes; all if not given"""
    target_rows: int | None = None
    """the same of the target"""
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
    from tabb.commands.methods import methods_of

    options = parse(Options, arguments, "tabb benchmark", "Compare methods over the tasks of a suite.")
    given = [f"--{domain}-rows" for domain in ("source", "target") if getattr(options, f"{domain}_rows") is not None]
    methods, variants = methods_of(options.methods, given)
    comparison = comparison_of(options, methods, variants=variants, presets=options.presets)
    root = options.out or Path("runs") / "benchmark" / f"{options.suite}-{options.budget}"
    _report(comparison, finished(comparison, root, options), root, options)
    return 0


def comparison_of(grid: Grid, methods: tuple[str, ...], **more: Any) -> Comparison:
    """The methods on all of the grid; `more` are fields of `Comparison`. Raises `UsageError` for what there is not."""
    from tabb.experiments.benchmark import places_of
    from tabb.training.run import check_seeds

    if not (grid.sources and grid.targets):
        raise UsageError("name at least one source quality and one target quality")
    updates, count = BUDGETS[grid.budget]
    seeds = check_seeds(range(count) if grid.seeds is None else grid.seeds)
    updates = updates if grid.updates is None else grid.updates
    if updates < 1:
        raise UsageError(f"--updates {updates}: must be at least 1")
    places = places_of(grid.suite, grid.robots, grid.tasks, grid.sources, grid.targets)
    limits: list[str] = []
    for domain, rows in (("source", grid.source_rows), ("target", grid.target_rows)):
        if rows is not None:
            if rows < 1:
                raise UsageError(f"--{domain}-rows {rows}: must be at least 1")
            limits += [f"--{domain}-rows", str(rows)]
    return Comparison(places, methods, tuple(seeds), updates, tuple(limits), **more)


def _begun(comparison: Comparison, root: Path) -> Iterator[tuple[Place, str, Cell, Path, dict[str, Any]]]:
    """The runs that there are in `root`, finished or not: row, method, cell, folder and what `config.json` says."""
    from tabb.training.folder import RunFolder

    for place, method, _, cell in comparison.cells():
        folder = RunFolder(root / cell.folder)
        if folder.config_file.exists():
            yield place, method, cell, folder.path, folder.config()


def check_cells(comparison: Comparison, root: Path) -> None:
    """Raise `RunError` for a run in `root`, finished or not, that was begun with other options than its cell has."""
    from tabb.plain import plain, rule_from_plain
    from tabb.training.config import settings_from

    known: dict[tuple[str, ...], tuple[Any, Any]] = {}
    for place, method, cell, path, config in _begun(comparison, root):
        suites = ALL_TASKS[place.task].suites
        words = without(cell.arguments, ("--task", "--source", "--target", "--seeds"))
        key = (*words, *suites)
        if key not in known:
            known[key] = made_of(words, suites)
        rule, settings = known[key]
        before = settings_from(config)
        if before.updates != settings.updates:
            raise RunError(
                f"{path}: is a run of {before.updates:,} updates, not {settings.updates:,}; choose another "
                "folder with --out"
            )
        # What is held out is decided by the data, and nothing is where there are rollouts.
        settings = dataclasses.replace(settings, held_out=before.held_out)
        then = {"rule": plain(rule_from_plain(config["rule"])), "settings": plain(before)}
        now = {"rule": plain(rule), "settings": plain(settings)}
        differs = [f"{part} {name}" for part in now for name in now[part] if then[part].get(name) != now[part][name]]
        if differs:
            raise RunError(
                f"{path}: was trained with other options than {method} has now ({differs[0]}); choose another "
                "folder with --out"
            )


def check_data_alike(comparison: Comparison, root: Path) -> None:
    """Raise `RunError` for runs of one row of the table, finished or not, that learned from different data."""
    seen: dict[tuple[Any, ...], tuple[str, Path]] = {}
    for place, _, cell, path, config in _begun(comparison, root):
        for domain, fingerprint in config.get("data", {}).items():
            if not (draws_source if domain == "source" else draws_target)(cell.arguments[0]):
                continue
            rows = (config["settings"].get(f"{domain}_rows"), config["settings"].get("rows_seed"))
            quality = place.source if domain == "source" else place.target
            first, other = seen.setdefault((place.task, domain, quality, *rows), (fingerprint, path))
            if first != fingerprint:
                raise RunError(
                    f"{path}: learned from other {domain} data than {other}: the {quality} file is "
                    "another one now, or was; delete the runs of one of them, or choose another folder with --out"
                )


def made_of(words: Sequence[str], suites: Sequence[str] = ()) -> tuple[Any, Any]:
    """The rule and the settings that `tabb train` makes of a cell's options."""
    from tabb.commands.presets import preset_of
    from tabb.commands.train import options_for, settings_of
    from tabb.registry import learners_of

    preset, others = preset_of(words)
    learners = learners_of(others[:1], preset, suites)
    found: Any = parse(options_for(learners), others[1:], "tabb train", "")
    return found.rule.on(found.backbone), settings_of(found)


def finished(comparison: Comparison, root: Path, grid: Grid) -> Table:
    """Run the cells that are missing in `root`, unless only a report is asked for; the scores of all that are there."""
    from tabb.commands.carry_out import carry_out, check_ray
    from tabb.data.catalogue import resolve
    from tabb.experiments.benchmark import gather
    from tabb.running.plan import write_plan

    check_cells(comparison, root)  # a folder of other runs is refused before anything is trained
    check_data_alike(comparison, root)
    if not grid.report:
        check_ray(grid)
        for place in comparison.places:  # data that are not there are named before anything is trained
            resolve(place.source, place.task, "source")
            resolve(place.target, place.task, "target")
        write_plan(root, comparison.plan(), replace=True)
        carry_out(root, grid)
        check_data_alike(comparison, root)
    table = gather(comparison, root)
    if not table:
        raise UsageError(f"{root}: no run is finished")
    return table


def _report(comparison: Comparison, table: Table, root: Path, options: Options) -> None:
    """Print the tables, and write them with the figures."""
    from tabb.evaluation.figures import interval_bars, profiles
    from tabb.experiments.benchmark import SCORES, as_csv, as_markdown, scores_of, verdicts, verdicts_as_markdown
    from tabb.files import atomic, write_json

    ours = comparison.methods[0]
    found = verdicts(table, comparison.methods, ours, comparison.learners())
    done = sum(len(scores) for row in table.values() for scores in row.values())
    text = "\n".join(
        [
            f"# {options.suite}: {', '.join(comparison.methods)}",
            "",
            f"{comparison.length()}; normalised score, mean of a run's last three evaluations; mean ±",
            "standard deviation (seeds). Bold: the best mean of a row, and what Welch's t-test does not find worse",
            "at 5 %.",
            "",
            *comparison.told_variants(),
            as_markdown(table, comparison.methods),
            "",
            "Over all rows, with stratified bootstrap 95 % intervals (other seeds on the same rows) where each row has",
            "two runs at least:",
            "",
            verdicts_as_markdown(found, ours),
            "",
        ]
    )
    for name, content in (("report.md", text), (SCORES, as_csv(table))):
        with atomic(root / name) as part:
            part.write_text(content, encoding="utf-8")
    write_json(root / "verdicts.json", found)
    scores = {method: scores_of(table, method) for method in comparison.methods if scores_of(table, method)}
    profiles(scores, root / "profiles.png")
    interval_bars({method: told["interquartile_mean"] for method, told in found.items()}, root / "intervals.png")
    print(text)
    print(f"{done} of {len(list(comparison.cells()))} cells; report, scores.csv and figures: {root}")
