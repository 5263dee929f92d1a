"""The headline of the page: how good the policy is, how much of the source transfers, and why or why not."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabb.environments.tasks import get_task
from tabb.evaluation.statistics import Estimate, bootstrap, mean_interval
from tabb.results.report.gather import Gathered, Scored
from tabb.results.report.html import Html, element, number, percent, say, table
from tabb.results.report.records import Record
from tabb.results.report.rows import effective_share, on_scale, rank_correlation
from tabb.results.report.words import main_column, trust_meaning, trust_name

SMALL = (0.05, 0.1)
"""a TBM below this share of the spread of values is small"""


def final_estimate(records: list[Record]) -> tuple[Estimate, str] | None:
    """Score of the runs with its 95 % interval, and what the interval speaks of; None without evaluations."""
    scores = [record.score for record in records if record.score is not None]
    if not scores:
        return None
    if len(scores) > 1:
        return mean_interval(scores), f"95 % t interval over {len(scores)} seeds"
    episodes = {"": records[0].last_episodes}
    drawn = bootstrap(lambda found: float(np.mean(found[""])), episodes)
    count = len(records[0].last_episodes)
    told = f"95 % bootstrap interval over {count} episodes of one seed: other seeds may differ by far more"
    return Estimate(scores[0], drawn.low, drawn.high), told


def headline(found: Gathered) -> list[Any]:
    """Facts in boxes, and the two answers in words."""
    first = found.records[0]
    boxes: list[tuple[str, str, str]] = []
    estimate = final_estimate(found.records)
    if estimate is None:
        boxes.append(("score", "–", "the run was not evaluated: it had no task or no evaluations"))
    else:
        value, told = estimate
        boxes.append((first.measure, f"{value.value:.1f}", f"{value.low:.1f} to {value.high:.1f}, {told}"))
    reference = target_score(found)
    if reference is not None:
        boxes.append(("target data themselves", f"{reference:.1f}", f"{first.measure} of their finished episodes"))
    scored = found.scored
    words = [say(_how_good(estimate, reference))]
    if scored is not None and found.audit is not None:
        harmful = [one for one in found.audit.findings if one.level != "note"]
        if harmful:
            codes = ", ".join(dict.fromkeys(one.code for one in harmful))
            words.append(say(
                element("b", "First mend the data: "),
                f"the audit (below) has {len(harmful)} errors or warnings ({codes}). What follows is about these data "
                "as they are, and not to be believed before.",
            ))  # fmt: skip
        cover = [one.what for one in found.audit.findings if one.code == "coverage"]
        words += [say(f"Mind that {what}: elsewhere the predictor guesses.") for what in cover]
    if scored is not None:
        boxes += _transfer_boxes(scored)
        words += _how_much(found, scored)
    else:
        words.append(say(no_weights(first)))
    cards = [
        element("div", element("dt", name), element("dd", element("b", value), element("span", told)))
        for name, value, told in boxes
    ]
    facts = [
        ["learner", first.learner],
        ["task", first.task or "none of the catalogue"],
        *([f"{domain} data", loaded.report.name] for domain, loaded in found.data.items()),
        ["seeds", ", ".join(str(record.seed) for record in found.records)],
        ["updates", f"{first.settings.updates:,}"],
    ]
    return [element("dl", *cards, class_="cards"), *words, table(["", ""], facts, words=2, class_="facts")]


def target_score(found: Gathered) -> float | None:
    """What the target data themselves score, on the runs' measure."""
    mean = found.data["target"].report.mean_return if "target" in found.data else None
    task = found.records[0].task
    if mean is None or found.records[0].score is None:
        return None
    return float(get_task(task).normalised_score(mean)) if task else mean


def _how_good(estimate: tuple[Estimate, str] | None, reference: float | None) -> str:
    if estimate is None:
        return (
            "How good the policy is cannot be told from this run, in which nothing was rolled out. Where target "
            "episodes were held out, the section on them says what the log tells of it; with a simulator of the target "
            "`tabb evaluate` does."
        )
    value, _ = estimate
    told = f"How good is the policy? It scores {value.value:.1f}, the mean over the last three evaluations of a run"
    if reference is None:
        return told + "."
    if value.low > reference:
        return f"{told}: above the {reference:.1f} of the target data it learned from."
    if value.high < reference:
        return f"{told}: below the {reference:.1f} of the target data it learned from, whose own policy did better."
    return f"{told}; the {reference:.1f} of the target data lie inside its interval, so that a gain is not shown."


