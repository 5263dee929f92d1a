"""From two data sets to the rows to learn from and those to judge policies by, in memory or from files."""

from __future__ import annotations

import dataclasses
from typing import Any

from tabb.batch import Domains, fit_normaliser, normalised_domains
from tabb.evaluation.fqe import FQE
from tabb.provenance import EXTRAS, extras_fingerprint, fingerprint
from tabb.rules import Rule
from tabb.training.config import Settings
from tabb.training.held_out import HeldOut, Split, share_of, split
from tabb.training.loop import Program
from tabb.training.row_limit import limited
from tabb.training.stored_rows import FITTED, Side, check_stored, side_of
from tabb.transitions import StoredRows, Transitions, is_stored, with_extras


@dataclasses.dataclass(frozen=True)
class StoredSides:
    """The rows of both domains where those of one at least stay in a file."""

    source: StoredRows
    target: StoredRows
    target_stays: bool
    """Whether the target's rows do."""
    notes: tuple[str, ...]
    """What a user should know of it."""


@dataclasses.dataclass(frozen=True)
class LearnedRows:
    """What a run learns from."""

    domains: Domains
    """The rows to learn from, without those held out; of a domain in a file those that models are fitted to."""
    data: dict[str, Any]
    """What tells the data of a run from others."""
    share: float
    """of the target's episodes that is held out"""
    held_out: HeldOut | None
    """None where no episode is held out."""
    stored: StoredSides | None
    """None where all rows are in memory."""


def learned_rows(
    program: Program, source: Transitions, target: Transitions, settings: Settings, rolls_out: bool, normalisation: str
) -> LearnedRows:
    """The rows of both domains as the settings limit and split them.

    Raises `UsageError` for a run that needs all rows in memory where they stay in a file (`check_stored`).
    """
    reads, config = program.rule.reads(program.backbone.batch_size), FQE(discount=program.backbone.discount)
    if is_stored(source) or is_stored(target):
        return _of_files(program, source, target, settings, rolls_out, normalisation)
    source = limited(source, settings.source_rows, settings.rows_seed)
    target = limited(target, settings.target_rows, settings.rows_seed)
    share = share_of(settings, rolls_out, target)
    parts = split(target, share)
    normaliser = fit_normaliser(source, parts.train, normalisation, reads)
    domains = normalised_domains(source, parts.train, normaliser, program.rule.extras)
    data: dict[str, Any] = {"source": fingerprint(source), "target": fingerprint(target)}
    if program.rule.extras:
        # By themselves: runs of other rules on the same rows are still known to be on the same rows.
        read = {"source": with_extras(source, program.rule.extras), "target": with_extras(target, program.rule.extras)}
        data[EXTRAS] = {domain: extras_fingerprint(rows) for domain, rows in read.items()}
    held_out = None
    if parts.episodes:
        # What rules fit before training depends on it, so it belongs to the data that the cache knows them by.
        data["held_out"] = parts.episodes
        held_out = HeldOut(target, parts, normaliser, config)
    return LearnedRows(domains, data, share, held_out, None)


def _of_files(
    program: Program, source: Transitions, target: Transitions, settings: Settings, rolls_out: bool, normalisation: str
) -> LearnedRows:
    check_stored(program, settings.imitation, is_stored(target))
    seed = settings.rows_seed
    here = side_of(source, settings.source_rows, 0.0, seed)
    whole = side_of(target, settings.target_rows, 0.0, seed)
    share = share_of(settings, rolls_out, whole.rows)
    there = side_of(target, settings.target_rows, share, seed) if share else whole
    reads, config = program.rule.reads(program.backbone.batch_size), FQE(discount=program.backbone.discount)
    normaliser = fit_normaliser(here.rows, there.rows, normalisation, reads)
    domains = normalised_domains(here.fitted, there.fitted, normaliser)
    data: dict[str, Any] = {"source": fingerprint(here.rows), "target": fingerprint(whole.rows)}
    held_out = None
    if there.episodes:
        data["held_out"] = there.episodes
        held_out = HeldOut(there.judged, Split(there.fitted, there.held_out), normaliser, config)
    notes = [*_notes("source", here, is_stored(source)), *_notes("target", there, is_stored(target))]
    fewer = [name for name, side in (("source", here), ("target", there)) if len(side.fitted) < len(side.rows)]
    if fewer and _fits(program.rule):
        data["fitted"] = dict.fromkeys(fewer, FITTED)
    return LearnedRows(
        domains, data, share, held_out, StoredSides(here.rows, there.rows, is_stored(target), tuple(notes))
    )


def _fits(rule: Rule) -> bool:
    """Whether the rule makes something of the rows before training."""
    return any(getattr(type(rule), seam) is not getattr(Rule, seam) for seam in ("prepare", "extra_rows"))


def _notes(domain: str, side: Side, stays: bool) -> list[str]:
    if not stays or not len(side.rows):
        return []
    notes = [f"the {len(side.rows):,} {domain} rows stay in a file, and batches are drawn from it"]
    if len(side.fitted) < len(side.rows):
        notes.append(f"models are fitted to {len(side.fitted):,} {domain} rows: whole episodes, drawn by rows_seed")
    return notes
