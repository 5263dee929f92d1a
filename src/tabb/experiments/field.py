"""What the field's methods are worth: all of them on one protocol, beside four controls.

A cell is a method on a task: source and target data of one quality, one seed, 10,000 updates, and one small JSON file,
`<out>/<task>/<method>.json`. The score is the mean of a run's last three evaluations, never its best one. The controls:

    log            the mean score of the target data's own episodes: what the policy that collected them has
    clone          imitates target rows, and knows no rewards
    target-only    learns from target rows alone
    source-only    learns from source rows alone, and is used as it is

All methods imitate as the field does: all rows alike, one policy network, no paths that the policy is held to, critics
without normalised layers (but those that IQL's policy climbs have them, since it cannot climb others). `tabb-as-it-is`
and `target-only-as-it-is` have what tabb does by default. What a method does along a run is scaled to its length.

    TABB_DATA=... python -m tabb.experiments.field --tasks hopper-gravity-0.5 >> runs/field.log 2>&1 &
    python -m tabb.experiments.field --table                                   prints the tables of what there is

Cells run one after the other, each in a process of its own, all methods on a task before the next task. A finished cell
is left alone unless its method has other constants now; a cell that was stopped goes on; one that fails says so, and
the next begins.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tabb.backbones import Backbone
from tabb.data import read
from tabb.data.catalogue import Domain, resolve
from tabb.environments.tasks import ALL_TASKS, get_task
from tabb.errors import RunError, Stopped, UsageError, meant
from tabb.experiments.benchmark import places_of, preset_for
from tabb.experiments.extraction import returns_of
from tabb.files import read_json, write_json
from tabb.models.imitation import LOGGED
from tabb.provenance import environment, fingerprint
from tabb.registry import learners_of
from tabb.rules import Rule
from tabb.running.plan import Cell, write_plan
from tabb.running.processes import run_plan
from tabb.training.config import Settings
from tabb.training.folder import RunFolder
from tabb.training.spec import RunSpec, differences

UPDATES = 10_000
WINDOW_UPDATES = 2_000
"""updates of sequence models, which see about as many rows in them: 64 windows of 20 rows each, or 256 of 5"""
EVALUATIONS = 10
LAST = 3
"""evaluations whose mean is the score"""
ROUNDS = 20
"""rounds of rollouts in a run"""
QUALITY = "medium"
LOG = "log"
"""the control that is no policy"""
CONTROLS = (LOG, "clone", "target-only", "source-only")


class Entry(NamedTuple):
    """A method of the comparison: a learner with its constants here."""

    learner: str
    """RULE or RULE@BACKBONE"""
    rule: Mapping[str, Any] = {}
    """constants of the rule that are not its defaults"""
    backbone: Mapping[str, Any] = {}
    """those of the backbone"""
    updates: int = UPDATES
    as_it_is: bool = False
    """whether it is trained as tabb does by default, rather than as the field does"""


ROLLOUTS = {"refresh_every": UPDATES // ROUNDS}
CLIMBED = {"layer_norm": True}
METHODS: dict[str, Entry] = {
    "clone": Entry("target-only@clone"),
    "target-only": Entry("target-only"),
    "source-only": Entry("source-only"),
    "target-only-as-it-is": Entry("target-only", as_it_is=True),
    "tabb-as-it-is": Entry("tabb", as_it_is=True),
    "tabb": Entry("tabb"),
    "pooled": Entry("pooled"),
    "finetune": Entry("finetune"),
    "finetune-rank-8": Entry("finetune", {"rank": 8}),
    "ptr": Entry("ptr"),
    "dara": Entry("dara"),
    "igdf": Entry("igdf"),
    "vgdf": Entry("vgdf"),
    "correct": Entry("correct"),
    "pu": Entry("pu"),
    "droco": Entry("droco"),
    "srpo": Entry("srpo"),
    "pooled@td3-bc": Entry("pooled@td3-bc"),
    "mobody": Entry("mobody", ROLLOUTS),
    "mopo": Entry("mopo", ROLLOUTS, CLIMBED),
    "mobile": Entry("mobile", ROLLOUTS, CLIMBED),
    "morel": Entry("morel", ROLLOUTS, CLIMBED),
    "dvdf": Entry("dvdf"),
    "v2a": Entry("v2a"),
    "bosa": Entry("bosa"),
    "dmc": Entry("dmc"),
    "otdf": Entry("otdf"),
    "pooled@bcq": Entry("pooled@bcq"),
    "pooled@bear": Entry("pooled@bear"),
    "pooled@cql": Entry("pooled@cql"),
    "combo": Entry("combo", ROLLOUTS),
    "target-only@dt": Entry("target-only@dt", updates=WINDOW_UPDATES),
    "pooled@dt": Entry("pooled@dt", updates=WINDOW_UPDATES),
    "reag": Entry("reag", updates=WINDOW_UPDATES),
    "reag-dara": Entry("reag-dara", updates=WINDOW_UPDATES),
    "taf-dt": Entry("taf-dt", updates=WINDOW_UPDATES),
}
"""All methods by name, in the order in which they run on a task: the costly ones last. CPQ is not among them, since the
tasks have no costs; nor are the rules for steps in an environment."""
FIELD = {"policies": 1, "layer_norm": False}
"""what the field's backbones have"""


