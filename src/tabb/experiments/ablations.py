"""Ablations: TABB with one thing changed at a time, and what each change costs or gives.

A variant is a learner with some constants changed; its runs are those of a method of a comparison like any other
(`tabb.experiments.benchmark`). The files at hand have 100,000 source and up to 5,000 target rows: that is what
`default` learns from.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from tabb.environments.tasks import Task
from tabb.errors import UsageError, meant
from tabb.evaluation.statistics import CONFIDENCE, Estimate, holm, mean_interval
from tabb.experiments.benchmark import Learner, Method, Table, plain_method, shared
from tabb.models.target_predictor import TargetPredictor
from tabb.results.train_command import option, predictor_options
from tabb.rules import DirectPredictor, LatentDirectPredictor, LatentPredictor, ResidualPredictor

DEFAULT = "default"


class Variant(NamedTuple):
    """A learner with one thing changed."""

    name: str
    learner: str
    what: str
    rule: Mapping[str, Any] = {}
    """Constants of the rule that are changed; of settings within it, a mapping of its own."""
    backbone: Mapping[str, Any] = {}
    settings: Mapping[str, Any] = {}
    """Settings that are changed; where rows are limited, the run's seed draws them."""
    against: str = DEFAULT
    """The variant from which it differs in that one thing."""

    @property
    def words(self) -> str:
        """The learner and its options as `tabb train` takes them."""
        parts = {"rule.": self.rule, "backbone.": self.backbone, "": self.settings}
        options = [word for prefix, changes in parts.items() for word in _options(prefix, changes)]
        return " ".join([self.learner, *options, *(["--rows-seed", "{seed}"] if self.settings else [])])

    def method(self) -> Method:
        """The variant as a method of a comparison."""
        plain = plain_method(self.learner)

        def make(task: Task, seed: int, presets: bool) -> Learner:
            rule, backbone, settings = plain.make(task, seed, presets)
            drawn = {"rows_seed": seed} if self.settings else {}
            return Learner(
                _changed(rule, self.rule),
                _changed(backbone, self.backbone),
                _changed(settings, {**self.settings, **drawn}),
            )

        return Method(self.name, self.learner, make, self.words)


def _changed(value: Any, changes: Mapping[str, Any]) -> Any:
    """The dataclass with some of its fields changed, and fields of those that are dataclasses."""
    inner = {
        name: _changed(getattr(value, name), change) if isinstance(change, Mapping) else change
        for name, change in changes.items()
    }
    return dataclasses.replace(value, **inner)


