"""What a door of `tabb.data` found in a file: rows kept and dropped, episodes, returns, origin."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tabb.action_bounds import ActionBounds
from tabb.data.checks import pieces
from tabb.errors import DataWarning, warn_caller
from tabb.shown import percent, tenths
from tabb.transitions import Transitions

FIRST_ROWS = 10
"""A report lists at most this many row numbers of each kind."""

STEPS = "steps of a run"
"""layout of a file of the steps that a run took, which knows the episodes that were cut"""

PLAIN_MEANS = ("mean_return", "mean_score")
"""attributes of files that tabb collected: other means than `Report.mean_return`, so a report says what they are"""


@dataclasses.dataclass(frozen=True)
class Report:
    """The audit of one file (or of several read as one). Row numbers are those of the file, from 0."""

    name: str
    """Path of the file, or the name given with the arrays."""
    layout: str
    """`d4rl` (no next observations), `odrl` (next observations stored, no timeouts), `npz`, `arrays` or `STEPS`."""
    rows: int
    """Rows in the file."""
    kept: int
    """Rows in the `Transitions`."""
    dropped: dict[str, int]
    """Reason -> number of rows dropped for it."""
    dropped_rows: dict[str, tuple[int, ...]]
    """Reason -> the first few of these rows."""
    wrong_next: tuple[int, ...]
    """All rows whose stored next observation is, or cannot be told from, another episode's first one. The
    terminal ones among them are kept, with the next observation set to the observation."""
    episode_ends: tuple[int, ...]
    """Last row of each episode."""
    returns: tuple[float, ...]
    """Undiscounted return of each episode over all its rows in the file."""
    unfinished: tuple[int, ...]
    """Episodes that the end of the file (probably) cut, and all that were cut where the file knows them: their lengths
    and returns say nothing."""
    terminals: int
    """Episodes that ended in a terminal row."""
    truncations: int
    """Episodes that ended otherwise, the unfinished ones included."""
    clipped: tuple[float, float] | None = None
    """(limit, share of rows) where observations are visibly clipped at +-limit; None where they are not."""
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Attributes of the file: `engine`, `env_id`, ..."""
    notes: tuple[str, ...] = ()
    """What a reader should know, one line each."""
    doubts: tuple[str, ...] = ()
    """What looks wrong though it can be used, one line each: `load` and `from_arrays` warn of it."""
    unread: tuple[str, ...] = ()
    """Keys of the file that were not read."""
    episode_lengths: tuple[int, ...] = ()
    """Rows of each episode, where rows between episodes belong to none; else empty."""
    parts: tuple[tuple[str, int], ...] = ()
    """Name and rows of each of several files that were read as one, in their order."""
    taken: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Of a table, which columns were taken for what."""
    extras: tuple[str, ...] = ()
    """Further columns that are kept beside the log."""
    action_bounds: ActionBounds | None = None
    """Bounds that actions were scaled by to [-1, 1]; None where the file has them so."""
    mean_return: float | None = None
    """What the log itself has: the mean return of its episodes over the rows that are kept, each episode counted by its
    rows (`log_return`). It may lie outside `returns`, which are over all rows; None where no row is kept."""
    cut: tuple[int, ...] | None = None
    """Numbers of the episodes, as in the `Transitions`, that were or may be cut and so do not count in `mean_return`;
    None where that is not known, and it is the last one, in which the file ends (of several files, the last of each is
    among these). Not in `to_dict`."""
    kept_rows: NDArray[np.intp] = dataclasses.field(
        default_factory=lambda: np.empty(0, np.intp), repr=False, compare=False
    )
    """Row of the file (of several, numbered through) that each of the `Transitions` was; not in `to_dict`."""

    @property
    def episodes(self) -> int:
        """Number of episodes in the file."""
        return len(self.episode_ends)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Rows of each episode."""
        return self.episode_lengths or tuple(np.diff(self.episode_ends, prepend=-1).tolist())

    @property
    def engine(self) -> str | None:
        """The physics the data come from, `legacy` or `native`; None if the file does not say."""
        engine = self.provenance.get("engine")
        return None if engine is None else str(engine)

    def origin(self) -> dict[str, Any]:
        """What the record of a run says of the data: the files, and this report without what is as long as they are."""
        names = [name for name, _ in self.parts] or [self.name]
        return {"files": [str(Path(name).resolve()) for name in names], "report": self.summary()}

    def summary(self) -> dict[str, Any]:
        """The numbers of the report that do not grow with the file, as JSON types."""
        names = ("layout", "rows", "kept", "dropped", "episodes", "mean_return", "engine")
        bounds = {} if self.action_bounds is None else {"action_bounds": dataclasses.asdict(self.action_bounds)}
        return {name: getattr(self, name) for name in names} | bounds

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON types."""
        plain = dataclasses.asdict(dataclasses.replace(self, kept_rows=np.empty(0, np.intp)))
        del plain["kept_rows"], plain["episode_lengths"], plain["cut"]
        plain["taken"] = {key: list(columns) for key, columns in self.taken}
        plain |= {"episodes": self.episodes, "lengths": list(self.lengths)}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}

    def __str__(self) -> str:
        lengths = self.lengths
        lines = [
            f"{self.name} ({self.layout})",
            f"  rows       {self.rows:,} in the file, {self.kept:,} kept",
        ]
        lines += [f"  columns    {key}: {_listed(columns)}" for key, columns in self.taken]
        lines += [f"  extras     {', '.join(self.extras)}"] if self.extras else []
        for reason, count in self.dropped.items():
            listed = ", ".join(str(row) for row in self.dropped_rows[reason])
            more = ", ..." if count > len(self.dropped_rows[reason]) else ""
            lines.append(f"  dropped    {count:,}: {reason} (row {listed}{more})")
        lines.append(
            f"  episodes   {self.episodes:,}: {self.terminals:,} terminal, {self.truncations:,} truncated; "
            f"{min(lengths):,} to {max(lengths):,} rows (median {np.median(lengths):,.0f})"
            + (f", {len(self.unfinished)} cut" if self.unfinished else "")
            + (" by the end of the file" if self.unfinished and self.layout != STEPS else "")
        )
        finished = np.delete(np.asarray(self.returns), list(self.unfinished))
        if self.mean_return is not None and finished.size:
            size = float(np.abs(finished).max())
            mean, least, most = (tenths(float(of), size) for of in (self.mean_return, finished.min(), finished.max()))
            more = " with the dropped rows" if sum(lengths) > self.kept else ""  # not those between episodes
            lines.append(f"  return     {mean}, mean of episodes, each counted by its rows; {least} to {most}{more}")
        if self.action_bounds is not None:
            lines.append(f"  actions    scaled to [-1, 1] from {self.action_bounds}")
        if self.clipped:
            limit, share = self.clipped
            lines.append(f"  clipped    {percent(share, 1.0)} of rows have an observation at +-{limit:g}")
        if self.wrong_next:
            lines.append(f"  wrong next {len(self.wrong_next):,} rows store a next observation of another episode")
        if self.provenance:
            known = (f"{key}={_short(value)}{self._counted(key)}" for key, value in self.provenance.items())
            lines.append(f"  origin     {', '.join(known)}")
        lines += [f"  note       {note}" for note in self.notes]
        lines += [f"  doubt      {doubt}" for doubt in self.doubts]
        return "\n".join(lines)

    def _counted(self, key: str) -> str:
        """What to say behind an attribute that is another mean than the report's own."""
        plain = key in PLAIN_MEANS and "tabb_version" in self.provenance
        return " (of whole episodes, each counted once)" if plain else ""


