"""All that a report is made from: the runs' records, their data, their scores of source rows, the audit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from tabb.batch import Domains
from tabb.bellman import bellman_backup
from tabb.data.audit import Audit, audit
from tabb.data.minari_sets import is_minari
from tabb.data.names import joined
from tabb.data.reading import Reading
from tabb.data.report import Loaded
from tabb.errors import UsageError
from tabb.models.fitting import scores
from tabb.results.report.records import Record, read_records
from tabb.results.report.rows import Column, return_to_go, steps_of
from tabb.results.row_scores import PLACES, Files, Finished, open_run, run_data, scores_of, steps_alone, too_many
from tabb.rules import Rule
from tabb.training.spec import reading_from
from tabb.transitions import Transitions


@dataclasses.dataclass(frozen=True)
class Yardstick:
    """The predictor's error on rows of the target domain itself."""

    error: Column
    """|mean_k b̂ - b| with b̂ predicted from (s, a) alone [M], in units of return."""
    held_out: bool
    """Whether these are rows that the run did not learn from."""


@dataclasses.dataclass(frozen=True)
class Scored:
    """What the first seed's run says of the source rows, and how far the other seeds agree."""

    columns: dict[str, NDArray[Any]]
    """As of `score_rows`."""
    step: NDArray[np.intp]
    """Number of the step in its episode [N]."""
    trust: str
    """The column of which more means more trust: `weight`, or a rival's score."""
    meaning: str
    """What that column says, in words."""
    others: tuple[Column, ...]
    """The column of trust as the other seeds have it."""
    domains: Domains
    """With normalised observations."""
    yardstick: Yardstick | None

    @property
    def has_mismatch(self) -> bool:
        """Whether rows have a Bellman mismatch, `tbm`: those of TABB and its kin."""
        return "tbm" in self.columns


@dataclasses.dataclass(frozen=True)
class Gathered:
    """A report's contents before they are laid out."""

    root: Path
    records: list[Record]
    data: dict[str, Loaded]
    """`source` where the rule draws from it, and `target`; none where the run keeps no files and none were named."""
    scored: Scored | None
    audit: Audit | None

    @property
    def logged_value(self) -> float | None:
        """Mean over rows of the discounted rest of their logged episode: the scale that V should be on.

        Of the source where the rule draws from it, else of the target; None without data.
        """
        if not self.data:
            return None
        rows = self.data["source" if "source" in self.data else "target"].transitions
        discount: float = getattr(self.records[0].backbone, "discount", 1.0)
        return float(return_to_go(rows.reward, rows.episode, discount).mean())


def gather(
    folder: str | Path, source: Files | None = None, target: Files | None = None, *, audited: bool = True
) -> Gathered:
    """Read what a report needs. `source` and `target` name the data if they have moved.

    Without `audited` the data are not audited, which a page of several runs has no room for.

    Raises as `tabb.results.report.records.read_records` and `tabb.results.row_scores.open_run` do.
    """
    records = read_records(folder)
    first = records[0]
    given = {"source": source, "target": target}
    if not first.uses_source:
        del given["source"]
    origin = first.config.get("origin", {})
    steps = {domain: steps_alone(first.config, domain, first.folder) for domain in given}
    known = all(
        given[domain] is not None or steps[domain] is not None or isinstance(origin.get(domain), dict)
        for domain in given
    )
    keeps = first.uses_source and _keeps_scores(first.rule)
    data: dict[str, Loaded] = {}
    if known or keeps:
        data = {domain: run_data(first.config, domain, files, str(first.folder)) for domain, files in given.items()}
    keeps = keeps and not any(too_many(loaded.transitions) for loaded in data.values())
    scored = _scored(records, data, source, target) if keeps else None
    files = {
        domain: _files(origin, domain, steps[domain]) if (named := given[domain]) is None else _paths(named)
        for domain in data
    }
    found = _audited(files, reading_from(origin), bool(origin.get("store", False))) if audited else None
    return Gathered(Path(folder), records, data, scored, found)


def _paths(named: Files) -> list[Path] | None:
    """The data files that were named; None for rows in memory."""
    if isinstance(named, Transitions):
        return None
    return [Path(named)] if isinstance(named, str | Path) else [Path(one) for one in named]


def _files(origin: dict[str, Any], domain: str, steps: Path | None) -> list[Path]:
    """The run's own data files of a domain: logged rows, or all of its steps."""
    return [Path(file) for file in origin[domain]["files"]] if steps is None else [steps]


def _keeps_scores(rule: Rule) -> bool:
    """Whether the rule has numbers per row at all; that they are scores is seen when they are made."""
    kind = type(rule)
    return kind.columns is not Rule.columns or kind.row_scores is not Rule.row_scores


def _scored(
    records: list[Record], data: dict[str, Loaded], source: Files | None, target: Files | None
) -> Scored | None:
    first, others = None, []
    for record in records:
        run = open_run(record.folder, source, target)
        try:
            columns = scores_of(run, record.folder).columns
        except UsageError:  # what the rule keeps per row is not a number (DROCO's predicted states)
            return None
        trust = run.rule.trust or next(name for name in columns if name not in PLACES)
        if first is None:
            first = (run, columns, trust)
        elif steps_alone(record.config, "source", record.folder) is None:  # else the rows of each seed are its own
            others.append(np.asarray(columns[trust], np.float64))
    assert first is not None
    run, columns, trust = first
    yardstick = _yardstick(run, records[0], data["target"])
    steps, meaning = steps_of(data["source"]), run.rule.trust_meaning
    return Scored(columns, steps, trust, meaning, tuple(others), run.domains, yardstick)


def _yardstick(run: Finished, record: Record, target: Loaded) -> Yardstick | None:
    """The error of predicted backups on target rows: held-out ones where the run has some, else all.

    None where the rule predicts no outcome of (s, a) alone.
    """
    rule, models, normaliser = run.rule, run.models, run.domains.normaliser
    rows, held_out = target.transitions, False
    if record.held_out:
        unseen = np.isin(np.asarray(rows.episode), record.held_out)
        if unseen.any():
            rows, held_out = rows[np.flatnonzero(unseen)], True
    rows = jax.tree.map(jax.numpy.asarray, rows)
    rows = dataclasses.replace(
        rows,
        observation=normaliser(rows.observation),
        next_observation=normaliser(rows.next_observation),
    )
    if rule.predict_target(models, rows[:1]) is None:
        return None

    def backups(part: Transitions) -> tuple[Any, Any]:
        following = rule.see_state(models, part.next_observation)[:, None]
        own = bellman_backup(part.reward, part.terminal, run.value(following)[:, 0], run.backbone.discount)
        outcome = rule.predict_target(models, part)
        assert outcome is not None
        reward, terminal, states = outcome
        return own, bellman_backup(reward, terminal, run.value(states), run.backbone.discount)

    own, predicted = (np.asarray(one, np.float64) for one in scores(backups, rows))
    return Yardstick(np.abs(predicted.mean(axis=1) - own), held_out)


def _audited(files: dict[str, list[Path] | None], reading: Reading, store: bool) -> Audit | None:
    """The audit of the data files; None for rows in memory, and for folders (Minari's), which it does not read."""
    sides: dict[str, Any] = {}
    for domain, paths in files.items():
        if paths is None or any(map(is_minari, paths)):
            return None
        sides[domain] = joined(paths)
    return audit(**sides, reading=reading, store=store) if sides else None
