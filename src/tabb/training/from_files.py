"""Training on data files: what `tabb train` and the child processes of a plan do once they know what a run is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tabb.batch import Sizes
from tabb.data import Loaded, read
from tabb.environments.registration import env_factory_of
from tabb.environments.tasks import Task, get_task
from tabb.errors import DataWarning, HeldOutWarning, MachineWarning, UsageError
from tabb.tracking import TrackingWarning
from tabb.training.config import check_imitation, imitation_of
from tabb.training.folder import RunFolder
from tabb.training.loop import Program
from tabb.training.progress import Style, say
from tabb.training.run import train
from tabb.training.spec import RunSpec
from tabb.training.stored_rows import check_stored
from tabb.training.worlds import check_online, worlds_of
from tabb.transitions import Transitions


def read_data(spec: RunSpec, note: Callable[[str], None] = lambda text: None) -> dict[str, Loaded]:
    """The data sets of a run by domain; `note` is told how far a store of them is made.

    Raises `DataError` for files that are not there or cannot be used.
    """
    return {domain: read(files, spec.reading, store=spec.store, note=note) for domain, files in spec.files.items()}


def check_engine(loaded: dict[str, Loaded], engine: str, task: str | Task | None) -> None:
    """Raise `UsageError` for data of one engine evaluated on the other: that hides a shift as large as gravity's.

    Only robots of a `task` run on an engine that can be chosen.
    """
    for domain, data in loaded.items():
        stated = data.report.engine
        if task is not None and stated is not None and stated != engine:
            raise UsageError(
                f"{data.report.name}: the {domain} data come from engine {stated} but --engine is {engine}; "
                f"say --engine {stated} (in Python engine={stated!r})"
            )


def check_spec(spec: RunSpec) -> None:
    """Raise `UsageError` for a run that cannot work whatever its data are: reading them may take long."""
    imitation = imitation_of(spec.settings, spec.rule, spec.backbone)
    check_imitation(imitation, spec.backbone)
    if spec.store:
        check_stored(Program(spec.backbone, spec.rule, spec.settings.updates), imitation, target_stays=True)
    check_start(spec)
    check_steps(spec)


def check_start(spec: RunSpec, target: Transitions | None = None) -> None:
    """Raise `UsageError` where the run cannot start from the weights that it names.

    `target` are its data; before they are read their sizes are the task's, and unknown without one.
    """
    if spec.starting_run is None:
        return
    sized = get_task(spec.task) if target is None and spec.task is not None else target
    sizes = None if sized is None else Sizes(sized.observation_size, sized.action_size)
    spec.starting_run.check(Program(spec.backbone, spec.rule, spec.settings.updates), [spec.seed], sizes, target)


def check_steps(spec: RunSpec) -> None:
    """Raise `UsageError` where the run takes steps, and has no environment for them or a rule that cannot."""
    task = None if spec.task is None else get_task(spec.task)
    makes = (None if name is None else env_factory_of(name) for name in (spec.env, spec.source_env))
    worlds = worlds_of(spec.settings, task, *makes)
    check_online(spec.settings, spec.rule, spec.backbone, worlds)


def train_spec(
    spec: RunSpec,
    folder: Path,
    *,
    loaded: dict[str, Loaded] | None = None,
    seeds: Sequence[int] | None = None,
    progress: Style = "none",
    track: str | None = None,
    resume: bool = False,
) -> None:
    """Train the run of `spec` in `folder/seed<seed>`.

    Args:
        loaded: the data sets, where they were read before; they have passed `check_engine`.
        seeds: other seeds than the spec's: these runs, in one call of `tabb.train`.
        resume: go on with runs that the folder holds.

    Raises what `tabb.train` raises. Warnings of data are left to the caller, who knows the names of files; those of
    held-out episodes, of tracking and of the machine are a line each on standard error.
    """
    if loaded is None:
        loaded = read_data(spec)
        check_engine(loaded, spec.settings.engine, spec.task)
    origin: dict[str, Any] = {
        domain: {"files": list(files), "report": loaded[domain].report.summary()}
        for domain, files in (("source", spec.source), ("target", spec.target))
        if files is not None
    }
    without_data_warnings(
        train,
        spec.rule,
        loaded["source"].transitions if "source" in loaded else None,
        loaded["target"].transitions if "target" in loaded else None,
        task=spec.task,
        seeds=[spec.seed] if seeds is None else seeds,
        settings=spec.full_settings(),
        folder=folder,
        resume=resume,
        env_factory=env_factory_of(spec.env) if spec.env else None,
        progress=progress,
        origin=origin
        | {"env": spec.env}
        | ({"reading": stated} if (stated := spec.reading.to_dict()) else {})
        | ({"store": True} if spec.store else {})
        | ({"source_env": spec.source_env} if spec.source_env else {}),
        track=track,
        start=spec.start,
        start_parts=spec.start_parts,
        source_env=spec.source_env,
    )


def finish_run(spec: RunSpec, folder: Path, track: str | None = None) -> None:
    """Train the run in the run folder `folder`, whose name is `seed<seed>`, or go on with it; nothing if finished."""
    run = RunFolder(folder)
    if folder.name != f"seed{spec.seed}":
        raise UsageError(f"{folder}: the folder of seed {spec.seed} is called seed{spec.seed}")
    if not run.finished:
        train_spec(spec, folder.parent, track=track, resume=run.config_file.exists())


def without_data_warnings(work: Any, *arguments: Any, **options: Any) -> None:
    """Call `work` without warnings of data; those of held-out episodes, tracking and the machine are one line each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        warnings.simplefilter("always", HeldOutWarning)  # `train` alone knows
        warnings.simplefilter("always", TrackingWarning)
        warnings.simplefilter("always", MachineWarning)
        warnings.showwarning = lambda message, *_, **__: say(f"tabb: warning: {message}")
        work(*arguments, **options)
