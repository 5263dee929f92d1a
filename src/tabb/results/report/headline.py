"""The headline of the page: how good the policy is, how much of the source transfers, and why."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tabb.environments.tasks import get_task
from tabb.evaluation.scores import averaged
from tabb.evaluation.statistics import Estimate, mean_interval
from tabb.results.report.gather import Gathered, Scored
from tabb.results.report.html import Html, element, number, percent, say, table
from tabb.results.report.records import Record
from tabb.results.report.rows import effective_share, on_scale, rank_correlation
from tabb.results.report.words import main_column, trust_name
from tabb.shown import tenths

SMALL = (0.05, 0.1)
"""shares of the spread of values below which a TBM counts as small"""


def final_estimate(records: list[Record]) -> tuple[Estimate, str] | None:
    """Score of the runs with its 95% interval, and what the interval covers; None without evaluations.

    A single episode has no interval: its ends are infinite.
    """
    evaluated = [record for record in records if record.score is not None]
    scores = [record.score for record in evaluated if record.score is not None]
    if not scores:
        return None
    if len(scores) > 1:
        return mean_interval(scores), f"95% t interval over {len(scores)} seeds"
    # Evaluations of a run begin their episodes alike, so that those of one start are not independent.
    starts = evaluated[0].last_episodes
    if len(starts) < 2:
        return Estimate(scores[0], -math.inf, math.inf), "one episode of one seed, which says nothing of others"
    interval = mean_interval(starts)
    meaning = f"95% t interval over {len(starts)} starts of episodes, of one seed; other seeds may differ far more"
    return Estimate(scores[0], interval.low, interval.high), meaning


def size_of(measure: str, values: Iterable[float | None]) -> float:
    """The size by which all scores of a page are shown (`tenths`): their largest if they are returns, else 1.

    A normalised score of 0.4 is hardly anything, a return of 0.4 may be all that there is.
    """
    known = [abs(value) for value in values if value is not None and math.isfinite(value)]
    return max(known, default=1.0) if measure == "return" else 1.0


def reach(estimate: Estimate, size: float) -> str:
    """The ends of an interval, as numbers of this size are shown; nothing where there is none."""
    return f"{tenths(estimate.low, size)} to {tenths(estimate.high, size)}" if math.isfinite(estimate.low) else ""


def headline(gathered: Gathered) -> list[Any]:
    """Key numbers, and the two answers in words."""
    first = gathered.records[0]
    boxes: list[tuple[str, str, str]] = []
    estimate, reference = final_estimate(gathered.records), target_score(gathered)
    size = size_of(first.measure, [reference, *(estimate[0] if estimate else ())])
    if estimate is None:
        boxes.append(("score", "–", "the run was not evaluated: it had no task or no evaluations"))
    else:
        value, meaning = estimate
        told = ", ".join(filter(None, (reach(value, size), meaning)))
        boxes.append((first.measure, tenths(value.value, size), told))
    if reference is not None:
        counted = f"{first.measure}, mean of their episodes, each counted by its rows"
        boxes.append(("target data themselves", tenths(reference, size), counted))
    scored = gathered.scored
    words = [say(_how_good(estimate, reference, first, size))]
    if scored is not None and gathered.audit is not None:
        harmful = [one for one in gathered.audit.findings if one.level != "note"]
        if harmful:
            codes = ", ".join(dict.fromkeys(one.code for one in harmful))
            found = gathered.audit.counts("error", "warning")
            words.append(say(
                element("b", "First fix the data: "),
                f"the audit (below) has {found} ({codes}). Do not rely on the rest of this "
                "page, which describes the data as they are, until they are fixed.",
            ))  # fmt: skip
        cover = [one.what for one in gathered.audit.findings if one.code == "coverage"]
        words += [say(f"Note that {what}; elsewhere the predictor extrapolates.") for what in cover]
    if scored is not None:
        boxes += _transfer_boxes(scored)
        words += _how_much(gathered, scored)
    else:
        words.append(say(no_weights(first)))
    cards = [
        element("div", element("dt", name), element("dd", element("b", value), element("span", meaning)))
        for name, value, meaning in boxes
    ]
    facts = [
        ["learner", first.learner],
        ["task", first.task or "none of the catalogue"],
        *([f"{domain} data", loaded.report.name] for domain, loaded in gathered.data.items()),
        ["seeds", ", ".join(str(record.seed) for record in gathered.records)],
        ["updates", f"{first.settings.updates:,}"],
    ]
    return [element("dl", *cards, class_="cards"), *words, table(["", ""], facts, words=2, class_="facts")]


def target_score(gathered: Gathered) -> float | None:
    """What the target data themselves have (`log_return`), as a score or return; None where nothing was rolled out."""
    mean = gathered.data["target"].report.mean_return if "target" in gathered.data else None
    task = gathered.records[0].task
    if mean is None or gathered.records[0].score is None:
        return None
    return float(get_task(task).normalised_score(mean)) if task else mean


def _how_good(estimate: tuple[Estimate, str] | None, reference: float | None, first: Record, size: float) -> str:
    if estimate is None:
        estimates = " The section on held-out target rows has estimates from the log." if first.held_out else ""
        return (
            "How good is the policy? This run cannot say, because nothing was rolled out."
            f"{estimates} With a simulator of the target domain, tabb evaluate rolls it out."
        )
    value, _ = estimate
    of_run = averaged(len(first.evaluations[0]))
    answer = f"How good is the policy? It scores {tenths(value.value, size)}, the mean over a run's {of_run}"
    if reference is None:
        return answer + "."
    logged = tenths(reference, size)
    if not math.isfinite(value.low):
        return f"{answer}. The target data have {logged}; one episode does not show a gain or a loss."
    if value.low > reference:
        return f"{answer}. That is above the {logged} of the target data."
    if value.high < reference:
        return f"{answer}. That is below the {logged} of the target data."
    return f"{answer}. The {logged} of the target data lie inside its interval, so a gain is not shown."


def small_shares(scored: Scored) -> list[float]:
    """Share of source rows with a TBM below each of SMALL times the standard deviation of own backups."""
    tbm, own = (np.asarray(scored.columns[name], np.float64) for name in ("tbm", "own_backup"))
    return [float(np.mean(tbm < share * own.std())) for share in SMALL]


def _transfer_boxes(scored: Scored) -> list[tuple[str, str, str]]:
    rows = len(scored.columns["episode"])
    if not scored.has_mismatch:
        label, values = main_column(scored)
        low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
        return [(f"{label} of source rows", number(middle), f"median of {rows:,}; 80% lie from {number(low)} to "
                 f"{number(high)}")]  # fmt: skip
    shares = small_shares(scored)
    own = effective_share(scored.columns["weight"])
    every = [own, *(effective_share(other) for other in scored.others)]
    seeds = "" if len(every) == 1 else f"; over seeds {percent(min(every))} to {percent(max(every))}"
    return [
        ("source rows of small TBM", percent(shares[1]), "their backup is predicted to be wrong by less than 10% "
         f"of the spread of values; {percent(shares[0])} by less than 5%; of {rows:,} rows"),
        ("effective sample size", percent(own), f"(Σw)²/Σw² = {own * rows:,.0f} of {rows:,} source rows{seeds}"),
    ]  # fmt: skip


def _how_much(gathered: Gathered, scored: Scored) -> list[Html]:
    first, agreement = gathered.records[0], ""
    if scored.others:
        trust = np.asarray(scored.columns[scored.trust], np.float64)
        every = [rank_correlation(trust, other) for other in scored.others]
        values = [one.value for one in every if one is not None]
        if values:
            agreement = (
                f" All that is said of rows is of seed {first.seed}; the mean rank correlation of its ranking with the "
                f"other seeds is {np.mean(values):z.2f}, so "
                + (
                    "it is reliable."
                    if np.mean(values) > 0.7
                    else "much of it is chance: trust groups, not single rows."
                )
            )
    if not scored.has_mismatch:
        meaning = scored.meaning
        return [
            say(
                f"Which source rows transfer? {first.rule.name} has no Bellman mismatch; this page shows its "
                f"{trust_name(scored)}, {meaning}. Only runs of tabb have TBM, its units and weights.{agreement}"
            )
        ]
    least, share = first.rule.least_weight, small_shares(scored)[1]  # type: ignore[attr-defined]
    relative = (
        " Weights are relative to the mean TBM⁺ of this source. So the effective sample size says how unequal the rows "
        "are, and the share of small TBM says how good the source is."
        if first.rule.scale == "source"  # type: ignore[attr-defined]
        else " Weights are relative to the predictor's error on target rows."
    )
    words = [
        say(
            f"How much of the source can be trusted? According to the fitted predictor, {percent(share)} of its rows "
            "teach the critic values that are wrong by less than a tenth of the spread (standard deviation) of own "
            f"backups; a policy depends on such differences in value. The least weight of a row is {least:g}."
            f"{relative}{agreement}"
        )
    ]
    mean, logged = float(np.mean(scored.columns["own_backup"])), gathered.logged_value
    if logged is not None and not on_scale(mean, logged):
        words.append(
            say(
                element("strong", "Caution: "),
                f"the run's mean backup of a source row is {number(mean)}, but the logged episodes earned "
                f"{number(logged)}, discounted. V is not on its final scale, so mismatches may still change.",
            )
        )
    return words


def no_weights(record: Record) -> str:
    """Why the report has no sections on single source rows."""
    if not record.uses_source:
        why = f"{record.rule.name} draws no source rows, so there are no weights and nothing transfers."
    else:
        why = f"{record.rule.name} has no number for each source row, so there are no weights to show."
    return why + " Train and report tabb on the same data to see which source rows can be trusted."
