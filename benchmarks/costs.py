"""Costs of each method: time of an update relative to pooled IQL, preparation, and peak memory.

    python benchmarks/costs.py [--robot hopper] [--learners tabb dara ...] [--json FILE]

The data are random, 100,000 source and 5,000 target rows. Every method has its own process, so that the peak of memory
is its own, and takes turns there with pooled IQL. benchmarks/README.md explains the table.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

POOLED = "pooled"
LEARNERS = (
    *("target-only", "tabb", "dara", "srpo", "igdf", "dvdf", "droco", "otdf"),
    *("pooled@td3-bc", "tabb@td3-bc", "bosa", "pooled@cql", "tabb@cql", "pooled@bcq"),
    *("finetune", "ptr", "vgdf", "correct", "pu", "mopo", "combo", "mobile", "pooled@bear", "target-only@clone"),
    *("mobody", "morel", "dmc", "v2a", "cpq", "pooled@dt", "reag", "reag-dara", "taf-dt"),
)
TURN = 0.7
"""seconds of a turn, about"""


def measure(name: str, robot: str, rounds: int, kind: str) -> dict[str, Any]:
    """Costs of one learner, measured in this process."""
    from contenders import our_contender
    from random_data import ROBOTS, random_domains, with_costs
    from tabb.batch import Domains
    from tabb.registry import learners_of
    from timing import Times, take_turns

    sizes = ROBOTS[robot]
    domains = random_domains(sizes)

    def ready(name: str) -> Any:
        (learner,) = learners_of([name])
        read = Domains(*map(with_costs, domains[:2]), domains.normaliser) if learner.rule.extras else domains
        return our_contender(learner.backbone, learner.rule, read, sizes, kind)

    method = ready(name)
    updates = max(1, round(TURN / method.turn(4)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    pooled = ready(POOLED)
    turns = {name: lambda: method.turn(updates), POOLED: lambda: pooled.turn(100)}
    *_, times = take_turns(turns, rounds)
    return {
        "prepare_seconds": method.prepare_seconds,
        "compile_seconds": method.compile_seconds,
        "time_relative_to_pooled": {
            field: getattr(times[name], field) / getattr(times[POOLED], field) for field in Times._fields
        },
        "peak_memory_mib": peak / 2**20,
    }


def in_own_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """`measure` in a new interpreter."""
    command = [sys.executable, __file__, "--one", name, "--robot", options.robot]
    command += ["--rounds", str(options.rounds), "--clock", options.clock]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def table(results: dict[str, dict[str, Any]]) -> str:
    """The costs as a Markdown table."""
    lines = [
        "| method | time of an update / pooled | preparation, s | compilation, s | peak memory, MiB |",
        "|---|---|---|---|---|",
    ]
    for name, result in results.items():
        ratio = result["time_relative_to_pooled"]
        preparation = sum(result["prepare_seconds"].values())
        lines.append(
            f"| `{name}` | {ratio['least']:.2f} / {ratio['median']:.2f} | {preparation:.0f} "
            f"| {result['compile_seconds']:.1f} | {result['peak_memory_mib']:,.0f} |"
        )
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    from random_data import ROBOTS
    from timing import CLOCKS, threads

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robot", choices=sorted(ROBOTS), default="hopper", help="robot whose sizes the data have")
    parser.add_argument(
        "--learners", nargs="+", default=LEARNERS, metavar="RULE[@BACKBONE]", help="learners to measure"
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns of each")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: on a shared core (one thread only)")
    parser.add_argument("--note", default="", help="a line about the machine for the result file")
    parser.add_argument(
        "--json",
        type=Path,
        help="result file; methods in it that are not measured now stay as they are",
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.clock == "processor" and threads() > 1:
        parser.error("--clock processor counts all threads together: pin the process to one core (taskset -c 0)")
    return options


def main() -> None:
    options = parse()
    if options.one:
        print(json.dumps(measure(options.one, options.robot, options.rounds, options.clock)))
        return
    from timing import machine, rounded

    how = {"robot": options.robot, "clock": options.clock}
    results: dict[str, dict[str, Any]] = {}
    if options.json and options.json.exists():
        before = json.loads(options.json.read_text())
        if {name: before[name] for name in how} != how:
            raise SystemExit(f"{options.json}: has another robot or clock; choose another file")
        results = before["learners"]
    for name in options.learners:
        about = {"command": " ".join(["python", *sys.argv]), "note": options.note, "machine": machine()}
        results[name] = in_own_process(name, options) | {"rounds": options.rounds} | about
        print(name, json.dumps(rounded(results[name])), file=sys.stderr, flush=True)
        if options.json:  # after each method, because some prepare for many minutes
            options.json.write_text(json.dumps(rounded(how | {"learners": results}), indent=2) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
