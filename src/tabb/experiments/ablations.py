"""Ablations: TABB with one thing changed at a time, and what each change costs or gives.

A variant is a learner with options of `tabb train`; its runs are cells of a comparison like any other
(`tabb.experiments.benchmark`). The files at hand have 100,000 source and up to 5,000 target rows: that is what
`default` learns from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tabb.errors import UsageError, meant
from tabb.evaluation.statistics import Estimate, mean_interval
from tabb.experiments.benchmark import Table, shared

DEFAULT = "default"


class Variant(NamedTuple):
    """A learner with one thing changed."""

    name: str
    options: str
    """Of `tabb train`, the learner first; {seed} is the run's seed."""
    what: str
    against: str = DEFAULT
    """The variant from which it differs in that one thing."""


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(DEFAULT, "tabb", "TABB with its defaults"),
        Variant("target-only", "target-only", "no source data, which is the bar"),
        Variant("source-only", "source-only", "no target data: the source's policy as it is"),
        Variant("pooled", "pooled", "all source rows alike"),
        # What the weight falls with.
        Variant("similarity", "tabb --rule.weigh-by similarity", "weights by distance to the target rows, not by TBM"),
        Variant("noise-0.1", "tabb --rule.value-noise 0.1", "values in TBM off by a tenth of V's spread"),
        Variant("noise-0.3", "tabb --rule.value-noise 0.3", "values in TBM off by 0.3 of V's spread"),
        Variant("noise-1", "tabb --rule.value-noise 1", "values in TBM off by V's spread"),
        # The predictor.
        Variant("latent", "tabb --rule.predictor.space latent", "V and predictor in the latent space"),
        Variant(
            "direct", "tabb --rule.predictor.form direct", "target heads predict alone, not on top of the source's"
        ),
        Variant(
            "latent-direct",
            "tabb --rule.predictor.space latent --rule.predictor.form direct",
            "latent, and target heads predict alone",
            "latent",
        ),
        Variant(
            "no-source-head",
            "tabb --rule.predictor.space latent --rule.predictor.form direct --rule.predictor.no-source-head",
            "latent-direct, encoders learned from target rows alone",
            "latent-direct",
        ),
        Variant("beta-0", "tabb --rule.uncertainty 0", "the spread of the predictions is ignored"),
        Variant("beta-3", "tabb --rule.uncertainty 3", "the spread of the predictions counts threefold"),
        Variant(
            "one-head",
            "tabb --rule.uncertainty 0 --rule.predictor.heads 1",
            "beta-0, one target head instead of five",
            "beta-0",
        ),
        # How sharply, and in which losses.
        Variant("c-0.3", "tabb --rule.temperature 0.3", "sharper weights"),
        Variant("c-3", "tabb --rule.temperature 3", "softer weights"),
        Variant("c-inf", "tabb --rule.temperature inf", "all source rows weigh 1 in critic and value"),
        Variant("least-0", "tabb --rule.least-weight 0", "the least trusted rows weigh nothing"),
        Variant("value-unweighted", "tabb --rule.no-weigh-value", "weights in the critic's loss alone"),
        Variant("imitate", "tabb --rule.imitate-source 1", "the policy learns from source rows, weighted"),
        Variant(
            "imitate-unweighted",
            "tabb --rule.imitate-source 1 --rule.no-weigh-policy",
            "the policy learns from all source rows alike",
            "imitate",
        ),
        # How the policy comes from the values.
        Variant("climb", "tabb --backbone.extraction improvement", "the policy climbs Q, held to target actions"),
        Variant(
            "target-only-climb",
            "target-only --backbone.extraction improvement",
            "the same without source data",
            "climb",
        ),
        Variant(
            "climb-c-inf",
            "tabb --rule.temperature inf --backbone.extraction improvement",
            "climb, all source rows weigh 1 in critic and value",
            "climb",
        ),
        Variant(
            "climb-similarity",
            "tabb --rule.weigh-by similarity --backbone.extraction improvement",
            "climb, weights by distance to the target rows",
            "climb",
        ),
        # How sharply the policy prefers the better actions: with β = 3 it picks up the noise of noisy experts.
        Variant("soft", "tabb --backbone.temperature 0.5", "the policy's β is 0.5"),
        Variant(
            "soft-imitate",
            "tabb --rule.imitate-source 1 --backbone.temperature 0.5",
            "imitate, and the policy's β is 0.5",
            "imitate",
        ),
        Variant("soft-pooled", "pooled --backbone.temperature 0.5", "pooled, and the policy's β is 0.5", "pooled"),
        Variant(
            "soft-source-only",
            "source-only --backbone.temperature 0.5",
            "source-only, and the policy's β is 0.5",
            "source-only",
        ),
        Variant(
            "soft-target-only",
            "target-only --backbone.temperature 0.5",
            "target-only, and the policy's β is 0.5",
            "target-only",
        ),
        # Less data.
        Variant("target-1000", "tabb --target-rows 1000 --rows-seed {seed}", "1,000 target rows"),
        Variant("target-2500", "tabb --target-rows 2500 --rows-seed {seed}", "2,500 target rows"),
        Variant(
            "target-only-1000",
            "target-only --target-rows 1000 --rows-seed {seed}",
            "1,000 target rows and no source",
            "target-1000",
        ),
        Variant(
            "target-only-2500",
            "target-only --target-rows 2500 --rows-seed {seed}",
            "2,500 target rows and no source",
            "target-2500",
        ),
        Variant("source-10000", "tabb --source-rows 10000 --rows-seed {seed}", "10,000 source rows"),
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
    """Mean difference of paired runs, with Student's 95 % interval over the pairs."""

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
    learners = [VARIANTS[name].options.split()[0] for name in (first, second)]
    found: dict[tuple[str, int], list[float]] = {}
    for place, row in table.items():
        for seed in sorted(set(row.get(first, {})) & set(row.get(second, {}))):
            found.setdefault((str(shared(place, *learners)), seed), []).append(row[first][seed] - row[second][seed])
    pairs = [float(np.mean(differences)) for differences in found.values()]
    if not pairs:
        return None
    estimate = mean_interval(pairs) if len(pairs) > 1 else Estimate(pairs[0], float("nan"), float("nan"))
    known = len(pairs) > 1
    return Difference(estimate.value, estimate.low if known else None, estimate.high if known else None, len(pairs))


