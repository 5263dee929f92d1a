"""`tabb train --resume`: go on with the stopped runs of a folder, as they were started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabb.commands.carry_out import carry_out, check_ray
from tabb.commands.old_plans import upgrade_plan
from tabb.commands.training_data import check_data
from tabb.errors import RunError, UsageError
from tabb.results.summary import summarise
from tabb.running.plan import PLAN, read_plan
from tabb.training.folder import RunFolder
from tabb.training.spec import RunSpec

TAKEN = ("--resume", "--progress", "--jobs", "--track", "--ray", "--ray-gpus", "--ray-retries")
"""options that are no part of a run: how it is carried out and who is told"""


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
    above = next((folder for folder in root.resolve().parents[:4] if (folder / PLAN).exists()), None)
    plan = root if (root / PLAN).exists() else above
    if options.ray is not None and plan is None:
        raise UsageError(f"{root}: was not started as a plan (of several runs, or with --ray); leave --ray out")
    check_ray(options)
    if plan is None:
        _go_on(root, options)
        if options.progress != "none":
            print(summarise(root))
        return 0
    upgrade_plan(plan)
    cells = read_plan(plan)
    failed = carry_out(plan, options, only=None if plan is root else root)
    if plan is root or options.progress != "none":
        print(summarise(root))
    if failed is not None:
        raise failed
    return 0 if cells else 1


def _go_on(root: Path, options: Any) -> None:
    """Finish the run or the seeds in the folder `root`, in this process; nothing to do where all are finished."""
    folders = [root] if (root / "config.json").exists() else sorted(root.glob("seed*/"))
    configs = [RunFolder(folder).config() for folder in folders]
    if not configs:
        raise RunError(f"{root}: holds no run to go on with (no config.json and no seed folders); check the path")
    first = configs[0]
    if all(RunFolder(folder).result_file.exists() for folder in folders) and len(folders) >= len(first["seeds"]):
        return
    try:
        spec = RunSpec.from_config(first)
    except UsageError as error:
        raise UsageError(f"{root}: {error}") from None
    from tabb.training.from_files import check_start, read_data, train_spec

    check_start(spec)
    loaded = read_data(spec)
    check_data(loaded, spec.settings.engine, options.progress != "none")
    alone = root == folders[0]
    train_spec(
        spec,
        root.parent if alone else root,
        loaded=loaded,
        seeds=None if alone else first["seeds"],
        progress=options.progress,
        track=options.track,
        resume=True,
    )
