"""The comparison of runs: one page with their scores, curves, trust by region and films, of which any may be left out.

The page has no scripts: a box for each run hides and shows what belongs to it by a rule of the style.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tabb._version import __version__
from tabb.errors import RunError, UsageError
from tabb.files import atomic, check_suffix, path_of, paths_of
from tabb.own_files import refuse_others
from tabb.results.answer import Answer, answers_among
from tabb.results.comparison_sections import (
    DASHES,
    Contender,
    answer_section,
    curves,
    films,
    held_out,
    provenance,
    regions,
    scores,
)
from tabb.results.report.gather import Gathered, gather
from tabb.results.report.html import Html, element
from tabb.results.report.page import PAGES, document, section
from tabb.results.report.records import Record
from tabb.results.report.row_sections import Section
from tabb.results.row_scores import Files
from tabb.results.run_results import changed_settings, method_names
from tabb.training.folder import runs_below


def folders_of(places: str | Path | Iterable[str | Path]) -> list[Path]:
    """The runs, each with its seeds, that these folders are or hold, in the order of their names."""
    found: dict[Path, None] = {}
    for place in paths_of(places, "runs"):
        if any((one / "config.json").exists() for one in (place, *place.glob("seed*"))):
            found[place] = None
            continue
        below = runs_below(place)
        roots = sorted({one.parent if one.name.startswith("seed") else one for one in below})
        if not roots:
            raise RunError(f"{place}: holds no run; check the path" if place.exists() else f"{place}: no such folder")
        found |= dict.fromkeys(roots)
    return list(found)


def write_comparison(
    runs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    source: Files | None = None,
    target: Files | None = None,
) -> Path:
    """Write a page that compares finished runs of one task, one self-contained HTML file; returns its path.

    Films in the folders of the runs (`tabb watch`) stand side by side on it.

    Args:
        runs: folders of runs, each with its seeds, or one or more folders that hold some.
        out: the page's file; the default is `comparison.html` in the folder that holds them all.
        source, target: the data, if the runs were trained from arrays or their files have moved.

    Raises:
        RunError: a run is missing, not finished or damaged, or the page cannot be written.
        UsageError: there are fewer than two runs, they are of several tasks, or as for `tabb.write_report`.
        DataError: a data file is missing or damaged.
    """
    folders = folders_of(runs)
    if len(folders) < 2:
        given = ", ".join(map(str, paths_of(runs, "runs")))
        raise UsageError(f"{given}: a comparison needs two runs; name more, or a folder of some")
    root = _root_of(folders)
    path = root / "comparison.html" if out is None else path_of(out, "out")
    if path.is_dir() or not path.parent.is_dir():  # before the work, not after it
        why = "is a folder" if path.is_dir() else "its folder is missing"
        raise RunError(f"{path}: cannot be written ({why}); name a file in an existing folder")
    refuse_others(path, "page")
    check_suffix(path, "a page", *PAGES)
    gathered = [gather(folder, source, target, audited=False) for folder in folders]
    text = comparison(gathered, answers_among(root, [record.folder for one in gathered for record in one.records]))
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def _root_of(folders: Sequence[Path]) -> Path:
    """The folder that holds them all. Paths of which some are absolute have it once all are."""
    alike = len({folder.is_absolute() for folder in folders}) == 1
    return Path(os.path.commonpath(folders if alike else [folder.absolute() for folder in folders]))


def comparison(gathered: Sequence[Gathered], answer: Answer | None = None) -> Html:
    """The page as markup that is valid HTML and XML, with which policy to take where that was found.

    Raises `UsageError` for runs of several tasks or environments.
    """
    contenders = list(_named(gathered))
    first = contenders[0].records[0]
    for other in contenders[1:]:
        _check_task(first, other.records[0])
    _check_environments([one.records[0] for one in contenders if one.records[0].evaluations[0]])
    title = f"{len(contenders)} runs on {first.task or 'own data'}: comparison"
    sections: list[Section] = [("scores", "Scores", scores(contenders)), ("curves", "Curves", curves(contenders))]
    if answer is not None:
        sections.insert(0, ("answer", "Which policy to take", answer_section(answer)))
    for name, heading, contents in (
        ("held-out", "Held-out target rows", held_out(contenders)),
        ("regions", "Trust by region of state space", regions(contenders)),
        ("films", "Films", films(contenders)),
    ):
        if contents:
            sections.append((name, heading, contents))
    sections.append(("runs", "Runs", provenance(contenders)))
    chosen = element("main", _boxes(contenders), *(section(*one) for one in sections))
    end = f"Written by tabb {__version__}. Each run has a page of its own: tabb report RUN."
    return document(title, sections, chosen, end, _style(contenders))


def _check_task(first: Record, other: Record) -> None:
    """Raise `UsageError` unless both have scores of the same kind, in the same task if they have one."""
    if (first.task, first.measure) != (other.task, other.measure):
        told = " and ".join(f"{record.measure} in {record.task or 'no task'}" for record in (first, other))
        raise UsageError(f"{first.folder} and {other.folder} cannot be compared: {told}; compare runs of one task")


def _check_environments(evaluated: Sequence[Record]) -> None:
    """Raise `UsageError` for runs that were evaluated in two environments; those without a name may be any."""
    first: tuple[str, Record] | None = None
    for record in evaluated:
        env = record.config.get("origin", {}).get("env")
        if env is None:
            continue
        if first is not None and first[0] != env:
            told = " and ".join(f"{one.measure} in {where}" for where, one in (first, (env, record)))
            raise UsageError(
                f"{first[1].folder} and {record.folder} cannot be compared: {told}; compare runs of one environment"
            )
        first = first or (env, record)


def _named(gathered: Sequence[Gathered]) -> Iterator[Contender]:
    firsts = [one.records[0] for one in gathered]
    names = method_names([record.learner for record in firsts], [changed_settings(record) for record in firsts])
    for number_, (name, one) in enumerate(zip(names, gathered, strict=True)):
        same = names.count(name) > 1
        yield Contender(f"{name} ({one.root})" if same else name, number_, one)


def _boxes(contenders: Sequence[Contender]) -> Html:
    """A box for each run, in the order of the keyboard before all that it hides."""
    boxes = []
    for one in contenders:
        box = element("input", type="checkbox", id=f"show-{one.kind}", checked="checked")
        boxes.append(element("label", box, one.key, element("span", one.name), for_=f"show-{one.kind}"))
    return element("fieldset", element("legend", "Shown runs"), *boxes, class_="boxes")


def _style(contenders: Sequence[Contender]) -> str:
    hidden = (f"body:has(#show-{one.kind}:not(:checked)) .{one.kind} {{ display: none; }}\n" for one in contenders)
    dashes = (f".l.d{i} {{ stroke-dasharray: {dash}; }}\n" for i, dash in enumerate(DASHES) if dash)
    return "".join([*hidden, *dashes])
