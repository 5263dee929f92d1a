"""The demo: TABB beside what a user would otherwise run, on the bundled data, and which source rows it trusts."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from tabb.commands.carry_out import tell_answer
from tabb.commands.options import jobs_of, parse
from tabb.commands.train_options import DEMO_TASK, Options, place_of, specs_of
from tabb.environments.tasks import get_task
from tabb.errors import UsageError
from tabb.evaluation.figures import Curve, learning_curves
from tabb.own_files import refuse_summary_files
from tabb.registry import learners_of
from tabb.results.summary import curve_of, summarise
from tabb.running.plan import Cell, write_plan
from tabb.running.processes import run_plan
from tabb.training.checks import check_seeds
from tabb.training.folder import RunFolder

CANDIDATES = ("tabb", "target-only", "source-only", "pooled")
"""what is trained where no rule is named: TABB, either domain alone, both alike"""
ORDER = ("tabb", "target-only", "pooled", "source-only")
"""of the runs, the longest first: two cores end together, and target-only has the first curves within a minute"""


@dataclasses.dataclass(frozen=True)
class DemoOptions:
    """The demo, shorter or longer."""

    updates: int = 5_000
    """updates of each run"""
    evaluations: int = 5
    """evaluations during each run; 0 for none"""
    episodes: int = 10
    """episodes of each evaluation"""
    seeds: tuple[int, ...] = (0,)
    """training seeds, one run of each method for each"""
    jobs: int | None = None
    """runs at the same time, one core each (CPU only); as many as there are cores if not given"""
    out: Path | None = None
    """folder of the runs; runs/demo, or the first of runs/demo-2, ... that is free, if not given"""
    progress: Literal["auto", "bar", "lines", "none"] = "auto"
    """a bar on a terminal, plain lines elsewhere, or nothing"""


NAMES = tuple(f"--{field.name}" for field in dataclasses.fields(DemoOptions))


def demo(arguments: Sequence[str] = ()) -> int:
    """Train the candidates as processes on the CPU (one core each), then print and draw what came of it.

    Raises `UsageError` for options that are not the demo's; where they are those of a rule, it was forgotten.
    """
    if other := next((word.partition("=")[0] for word in arguments if _of_a_rule(word)), None):
        raise UsageError(
            f"{other}: the demo does not take it, but {', '.join(NAMES)}; name a rule before it, as in "
            f"`tabb train tabb {other} ...`, or your own data with --source and --target"
        )
    shown = parse(DemoOptions, arguments, "tabb train", "The demo: TABB beside its controls on the bundled data.")
    kept = ("updates", "evaluations", "episodes", "seeds")
    options = Options(**{name: getattr(shown, name) for name in kept})
    check_seeds(options.seeds)
    jobs = jobs_of(shown.jobs)
    root = shown.out or _new_folder(Path("runs") / "demo")
    if shown.progress != "none":
        print(
            f"Demo: learn to hop at half gravity ({DEMO_TASK}) from 50,000 logged transitions of the ordinary robot\n"
            "and 5,000 of the target robot, without touching either. "
            f"Four learners, {options.updates:,} updates each:\n"
            "  tabb         both domains, source rows as far as the target bears them out\n"
            "  target-only  the target's rows alone\n"
            "  source-only  the source's rows alone\n"
            "  pooled       both domains' rows alike\n"
        )
    learners = learners_of(ORDER, None, get_task(DEMO_TASK).suites)
    place = place_of(options, learners)
    specs = [spec for learner in learners for spec in specs_of(learner, options, place)]
    several = len(options.seeds) > 1
    cells = []
    for spec in specs:
        label = f"{spec.learner} seed {spec.seed}" if several else spec.learner
        cells.append(Cell(label, f"{spec.learner}/seed{spec.seed}", spec))
    refuse_summary_files(root, answer=True, trust=True)
    write_plan(root, cells)
    failed = run_plan(root, jobs, shown.progress, watch=LiveCurves(root, cells))
    print(summarise(root, _levels()))
    if failed is not None:
        raise failed
    tell_answer(root)
    print(_found(root, options.seeds[0]))
    return 0


def _of_a_rule(word: str) -> bool:
    """Whether a word on the command line is an option of `tabb train` with a rule, and none of the demo's."""
    name = re.split("[.=]", word)[0].removeprefix("--").removeprefix("no-").replace("-", "_")
    known = {field.name for field in dataclasses.fields(Options)} | {"rule", "backbone", "imitation", "preset", "from"}
    return word.startswith("--") and name in known - {field.name for field in dataclasses.fields(DemoOptions)}


class LiveCurves:
    """The picture of the scores while the demo runs: drawn anew whenever a run was evaluated."""

    def __init__(self, root: Path, cells: Sequence[Cell]) -> None:
        self._picture, self._updates = root / "comparison.png", cells[0].updates
        self._runs = [(cell.spec.learner, RunFolder(root / cell.folder)) for cell in cells]
        self._sizes: list[int] = []
        self._evaluations = 0

    def __call__(self) -> str | None:
        """Draw what is new. Returns where the picture lies, the first time."""
        sizes = [_size(run.metrics_file) for _, run in self._runs]
        if sizes == self._sizes:
            return None
        self._sizes = sizes
        curves: dict[str, list[Curve]] = {}
        for learner, run in self._runs:
            if evaluations := [line for line in run.metrics() if line["kind"] == "evaluation"]:
                curves.setdefault(learner, []).append(curve_of(evaluations))
        before, self._evaluations = self._evaluations, sum(len(run) for runs in curves.values() for run in runs)
        if self._evaluations == before:
            return None
        # Seeds of a learner are drawn as far as all that have begun have come.
        alike = {learner: [run[: min(map(len, runs))] for run in runs] for learner, runs in curves.items()}
        learning_curves(alike, get_task(DEMO_TASK), self._picture, levels=_levels(), updates=self._updates)
        return None if before else f"first picture: {self._picture}, drawn again at each evaluation"


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


@functools.cache
def _levels() -> Mapping[str, float]:
    """What the target's log itself has, as a score (`log_return`)."""
    from tabb.data import read
    from tabb.data.catalogue import BUNDLED, resolve
    from tabb.experiments.extraction import returns_of

    rows, report = read(resolve(BUNDLED, DEMO_TASK, "target"))
    return {"the log itself": returns_of(rows, DEMO_TASK, report.cut)}


def _found(root: Path, seed: int) -> str:
    """What the target's log holds, and which source rows hold in the target: two lines more and a picture."""
    from tabb.experiments.borne_out import as_json, borne_out, draw, in_words
    from tabb.files import write_json

    result = borne_out(root / CANDIDATES[0] / f"seed{seed}")
    picture = root / "trust.png"
    draw(result, picture)
    (logged,) = _levels().values()
    write_json(root / "trust.json", as_json(result) | {"logged": logged})
    return (
        f"\nThe target's log itself has {logged:.1f}, the mean of its episodes, each counted by its rows.\n"
        f"{in_words(result)}\n"
        f"picture: {picture}\n"
        f"next: `tabb report {root}` makes one page of it; `tabb train --source FILE --target FILE` takes your own data"
    )


def _new_folder(wanted: Path) -> Path:
    """`wanted`, or with the first number that is free: a second demo does not touch the first."""
    folder, number = wanted, 2
    while folder.exists():
        folder = wanted.with_name(f"{wanted.name}-{number}")
        number += 1
    return folder