class Loaded(NamedTuple):
    """Transitions and the report of how they came out of their file."""

    transitions: Transitions
    report: Report

    def warned(self) -> Transitions:
        """The transitions, after the report's doubts were issued as `DataWarning` to the caller outside tabb."""
        for doubt in self.report.doubts:
            warn_caller(f"{self.report.name}: {doubt}", DataWarning)
        return self.transitions


def log_return(reward: NDArray[np.floating], episode: NDArray[np.integer], cut: Collection[int] | None = None) -> float:
    """What a log itself has: the mean return of its episodes, undiscounted, from the columns [N] of its rows.

        J_log = sum_e n_e R_e / sum_e n_e        R_e: return of episode e        n_e: its rows

    An episode of 1,000 steps is as much of the log as ten of 100. Episodes that may be `cut` do not count, unless they
    have more rows than all others: the one of the highest number if none is named, since the log ends in it.
    [ours; why: docs/glossary.md]
    """
    episode, reward = np.asarray(episode), np.asarray(reward)
    first, last = int(episode.min()), int(episode.max())
    if last - first >= len(episode):  # numbers with gaps, of which there may be far more than rows
        names, number = np.unique(episode, return_inverse=True)
    else:
        names, number = np.arange(first, last + 1), None
    returns, lengths = np.zeros(len(names)), np.zeros(len(names), np.int64)
    for piece in pieces(len(episode)):  # of all rows at once, copies in 64 bits would take much memory
        of = np.subtract(episode[piece], first, dtype=np.int64) if number is None else number[piece]
        np.add.at(returns, of, reward[piece].astype(np.float64))
        np.add.at(lengths, of, 1)
    whole = (lengths > 0) & ~np.isin(names, [names[-1]] if cut is None else list(cut))
    if 2 * lengths[whole].sum() < lengths.sum():
        whole = lengths > 0
    return float(np.average(returns[whole], weights=lengths[whole]))


def not_counted(report: Report, episode: NDArray[np.integer]) -> set[int]:
    """Numbers of the episodes of a file that do not count in what the log has; `episode` are those of its rows."""
    return {int(episode.max())} if report.cut is None else set(report.cut)


