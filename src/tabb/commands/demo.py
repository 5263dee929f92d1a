"""The demo: TABB beside what a user would otherwise run, on the bundled data, and which source rows it trusts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tabb.commands.options import jobs_of, parse
from tabb.commands.train_options import DEMO_TASK, Options, place_of, specs_of
from tabb.environments.tasks import get_task
from tabb.errors import UsageError
from tabb.registry import learners_of, rule_names
from tabb.results.summary import summarise
from tabb.running.plan import Cell, write_plan
from tabb.running.processes import run_plan
from tabb.training.checks import check_seeds

CANDIDATES = ("tabb", "target-only", "source-only", "pooled")
"""what is trained where no rule is named: TABB, either domain alone, both alike"""
PRESET = "trust"
"""of all four: the settings with which TABB says best which source rows the target bears out"""


@dataclasses.dataclass(frozen=True)
class DemoOptions:
    """The demo, shorter or longer."""

    updates: int = 6_000
    """updates of each run"""
    evaluations: int = 6
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

    Raises `UsageError` for options that are not the demo's: then a rule was forgotten.
    """
    other = [word.partition("=")[0] for word in arguments if re.match("--[a-z]", word)]
    other = [word for word in other if word.replace("_", "-") not in NAMES]
    if other:
        raise UsageError(
            f"{other[0]}: name the rule first, e.g. `tabb train tabb {other[0]} ...`: one or more of "
            f"{', '.join(rule_names())}; without a rule it is the demo, which takes {', '.join(NAMES)}, or your own "
            "data with --source and --target"
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
    learners = learners_of(CANDIDATES, PRESET, get_task(DEMO_TASK).suites)
    place = place_of(options, learners)
    specs = [spec for learner in learners for spec in specs_of(learner, options, place)]
    several = len(options.seeds) > 1
    cells = []
    for spec in specs:
        label = f"{spec.learner} seed {spec.seed}" if several else spec.learner
        cells.append(Cell(label, f"{spec.learner}/seed{spec.seed}", spec))
    write_plan(root, cells)
    failed = run_plan(root, jobs, shown.progress)
    print(summarise(root))
    if failed is not None:
        raise failed
    print(_found(root, options.seeds[0]))
    return 0


def _found(root: Path, seed: int) -> str:
    """What the target's log holds, and which source rows the target bears out: two lines more and a picture."""
    from tabb.data import read
    from tabb.data.catalogue import BUNDLED, resolve
    from tabb.experiments.borne_out import as_json, borne_out, draw, in_words
    from tabb.experiments.extraction import returns_of
    from tabb.files import write_json

    target = read(resolve(BUNDLED, DEMO_TASK, "target")).transitions
    result = borne_out(root / CANDIDATES[0] / f"seed{seed}")
    picture = root / "trust.png"
    draw(result, picture)
    logged = returns_of(target, DEMO_TASK)
    write_json(root / "trust.json", as_json(result) | {"logged": logged})
    return (
        f"\nThe target's log itself has {logged:.1f} in the mean of its episodes.\n"
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