def _options(prefix: str, changes: Mapping[str, Any]) -> Iterator[str]:
    for name, change in changes.items():
        if isinstance(change, Mapping):
            yield from _options(f"{prefix}{name}.", change)
        elif isinstance(change, TargetPredictor):
            yield from predictor_options(prefix + name, change)
        else:
            yield from option(prefix + name, change, None)


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(DEFAULT, "tabb", "TABB with its defaults"),
        Variant("target-only", "target-only", "no source data, which is the bar"),
        Variant("source-only", "source-only", "no target data: the source's policy as it is"),
        Variant("pooled", "pooled", "all source rows alike"),
        # What the weight falls with.
        Variant("similarity", "similarity", "weights by distance to the target rows, not by TBM"),
        Variant("noise-0.1", "value-noise", "values in TBM off by a tenth of V's spread", rule={"noise": 0.1}),
        Variant("noise-0.3", "value-noise", "values in TBM off by 0.3 of V's spread", rule={"noise": 0.3}),
        Variant("noise-1", "value-noise", "values in TBM off by V's spread", rule={"noise": 1.0}),
        # The predictor.
        Variant(
            "residual",
            "tabb",
            "target heads on top of the source's, not the shift that hypotheses agree on",
            rule={"predictor": ResidualPredictor()},
        ),
        Variant(
            "latent",
            "tabb",
            "residual, V and predictor in the latent space",
            rule={"predictor": LatentPredictor()},
            against="residual",
        ),
        Variant(
            "direct",
            "tabb",
            "target heads predict alone, not on top of the source's",
            rule={"predictor": DirectPredictor()},
            against="residual",
        ),
        Variant(
            "latent-direct",
            "tabb",
            "latent, and target heads predict alone",
            rule={"predictor": LatentDirectPredictor()},
            against="latent",
        ),
        Variant(
            "no-source-head",
            "tabb",
            "latent-direct, encoders learned from target rows alone",
            rule={"predictor": LatentDirectPredictor(source_head=False)},
            against="latent-direct",
        ),
        Variant("beta-0", "tabb", "the predictor's doubt is ignored", rule={"uncertainty": 0.0}),
        Variant("beta-3", "tabb", "the predictor's doubt counts threefold", rule={"uncertainty": 0.6}),
        Variant(
            "one-head",
            "tabb",
            "beta-0, each hypothesis fitted once instead of five times",
            rule={"uncertainty": 0.0, "predictor": {"heads": 1}},
            against="beta-0",
        ),
        Variant("plain-values", "tabb", "V and Q without layer normalisation", backbone={"layer_norm": False}),
        # How sharply, and in which losses.
        Variant("c-0.3", "tabb", "sharper weights", rule={"temperature": 0.3}),
        Variant("c-3", "tabb", "softer weights", rule={"temperature": 3.0}),
        Variant("c-inf", "tabb", "all source rows weigh 1 in critic and value", rule={"temperature": math.inf}),
        Variant("least-0", "tabb", "the least trusted rows weigh nothing", rule={"least_weight": 0.0}),
        Variant("value-unweighted", "tabb", "weights in the critic's loss alone", rule={"weigh_value": False}),
        Variant("imitate", "tabb", "the policy learns from source rows, weighted", rule={"imitate_source": 1.0}),
        Variant(
            "imitate-unweighted",
            "tabb",
            "the policy learns from all source rows alike",
            rule={"imitate_source": 1.0, "weigh_policy": False},
            against="imitate",
        ),
        # How the policy comes from the values.
        Variant("climb", "tabb", "the policy climbs Q, held to target actions", backbone={"extraction": "improvement"}),
        Variant(
            "target-only-climb",
            "target-only",
            "the same without source data",
            backbone={"extraction": "improvement"},
            against="climb",
        ),
        Variant(
            "climb-c-inf",
            "tabb",
            "climb, all source rows weigh 1 in critic and value",
            rule={"temperature": math.inf},
            backbone={"extraction": "improvement"},
            against="climb",
        ),
        Variant(
            "climb-similarity",
            "similarity",
            "climb, weights by distance to the target rows",
            backbone={"extraction": "improvement"},
            against="climb",
        ),
        # How sharply the policy prefers the better actions: with β = 3 (ODRL's) it picks up noise.
        Variant("sharp", "tabb", "the policy's β is 3", backbone={"temperature": 3.0}),
        Variant(
            "sharp-imitate",
            "tabb",
            "imitate, and the policy's β is 3",
            rule={"imitate_source": 1.0},
            backbone={"temperature": 3.0},
            against="imitate",
        ),
        Variant(
            "sharp-pooled",
            "pooled",
            "pooled, and the policy's β is 3",
            backbone={"temperature": 3.0},
            against="pooled",
        ),
        Variant(
            "sharp-source-only",
            "source-only",
            "source-only, and the policy's β is 3",
            backbone={"temperature": 3.0},
            against="source-only",
        ),
        Variant(
            "sharp-target-only",
            "target-only",
            "target-only, and the policy's β is 3",
            backbone={"temperature": 3.0},
            against="target-only",
        ),
        # Less data.
        Variant("target-1000", "tabb", "1,000 target rows", settings={"target_rows": 1000}),
        Variant("target-2500", "tabb", "2,500 target rows", settings={"target_rows": 2500}),
        Variant(
            "target-only-1000",
            "target-only",
            "1,000 target rows and no source",
            settings={"target_rows": 1000},
            against="target-1000",
        ),
        Variant(
            "target-only-2500",
            "target-only",
            "2,500 target rows and no source",
            settings={"target_rows": 2500},
            against="target-2500",
        ),
        Variant("source-10000", "tabb", "10,000 source rows", settings={"source_rows": 10000}),
    )
}


def chosen(names: Sequence[str]) -> tuple[Variant, ...]:
    """The variants by name, the default among them; all if none is named. Raises `UsageError` for unknown names."""
    for name in names:
        if "=" in name:
            raise UsageError(f"variant {name!r}: settings of your own are compared by `tabb benchmark --methods`")
        if name not in VARIANTS:
            raise UsageError(f"unknown variant {name!r}: {meant(name, VARIANTS)}")
    if len(set(names)) < len(names):
        raise UsageError(f"{' '.join(names)}: a variant is named twice")
    return tuple(variant for name, variant in VARIANTS.items() if not names or name in (DEFAULT, *names))


# --- What came of it ---


class Difference(NamedTuple):
    """Mean difference of paired runs, with Student's 95% interval over the pairs."""

    value: float
    low: float | None
    """None with fewer than two pairs."""
    high: float | None
    pairs: int


def difference(table: Table, first: str, second: str) -> Difference | None:
    """Scores of `first` less those of `second` over the places and seeds that both have; None where there are none.

    A variant without source data has one run for all source qualities: a pair is then the mean over these. Likewise
    for the target.
    """
    learners = [VARIANTS[name].learner for name in (first, second)]
    differences_of: dict[tuple[str, int], list[float]] = {}
    for place, row in table.items():
        for seed in sorted(set(row.get(first, {})) & set(row.get(second, {}))):
            differences_of.setdefault((str(shared(place, *learners)), seed), []).append(
                row[first][seed] - row[second][seed]
            )
    pairs = [float(np.mean(differences)) for differences in differences_of.values()]
    if not pairs:
        return None
    estimate = mean_interval(pairs) if len(pairs) > 1 else Estimate(pairs[0], float("nan"), float("nan"))
    known = len(pairs) > 1
    return Difference(estimate.value, estimate.low if known else None, estimate.high if known else None, len(pairs))


