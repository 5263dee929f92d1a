"""`tabb train --resume`: go on with the stopped runs of a folder, as they were started."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabb.commands.carry_out import NO_PART, carry_out, check_ray
from tabb.commands.training_data import check_data, quietly
from tabb.errors import RunError, UsageError
from tabb.plain import rule_from_plain
from tabb.results.summary import summarise
from tabb.running.plan import PARENT, PLAN, read_plan
from tabb.training.config import settings_from
from tabb.training.folder import RunFolder


def only_resume(arguments: Sequence[str]) -> None:
    """Raise `UsageError` where options are given that a resumed run would not take."""
    if arguments and not arguments[0].startswith("-"):
        raise UsageError(f"{arguments[0]} with --resume: the folder says what is trained; leave the rule out")
    given = [one.split("=")[0].replace("_", "-") for one in arguments if one.startswith("--")]
    other = [one for one in given if one not in ("--resume", "--progress", *NO_PART)]
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
    if options.ray is not None and above is None and not (root / PLAN).exists():
        raise UsageError(f"{root}: was not started as a plan (of several runs, or with --ray); leave --ray out")
    check_ray(options)
    if (root / PLAN).exists():
        cells = read_plan(root)
        carry_out(root, options)
        print(summarise(root))
        return 0 if cells else 1
    if above is not None and PARENT not in os.environ:
        carry_out(above, options, only=root)
    else:
        _go_on(root, options)
    if options.progress != "none":
        print(summarise(root))
    return 0


def _go_on(root: Path, options: Any) -> None:
    """Finish the run or the seeds in the folder `root`, in this process; nothing to do where all are finished."""
    folders = [root] if (root / "config.json").exists() else sorted(root.glob("seed*/"))
    configs = [RunFolder(folder).config() for folder in folders]
    if not configs:
        raise RunError(f"{root}: holds no run to go on with (no config.json and no seed folders); check the path")
    first = configs[0]
    if all(RunFolder(folder).result_file.exists() for folder in folders) and len(folders) >= len(first["seeds"]):
        return
    origin = first["origin"]
    if "target" not in origin:
        raise UsageError(
            f"{root}: was trained from arrays, which tabb does not keep; go on in Python with "
            "tabb.train(..., folder=..., resume=True) and the same data"
        )
    from tabb.data import read
    from tabb.environments.registration import env_factory_of
    from tabb.training.run import train

    loaded = {
        domain: read([Path(file) for file in origin[domain]["files"]])
        for domain in ("source", "target")
        if domain in origin
    }
    check_data(loaded, first["settings"]["engine"], options.progress != "none")
    env = origin.get("env")
    alone = root == folders[0]
    quietly(
        train,
        rule_from_plain(first["rule"]),
        loaded["source"].transitions if "source" in loaded else None,
        loaded["target"].transitions,
        task=first["task"],
        seeds=[first["seed"]] if alone else first["seeds"],
        settings=settings_from(first),
        folder=root.parent if alone else root,
        resume=True,
        env_factory=env_factory_of(env) if env else None,
        progress=options.progress,
        origin=origin,
        track=options.track,
    )
