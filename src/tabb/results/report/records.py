"""The records of finished runs, read from their folders and checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tabb.backbones import Backbone
from tabb.errors import RunError, UsageError
from tabb.files import quoted, read_json
from tabb.plain import rule_from_plain
from tabb.provenance import comparable
from tabb.registry import learner_name
from tabb.rules import Rule
from tabb.training.config import Settings, backbone_of, settings_from
from tabb.training.folder import RunFolder

Curve = tuple[tuple[int, ...], tuple[float, ...]]
"""(updates done, values): a point for each stretch or evaluation."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished run: the contents of its files."""

    folder: Path
    config: dict[str, Any]
    seed: int
    rule: Rule
    settings: Settings
    backbone: Backbone
    score: float | None
    """Mean over the last three evaluations; None without evaluations."""
    measure: str
    """`normalised score` or `return`."""
    evaluations: Curve
    """Mean of each evaluation."""
    last_episodes: tuple[float, ...]
    """Score (or return) of the episode from each start, mean over the last three evaluations: all begin alike."""
    metrics: dict[str, Curve]
    """Each training metric along the run."""
    held_out: tuple[int, ...] | None
    """Indices of the target episodes that the run did not learn from; None if it learned from all."""
    held_out_curves: dict[str, Curve] = dataclasses.field(default_factory=dict)
    """Measures on the held-out episodes along the run: value, low, high, td_error, predictor_error, action_error."""

    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    """Wall time of each part of the run."""

    @property
    def learner(self) -> str:
        """`tabb`, or `tabb@cql` on a backbone that is not the rule's own."""
        return learner_name(self.rule.name, self.backbone.name)

    @property
    def task(self) -> str | None:
        return self.config["task"]

    @property
    def uses_source(self) -> bool:
        return self.rule.reads(self.backbone.batch_size)[0]


def read_records(folder: str | Path) -> list[Record]:
    """The run in `folder`, or the runs of its `seed*` folders, in order of the seeds.

    Raises:
        UsageError: the runs differ in more than their seed.
        RunError: there is no run, or one is not finished, damaged or of another version.
    """
    root = Path(folder)
    records = [read_record(one) for one in _folders(root)]
    records.sort(key=lambda record: record.seed)
    first = records[0]
    for other in records[1:]:
        data = comparable(first.config["data"], other.config["data"])
        for part in ("rule", "settings", "task", "data"):
            one, two = data if part == "data" else (first.config[part], other.config[part])
            if one != two:
                raise UsageError(
                    f"{root}: {first.folder.name} and {other.folder.name} differ in their {part}; report one at a time"
                )
    return records


def _folders(root: Path) -> list[Path]:
    if (root / "config.json").exists():
        return [root]
    seeds = [one for one in root.glob("seed*") if (one / "config.json").exists()]
    if seeds:
        return seeds
    if not root.exists():
        raise RunError(f"{root}: no such folder; check the path")
    deeper = sorted({file.parent.parent for file in root.glob("*/seed*/config.json")})[:3]
    hint = f"report one of the runs in it, such as {' or '.join(map(str, deeper))}" if deeper else "check the path"
    raise RunError(f"{root}: holds no run (no config.json and no seed folders); {hint}")


def read_record(folder: Path) -> Record:
    """The record of one run. Raises as `read_records` does."""
    run = RunFolder(folder)
    config = run.config()
    if not run.result_file.exists():
        raise RunError(f"{folder}: is not finished; finish it with `tabb train --resume {quoted(folder)}`")
    result = read_json(run.result_file)
    try:
        rule, settings = rule_from_plain(config["rule"]), settings_from(config)
        backbone = backbone_of(settings, rule)
        for part, keys in (("data", ("source", "target")), ("environment", ("versions", "device", "python"))):
            _ = [config[part][key] for key in keys]
        _ = config["task"], config.get("origin", {}).get("target", {}), config["seeds"]
        lines = [(line["update"], line["mean"], line["scores"] or line["returns"]) for line in result["evaluations"]]
        held_out = result.get("held_out")
        return Record(
            folder=folder,
            config=config,
            seed=int(config["seed"]),
            rule=rule.on(backbone),
            settings=settings,
            backbone=backbone,
            score=None if result["score"] is None else float(result["score"]),
            measure=str(result["measure"]),
            evaluations=(tuple(int(at) for at, _, _ in lines), tuple(float(mean) for _, mean, _ in lines)),
            last_episodes=tuple(
                sum(map(float, scores)) / len(scores)
                for scores in zip(*(scores for _, _, scores in lines[-3:]), strict=False)
            ),
            metrics=dict(_metrics(run)),
            held_out=None if not held_out else tuple(int(number) for number in held_out["episodes"]),
            held_out_curves=dict(_curves(held_out["policies"])) if held_out else {},
            seconds={part: float(value) for part, value in result["seconds"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise RunError(f"{folder}: its records are damaged or of another version ({reason}); train it again") from None


def _metrics(run: RunFolder) -> Iterator[tuple[str, Curve]]:
    return _curves([line for line in run.metrics() if line["kind"] == "training"])


def _curves(lines: list[dict[str, Any]]) -> Iterator[tuple[str, Curve]]:
    """The curve of each number in lines of metrics."""
    for name in lines[0] if lines else ():
        if name not in ("kind", "update", "rate"):
            points = [(int(line["update"]), float(line[name])) for line in lines if name in line]
            yield name, (tuple(update for update, _ in points), tuple(value for _, value in points))