def small_shares(scored: Scored) -> list[float]:
    """Share of source rows whose TBM is below each of SMALL times the standard deviation of own backups."""
    tbm, own = (np.asarray(scored.columns[name], np.float64) for name in ("tbm", "own_backup"))
    return [float(np.mean(tbm < share * own.std())) for share in SMALL]


def _transfer_boxes(scored: Scored) -> list[tuple[str, str, str]]:
    rows = len(scored.columns["episode"])
    if not scored.is_tabb:
        label, values = main_column(scored)
        low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
        return [(f"{label} of source rows", number(middle), f"median of {rows:,}; 80 % lie from {number(low)} to "
                 f"{number(high)}")]  # fmt: skip
    shares = small_shares(scored)
    own = effective_share(scored.columns["weight"])
    every = [own, *(effective_share(other) for other in scored.others)]
    seeds = "" if len(every) == 1 else f"; over seeds {percent(min(every))} to {percent(max(every))}"
    return [
        ("source rows of small TBM", percent(shares[1]), f"below 10 % of the spread of values; {percent(shares[0])} "
         f"below 5 %; of {rows:,} rows"),
        ("effective sample size", percent(own), f"(Σw)²/Σw² = {own * rows:,.0f} of {rows:,} source rows{seeds}"),
    ]  # fmt: skip


def _how_much(found: Gathered, scored: Scored) -> list[Html]:
    first, agreement = found.records[0], ""
    if scored.others:
        trust = np.asarray(scored.columns[scored.trust], np.float64)
        every = [rank_correlation(trust, other) for other in scored.others]
        values = [one.value for one in every if one is not None]
        if values:
            agreement = (
                f" The order of the rows is that of seed {first.seed}; its rank correlation with that of the other "
                f"seeds is {np.mean(values):.2f}, so that "
                + ("it can be relied on." if np.mean(values) > 0.7 else "much of it is chance: trust groups, not rows.")
            )
    if not scored.is_tabb:
        meaning = trust_meaning(scored, first.rule.name)
        return [
            say(
                f"Which source rows transfer? {first.rule.name} has no Bellman mismatch; the page shows its "
                f"{trust_name(scored)}, {meaning}. TBM, its units and weights belong to runs of tabb.{agreement}"
            )
        ]
    least, share = first.rule.least_weight, small_shares(scored)[1]  # type: ignore[attr-defined]
    relative = (
        " Weights are relative to the mean TBM of this very source, so the effective sample size says how unequal "
        "rows are, not how good the source is: that the share of small TBM says."
        if first.rule.scale == "source"  # type: ignore[attr-defined]
        else " Weights are relative to the predictor's error on target rows."
    )
    words = [
        say(
            f"How much of the source can be trusted? For {percent(share)} of its rows, by the account of the fitted "
            "predictor, what they teach the critic is off by less than a tenth of the spread (standard deviation) of "
            "own backups, the differences in value that a policy is made from. No row weighs less than "
            f"{least:g}.{relative}{agreement}"
        )
    ]
    mean, logged = float(np.mean(scored.columns["own_backup"])), found.logged_value
    if logged is not None and not on_scale(mean, logged):
        words.append(
            say(
                element("strong", "With caution: "),
                f"the run holds a source row to be worth {number(mean)} on average, while the logged episodes went on "
                f"to earn {number(logged)}, discounted. V is not on its final scale, so mismatches may still change.",
            )
        )
    return words


def no_weights(record: Record) -> str:
    """Why there is nothing to say of single source rows."""
    if not record.uses_source:
        why = f"{record.rule.name} draws no source rows, so there are no weights and nothing transfers."
    else:
        why = f"{record.rule.name} keeps no number for each source row: there are no weights to show."
    return why + " Train and report tabb on the same data to see which source rows can be trusted."
