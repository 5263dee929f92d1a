"""Plans of tabb 0.x, whose cells were options of `tabb train`: they are resumed as specs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tabb.commands.train_options import parse_train, place_of, specs_of
from tabb.errors import RunError, TabbError
from tabb.running.plan import PLAN, Cell, plan_lines, write_plan
from tabb.training.folder import RunFolder
from tabb.training.spec import RunSpec


def upgrade_plan(root: Path) -> None:
    """Write a plan of options anew as one of specs; a plan of specs stays as it is.

    A run that was started is what its `config.json` says, wherever its options would lead now. Raises `RunError` for
    options that this version does not have.
    """
    lines = plan_lines(root)
    if all("spec" in line for line in lines):
        return
    write_plan(root, [_cell(root, line) for line in lines], replace=True)


def _cell(root: Path, line: dict[str, Any]) -> Cell:
    config_file = RunFolder(root / line["folder"]).config_file
    try:
        if "spec" in line:
            spec = RunSpec.from_json(line["spec"])
        elif config_file.exists():
            spec = RunSpec.from_config(RunFolder(root / line["folder"]).config())
        else:
            name, *options = line["arguments"]
            learners, parsed = parse_train([name], options)
            (spec,) = specs_of(learners[0], parsed, place_of(parsed, learners))
    except (TabbError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{root / PLAN}, {line['label']}: cannot be read by this version of tabb ({error}); start these runs again "
            "in another folder"
        ) from None
    return Cell(line["label"], line["folder"], spec)
