"""The parts of a run besides updates: seconds of evaluating, loading and writing, and their share of a whole run.

    python benchmarks/evaluation.py [--rate UPDATES_PER_SECOND] [--json FILE]

A run of 100,000 updates evaluates 20 times, writes 20 checkpoints and loads one source and one target file.
Data and policy are random. benchmarks/README.md explains the table.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import jax
import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))

from random_data import EPISODE, ROBOTS, random_domains, random_transitions
from rollouts import forced_episodes
from tabb.backbones.iql import IQL
from tabb.data import from_arrays, load
from tabb.environments.task_lanes import lanes_of
from tabb.environments.tasks import get_task
from tabb.policy import Policy
from tabb.rules.baselines import Pooled
from tabb.training.checkpoint import save_tree
from tabb.training.drawing import pack_data
from tabb.training.loop import Program, compiled_updates
from timing import machine, rounded, seconds, threads

UPDATES, EVALUATIONS, CHECKPOINTS = 100_000, 20, 20
EPISODES, STEPS = 10, 1_000
ROWS, TARGET_ROWS = 1_000_000, 5_000
TURNS = 3
"""turns of each measurement; the shortest counts"""
MOST = 0.10
"""largest share of a run that these parts may take together"""


class Duty(NamedTuple):
    """A part of a run besides updates."""

    call: Callable[[], Any]
    times: int
    """how often a run does it"""


def logged(rows: int) -> dict[str, np.ndarray]:
    """Columns of a log of `rows` hopper steps under the names of the D4RL layout."""
    data = random_transitions(ROBOTS["hopper"], rows, 2)
    return {
        "observations": np.asarray(data.observation),
        "actions": np.asarray(data.action),
        "rewards": np.asarray(data.reward),
        "next_observations": np.asarray(data.next_observation),
        "terminals": np.asarray(data.terminal, bool),
        "timeouts": np.arange(1, rows + 1) % EPISODE == 0,
    }


def write_gzip(path: Path, columns: dict[str, np.ndarray]) -> Path:
    with h5py.File(path, "w") as file:
        for name, column in columns.items():
            file.create_dataset(name, data=column, compression="gzip")
    return path


def measured_rate() -> float:
    """Updates per second of pooled IQL, the fastest learner, beside which the other parts have the largest share."""
    sizes = ROBOTS["hopper"]
    data = pack_data(random_domains(sizes), {})
    learner, key = Program(IQL(), Pooled(), UPDATES), jax.random.key(0)
    state = learner.init(sizes, key)

    def run() -> Any:
        nonlocal state
        state, metrics = compiled_updates(learner, (), data, key, state, 0, 200)
        return state, metrics

    run()
    return 200 / min(seconds("wall", run) for _ in range(TURNS))


def duties(folder: Path) -> dict[str, Duty]:
    """The functions that are timed."""
    sizes = ROBOTS["hopper"]
    domains = random_domains(sizes, 1_000, 1_000)
    state = Program(IQL(), Pooled(), UPDATES).init(sizes, jax.random.key(0))
    policy = Policy.from_networks(state.policy, domains.normaliser)
    columns = logged(ROWS)
    source = write_gzip(folder / "source.hdf5", columns)
    target = write_gzip(folder / "target.hdf5", logged(TARGET_ROWS))

    def run_policy() -> float:
        return forced_episodes(lanes_of(get_task("hopper"), "legacy", EPISODES), policy, EPISODES, STEPS)

    return {
        f"evaluation, {EPISODES} hopper episodes of {STEPS} steps": Duty(run_policy, EVALUATIONS),
        "checkpoint of pooled IQL": Duty(lambda: save_tree(folder / "checkpoint.npz", state, {}), CHECKPOINTS),
        f"load gzip HDF5, source of {ROWS:,} rows": Duty(lambda: load(source), 1),
        f"load gzip HDF5, target of {TARGET_ROWS:,} rows": Duty(lambda: load(target), 1),
        f"from_arrays, {ROWS:,} rows (instead of a file)": Duty(lambda: from_arrays(**columns), 0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, help="updates per second; measured (pooled IQL) if not given")
    parser.add_argument("--note", default="", help="a line about the machine for the result file")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)

    rate = options.rate or measured_rate()
    training = UPDATES / rate
    table = Table(title=f"beside {UPDATES:,} updates at {rate:.0f}/s ({training:.0f} s), {threads()} thread(s)")
    table.add_column("what")
    for heading in ("seconds", "times", "share of the run"):
        table.add_column(heading, justify="right")
    results, extra = {}, 0.0
    with tempfile.TemporaryDirectory() as folder, console.status("measuring"):
        for name, duty in duties(Path(folder)).items():
            taken = min(seconds("wall", duty.call) for _ in range(TURNS))
            results[name] = {"seconds": taken, "times": duty.times, "share": taken * duty.times / training}
            extra += taken * duty.times
            share = f"{results[name]['share']:.2%}" if duty.times else "-"
            table.add_row(name, f"{taken:.3f}", str(duty.times), share)
    share = extra / training
    table.add_row("all", f"{extra:.1f}", "", f"{share:.2%}")
    console.print(table)
    if options.json:
        result = {
            "note": options.note,
            "machine": machine(),
            "updates_per_second": rate,
            "duties": results,
            "share": share,
        }
        options.json.write_text(json.dumps(rounded(result), indent=2) + "\n")
    if share > MOST:
        sys.exit(f"{share:.1%} of a run goes into other things than updates: more than {MOST:.0%}")


if __name__ == "__main__":
    main()
