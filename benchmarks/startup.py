"""How long it takes until tabb is imported and its command says something, as ratios to a Python that does nothing.

    python benchmarks/startup.py --modules 10
    taskset -c 0 python benchmarks/startup.py --clock processor --json startup.json

The contenders take turns, each in a process of its own. A ratio tells more than seconds on another machine: starting
Python itself is the unit.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from timing import machine, rounded, take_turns

COMMAND = "import sys; from tabb.cli import console; sys.argv = ['tabb', {}]; console()"
"""what the script `tabb` does, in the Python that measures"""
CONTENDERS = {
    "python -c pass": "pass",
    "import numpy": "import numpy",
    "import tabb": "import tabb",
    "tabb --help": COMMAND.format("'--help'"),
    "tabb --version": COMMAND.format("'--version'"),
    "tabb tasks": COMMAND.format("'tasks'"),
    "tabb report --help": COMMAND.format("'report', '--help'"),
    "tabb train --help": COMMAND.format("'train', '--help'"),
    "import jax": "import jax",
}
LIMITS = {"import tabb": 0.3, "tabb --help": 0.7}
"""seconds that the project allows itself on its own machine"""


def seconds(code: str, clock: str) -> float:
    """Seconds of a new Python that runs `code`: wall-clock time, or the time that it had on a processor."""
    begin = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{code} ended with {child.returncode}")
    return used.ru_utime + used.ru_stime if clock == "processor" else time.perf_counter() - begin


def slowest(code: str, count: int) -> list[tuple[str, float]]:
    """The modules whose own code takes longest on import, and their seconds."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], check=True, capture_output=True, text=True)
    lines = re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)$", done.stderr, re.M)
    return sorted(((name, int(own) / 1e6) for own, name in lines), key=lambda one: -one[1])[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contender (default: 15)")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--modules", type=int, default=0, help="also print so many slowest modules of `import tabb`")
    parser.add_argument("--json", type=Path, help="write the result here")
    options = parser.parse_args()
    for code in CONTENDERS.values():  # once each, so that files are in memory
        seconds(code, options.clock)
    calls = {name: lambda code=code: seconds(code, options.clock) for name, code in CONTENDERS.items()}
    *_, times = take_turns(calls, options.rounds)
    bare = times["python -c pass"]
    rows = {
        name: {"least": taken.least, "median": taken.median, "ratio": taken.median / bare.median}
        for name, taken in times.items()
    }
    print(f"| what | s ({options.clock}): best | median | ratio to `python -c pass` |\n|---|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['least']:.3f} | {row['median']:.3f} | {row['ratio']:.1f} |")
    for name, own in slowest(CONTENDERS["import tabb"], options.modules):
        print(f"{1000 * own:8.1f} ms  {name}")
    if options.json:
        result = {
            "machine": machine(),
            "clock": options.clock,
            "rounds": options.rounds,
            "limits": LIMITS,
            "seconds": rows,
        }
        options.json.write_text(json.dumps(rounded(result), indent=1) + "\n")


if __name__ == "__main__":
    main()
