"""The demo: TABB beside the two baselines that a user would otherwise run, on the bundled data."""

from __future__ import annotations

from pathlib import Path

from tabb.commands.options import jobs_of
from tabb.commands.train_options import DEMO_TASK, Options, place_of, specs_of
from tabb.environments.tasks import get_task
from tabb.registry import learners_of
from tabb.results.summary import summarise
from tabb.running.plan import Cell, write_plan
from tabb.running.processes import run_plan

RULES = ("tabb", "pooled", "target-only")
OPTIONS = Options(updates=15_000, evaluations=10, seeds=(0,))


def demo() -> int:
    """Train the three methods as processes on the CPU (one core each), then print and draw the comparison."""
    root = _new_folder(Path("runs") / "demo")
    print(
        f"Demo: learn to hop at half gravity ({DEMO_TASK}) from 50,000 logged transitions of the ordinary robot and\n"
        f"5,000 of the target robot, without touching either. Three methods, {OPTIONS.updates:,} updates each.\n"
    )
    learners = learners_of(RULES, None, get_task(DEMO_TASK).suites)
    place = place_of(OPTIONS, learners)
    specs = [spec for learner in learners for spec in specs_of(learner, OPTIONS, place)]
    write_plan(root, [Cell(spec.learner, f"{spec.learner}/seed{spec.seed}", spec) for spec in specs])
    failed = run_plan(root, jobs_of(None), "auto")
    print(summarise(root))
    if failed is not None:
        raise failed
    return 0


def _new_folder(wanted: Path) -> Path:
    """`wanted`, or with the first number that is free: a second demo does not touch the first."""
    folder, number = wanted, 2
    while folder.exists():
        folder = wanted.with_name(f"{wanted.name}-{number}")
        number += 1
    return folder
