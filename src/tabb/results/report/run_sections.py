"""The sections on the run as a whole: learning, held-out rows, audit, provenance."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tabb.data.names import parts_of
from tabb.errors import UsageError
from tabb.evaluation.scores import averaged
from tabb.results.report.charts import Chart, figure, legend, padded
from tabb.results.report.gather import Gathered
from tabb.results.report.headline import target_score
from tabb.results.report.html import Html, element, number, say, table
from tabb.results.report.records import Curve, Record
from tabb.results.row_scores import steps_alone
from tabb.results.train_command import train_call, train_command
from tabb.training.spec import RunSpec
from tabb.training.starting_weights import recorded_path

SHOWN_ROWS = 8
"""row numbers that are listed with a finding"""
SHOWN_METRICS = ("mean_value", "critic_loss", "tbm", "source_weight")
"""training metrics that are drawn if the run has them; `tbm` is the mean TBM⁺ of the source rows of batches"""


def learning(gathered: Gathered) -> list[Any]:
    """Scores and training metrics against updates."""
    records = gathered.records
    parts: list[Any] = []
    curves = [record.evaluations for record in records if record.evaluations[0]]
    if curves:
        parts.append(say(
            "The score at each evaluation. If the curve still rises, train longer; if it falls, train shorter or with "
            "another learner. A single evaluation is not a result; the score is the mean over the "
            f"{averaged(len(curves[0][0]))}."
        ))  # fmt: skip
        reference = target_score(gathered)
        parts.append(_curves(records[0].measure, curves, ("target data themselves", reference)))
    else:
        parts.append(say("The run had no evaluations, so there are no scores to draw."))
    shown = [name for name in SHOWN_METRICS if name in records[0].metrics]
    if shown:
        parts.append(say(
            "Training metrics, one curve per seed. The mean value (V over batches) should level off; if it rises above "
            "the returns of the episodes, the critic diverges. The critic's loss may grow with the values."
        ))  # fmt: skip
        pictures = []
        for name in shown:
            level = ("rest of the logged episodes", gathered.logged_value) if name == "mean_value" else None
            curves = [record.metrics[name] for record in records if name in record.metrics]
            pictures.append(_curves("TBM⁺" if name == "tbm" else name.replace("_", " "), curves, level))
        parts.append(element("div", *pictures, class_="pair"))
    return parts


HELD_OUT = {
    "value": ("estimated value", "discounted return from the logged first states, by fitted Q evaluation"),
    "action_error": ("distance from logged actions", "root mean square over the held-out rows"),
    "td_error": ("TD error", "of the critic on the held-out rows, in units of return"),
    "predictor_error": ("predictor error", "of predicted backups on the held-out rows, in units of return"),
}
"""measures on the held-out rows that are drawn: name and meaning"""


def held_out(gathered: Gathered) -> list[Any]:
    """Measures on target episodes that the run did not train on; empty if none were held out."""
    records = [record for record in gathered.records if record.held_out_curves]
    if not records:
        return []
    shown = [name for name in HELD_OUT if name in records[0].held_out_curves]
    rows = []
    for record in records:
        last = {name: values[-1] for name, (_, values) in record.held_out_curves.items()}
        interval = f"{number(last['low'])} to {number(last['high'])}"
        rows.append([f"seed {record.seed}", interval, *(number(last[name]) for name in shown)])
    pictures = []
    for name in shown:
        pictures.append(_curves(HELD_OUT[name][0], [record.held_out_curves[name] for record in records]))
    return [
        say(
            "Measures on target episodes that the run did not train on, for the final policy and along the run. Only "
            "the value is estimated from all logged target rows; its 95% interval covers the fit, not what the log "
            "lacks. In comparisons with true scores, the distance from the logged actions ranked policies better than "
            "the value, and neither was good enough to be trusted alone: test the policy with care."
        ),
        table(["run", "interval of the value", *(HELD_OUT[name][0] for name in shown)], rows, words=2),
        element("ul", *(element("li", f"{HELD_OUT[name][0]}: {HELD_OUT[name][1]}") for name in shown)),
        element("div", *pictures, class_="pair"),
    ]


def _curves(name: str, curves: list[Curve], reference: tuple[str, float | None] | None = None) -> Html:
    """A curve per seed and, if all seeds have the same points, their mean."""
    words, level = reference or ("", None)
    every = [value for _, values in curves for value in values if math.isfinite(value)]
    every += [] if level is None else [level]
    if not every:
        return say(f"{name}: no number of it is finite.")
    x = padded(0, max(at for points, _ in curves for at in points), "updates", zero=True)
    chart = Chart(f"{name} against updates", x, padded(min(every), max(every), name))
    same = len(curves) > 1 and all(points == curves[0][0] for points, _ in curves)
    for points, values in curves:
        chart.line(points, values, "s thin" if same else "s")
    keys = (
        [("k s thin", "each seed"), ("k s", "mean")] if same else [("k s", "run" if len(curves) == 1 else "each seed")]
    )
    if same:
        chart.line(curves[0][0], np.mean([values for _, values in curves], axis=0), "s")
    if level is not None:
        chart.level(level, "t")
        keys.append(("k t", words))
    return figure(chart, legend(*keys))


def audit_section(gathered: Gathered) -> list[Any]:
    """The findings, the most harmful first."""
    if gathered.audit is None:
        return [say("The data were not audited: the run has no file names (name the files with --source and --target), "
                    "or the data are folders.")]  # fmt: skip
    findings = gathered.audit.findings
    if not findings:
        return [say("The audit found no problem in the data files or in them as a pair.")]
    rows = []
    # Files by name only; their folders are listed under provenance.
    names = {str(path): Path(path).name for named in gathered.audit.files for path in parts_of(named)}
    for one in findings:
        where = one.where
        for path, name in names.items():
            where = where.replace(path, name)
        more = ", ..." if len(one.rows) > SHOWN_ROWS else ""
        listed = f" (row {', '.join(map(str, one.rows[:SHOWN_ROWS]))}{more})" if one.rows else ""
        level = element("span", one.level, class_=f"level {one.level}")
        rows.append([level, one.code, where, one.what + listed, one.fix])
    return [
        say(
            f"The findings of the audit of the data files, the most harmful first: {gathered.audit.counts()}. Fix "
            "errors and warnings before you trust anything above; notes are for information."
        ),
        table(["level", "finding", "where", "what", "remedy"], rows, words=5, class_="text"),
    ]


def provenance(gathered: Gathered) -> list[Any]:
    """The provenance of the run, and the command that repeats it."""
    first = gathered.records[0]
    environments = [record.config["environment"] for record in gathered.records]
    facts = [["run", str(record.folder.resolve())] for record in gathered.records]
    for domain in ("source", "target"):
        digest = first.config["data"][domain]
        if domain == "target" or first.uses_source:
            origin = first.config.get("origin", {}).get(domain)
            own = "steps of the run" if steps_alone(first.config, domain, first.folder) else "arrays"
            files = ", ".join(map(str, origin["files"])) if isinstance(origin, dict) else own
            facts += [[f"{domain} data", files], [f"{domain} data, SHA-256 of the transitions", str(digest)]]
    if first.held_out:
        facts += [["target episodes held out", ", ".join(map(str, first.held_out))]]
    for name in ("device", "python"):
        facts.append([name, _of_all(environment[name] for environment in environments)])
    for name in dict.fromkeys(name for environment in environments for name in environment["versions"]):
        facts.append([name, _of_all(environment["versions"].get(name, "none") for environment in environments)])
    parts = {"rule": first.config["rule"], "settings": first.config["settings"]}
    return [
        say(_how_it_ran(gathered.records)),
        element("pre", _command(gathered.records), class_="command", tabindex="0", role="group",
                aria_label="Command"),
        table(["", ""], facts, words=2, class_="facts"),
        element("details", element("summary", "Configuration"),
                element("pre", json.dumps(parts, indent=1), tabindex="0", role="group", aria_label="Configuration")),
    ]  # fmt: skip


def _of_all(values: Iterable[Any]) -> str:
    """What all seeds have, or what each of them has."""
    return ", ".join(dict.fromkeys(map(str, values)))


def _command(records: Sequence[Record]) -> str:
    """The command that makes these runs again; a line of Python where they were trained from arrays."""
    first, seeds = records[0], [record.seed for record in records]
    try:
        return train_command(RunSpec.from_config(first.config), seeds)
    except UsageError:
        settings = dataclasses.replace(first.settings, backbone=first.backbone)
        more: dict[str, Any] = {} if first.task is None else {"task": first.task}
        if (start := first.config.get("start")) is not None:
            more |= {"start": recorded_path(start), "start_parts": tuple(start["parts"])}
        return train_call(first.rule, settings, seeds, more)


def _how_it_ran(records: Sequence[Record]) -> str:
    """Under what the same run comes out again, and how seeds shared the machine, as far as the records say."""
    same = (
        "The same data, command and versions give the same run, bit for bit, on the same kind of processor with the "
        "same number of threads"
    )
    together = [len(record.config["seeds"]) > 1 for record in records]
    if not any(together):
        return f"{same}; each of the seeds was trained by a call of its own." if len(records) > 1 else f"{same}."
    on_cpu = records[0].config["environment"]["device"].startswith("cpu")
    how = "one after the other, each with all threads" if on_cpu else "at the same time, as one program"
    return f"{same}; the seeds were trained by one call, {how}."
