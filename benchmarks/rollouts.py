"""Seconds of an evaluation with robots that are stepped one by one or together, and of the policy's calls.

    python benchmarks/rollouts.py [--episodes 10] [--steps 1000] [--json FILE]

Every episode has all of its steps, and the policy (256 x 256) has random weights. benchmarks/README.md explains the
table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))

from latency import random_policy
from tabb.environments.lanes import Lanes, OneByOne
from tabb.environments.make_robot import make_robot
from tabb.environments.rollout import one_blas_thread
from tabb.environments.task_lanes import threads_for
from tabb.environments.tasks import get_task
from tabb.policy import Policy
from timing import CLOCKS, machine, rounded, seconds, take_turns, threads

ROBOTS = ("hopper", "halfcheetah", "walker2d", "ant")
REFERENCE = "one by one"


def forced_episodes(lanes: Lanes, policy: Policy, episodes: int, steps: int, bound: bool = True) -> float:
    """Sum of all rewards. A robot that has fallen is stepped further, so that no episode is short.

    `bound`: the policy's products use one thread, as in a rollout.
    """
    every, total = list(range(episodes)), 0.0
    with one_blas_thread() if bound else contextlib.nullcontext():
        observations = lanes.reset(0, episodes)
        for _ in range(steps):
            observations, rewards, _, _ = lanes.step(every, policy.act(observations))
            total += rewards.sum()
    lanes.close()
    return total


def contenders(robot: str, episodes: int, steps: int) -> dict[str, Callable[[], Any]]:
    """Whole evaluations, from building the robots to closing them, and the policy's calls alone."""
    from tabb.environments.batched_lanes import BatchedLanes  # needs MuJoCo 4; `evaluation.py` does not

    task = get_task(robot)
    policy = random_policy("policy", task.observation_size, task.action_size)
    inputs = np.random.default_rng(0).normal(size=(episodes, task.observation_size)).astype(np.float32)

    def together(count: int) -> Callable[[], float]:
        return lambda: forced_episodes(BatchedLanes(make_robot(task), episodes, count), policy, episodes, steps)

    def alone(bound: bool) -> Callable[[], float]:
        return lambda: forced_episodes(OneByOne(lambda: make_robot(task)), policy, episodes, steps, bound)

    evaluations: dict[str, Callable[[], Any]] = {REFERENCE: alone(True)}
    for count in sorted({1, threads_for(episodes)}):
        evaluations[f"together, {count} thread(s)"] = together(count)
    results = [call() for call in evaluations.values()]
    if len(set(results)) > 1:
        sys.exit(f"{robot}: the ways do not agree on the rewards: {results}")
    if threads() > 1:
        evaluations["one by one, BLAS on all cores"] = alone(False)

    def policy_alone() -> None:
        with one_blas_thread():
            for _ in range(steps):
                policy.act(inputs)

    return evaluations | {"policy alone": policy_alone}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robots", nargs="+", choices=ROBOTS, default=ROBOTS)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1_000, help="of each episode")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--note", default="", help="a line about the machine for the result file")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)

    table = Table(title=f"{options.episodes} episodes of {options.steps} steps, seconds by the {options.clock} clock")
    table.add_column("robot")
    table.add_column("how")
    for heading in ("best / median", f"{REFERENCE} / this"):
        table.add_column(heading, justify="right")
    results: dict[str, Any] = {}
    with console.status("measuring"):
        for robot in options.robots:
            calls = contenders(robot, options.episodes, options.steps)
            timed = {name: lambda call=call: seconds(options.clock, call) for name, call in calls.items()}
            *_, times = take_turns(timed, options.rounds)
            results[robot] = {name: taken._asdict() for name, taken in times.items()}
            for name, taken in times.items():
                ratios = [f"{a / b:.2f}" for a, b in zip(times[REFERENCE], taken, strict=True)]
                table.add_row(robot, name, f"{taken.least:.3f} / {taken.median:.3f}", " / ".join(ratios))
    console.print(table)
    if options.json:
        sizes = {name: getattr(options, name) for name in ("episodes", "steps", "rounds", "clock", "note")}
        result = sizes | {"machine": machine(), "seconds": results}
        options.json.write_text(json.dumps(rounded(result), indent=2) + "\n")


if __name__ == "__main__":
    main()
