"""Can a model of the target tell whether the source's policy or the target's should be taken?

The policies of `tabb.experiments.extraction --keep` and a policy of source rows alone are rolled out in the model of
both domains, and one is taken (`tabb.evaluation.choice`, which `tabb train` without a rule applies). Regret is the
better one's true score less the chosen one's.

    TABB_DATA=... python -m tabb.experiments.extraction --policies "best+0.01 clone matched:medium x5" \\
        --keep runs/kept --out runs/cells
    TABB_DATA=... tabb train source-only --task TASK --source medium --target medium --out runs/source/ROBOT
    TABB_DATA=... python -m tabb.experiments.choice --cells runs/cells --kept runs/kept --source-policies runs/source \\
        --out runs/choice

Finished runs are judged too, as `tabb train` without a rule does it: folders of
`tabb/seed0` and `source-only/seed0`.

    TABB_DATA=... python -m tabb.experiments.choice --runs runs/mild/* --out runs/choice
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from tabb.batch import make_domains
from tabb.environments.tasks import get_task
from tabb.errors import UsageError
from tabb.evaluation.choice import InModel, choose, in_model
from tabb.evaluation.scores import evaluate
from tabb.experiments.extraction import LAST, load, with_source
from tabb.files import read_json, write_json
from tabb.models.target_model import TargetModelConfig, fit_target_model
from tabb.policy import Policy
from tabb.results.answer import SOURCE, TARGET, answer_of
from tabb.training.config import settings_from
from tabb.training.folder import RunFolder

STEPS = 1_000
EPISODES = 10 * LAST
"""episodes of the source's true score: as many as the score of each policy of a cell is from"""


class Judged(NamedTuple):
    """A policy with its true score and that in the model."""

    name: str
    true: float
    model: float
    seen: float | None
    """that in the model where target rows are; None where it was not kept"""
    steps: float | None
    """mean length of an episode in the model; None where it was not kept"""
    lost: float
    """share of the episodes that the model could not follow"""


def run_cell(file: Path, kept: Path, source_policies: Path, quality: str) -> dict[str, Any]:
    """All kept policies of a cell and the source's, judged; JSON types."""
    cell = read_json(file)
    task = get_task(cell["task"])
    target, source = load(cell["target"], task.name, "target"), load(quality, task.name, "source")
    domains = with_source(make_domains(target[:0], target, "pooled", (0, 1)), source)
    model = fit_target_model(TargetModelConfig(updates=5_000), domains.source, domains.target, jax.random.key(9))

    def judged(name: str, policy: Policy, true: float) -> Judged:
        found = in_model(policy, model, domains, STEPS)
        value, seen = (float(task.normalised_score(one)) for one in (found.value, found.seen))
        return Judged(name, true, value, seen, found.steps, found.lost)

    lines = []
    for name in with_candidate_last(list(cell["curves"]), quality):
        last, _ = cell["curves"][name][-1]
        place = kept / file.stem / f"{re.sub('[ :/]', '-', name)}-{last}.npz"
        lines.append(judged(name, Policy.load(place), cell["scores"][name]))
    policy = Policy.load(source_policies / task.robot / "seed0")
    lines.append(judged("source", policy, evaluate(policy, task.name, EPISODES).mean))
    told = {"task": task.name, "target": cell["target"], "logged": cell["returns"]}
    return told | _chosen(cell["returns"], lines, *lines[-2:])


def with_candidate_last(names: list[str], quality: str) -> list[str]:
    """The policies of a cell. The last one is the target's policy of the choice.

    It is the one whose model knows source rows of this quality. A cell without such a policy has it at the end.
    Policies whose model knows other source rows are left out, since this source's user does not have them.
    """
    own = [name for name in names if f":{quality} " in f"{name} "] or names[-1:]
    others = [name for name in names if name not in own and ":" not in name]
    return [*others, own[-1]]


