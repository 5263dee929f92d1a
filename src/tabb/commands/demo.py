"""The demo: TABB beside the two baselines that a user would otherwise run, on the bundled data."""

from __future__ import annotations

from pathlib import Path

from tabb.commands.options import jobs_of
from tabb.commands.train import DEMO_TASK
from tabb.results.summary import summarise
from tabb.running.plan import Cell, run_plan, write_plan

RULES = ("tabb", "pooled", "target-only")
UPDATES = 15_000
EVALUATIONS = 10
SEED = 0


def demo() -> int:
    """Train the three methods as processes on the CPU (one core each), then print and draw the comparison."""
    root = _new_folder(Path("runs") / "demo")
    print(
        f"Demo: learn to hop at half gravity ({DEMO_TASK}) from 50,000 logged transitions of the ordinary robot and\n"
        f"5,000 of the target robot, without touching either. Three methods, {UPDATES:,} updates each.\n"
    )
    options = ["--updates", str(UPDATES), "--evaluations", str(EVALUATIONS), "--seeds", str(SEED)]
    write_plan(root, [Cell(rule, f"{rule}/seed{SEED}", [rule, *options], UPDATES) for rule in RULES])
    run_plan(root, jobs_of(None), "auto")
    print(summarise(root))
    return 0


def _new_folder(wanted: Path) -> Path:
    """`wanted`, or with the first number that is free: a second demo does not touch the first."""
    folder, number = wanted, 2
    while folder.exists():
        folder = wanted.with_name(f"{wanted.name}-{number}")
        number += 1
    return folder
