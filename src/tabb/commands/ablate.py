"""`tabb ablate`: TABB with one thing changed at a time, over tasks of a suite."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabb.commands.benchmark import Grid, comparison_of, finished
from tabb.commands.imitation_options import FOR_ALL, imitating, imitation_words
from tabb.commands.options import parse
from tabb.errors import UsageError
from tabb.experiments.ablations import as_markdown, borne_out, chosen, draw_differences, summary, variants_help
from tabb.experiments.benchmark import SCORES, Comparison, Table
from tabb.experiments.benchmark_scores import as_csv


@dataclasses.dataclass(frozen=True)
class Options(Grid):
    """Which variants to compare, and where."""

    variants: tuple[str, ...] = ()
    """variants to compare with the default; all if none is named"""


def run(arguments: Sequence[str]) -> int:
    words, others = imitation_words(arguments)
    about = f"Change one thing of TABB at a time.\n\n{FOR_ALL}\n\nVariants:\n{variants_help()}"
    options = parse(Options, others, "tabb ablate", about)
    variants = chosen(options.variants)
    for domain in ("source", "target"):
        own = [variant.name for variant in variants if f"{domain}_rows" in variant.settings]
        if own and getattr(options, f"{domain}_rows") is not None:
            raise UsageError(f"--{domain}-rows: {' '.join(own)} set their rows themselves; name others with --variants")
    methods = imitating([variant.method() for variant in variants], words)
    comparison = comparison_of(options, methods, other_options=words)
    root = options.out or Path("runs") / "ablate" / f"{options.suite}-{options.budget}"
    table, failed = finished(comparison, root, options)
    _report(comparison, table, summary(table, variants), root, options)
    if failed is not None:
        raise failed
    return 0


def _sure(compared: Mapping[str, Mapping[str, Any]]) -> str:
    """Which differences to the default are no chance, all of them tested together."""
    less = {name: of["less"]["default"] for name, of in compared.items() if "default" in of.get("less", {})}
    sure = [f"`{name}`" for name in less if name in borne_out(less)]
    tested = sum(of["low"] is not None for of in less.values())
    if not tested:
        return "None has two pairs, so none is tested."
    told = f"only {', '.join(sure)} differ{'s' if len(sure) == 1 else ''}" if sure else "none differs"
    return f"At 5% over all {tested} (Holm), {told} from the default."


def _report(
    comparison: Comparison, table: Table, compared: Mapping[str, Mapping[str, Any]], root: Path, options: Options
) -> None:
    """Print the table, and write it with the figure."""
    from tabb.evaluation.scores import averaged
    from tabb.files import atomic, write_json

    text = "\n".join(
        [
            f"# {options.suite}: TABB with one thing changed",
            "",
            f"{comparison.length()}; normalised score, mean of a run's {averaged(comparison.evaluations or 3)}; mean ±",
            "standard deviation (seeds). Differences are means over the same tasks and seeds, with Student's 95%",
            "intervals over these pairs (their number in brackets). Each interval is of one difference alone: of many,",
            "some leave 0 out by chance. " + _sure(compared),
            "",
            as_markdown(compared, [str(place) for place in table]),
            "",
        ]
    )
    for name, content in (("report.md", text), (SCORES, as_csv(table))):
        with atomic(root / name) as part:
            part.write_text(content, encoding="utf-8")
    write_json(root / "ablations.json", compared)
    less = {name: of["less"]["default"] for name, of in compared.items() if "default" in of.get("less", {})}
    if less:
        draw_differences(less, root / "ablations.png")
    print(text)
    done = sum(len(scores) for row in table.values() for scores in row.values())
    print(f"{done} of {len(list(comparison.runs()))} cells; report, scores.csv, ablations.json and figure: {root}")