def spec_of(name: str, task_name: str, seed: int = 0) -> RunSpec:
    """The run of a cell. Raises `UsageError` for an unknown method, `DataError` for data that are not there."""
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}: {meant(name, METHODS)}")
    entry, task = METHODS[name], get_task(task_name)
    rule, backbone = _learner(entry, preset_for(entry.learner, task), task.suites)
    imitation = None if entry.as_it_is else LOGGED
    settings = Settings(updates=entry.updates, evaluations=EVALUATIONS, imitation=imitation)
    domains: tuple[Domain, Domain] = ("source", "target")
    files = [tuple(str(file.resolve()) for file in resolve(QUALITY, task.name, domain)) for domain in domains]
    source = files[0] if rule.reads(backbone.batch_size)[0] else None
    return RunSpec(rule, backbone, source, files[1], task.name, None, seed, settings)


def _learner(entry: Entry, preset: str | None, suites: Sequence[str]) -> tuple[Rule, Backbone]:
    """Rule and backbone, with the constants that their authors use on the task."""
    (chosen,) = learners_of([entry.learner], preset, suites)
    made: Any = chosen.backbone
    own = {} if entry.as_it_is else {name: value for name, value in FIELD.items() if hasattr(made, name)}
    return dataclasses.replace(chosen.rule, **entry.rule), dataclasses.replace(made, **{**own, **entry.backbone})


# --- Cells ---


def cell_file(out: Path, task: str, name: str) -> Path:
    """The file of a cell."""
    return out / task / f"{name}.json"


def finished(file: Path, spec: RunSpec) -> bool:
    """Whether the cell is there, and was trained with the constants that its method has now."""
    if not file.exists():
        return False
    cell = read_json(file)
    return not differences({**cell, "origin": {}}, spec)


def run_cell(name: str, spec: RunSpec, runs: Path) -> dict[str, Any]:
    """Train a cell's run below the folder `runs`, or go on with it, and return the cell as JSON types.

    Raises `RunError` where the run fails.
    """
    # A run with other constants has another folder.
    number = hashlib.sha256(json.dumps(spec.to_json(), sort_keys=True).encode()).hexdigest()[:8]
    folder = RunFolder(runs / str(spec.task) / f"{name}-{number}" / f"seed{spec.seed}")
    root = folder.path.parent
    write_plan(root, [Cell(f"{spec.task} {name}", folder.path.name, spec)], replace=True)
    failed = run_plan(root, 1, "none")
    if failed is not None:
        raise failed
    return cell_of(name, read_json(folder.result_file), folder.config())


