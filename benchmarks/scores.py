"""Scores of finished runs: gathers their result files into the repository, and prints one table over tasks.

    python benchmarks/scores.py --gather runs        copy every result.json below runs/ into benchmarks/results/scores/
    python benchmarks/scores.py                      print the table of what is there, as Markdown

The runs themselves come from `tabb train`; `benchmarks/README.md` has the command of each cell.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from tabb.evaluation.summary import learner_of
from tabb.training.folder import read_json, write_json

RESULTS = Path(__file__).parent / "results" / "scores"


def gather(runs: Path) -> int:
    """Copy results as <task>/<target data>/<rule>-<source data>-seed<k>.json; returns how many there were."""
    found = sorted(runs.rglob("result.json"))
    for file in found:
        result = read_json(file)
        config = read_json(file.parent / "config.json")
        result["settings"] = config["settings"]
        result["data"] = {
            domain: [Path(name).name for name in origin["files"]]
            for domain, origin in config["origin"].items()
            if isinstance(origin, dict)
        }
        target = "+".join(Path(name).stem for name in result["data"]["target"])
        folder = RESULTS / str(result["task"]) / target
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{_method(result).replace(' from ', '-')}-seed{result['seed']}.json", result)
    return len(found)


def table(folder: Path) -> str:
    """Mean ± standard deviation over seeds (their number in brackets) of each rule on each task, as Markdown."""
    cells: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for file in sorted(folder.rglob("*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        cells.setdefault(f"{result['task']} ({file.parent.name})", {}).setdefault(_method(result), []).append(result)
    rules = sorted({rule for row in cells.values() for rule in row})
    lines = ["| task (target data) | updates | " + " | ".join(rules) + " |", "|---" * (len(rules) + 2) + "|"]
    for task, row in cells.items():
        updates = {result["updates"] for results in row.values() for result in results}
        told = [_cell([result["score"] for result in row.get(rule, [])]) for rule in rules]
        lines.append(f"| {task} | {', '.join(f'{n:,}' for n in sorted(updates))} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def _method(result: dict[str, Any]) -> str:
    """The learner and the level of its source data: `tabb from medium`."""
    robot = str(result["task"]).split("-")[0]
    source = "+".join(Path(name).stem.removeprefix(f"{robot}_") for name in result["data"].get("source", []))
    return f"{learner_of(result)} from {source}" if source else learner_of(result)


def _cell(scores: list[float]) -> str:
    if not scores:
        return "-"
    spread = f" ± {np.std(scores, ddof=1):.1f}" if len(scores) > 1 else ""
    return f"{np.mean(scores):.1f}{spread} ({len(scores)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gather", type=Path, metavar="RUNS", help="folder of runs to copy results from")
    options = parser.parse_args()
    if options.gather is not None:
        print(f"{gather(options.gather)} results gathered")
    print(table(RESULTS))


if __name__ == "__main__":
    main()
