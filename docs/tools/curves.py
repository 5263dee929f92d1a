"""Curves of runs: scores and mean values during training, from run folders, as a table and a JSON file.

    python docs/tools/curves.py runs/a/seed0 runs/b/seed0 --json FILE
    python docs/tools/curves.py FILE                                        prints the table again
    python docs/tools/curves.py FILE runs/c/seed0 --json FILE               adds a run

Committed curves are in benchmarks/results/ablations.

If the mean value is far above the best return over 1 - γ, the critic diverges.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from scores import files_of
from tabb.files import read_json, write_json

METRICS = ("mean_value", "critic_loss", "source_weight")


def curve(folder: Path) -> dict[str, Any]:
    """The settings of a run; at each evaluation its score and the last metrics before."""
    config = read_json(folder / "config.json")
    points: list[dict[str, float]] = []
    metrics: dict[str, Any] = {}
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry["kind"] == "evaluation":
            values = {name: round(metrics[name], 3) for name in METRICS if name in metrics}
            points.append({"update": entry["update"], "score": round(entry["mean"], 2), **values})
        else:
            metrics = entry
    copied = ("rule", "task", "seed", "settings")
    about = {"data": files_of(config), "device": config["environment"]["device"]}
    return {name: config[name] for name in copied} | about | {"points": points}


def table(runs: list[dict[str, Any]]) -> str:
    """For each run its rule, task and seed, and the score and metrics at each fifth of it."""
    lines = []
    for run in runs:
        rule = {name: value for name, value in run["rule"].items() if name in ("least_weight", "imitate_source")}
        shown_options = ", ".join(f"{name}={value}" for name, value in rule.items())
        files = " and ".join(name for names in run.get("data", {}).values() for name in names)
        where = run["task"] + (f", {files}" if files else "")
        lines.append(f"{run['rule']['name']} ({shown_options or 'no options'}), {where}, seed {run['seed']}")
        every = max(1, len(run["points"]) // 5)
        for point in run["points"][every - 1 :: every]:
            numbers = "  ".join(f"{name} {point[name]:g}" for name in ("score", *METRICS) if name in point)
            lines.append(f"  {point['update']:>9,}  {numbers}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, or JSON files that --json wrote")
    parser.add_argument("--json", type=Path, help="where to write the curves")
    options = parser.parse_args()
    runs, about = [], {}
    for place in options.runs:
        if place.is_file():
            written = read_json(place)
            runs += written.pop("runs")
            about |= written
        else:
            runs.append(curve(place))
    print(table(runs))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.json, about | {"runs": runs})


if __name__ == "__main__":
    main()