def summary(table: Table, variants: Sequence[Variant]) -> dict[str, dict[str, Any]]:
    """Of each variant: its options, its scores by place, and its differences to the default and to its counterpart."""
    found = {}
    for variant in variants:
        told: dict[str, Any] = {"options": variant.options, "what": variant.what, "scores": {}}
        for place, row in table.items():
            if scores := list(row.get(variant.name, {}).values()):
                spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
                told["scores"][str(place)] = {"mean": float(np.mean(scores)), "sd": spread, "seeds": len(scores)}
        for other in dict.fromkeys((DEFAULT, variant.against)):
            if variant.name != other and (less := difference(table, variant.name, other)):
                told.setdefault("less", {})[other] = less._asdict()
        found[variant.name] = told
    return found


def as_markdown(found: Mapping[str, Mapping[str, Any]], places: Sequence[str]) -> str:
    """A line per variant: mean ± standard deviation (seeds) at each place, and the differences."""
    lines = [f"| variant | {' | '.join(places)} | less default | |", "|---" * (len(places) + 3) + "|"]
    for name, told in found.items():
        cells = [_score(told["scores"].get(place)) for place in places]
        less = dict(told.get("less", {}))
        first = _less(less.pop(DEFAULT, None))
        others = "".join(f"; less {other}: {_less(found)}" for other, found in less.items())
        lines.append(f"| `{name}` | {' | '.join(cells)} | {first} | {told['what']}{others} |")
    return "\n".join(lines)


def _score(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    spread = "" if found["sd"] is None else f" ± {found['sd']:.1f}"
    return f"{found['mean']:.1f}{spread} ({found['seeds']})"


def _less(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    interval = "" if found["low"] is None else f" [{found['low']:.1f}, {found['high']:.1f}]"
    return f"{found['value']:+.1f}{interval} ({found['pairs']})"


def variants_told() -> str:
    """The variants, a line each, for the help."""
    width = max(map(len, VARIANTS))
    return "\n".join(f"  {name:{width}}  {variant.what} [{variant.options}]" for name, variant in VARIANTS.items())