def of_runs(folder: Path) -> dict[str, Any]:
    """The runs of `tabb` and `source-only` in a folder, judged; JSON types.

    Raises `UsageError` if there is no answer, or no score to compare it with, and `RunError` for a damaged run.
    """
    found = answer_of(folder)
    runs = [file.parent.name for file in sorted(folder.glob("*/seed*/result.json"))]
    if found is None or found.source_seen is None or set(runs) != {"seed0"}:
        raise UsageError(f"{folder}: needs runs of {TARGET} and {SOURCE}, seed 0, of 5,000 updates or more")
    results = [read_json(folder / name / "seed0" / "result.json") for name in (TARGET, SOURCE)]
    task, scores = results[0]["task"], [result.get("score") for result in results]
    if task is None or None in scores:
        raise UsageError(f"{folder}: has no scores to compare the choice with; train in a task, with evaluations")
    target_rows = settings_from(RunFolder(folder / TARGET / "seed0").config()).target_rows
    target = Judged("target", scores[0], found.target, None, None, found.lost[0])
    source = Judged("source", scores[1], found.source, found.source_seen, None, found.lost[1])
    rows = "" if target_rows is None else f"{target_rows:,} rows"
    told = {"task": task, "target": rows, "logged": round(found.logged, 1)}
    return told | _chosen(found.logged, [target, source], target, source)


def _chosen(logged: float, policies: Sequence[Judged], target: Judged, source: Judged) -> dict[str, Any]:
    """All policies, the choice between two of them, and what it and either one always cost; JSON types.

    It is chosen from the numbers as they are; those of the result have one decimal.
    """
    assert source.seen is not None  # the source's is always kept

    def as_judged(one: Judged, seen: float) -> InModel:
        return InModel(one.model, math.nan, one.lost, seen)

    chosen = choose(logged, as_judged(target, math.nan), as_judged(source, source.seen))
    true = {"source": source.true, "target": target.true}
    return {
        "policies": [_rounded(one) for one in policies],
        "chosen": chosen,
        "regret": round(max(true.values()) - true[chosen], 1),
        "regret_of_target": round(max(true.values()) - true["target"], 1),
        "regret_of_source": round(max(true.values()) - true["source"], 1),
    }


def _rounded(one: Judged) -> dict[str, Any]:
    values = {name: getattr(one, name) for name in ("true", "model", "seen", "steps")}
    return one._asdict() | {name: None if value is None else round(value, 1) for name, value in values.items()}


def table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown: true scores (in the model; the source's where target rows are), choices, mean regrets below."""
    lines = [
        "| target | the log | target's policy | source's policy | chosen | regret |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        *_, target, source = result["policies"]
        told = [f"{target['true']:z.0f} ({target['model']:z.0f})"]
        told += [f"{source['true']:z.0f} ({source['model']:z.0f}, {source['seen']:z.0f})"]
        name = ", ".join(filter(None, (result["task"], result["target"])))
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
    parser.add_argument("--cells", type=Path, help="folder of extraction's cells")
    parser.add_argument("--kept", type=Path, help="folder of their policies (--keep)")
    parser.add_argument("--source-policies", type=Path, help="runs of source-only, ROBOT/seed0 each")
    parser.add_argument("--runs", type=Path, nargs="+", default=[], help="folders of runs of tabb and source-only each")
    parser.add_argument("--source", default="medium", help="quality of the source data")
    parser.add_argument("--out", type=Path, default=Path("runs/choice"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.cells is None and not options.runs:
        parser.error("name --cells or --runs")
    if len({folder.name for folder in options.runs}) < len(options.runs):
        parser.error("--runs: folders of one name would overwrite each other's results")
    if options.cells is not None:
        if options.kept is None or options.source_policies is None:
            parser.error("--cells needs --kept and --source-policies")
        for file in sorted(options.cells.glob("*.json")):
            if (options.kept / file.stem).is_dir():
                result = run_cell(file, options.kept, options.source_policies, options.source)
                _write(options.out / file.name, result)
    for folder in options.runs:
        _write(options.out / f"{folder.name}.json", of_runs(folder))


def _write(file: Path, result: dict[str, Any]) -> None:
    write_json(file, result)
    said = "  ".join(f"{p['name']} {p['true']:.0f} (model {p['model']:.0f})" for p in result["policies"])
    print(
        f"{file.stem}: log {result['logged']:.0f}  {said}  chosen {result['chosen']}, regret {result['regret']}",
        flush=True,
    )


if __name__ == "__main__":
    main()
