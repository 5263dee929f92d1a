"""Copies the results of `python -m tabb.experiments.upper_bounds` and prints them beside target-only and TABB.

    python docs/tools/upper_bounds.py --gather runs/upper       copy the results below runs/upper, print the table
    python docs/tools/upper_bounds.py                           print the table of the committed results

The committed file is benchmarks/results/ablations/upper-bounds.json; target-only and TABB are those of `scores.py`.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import scores
import tabb
from tabb.experiments.upper_bounds import FORMS
from tabb.files import read_json, write_json

RESULTS = scores.RESULTS / "ablations" / "upper-bounds.json"


def gather(runs: Path) -> None:
    """Add the results below `runs` to the committed ones; a run that they have already is replaced."""
    new = []
    for file in sorted(runs.rglob("result.json")):
        result = read_json(file)
        config = read_json(file.parent / "config.json")
        form, quality = file.parts[-3], file.parts[-4]
        policy = policy_of(config["settings"]["backbone"])
        run = {key: result[key] for key in ("task", "seed", "updates", "score")}
        run["evaluations"] = [{key: point[key] for key in ("update", "mean")} for point in result["evaluations"]]
        new.append({**run, "form": form, "source": quality, "policy": policy, "environment": config["environment"]})
    replaced = {identity(run) for run in new}
    old = read_json(RESULTS)["runs"] if RESULTS.exists() else []
    write_json(RESULTS, {"runs": [*(run for run in old if identity(run) not in replaced), *new]})


def policy_of(backbone: dict[str, Any]) -> str:
    """How the policy learns, for a row of the table."""
    if backbone["extraction"] == "improvement":
        return f"climbs, α {backbone['value_weight']:g}" + (", normed" if backbone["layer_norm"] else "")
    return f"imitates, β {backbone['temperature']:g}"


def identity(run: dict[str, Any]) -> tuple[Any, ...]:
    """What tells one run from another."""
    return tuple(run[key] for key in ("task", "source", "form", "policy", "updates", "seed"))


def table() -> str:
    """Scores, a row per task, source, length and kind of policy; target-only and TABB where `scores.py` has them."""
    runs = read_json(RESULTS)["runs"]
    scores_of_tasks = scores.gathered(scores.SCORES)
    default_policy = policy_of(dataclasses.asdict(tabb.IQL(temperature=3.0)))  # the default when they were measured
    lines = [
        f"| task | source | policy | updates | target-only | tabb | {' | '.join(FORMS)} |",
        "|---" * (6 + len(FORMS)) + "|",
    ]
    keys = ("task", "source", "policy", "updates")
    for row in dict.fromkeys(tuple(run[key] for key in keys) for run in runs):
        task, source, policy, updates = row
        comparable = row[1:] == ("medium", default_policy, 100_000)
        others = [
            scores.cell([result["score"] for result in scores_of_tasks[task].get(name, [])]) if comparable else "-"
            for name in ("target-only", "tabb")
        ]
        same = [run for run in runs if tuple(run[key] for key in keys) == row]
        own = [scores.cell([run["score"] for run in same if run["form"] == form]) for form in FORMS]
        lines.append(f"| {task} | {source} | {policy} | {updates:,} | {' | '.join([*others, *own])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gather", type=Path, metavar="RUNS", help="copy the results below this folder")
    options = parser.parse_args()
    if options.gather is not None:
        gather(options.gather)
    print(table())


if __name__ == "__main__":
    main()