def cell_of(name: str, result: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a run, from its `result.json` and `config.json`."""
    curve = [round(point["mean"], 2) for point in result["evaluations"]]
    return {
        "method": name,
        "task": result["task"],
        "quality": QUALITY,
        "seed": result["seed"],
        "score": round(float(np.mean(curve[-LAST:])), 2),
        "curve": curve,
        "seconds": {part: round(seconds, 1) for part, seconds in result["seconds"].items()},
        "rule": config["rule"],
        "settings": config["settings"],
        "data": config["data"],
        "environment": result["environment"],
    }


def log_cell(task: str) -> dict[str, Any]:
    """The control that is the target data themselves."""
    rows, report = read(resolve(QUALITY, task, "target"))
    return {
        "method": LOG,
        "task": task,
        "quality": QUALITY,
        "score": round(returns_of(rows, task, report.cut), 2),
        "data": {"target": fingerprint(rows)},
        "environment": environment(),
    }


def run_all(tasks: Sequence[str], names: Sequence[str], out: Path, runs: Path) -> list[str]:
    """Run the cells that are missing, and write each as it is finished; returns the names of those that failed.

    Raises `Stopped` after Ctrl-C, SIGTERM or SIGHUP; the running cell has saved its state.
    """
    specs = {(task, name): spec_of(name, task) for task in tasks for name in names}  # a wrong name is told at once
    failed = []
    for task in tasks:
        if not (file := cell_file(out, task, LOG)).exists():
            _keep(file, log_cell(task))
        for name in names:
            spec, file = specs[task, name], cell_file(out, task, name)
            if finished(file, spec):
                continue
            _say(f"{task} {name}: begins")
            try:
                cell = run_cell(name, spec, runs)
            except Stopped:
                raise
            except RunError as error:
                failed.append(f"{task} {name}")
                _say(f"{task} {name}: failed: {error}")
                continue
            _keep(file, cell)
    return failed


def _keep(file: Path, cell: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, cell)
    seconds = sum(cell.get("seconds", {}).values())
    _say(f"{cell['task']} {cell['method']}: {cell['score']:z.1f} in {seconds:.0f} s")


def _say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S}  {text}", flush=True)


# --- Tables ---

Cells = dict[str, dict[str, dict[str, Any]]]
"""finished cells by task and method"""
Scores = dict[str, dict[str, float]]
"""their scores"""


def read_cells(out: Path) -> Cells:
    """All cells in the folder, in the order of tasks and methods."""
    found: Cells = {}
    for task in ALL_TASKS:
        files = {name: cell_file(out, task, name) for name in (LOG, *METHODS)}
        cells = {name: read_json(file) for name, file in files.items() if file.exists()}
        if cells:
            found[task] = cells
    return found


def scores_of(cells: Cells) -> Scores:
    """The scores of cells."""
    return {task: {name: float(cell["score"]) for name, cell in row.items()} for task, row in cells.items()}


def ranks(row: Mapping[str, float]) -> dict[str, float]:
    """1 for the best of a task; those with the same score share the mean of their places."""
    values = list(row.values())
    return {
        name: 1.0 + sum(other > score for other in values) + (sum(other == score for other in values) - 1) / 2
        for name, score in row.items()
    }


def bar(row: Mapping[str, float]) -> float | None:
    """The best of a task's controls, which a method must beat to be worth its name; None unless all are there."""
    return max(row[name] for name in CONTROLS) if all(name in row for name in CONTROLS) else None


def score_table(scores: Scores) -> str:
    """Scores as Markdown: a line for each method, a column for each task; bold: above all four controls."""
    if not scores:
        return "Not measured yet."
    lines = [f"| | {' | '.join(scores)} |", "|---" * (len(scores) + 1) + "|"]
    for name in (LOG, *METHODS):
        cells = []
        for row in scores.values():
            least = bar(row)
            text = f"{row[name]:z.1f}" if name in row else "-"
            beats = name in row and name not in CONTROLS and least is not None and row[name] > least
            cells.append(f"**{text}**" if beats else text)
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def rank_table(scores: Scores) -> str:
    """Each method over all tasks on which it was run, the best mean rank first, as Markdown.

    Ranks are among what was run on a task, the controls included.
    """
    rows = {task: row for task, row in scores.items() if bar(row) is not None}
    if not rows:
        return "Not measured yet."
    placed = {task: ranks(row) for task, row in rows.items()}
    heads = (
        "",
        "tasks",
        "mean rank",
        "mean score",
        "above `target-only`",
        "better than it",
        "better than all controls",
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    found = []
    for name in (LOG, *METHODS):
        on = [task for task, row in rows.items() if name in row]
        if not on:
            continue
        own = np.array([rows[task][name] for task in on])
        gain = own - np.array([rows[task]["target-only"] for task in on])
        best = np.array([bar(rows[task]) for task in on], float)
        rank = float(np.mean([placed[task][name] for task in on]))
        control = name in CONTROLS
        text = (
            f"| `{name}` | {len(on)} | {rank:.1f} | {own.mean():z.1f} | {gain.mean():+z.1f} | {(gain > 0).sum()} "
            f"| {'-' if control else (own > best).sum()} |"
        )
        found.append((rank, text))
    return "\n".join([*lines, *(text for _, text in sorted(found, key=lambda one: one[0]))])


def best_controls(scores: Scores) -> str:
    """On how many tasks each control is the best one, as a sentence."""
    rows = [row for row in scores.values() if bar(row) is not None]
    if not rows:
        return "Not measured yet."
    best = [max(CONTROLS, key=lambda name: row[name]) for row in rows]
    counts = sorted(((best.count(name), name) for name in CONTROLS), key=lambda one: -one[0])
    told = ", ".join(f"`{name}` on {count}" for count, name in counts)
    return f"The best of the four controls, over {len(rows)} task{'s' if len(rows) > 1 else ''}: {told}."


def picking(cells: Cells) -> str:
    """What it would add to report each run's best evaluation in place of its last ones, as a sentence."""
    runs = [cell for row in cells.values() for cell in row.values() if "curve" in cell]
    if not runs:
        return "Not measured yet."
    gains = np.array([max(cell["curve"]) - cell["score"] for cell in runs])
    return (
        f"Over {len(runs)} runs the best of {EVALUATIONS} evaluations is {gains.mean():z.1f} above the mean of the "
        f"last {LAST} on average, and {gains.max():z.1f} at most."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = [place.task for place in places_of("otdf", (), (), (QUALITY,), (QUALITY,))]
    parser.add_argument("--tasks", nargs="+", choices=tasks, default=tasks, metavar="TASK")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/field"), help="folder of the cells")
    parser.add_argument("--runs", type=Path, default=Path("runs/field"), help="folder of the runs behind them")
    parser.add_argument("--table", action="store_true", help="run nothing; print the tables of finished cells")
    options = parser.parse_args()
    if options.table:
        cells = read_cells(options.out)
        scores = scores_of(cells)
        print(score_table(scores), rank_table(scores), best_controls(scores), picking(cells), sep="\n\n")
        return 0
    try:
        failed = run_all(options.tasks, options.methods, options.out, options.runs)
    except Stopped as stopped:
        _say("stopped and saved; the same command goes on")
        return stopped.exit_code
    _say("through" if not failed else f"through; failed: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
