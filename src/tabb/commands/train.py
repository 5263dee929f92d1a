"""`tabb train`: one or more rules and seeds, on one task; without a rule four of them, or the demo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabb.commands.carry_out import carry_out, check_ray, jobs_for, tell_answer
from tabb.commands.train_options import check_effect, parse_train, place_of, settings_of, specs_of
from tabb.commands.training_data import check_data, silent, tell, tell_limits, tell_reading
from tabb.errors import UsageError
from tabb.registry import Chosen
from tabb.running.plan import Cell, write_plan
from tabb.tracking import opener
from tabb.training.config import Settings
from tabb.training.spec import RunSpec

OWN = {"--source", "--target", "--task", "--env"}
"""options with which it is not the demo's data that are learned from"""


def run(arguments: Sequence[str]) -> int:
    arguments = list(arguments)
    names, others = [], list(arguments)
    while others and not others[0].startswith("-"):
        names.append(others.pop(0))
    elsewhere = {"-h", "--help"} & set(others) or any(word.partition("=")[0] == "--resume" for word in others)
    if not names and not elsewhere:
        from tabb.commands.demo import CANDIDATES, demo

        if not OWN & {word.partition("=")[0] for word in others}:
            return demo(others)
        names = list(CANDIDATES)
    learners, options = parse_train(names, others)
    check_effect(options, others, learners)
    opener(options.track)  # what is missing is said before data are read and programs compiled
    if options.resume is not None:
        from tabb.commands.resume import only_resume, resume

        only_resume(arguments)
        return resume(options)
    return _train(learners, options)


def _train(learners: list[Chosen], options: Any) -> int:
    from tabb.own_files import refuse_inside_run, refuse_summary_files
    from tabb.results.answer import SOURCE, TARGET
    from tabb.running.plan import refuse_comparison
    from tabb.training.checks import check_seeds
    from tabb.training.from_files import check_spec

    # Names are looked up before anything is written: a typing error leaves no folder behind.
    place = place_of(options, learners)
    root = options.out or Path("runs") / place.folder
    if options.out is None and len(learners) == 1:
        root = root / learners[0].name
    if place.task is None and options.engine != Settings.engine:
        raise UsageError(f"--engine {options.engine}: is of the robots of tasks, and no task is named; leave it out")
    refuse_inside_run(root)
    refuse_comparison(root)
    check_seeds(options.seeds)
    check_ray(options)
    specs = [(learner, spec) for learner in learners for spec in specs_of(learner, options, place)]
    for _, spec in specs:
        check_spec(spec)
    jobs = None if options.ray is not None else jobs_for((spec for _, spec in specs), options.jobs)
    here = jobs is not None and len(learners) == 1 and (len(specs) == 1 or jobs == 1 or _stays_here(specs[0][1]))
    refuse_summary_files(root, not here, {TARGET, SOURCE} <= {learner.name for learner in learners})
    if here:
        return _here([spec for _, spec in specs], options, root)
    cells = []
    for learner, spec in specs:
        folder = Path(learner.name if len(learners) > 1 else ".") / f"seed{spec.seed}"
        cells.append(Cell(f"{learner.name} seed {spec.seed}", str(folder), spec))
    return _as_plan(cells, options, root)


def _stays_here(spec: RunSpec) -> bool:
    """Whether its rule or backbone is known to this process alone."""
    try:
        spec.check_importable()
    except UsageError:
        return True
    return False


def _here(specs: Sequence[RunSpec], options: Any, root: Path) -> int:
    """Train the seeds of one learner in this process."""
    from tabb.results.summary import summarise
    from tabb.training.from_files import read_data, train_spec
    from tabb.training.same_row import check_same_row

    spec, show = specs[0], options.progress != "none"
    for one in specs:
        check_same_row(root, one)
    if show:
        tell_reading(spec.files, spec.store)
    loaded = read_data(spec, tell if show else silent)
    check_data(loaded, options.engine, spec.task, show)
    if show:
        tell_limits(loaded, spec.settings)
    seeds = [one.seed for one in specs]
    train_spec(spec, root, loaded=loaded, seeds=seeds, progress=options.progress, track=options.track)
    print(summarise(root))
    return 0


def _as_plan(cells: list[Cell], options: Any, root: Path) -> int:
    """Train each run in a process of its own, here or on a cluster."""
    from tabb.data import read
    from tabb.results.summary import summarise
    from tabb.training.from_files import check_start, without_data_warnings
    from tabb.training.held_out import share_of
    from tabb.training.same_row import check_same_row

    specs = [cell.spec for cell in cells]
    for spec in specs:
        spec.check_importable()
        check_same_row(root, spec)
    files = {domain: paths for spec in specs for domain, paths in spec.files.items()}
    if options.progress != "none":
        tell_reading(files, options.store)
    note = silent if options.progress == "none" else tell
    loaded = {
        domain: read(paths, specs[0].reading, store=options.store, note=note) for domain, paths in sorted(files.items())
    }
    check_data(loaded, options.engine, specs[0].task, options.progress != "none")
    for spec in specs:
        check_start(spec, loaded["target"].transitions if "target" in loaded else None)
    # The runs' own words of it go to their logs.
    rolls_out = specs[0].task is not None or specs[0].env is not None
    if "target" in loaded:
        without_data_warnings(share_of, settings_of(options), rolls_out, loaded["target"].transitions)
    del loaded
    write_plan(root, cells)
    failed = carry_out(root, options)
    print(summarise(root))
    if failed is not None:
        raise failed
    tell_answer(root)
    return 0