def summary(table: Table, variants: Sequence[Variant]) -> dict[str, dict[str, Any]]:
    """Of each variant: its options, its scores by place, and its differences to the default and to its counterpart."""
    compared = {}
    for variant in variants:
        entry: dict[str, Any] = {"options": variant.words, "what": variant.what, "scores": {}}
        for place, row in table.items():
            if scores := list(row.get(variant.name, {}).values()):
                spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
                entry["scores"][str(place)] = {"mean": float(np.mean(scores)), "sd": spread, "seeds": len(scores)}
        for other in dict.fromkeys((DEFAULT, variant.against)):
            if variant.name != other and (less := difference(table, variant.name, other)):
                entry.setdefault("less", {})[other] = less._asdict()
        compared[variant.name] = entry
    return compared


def as_markdown(compared: Mapping[str, Mapping[str, Any]], places: Sequence[str]) -> str:
    """A line per variant: mean ± standard deviation (seeds) at each place, and the differences."""
    lines = [f"| variant | {' | '.join(places)} | less default | |", "|---" * (len(places) + 3) + "|"]
    for name, entry in compared.items():
        cells = [_score(entry["scores"].get(place)) for place in places]
        less = dict(entry.get("less", {}))
        first = _less(less.pop(DEFAULT, None))
        others = "".join(f"; less {other}: {_less(difference)}" for other, difference in less.items())
        lines.append(f"| `{name}` | {' | '.join(cells)} | {first} | {entry['what']}{others} |")
    return "\n".join(lines)


def _score(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "-"
    spread = "" if entry["sd"] is None else f" ± {entry['sd']:.1f}"
    return f"{entry['mean']:z.1f}{spread} ({entry['seeds']})"


def _less(difference: Mapping[str, Any] | None) -> str:
    if difference is None:
        return "-"
    interval = "" if difference["low"] is None else f" [{difference['low']:z.1f}, {difference['high']:z.1f}]"
    return f"{difference['value']:+z.1f}{interval} ({difference['pairs']})"


def variants_help() -> str:
    """The variants, a line each, for the help."""
    width = max(map(len, VARIANTS))
    return "\n".join(f"  {name:{width}}  {variant.what} [{variant.words}]" for name, variant in VARIANTS.items())


def borne_out(differences: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Names of the differences that are not chance at 5%, all tested together (`holm`); paired t-tests, as intervals.

    Each interval alone misses its difference in one case of twenty: of many, some leave 0 out by chance.
    """
    tested = {name: of for name, of in differences.items() if of["low"] is not None}
    return holm({name: _p_value(of) for name, of in tested.items()})


def _p_value(difference: Mapping[str, Any]) -> float:
    """The two-sided p-value of the t-test whose interval this is."""
    freedom = difference["pairs"] - 1
    error = (difference["high"] - difference["low"]) / 2 / scipy.stats.t.ppf((1 + CONFIDENCE) / 2, freedom)
    if error == 0:  # all pairs differ by the same
        return 0.0 if difference["value"] else 1.0
    return float(2 * scipy.stats.t.sf(abs(difference["value"]) / error, freedom))


# --- The picture ---


def draw_differences(differences: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw mean differences to the default with their intervals (if there are any), the first on top.

    Those that are `borne_out` have the colour of tabb.
    """
    from tabb.evaluation.figures import COLOURS, ENDS, new_figure, save_png, width_for

    figure = new_figure(figsize=(width_for(differences, 6.4), 0.9 + 0.3 * len(differences)), layout="constrained")
    axes = figure.add_subplot()
    sure = borne_out(differences)
    for height, (name, estimate) in enumerate(differences.items()):
        colour = COLOURS["tabb"] if name in sure else COLOURS["pooled"]
        if estimate["low"] is not None:
            axes.plot(
                [estimate["low"], estimate["high"]], [height, height], color=colour, linewidth=5, alpha=0.4, **ENDS
            )
        axes.plot(estimate["value"], height, marker="|", markersize=11, markeredgewidth=2.5, color=colour)
    axes.axvline(0.0, color="#000000", linewidth=0.6, linestyle=":")
    axes.set_yticks(range(len(differences)), list(differences))
    axes.set_ylim(len(differences) - 0.3, -0.7)
    count = sum(estimate["low"] is not None for estimate in differences.values())
    told = f", with 95% interval\norange: not chance at 5%, all {count} tested together (Holm)" if count else ""
    axes.set_xlabel(f"normalised score less that of the default{told}")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    save_png(figure, path)
