"""Can a model of the target tell whether the source's policy or the target's should be taken?

The policies of `tabb.experiments.extraction --keep` and a policy of source rows alone are rolled out in the model of
both domains, and one is taken (`tabb.evaluation.choice`, which `tabb train` without a rule applies). Regret is the
better one's true score less the chosen one's.

    TABB_DATA=... python -m tabb.experiments.extraction --policies "best clone matched:medium x5" --keep runs/kept \\
        --out runs/cells
    TABB_DATA=... tabb train source-only --task TASK --source medium --target medium --out runs/source/ROBOT
    TABB_DATA=... python -m tabb.experiments.choice --cells runs/cells --kept runs/kept --source-policies runs/source \\
        --out runs/choice
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from tabb.batch import make_domains
from tabb.environments.tasks import get_task
from tabb.evaluation.choice import choose, in_model
from tabb.evaluation.scores import evaluate
from tabb.experiments.extraction import load, with_source
from tabb.files import read_json, write_json
from tabb.models.target_model import TargetModelConfig, fit_target_model
from tabb.policy import Policy

STEPS = 1_000


class Judged(NamedTuple):
    """A policy with its true score and that in the model."""

    name: str
    true: float
    model: float
    steps: float


def run_cell(file: Path, kept: Path, source_policies: Path, quality: str) -> dict[str, Any]:
    """All kept policies of a cell and the source's, judged; JSON types."""
    cell = read_json(file)
    task = get_task(cell["task"])
    target, source = load(cell["target"], task.name, "target"), load(quality, task.name, "source")
    domains = with_source(make_domains(target[:0], target, "pooled", (0, 1)), source)
    model = fit_target_model(TargetModelConfig(updates=5_000), domains.source, domains.target, jax.random.key(9))

    def judged(name: str, policy: Policy, true: float) -> Judged:
        found = in_model(policy, model, domains, STEPS)
        return Judged(name, true, round(float(task.normalised_score(found.value)), 1), round(found.steps, 1))

    lines = []
    for name, curve in cell["curves"].items():
        last, _ = curve[-1]
        place = kept / file.stem / f"{re.sub('[ :]', '-', name)}-{last}.npz"
        lines.append(judged(name, Policy.load(place), cell["scores"][name]))
    policy = Policy.load(source_policies / task.robot / "seed0")
    lines.append(judged("source", policy, round(evaluate(policy, task.name, 10).mean, 1)))
    by_name = {line.name: line for line in lines}
    best = by_name[list(cell["curves"])[-1]]
    chosen = choose(cell["returns"], best.model, by_name["source"].model)
    true = {"source": by_name["source"].true, "target": best.true}
    return {
        "task": task.name,
        "target": cell["target"],
        "logged": cell["returns"],
        "policies": [line._asdict() for line in lines],
        "chosen": chosen,
        "regret": round(max(true.values()) - true[chosen], 1),
        "regret_of_target": round(max(true.values()) - true["target"], 1),
        "regret_of_source": round(max(true.values()) - true["source"], 1),
    }


def table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown: both policies' true scores (and those in the model), what was chosen, and the mean regrets below."""
    lines = [
        "| target | the log | target's policy | source's policy | chosen | regret |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        *_, target, source = result["policies"]
        told = [f"{one['true']:z.0f} ({one['model']:z.0f})" for one in (target, source)]
        name = f"{result['task']}, {result['target']}"
        lines.append(
            f"| {name} | {result['logged']:z.0f} | {' | '.join(told)} | {result['chosen']} | {result['regret']:z.0f} |"
        )
    names = ("regret", "regret_of_target", "regret_of_source")
    chosen, target, source = (sum(result[name] for result in results) / len(results) for name in names)
    lines += [
        "",
        f"Mean regret over {len(results)} targets: {chosen:z.1f}; always the target's policy {target:z.1f}, always the "
        f"source's {source:z.1f}.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=Path, required=True, help="folder of extraction's cells")
    parser.add_argument("--kept", type=Path, required=True, help="folder of their policies (--keep)")
    parser.add_argument("--source-policies", type=Path, required=True, help="runs of source-only, ROBOT/seed0 each")
    parser.add_argument("--source", default="medium", help="quality of the source data")
    parser.add_argument("--out", type=Path, default=Path("runs/choice"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for file in sorted(options.cells.glob("*.json")):
        if not (options.kept / file.stem).is_dir():
            continue
        result = run_cell(file, options.kept, options.source_policies, options.source)
        write_json(options.out / file.name, result)
        said = "  ".join(f"{p['name']} {p['true']:.0f} (model {p['model']:.0f})" for p in result["policies"])
        chosen = f"chosen {result['chosen']}, regret {result['regret']}"
        print(f"{file.stem}: log {result['logged']:.0f}  {said}  {chosen}", flush=True)


if __name__ == "__main__":
    main()
