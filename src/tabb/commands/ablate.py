"""`tabb ablate`: TABB with one thing changed at a time, over tasks of a suite."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabb.commands.benchmark import Grid, comparison_of, finished
from tabb.commands.options import parse
from tabb.errors import RunError
from tabb.experiments.ablations import as_markdown, chosen, summary, variants_told
from tabb.experiments.benchmark import Comparison, Table, as_csv
from tabb.rules import Rule
from tabb.training.config import Settings, plain, rule_from_plain, settings_from
from tabb.training.folder import RunFolder


@dataclasses.dataclass(frozen=True)
class Options(Grid):
    """Which variants to compare, and where."""

    variants: tuple[str, ...] = ()
    """variants to compare with the default; all if none is named"""


def run(arguments: Sequence[str]) -> int:
    about = f"Change one thing of TABB at a time.\n\nVariants:\n{variants_told()}"
    options = parse(Options, arguments, "tabb ablate", about)
    variants = chosen(options.variants)
    learners = {variant.name: tuple(variant.options.split()) for variant in variants}
    comparison = comparison_of(options, tuple(learners), variants=learners)
    root = options.out or Path("runs") / "ablate" / f"{options.suite}-{options.budget}"
    _check_cells(comparison, root)
    table = finished(comparison, root, options)
    _report(comparison, table, summary(table, variants), root, options)
    return 0


def variant_settings(options: Sequence[str]) -> tuple[Rule, Settings]:
    """The rule and the settings that `tabb train` makes of a variant's options. Raises `UsageError` for wrong ones."""
    from tabb.commands.learners import learners_of
    from tabb.commands.train import options_for, settings_of

    learner, *words = options
    found: Any = parse(options_for(learners_of([learner])), words, "tabb train", "")
    return found.rule.on(found.backbone.name), settings_of(found)


def _check_cells(comparison: Comparison, root: Path) -> None:
    """Raise `RunError` for a run in `root` that was trained with other options than its variant has now."""
    for _, method, seed, cell in comparison.cells():
        folder = RunFolder(root / cell.folder)
        if not folder.config_file.exists():
            continue
        config = folder.config()
        rule, settings = variant_settings([word.replace("{seed}", str(seed)) for word in comparison.variants[method]])
        before = settings_from(config)
        same = plain(rule_from_plain(config["rule"])) == plain(rule) and all(
            getattr(before, name) == getattr(settings, name) for name in ("source_rows", "target_rows", "rows_seed")
        )
        if not same:
            raise RunError(
                f"{folder.path}: was trained with other options than variant {method} has now; choose another folder "
                "with --out"
            )


def _report(
    comparison: Comparison, table: Table, found: Mapping[str, Mapping[str, Any]], root: Path, options: Options
) -> None:
    """Print the table, and write it with the figure."""
    from tabb.data.storage import atomic
    from tabb.evaluation.figures import difference_bars
    from tabb.training.folder import write_json

    text = "\n".join(
        [
            f"# {options.suite}: TABB with one thing changed",
            "",
            f"{comparison.updates:,} updates; normalised score, mean of a run's last three evaluations; mean ±",
            "standard deviation (seeds). Differences are means over the same tasks and seeds, with Student's 95 %",
            "intervals over these pairs (their number in brackets).",
            "",
            as_markdown(found, [str(place) for place in table]),
            "",
        ]
    )
    for name, content in (("report.md", text), ("scores.csv", as_csv(table))):
        with atomic(root / name) as part:
            part.write_text(content, encoding="utf-8")
    write_json(root / "ablations.json", found)
    less = {name: told["less"]["default"] for name, told in found.items() if "default" in told.get("less", {})}
    if less:
        difference_bars(less, root / "ablations.png")
    print(text)
    done = sum(len(scores) for row in table.values() for scores in row.values())
    print(f"{done} of {len(list(comparison.cells()))} cells; report, scores.csv, ablations.json and figure: {root}")
