"""A plan: the runs of a folder, as `plan.json` lists them, so that a stopped plan is resumed whole.

Finished runs are left alone, started ones go on, the others begin; those that failed before come last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tabb.errors import RunError
from tabb.files import quoted, read_json, write_json
from tabb.own_files import refuse_inside_run
from tabb.training.folder import RunFolder
from tabb.training.spec import RunSpec

PLAN = "plan.json"
FAILED = "failed.json"
"""the runs of a plan that ended with an error: its last line by run folder"""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a plan."""

    label: str
    folder: str
    """Run folder, relative to the plan's."""
    spec: RunSpec

    @property
    def updates(self) -> int:
        return self.spec.settings.updates


def write_plan(root: Path, cells: Sequence[Cell], replace: bool = False) -> None:
    """Write the plan into a new folder.

    Raises:
        RunError: the folder holds a plan already, unless that is to be replaced. Of two processes that begin at once,
            one gets this.
        UsageError: a rule or backbone that no other process can import.
    """
    for cell in cells:
        cell.spec.check_importable()
    refuse_inside_run(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{root}: cannot be made ({error.strerror}); choose another folder") from None
    if (root / FAILED).exists() and not (root / PLAN).exists():
        raise RunError(f"{root}: holds {FAILED} but no plan of tabb, which writes such a file; choose another folder")
    lines = [{"label": cell.label, "folder": cell.folder, "spec": cell.spec.to_json()} for cell in cells]
    try:
        write_json(root / PLAN, {"cells": lines}, new=not replace)
    except FileExistsError:
        raise RunError(
            f"{root}: already holds runs; go on with `tabb train --resume {quoted(root)}`, or choose another folder "
            "with --out"
        ) from None


COMPARED = 4
"""words of a run folder of a comparison, <task>/<data>/<method>/seed<k>; those in plans of `tabb train` have fewer"""


def refuse_comparison(root: Path, wanted: bool = False) -> None:
    """Raise `RunError` where `root` holds the plan of a comparison, or if one is `wanted`, a plan of other runs.

    One in the place of the other would leave its runs without a plan.
    """
    if not (root / PLAN).exists():
        return
    if any((len(Path(line["folder"]).parts) == COMPARED) != wanted for line in plan_lines(root)):
        made = "`tabb train`" if wanted else "`tabb benchmark` or `tabb ablate`"
        raise RunError(f"{root}: already holds the runs of {made}; choose another folder with --out")


def plan_lines(root: Path) -> list[dict[str, Any]]:
    """The cells of a plan as its file has them. Raises `RunError` for a file that is no plan."""
    try:
        lines = read_json(root / PLAN)["cells"]
        if not all(isinstance(line["label"], str) and isinstance(line["folder"], str) for line in lines):
            raise TypeError("a cell without label or folder")
    except (KeyError, TypeError) as error:
        raise RunError(f"{root / PLAN}: is not a plan of tabb ({error}); start the runs again") from None
    return lines


def read_plan(root: Path) -> list[Cell]:
    """The cells of a plan. Raises `RunError` for a file that is none, or one of an earlier version."""
    cells = []
    for line in plan_lines(root):
        if "spec" not in line:
            raise RunError(f"{root / PLAN}: is of an earlier tabb; go on with `tabb train --resume {quoted(root)}`")
        try:
            cells.append(Cell(line["label"], line["folder"], RunSpec.from_json(line["spec"])))
        except RunError as error:
            raise RunError(f"{root / PLAN}, {line['label']}: {error}") from None
    return cells


def unfinished(root: Path, only: Path | None = None) -> list[Cell]:
    """The cells of the plan that have no result yet, those that failed before last; `only` those in this folder."""
    failed = failures(root)
    cells = [cell for cell in read_plan(root) if not RunFolder(root / cell.folder).finished]
    if only is not None:
        cells = [cell for cell in cells if (root / cell.folder).resolve().is_relative_to(only.resolve())]
    return sorted(cells, key=lambda cell: cell.folder in failed)


def failures(root: Path) -> dict[str, str]:
    """The last line of each run that failed, by run folder."""
    return read_json(root / FAILED) if (root / FAILED).exists() else {}


def note_failure(root: Path, cell: Cell, reason: str) -> None:
    """Keep that a run failed, until `forget_failures`."""
    write_json(root / FAILED, failures(root) | {cell.folder: reason})


def forget_failures(root: Path, cells: Iterable[Cell]) -> None:
    """Runs that have finished after all are no failures."""
    before = failures(root)
    finished = {cell.folder for cell in cells if RunFolder(root / cell.folder).finished}
    after = {folder: reason for folder, reason in before.items() if folder not in finished}
    if after != before:
        if after:
            write_json(root / FAILED, after)
        else:
            (root / FAILED).unlink(missing_ok=True)


def failed_runs(root: Path, failed: Sequence[tuple[Cell, str]]) -> RunError | None:
    """The error that names the runs of a plan that failed, once the others are through; None if none did."""
    if not failed:
        return None
    go_on = f"; try again with `tabb train --resume {quoted(root)}`"
    if len(failed) == 1:
        (cell, reason) = failed[0]
        return RunError(f"{cell.label}: {reason}{go_on}")
    reasons = "; ".join(f"{cell.label}: {reason}" for cell, reason in failed)
    return RunError(f"{len(failed)} runs failed: {reasons}{go_on}")


def changed_data(root: Path) -> RunError | None:
    """The error that names two runs of a plan with the same data files but other rows in them; None if there are none.

    The files changed between the runs (a log that grows), and a table would compare methods on unlike data.
    """
    first: dict[tuple[object, ...], tuple[str, str]] = {}
    for cell in read_plan(root):
        run, settings, files = RunFolder(root / cell.folder), cell.spec.settings, dict(cell.spec.files)
        data = (run.config().get("data") or {}) if run.config_file.exists() else {}
        if not cell.spec.rule.reads(cell.spec.backbone.batch_size)[0]:
            files.pop("source", None)  # a run that draws none of its rows has none on record
        for domain in files.keys() & data.keys():
            limit = getattr(settings, f"{domain}_rows")
            drawn = None if limit is None else (limit, settings.rows_seed)
            key = (domain, *files[domain], str(cell.spec.reading), drawn, cell.spec.task)
            rows, label = first.setdefault(key, (data[domain], cell.label))
            if rows != data[domain]:
                return RunError(
                    f"{cell.label} learned from other {domain} data than {label}, for {files[domain][0]} changed "
                    "between them: the two cannot be compared; train all runs again, in another folder"
                )
    return None


def log_file(root: Path, cell: Cell) -> Path:
    """Where the output of a cell's process goes."""
    folder = root / cell.folder
    return folder.parent / f"{folder.name}.log"
