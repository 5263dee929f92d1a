"""`tabb train --resume`: go on with the stopped runs of a folder, as they were started."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabb.commands.carry_out import carry_out, check_ray, tell_answer
from tabb.commands.old_plans import upgrade_plan
from tabb.commands.train_options import NO_TASK, absolute
from tabb.commands.training_data import check_data, silent, tell, tell_reading
from tabb.data.catalogue import BUNDLED, resolve
from tabb.errors import DataError, RunError, UsageError
from tabb.files import quoted
from tabb.provenance import EXTRAS
from tabb.results.summary import summarise
from tabb.running.plan import PLAN, plan_lines, read_plan, unfinished, write_plan
from tabb.training.folder import RunFolder
from tabb.training.lanes import run_folder
from tabb.training.spec import RunSpec

TAKEN = ("--resume", "--progress", "--jobs", "--track", "--ray", "--ray-gpus", "--ray-retries", "--source", "--target")
"""options that are no part of a run: how it is carried out, where metrics go, and where its data are now"""


def only_resume(arguments: Sequence[str]) -> None:
    """Raise `UsageError` where options are given that a resumed run would not take."""
    if arguments and not arguments[0].startswith("-"):
        raise UsageError(f"{arguments[0]} with --resume: the folder says what is trained; leave the rule out")
    given = [one.split("=")[0].replace("_", "-") for one in arguments if one.startswith("--")]
    other = [one for one in given if one not in TAKEN]
    if other:
        raise UsageError(
            f"{other[0]} with --resume: a run goes on as it was started; start another one, or leave it out"
        )


def resume(options: Any) -> int:
    """Go on with a plan, with the seeds of a rule's folder, or with one run folder."""
    root = options.resume
    # Of a comparison: <task>/<data>/<method>/seed<k>. A run of a plan had a process and a core of its own; with other
    # threads it would round otherwise.
    above = next((folder for folder in root.resolve().parents[:4] if _has_in_plan(folder, root)), None)
    plan = root if (root / PLAN).exists() else above
    for option, given in (("--ray", options.ray is not None), ("--jobs", options.jobs not in (None, 1))):
        if given and plan is None:
            raise UsageError(f"{root}: was not started as a plan (of several runs, or with --ray); leave {option} out")
    check_ray(options)
    if plan is None:
        _go_on(root, options)
        print(summarise(root))
        return 0
    upgrade_plan(plan)
    cells = read_plan(plan)
    if moved := _moved_data(options, [cell.spec for cell in cells]):
        cells = [dataclasses.replace(cell, spec=dataclasses.replace(cell.spec, **moved)) for cell in cells]
        _check_contents([RunFolder(plan / cell.folder) for cell in cells], moved)
        write_plan(plan, cells, replace=True)
    left = [cell.spec for cell in unfinished(plan, only=None if plan is root else root)]
    if left and all(map(_missing, left)):  # else a run whose data are gone is that run's failure
        raise _missing_data(root, left)
    failed = carry_out(plan, options, only=None if plan is root else root)
    print(summarise(root))
    if failed is not None:
        raise failed
    tell_answer(plan)
    return 0 if cells else 1


def _has_in_plan(folder: Path, root: Path) -> bool:
    """Whether `folder` holds a plan of which some run lies in `root` or is the one that `root` lies in."""
    if not (folder / PLAN).exists():
        return False
    try:
        runs = [(folder / line["folder"]).resolve() for line in plan_lines(folder)]
    except RunError:  # another program's file of this name
        return False
    place = root.resolve()
    return any(run.is_relative_to(place) or place.is_relative_to(run) for run in runs)


def _go_on(root: Path, options: Any) -> None:
    """Finish the run or the seeds in the folder `root`, in this process; nothing to do where all are finished."""
    alone = (root / "config.json").exists()
    begun = [RunFolder(folder) for folder in ([root] if alone else sorted(root.glob("seed*/")))]
    begun = [run for run in begun if run.config_file.exists()]
    if not begun:
        raise RunError(f"{root}: holds no run to go on with (no config.json and no seed folders); check the path")
    configs = [run.config() for run in begun]
    place = root
    if alone:
        folder, own = root.resolve(), f"seed{configs[0]['seed']}"  # resolved: `.` has a name then
        if begun[0].finished:
            return
        if folder.name != own:
            raise RunError(f"{root}: is a run of seed {configs[0]['seed']}; name its folder {own} to go on with it")
        place = root.parent if root.name == own else folder.parent
    for spec, seeds in unfinished_seeds(root, place, configs, alone):
        _finish(root, place, spec, seeds, begun, options)


