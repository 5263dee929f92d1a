"""The sections about the run as a whole: learning, audit, provenance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tabb.data.audit.finding import LEVELS
from tabb.results.report.again import command
from tabb.results.report.draw import Chart, figure, legend, padded
from tabb.results.report.gather import Gathered
from tabb.results.report.headline import target_score
from tabb.results.report.html import Html, element, number, say, table
from tabb.results.report.records import Line

SHOWN_ROWS = 8
"""row numbers listed with a finding"""
SHOWN_METRICS = ("mean_value", "critic_loss", "tbm", "source_weight")
"""training metrics that are drawn, where the run has them"""


def learning(found: Gathered) -> list[Any]:
    """Scores and training metrics against updates."""
    records = found.records
    parts: list[Any] = []
    lines = [record.evaluations for record in records if record.evaluations[0]]
    if lines:
        parts.append(say(
            "The score at each evaluation: a curve that still climbs asks for more updates, one that falls for fewer "
            "or another learner. A single evaluation is no result; the score is the mean over the last three."
        ))  # fmt: skip
        reference = target_score(found)
        parts.append(_curves(records[0].measure, lines, ("target data themselves", reference)))
    else:
        parts.append(say("The run was not evaluated along the way, so there are no scores to draw."))
    shown = [name for name in SHOWN_METRICS if name in records[0].metrics]
    if shown:
        parts.append(say(
            "Training metrics, one line per seed: mean value (V over batches) should level off; where it climbs past "
            "what episodes earn, the critic has lost hold. The critic's loss may grow with the values."
        ))  # fmt: skip
        pictures = []
        for name in shown:
            level = ("rest of the logged episodes", found.logged_value) if name == "mean_value" else None
            lines = [record.metrics[name] for record in records if name in record.metrics]
            pictures.append(_curves("TBM" if name == "tbm" else name.replace("_", " "), lines, level))
        parts.append(element("div", *pictures, class_="pair"))
    return parts


HELD_OUT = {
    "value": ("estimated value", "discounted return from the logged first states, by fitted Q evaluation"),
    "action_error": ("distance from logged actions", "root mean square over the held-out rows"),
    "td_error": ("TD error", "of the critic on the held-out rows, in units of return"),
    "predictor_error": ("predictor error", "of predicted backups on the held-out rows, in units of return"),
}
"""what is drawn of the held-out rows: its name, and what it is"""


def held_out(found: Gathered) -> list[Any]:
    """What target episodes that training did not see say of the policies; nothing where none were held out."""
    records = [record for record in found.records if record.looks]
    if not records:
        return []
    shown = [name for name in HELD_OUT if name in records[0].looks]
    rows = []
    for record in records:
        last = {name: values[-1] for name, (_, values) in record.looks.items()}
        interval = f"{number(last['low'])} to {number(last['high'])}"
        rows.append([f"seed {record.seed}", interval, *(number(last[name]) for name in shown)])
    pictures = []
    for name in shown:
        pictures.append(_curves(HELD_OUT[name][0], [record.looks[name] for record in records]))
    return [
        say(
            "What target episodes that training did not see say of the policy at the end, and along the run. The value "
            "is estimated from logged target rows alone; its 95 % interval covers the fit, not what the log does not "
            "show. Where it was compared with true scores, nearness to the logged actions ranked policies better than "
            "the value did, and neither well enough to be trusted alone: try the policy with care."
        ),
        table(["run", "interval of the value", *(HELD_OUT[name][0] for name in shown)], rows, words=2),
        element("ul", *(element("li", f"{HELD_OUT[name][0]}: {HELD_OUT[name][1]}") for name in shown)),
        element("div", *pictures, class_="pair"),
    ]


def _curves(name: str, lines: list[Line], reference: tuple[str, float | None] | None = None) -> Html:
    """One thin line per seed and, of several, their mean where all have a point."""
    words, level = reference or ("", None)
    every = [value for _, values in lines for value in values] + ([] if level is None else [level])
    x = padded(0, max(at for points, _ in lines for at in points), "updates", zero=True)
    chart = Chart(f"{name} against updates", x, padded(min(every), max(every), name))
    same = len(lines) > 1 and all(points == lines[0][0] for points, _ in lines)
    for points, values in lines:
        chart.line(points, values, "s thin" if same else "s")
    keys = (
        [("k s thin", "each seed"), ("k s", "mean")] if same else [("k s", "run" if len(lines) == 1 else "each seed")]
    )
    if same:
        chart.line(lines[0][0], np.mean([values for _, values in lines], axis=0), "s")
    if level is not None:
        chart.level(level, "t")
        keys.append(("k t", words))
    return figure(chart, legend(*keys))


def audit_section(found: Gathered) -> list[Any]:
    """The findings, the most harmful first."""
    if found.audit is None:
        return [say("The data were not audited: the run keeps no file names (name them with --source and --target), or "
                    "they are folders.")]  # fmt: skip
    findings = found.audit.findings
    if not findings:
        return [say("The audit found nothing wrong in the data files, each for itself and as a pair.")]
    counts = ", ".join(f"{len(found.audit.of_level(level))} {level}s" for level in LEVELS)
    rows = []
    # Where a finding is, by the file's name: folders are told under provenance.
    names = {str(path): Path(path).name for named in found.audit.files for path in named.split("+")}
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
            f"What the audit found in the data files, the most harmful first: {counts}. Mend errors and warnings "
            "before trusting anything above; notes are good to know."
        ),
        table(["level", "finding", "where", "what", "remedy"], rows, words=5, class_="text"),
    ]


def provenance(found: Gathered) -> list[Any]:
    """All that made the run, and the command that makes it again."""
    first = found.records[0]
    environment = first.config["environment"]
    facts = [["run", str(record.folder.resolve())] for record in found.records]
    for domain in ("source", "target"):
        digest = first.config["data"][domain]
        if domain == "target" or first.uses_source:
            origin = first.config.get("origin", {}).get(domain)
            files = ", ".join(map(str, origin["files"])) if isinstance(origin, dict) else "arrays"
            facts += [[f"{domain} data", files], [f"{domain} data, SHA-256 of the transitions", str(digest)]]
    if first.held_out:
        facts += [["target episodes held out", ", ".join(map(str, first.held_out))]]
    facts += [["device", str(environment["device"])], ["python", str(environment["python"])]]
    facts += [[name, str(version)] for name, version in environment["versions"].items()]
    parts = {"rule": first.config["rule"], "settings": first.config["settings"]}
    again = command(first, [record.seed for record in found.records])
    return [
        say("The same data, command and versions on the same kind of processor make the same run, bit for bit, if as "
            "many threads run it: a seed of several had one core to itself."),
        element("pre", again, class_="command", tabindex="0"),
        table(["", ""], facts, words=2, class_="facts"),
        element("details", element("summary", "Configuration"),
                element("pre", json.dumps(parts, indent=1), tabindex="0")),
    ]  # fmt: skip
