"""Scores of finished runs: copies their result files into the repository and prints a table over tasks.

    python docs/tools/scores.py --gather runs        copy every result.json below runs/ into benchmarks/results/scores/
    python docs/tools/scores.py [--learners ...]     print the table of medium to medium, 100,000 updates, as Markdown

The runs themselves come from `tabb train`; `benchmarks/README.md` has the commands.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from tabb.environments.tasks import ALL_TASKS
from tabb.files import read_json, write_json
from tabb.results.summary import learner_of

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
"""folder of all committed results"""
SCORES = RESULTS / "scores"


def gather(runs: Path) -> int:
    """Copy results as <task>/<target data>/<rule>-<source data>-seed<k>.json; returns their number."""
    files = sorted(runs.rglob("result.json"))
    for file in files:
        result = read_json(file)
        config = read_json(file.parent / "config.json")
        result["settings"] = config["settings"]
        result["data"] = files_of(config)
        target = "+".join(Path(name).stem for name in result["data"]["target"])
        folder = SCORES / str(result["task"]) / target
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{_method(result).replace(' from ', '-')}-seed{result['seed']}.json", result)
    return len(files)


def files_of(config: dict[str, Any]) -> dict[str, list[str]]:
    """Names of the files of a run's data, by domain."""
    return {
        domain: [Path(name).name for name in origin["files"]]
        for domain, origin in config["origin"].items()
        if isinstance(origin, dict)
    }


def gathered(
    folder: Path, source: str = "medium", target: str = "medium", updates: int = 100_000
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Results by task and learner, of runs with so many updates on data of these qualities (or without source data)."""
    by_task: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for file in sorted(folder.rglob("*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        same_data = _method(result) in (learner_of(result), f"{learner_of(result)} from {source}")
        if same_data and file.parent.name.endswith(f"_{target}") and result["updates"] == updates:
            by_task.setdefault(result["task"], {}).setdefault(learner_of(result), []).append(result)
    return by_task


def table(folder: Path, learners: list[str] | None) -> str:
    """Mean ± standard deviation over seeds (their number in brackets) of each learner on each task, as Markdown."""
    by_task = gathered(folder)
    shown = sorted({name for row in by_task.values() for name in row}) if learners is None else learners
    lines = [f"| task | {' | '.join(shown)} |", "|---" * (len(shown) + 1) + "|"]
    for task, row in by_task.items():
        if set(row) & set(shown):
            cells = [cell([result["score"] for result in row.get(name, [])]) for name in shown]
            lines.append(f"| {task} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _method(result: dict[str, Any]) -> str:
    """The learner and the quality of its source data: `tabb from medium`."""
    robot = ALL_TASKS[result["task"]].robot.replace("-", "_")
    source = "+".join(Path(name).stem.removeprefix(f"{robot}_") for name in result["data"].get("source", []))
    return f"{learner_of(result)} from {source}" if source else learner_of(result)


def cell(scores: list[float]) -> str:
    """Mean ± standard deviation over seeds, and their number."""
    if not scores:
        return "-"
    spread = f" ± {np.std(scores, ddof=1):.1f}" if len(scores) > 1 else ""
    return f"{np.mean(scores):z.1f}{spread} ({len(scores)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gather", type=Path, metavar="RUNS", help="folder of runs to copy results from")
    parser.add_argument(
        "--learners", nargs="+", metavar="RULE[@BACKBONE]", help="columns of the table; all if not given"
    )
    options = parser.parse_args()
    if options.gather is not None:
        print(f"{gather(options.gather)} results copied")
    print(table(SCORES, options.learners))


if __name__ == "__main__":
    main()