def unfinished_seeds(
    root: Path, place: Path, configs: Sequence[dict[str, Any]], alone: bool
) -> list[tuple[RunSpec, list[int]]]:
    """The seeds that are not finished, together with those whose runs have the same spec.

    They are the seeds that have begun, in whatever call. Where `root` is not one run `alone`, they are also the seeds
    that one of these calls named but did not begin.
    """
    of_seed = {int(config["seed"]): config for config in configs}
    for config in () if alone else configs:
        for seed in config["seeds"]:
            of_seed.setdefault(int(seed), config)
    left: list[tuple[RunSpec, list[int]]] = []
    for seed in sorted(of_seed):
        if run_folder(place, seed).finished:
            continue
        try:
            spec = RunSpec.from_config(of_seed[seed], seed)
        except UsageError as error:
            raise UsageError(f"{root}: {error}") from None
        if left:  # the same data, which may have been moved since the others began
            spec = dataclasses.replace(spec, source=left[0][0].source, target=left[0][0].target)
        same = next((seeds for one, seeds in left if dataclasses.replace(one, seed=seed) == spec), None)
        if same is None:
            left.append((spec, [seed]))
        else:
            same.append(seed)
    return left


def _finish(
    root: Path, place: Path, spec: RunSpec, seeds: Sequence[int], begun: Sequence[RunFolder], options: Any
) -> None:
    """Train what is left of the runs of these seeds in `place`."""
    from tabb.training.from_files import check_spec, read_data, train_spec

    if moved := _moved_data(options, [spec]):
        spec = dataclasses.replace(spec, **moved)
        _check_contents(begun, moved)
    if _missing(spec):
        raise _missing_data(root, [spec])
    check_spec(spec)
    if options.progress != "none":
        tell_reading(spec.files, spec.store)
    loaded = read_data(spec, silent if options.progress == "none" else tell)
    check_data(loaded, spec.settings.engine, spec.task, options.progress != "none")
    train_spec(
        spec,
        place,
        loaded=loaded,
        seeds=seeds,
        progress=options.progress,
        track=options.track,
        resume=True,
    )


# --- Data that lie elsewhere now ---


def _moved_data(options: Any, specs: Sequence[RunSpec]) -> dict[str, Any]:
    """The files that the options name, by domain, instead of those that the runs were started with.

    Raises `UsageError` where the runs have several data sets of a domain, or read none of it.
    """
    moved: dict[str, Any] = {}
    for domain in ("source", "target"):
        word = getattr(options, domain)
        if word == BUNDLED:
            continue
        before = {tuple(spec.files[domain]) for spec in specs if domain in spec.files}
        if len(before) != 1:
            many = f"have {len(before)} {domain} data sets" if before else f"read no {domain} data"
            raise UsageError(f"--{domain} {word}: the runs {many}; leave it out, and put the files where they were")
        moved[domain] = absolute(resolve(word, specs[0].task or NO_TASK, domain))
    return moved


def _check_contents(folders: Sequence[RunFolder], moved: dict[str, tuple[str, ...]]) -> None:
    """Raise `UsageError` where a run that was started learned from other data than the moved files hold."""
    from tabb.results.row_scores import run_data

    for domain, files in moved.items():
        known: set[tuple[str, str | None]] = set()
        for folder in folders:
            if not folder.config_file.exists():
                continue
            config = folder.config()
            content = config["data"][domain], config["data"].get(EXTRAS, {}).get(domain)
            if domain in config.get("origin", {}) and content not in known:
                run_data(config, domain, files, str(folder.path))
                known.add(content)


def _missing(spec: RunSpec) -> list[tuple[str, Path]]:
    """The data files of a run that are not there, with their domains."""
    return [(domain, file) for domain, files in spec.files.items() for file in files if not file.exists()]


def _missing_data(root: Path, specs: Sequence[RunSpec]) -> DataError:
    """What to say of them: a file of each domain, and where to say where they are now."""
    gone = {domain: file for spec in reversed(specs) for domain, file in reversed(_missing(spec))}
    named = [(domain, gone[domain]) for domain in ("source", "target") if domain in gone]
    listed = " and ".join(f"{domain} data {file}" for domain, file in named)
    options = " ".join(f"--{domain} FILE" for domain, _ in named)
    return DataError(
        f"{root}: its {listed} are not there any more; say where they are now with "
        f"`tabb train --resume {quoted(root)} {options}`"
    )