def join(reports: list[Report], mean_return: float, cut: Collection[int] = ()) -> Report:
    """One report for files read one after the other as one data set, whose rows together have this `mean_return`.

    Rows are numbered through. `cut` are the numbers of the episodes that do not count in it.
    """
    first = reports[0]
    if len(reports) == 1:
        return first
    starts = np.cumsum([0] + [report.rows for report in reports])[:-1].tolist()
    before = np.cumsum([0] + [report.episodes for report in reports])[:-1].tolist()
    reasons = list(dict.fromkeys(reason for report in reports for reason in report.dropped))
    shares = [report.clipped for report in reports]
    limits = {clip[0] for clip in shares if clip}
    share = sum(report.rows * clip[1] for report, clip in zip(reports, shares, strict=True) if clip)
    rows = sum(report.rows for report in reports)
    return Report(
        name="+".join(report.name for report in reports),
        layout=first.layout if len({report.layout for report in reports}) == 1 else "mixed",
        rows=rows,
        kept=sum(report.kept for report in reports),
        dropped={reason: sum(report.dropped.get(reason, 0) for report in reports) for reason in reasons},
        dropped_rows={
            reason: tuple(
                row + start
                for report, start in zip(reports, starts, strict=True)
                for row in report.dropped_rows.get(reason, ())
            )[:FIRST_ROWS]
            for reason in reasons
        },
        wrong_next=tuple(row + s for report, s in zip(reports, starts, strict=True) for row in report.wrong_next),
        episode_ends=tuple(row + s for report, s in zip(reports, starts, strict=True) for row in report.episode_ends),
        returns=tuple(value for report in reports for value in report.returns),
        unfinished=tuple(e + s for report, s in zip(reports, before, strict=True) for e in report.unfinished),
        terminals=sum(report.terminals for report in reports),
        truncations=sum(report.truncations for report in reports),
        clipped=(limits.pop(), share / rows) if len(limits) == 1 else None,
        provenance={
            key: value
            for key, value in first.provenance.items()
            if all(report.provenance.get(key) == value for report in reports[1:])
        },
        notes=(*dict.fromkeys(note for report in reports for note in report.notes), *_lost_extras(reports)),
        doubts=tuple(_joined_doubts(reports)),
        unread=tuple(dict.fromkeys(key for report in reports for key in report.unread)),
        episode_lengths=tuple(length for report in reports for length in report.lengths)
        if any(report.episode_lengths for report in reports)
        else (),
        taken=first.taken if all(report.taken == first.taken for report in reports) else (),
        action_bounds=first.action_bounds,
        extras=tuple(name for name in first.extras if all(name in report.extras for report in reports)),
        mean_return=mean_return,
        cut=tuple(sorted(cut)),
        parts=tuple((report.name, report.rows) for report in reports),
        kept_rows=np.concatenate([report.kept_rows + start for report, start in zip(reports, starts, strict=True)]),
    )


def _joined_doubts(reports: list[Report]) -> Iterator[str]:
    """Each doubt once. One that not all of the files raise names those that do, before what to do about it."""
    for doubt in dict.fromkeys(doubt for report in reports for doubt in report.doubts):
        raised_by = [report.name for report in reports if doubt in report.doubts]
        if len(raised_by) == len(reports):
            yield doubt
        else:
            what, colon, fix = doubt.partition(": ")
            yield f"{what} (in {' and '.join(raised_by)}){colon}{fix}"


def _lost_extras(reports: list[Report]) -> list[str]:
    """A note about extras that some of the files do not have."""
    all_of_them = {name for report in reports for name in report.extras}
    lost = sorted(name for name in all_of_them if not all(name in report.extras for report in reports))
    return [f"extras that not all of these files have are left out: {', '.join(lost)}"] if lost else []


def describe(transitions: Transitions) -> dict[str, dict[str, list[float]]]:
    """Minimum, maximum, mean and standard deviation of each entry of observation, action and reward.

    Returns {"observation": {"min": [S values], "max": [...], "mean": [...], "std": [...]}, "action": ...,
    "reward": ...}. Actions are in the robot's units, where the data say what these are.
    """
    table = {}
    for key in ("observation", "action", "reward"):
        values = np.asarray(getattr(transitions, key)).reshape(len(transitions), -1)
        entries: dict[str, list[float]] = {name: [] for name in ("min", "max", "mean", "std")}
        for i in range(values.shape[1]):  # one at a time: rows may be more than fit into memory
            column = values[:, i]
            if key == "action" and (bounds := transitions.action_bounds) is not None:
                column = ActionBounds((bounds.low[i],), (bounds.high[i],)).restored(column[:, None])[:, 0]
            column = column.astype(np.float64)
            for name, entry in entries.items():
                entry.append(float(getattr(column, name)()))
        table[key] = entries
    return table


def _listed(columns: tuple[str, ...]) -> str:
    """Names of columns: all of a few, the first and the last of many."""
    if len(columns) <= 4:
        return ", ".join(columns)
    return f"{columns[0]}, {columns[1]}, ..., {columns[-1]} ({len(columns)})"


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
