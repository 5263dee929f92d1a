"""The scores of a benchmark's finished runs as scores.csv, and read back from that file or from its folder.

Nothing is trained: the quality and intensity figures draw what is there.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from tabb.environments.tasks import ALL_TASKS
from tabb.errors import RunError
from tabb.experiments.benchmark import BAR, CSV_COLUMNS, NONE, SCORES, Place, Table
from tabb.files import read_json


def read_benchmark(root: Path) -> Table:
    """The scores of all finished runs of a benchmark, from its folder `root`.

    If the folder holds no runs, they come from its scores.csv. A method that draws no rows of a domain counts for
    every quality of that domain.

    Raises:
        RunError: there are neither runs nor scores, a result is damaged, or the runs differ in length.
    """
    table: Table = {}
    lengths: dict[int, Path] = {}
    for file in sorted(root.glob("*/*-*/*/seed*/result.json")):
        seed, method, qualities, task = (parent.name for parent in file.parents[:4])
        if task not in ALL_TASKS or not seed.removeprefix("seed").isdecimal():
            continue
        result = read_json(file)
        try:
            updates, score = int(result["updates"]), result["score"]
        except (KeyError, TypeError, ValueError):
            raise RunError(f"{file}: is not a result of tabb; remove its folder, or do the run again") from None
        if score is None:
            continue
        lengths.setdefault(updates, file)
        place = Place(task, *qualities.split("-", 1))
        table.setdefault(place, {}).setdefault(method, {})[int(seed.removeprefix("seed"))] = float(score)
    if not table and (root / SCORES).is_file():
        return read_scores_csv(root / SCORES)
    if not table:
        raise RunError(
            f"{root}: holds no finished runs of `tabb benchmark` (task/source-target/method/seed0/...) and no {SCORES}"
        )
    if len(lengths) > 1:
        (one, here), (other, there) = list(lengths.items())[:2]
        raise RunError(f"{there}: a run of {other:,} updates cannot be compared with {here}, a run of {one:,}")
    return _for_every_quality(table)


def as_csv(table: Table) -> str:
    """The scores.csv of a table: one line per run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for place, row in table.items():
        for method, scores in row.items():
            writer.writerows([*place, method, seed, f"{score:z.4f}"] for seed, score in scores.items())
    return text.getvalue()


def read_scores_csv(file: Path) -> Table:
    """The scores of a report's scores.csv. Raises `RunError` with the line that is not a score."""
    try:
        lines = list(csv.reader(file.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{file}: cannot be read ({error}); write it again with `tabb benchmark ... --report`") from None
    if not lines or lines[0] != list(CSV_COLUMNS):
        raise RunError(f"{file}: is not a scores.csv of `tabb benchmark`, which begins with {','.join(CSV_COLUMNS)}")
    table: Table = {}
    for number, line in enumerate(lines[1:], start=2):
        try:
            task, source, target, method, seed, score = line[0], line[1], line[2], line[3], int(line[4]), float(line[5])
            if len(line) != len(CSV_COLUMNS) or task not in ALL_TASKS or not math.isfinite(score):
                raise ValueError(line)
        except (ValueError, IndexError):
            raise RunError(
                f"{file}, line {number}: {','.join(line)!r} is not a score of a task (see `tabb tasks`)"
            ) from None
        scores = table.setdefault(Place(task, source, target), {}).setdefault(method, {})
        if seed in scores:
            raise RunError(f"{file}, line {number}: seed {seed} of {method} stands twice for {task}; remove one")
        scores[seed] = score
    if not table:
        raise RunError(f"{file}: holds no scores; finish the benchmark first")
    return table


def _for_every_quality(table: Table) -> Table:
    """The same scores; a method that draws no rows of a domain stands in the row of every quality of that domain."""
    spread = {place: dict(row) for place, row in table.items() if NONE not in place}
    for place, row in table.items():
        if NONE in place:
            same = [other for other in spread if all(one in (NONE, two) for one, two in zip(place, other, strict=True))]
            for other in same or [place]:
                spread.setdefault(other, {}).update(row)
    return spread


def methods_in(table: Table, named: Sequence[str] = ()) -> list[str]:
    """The methods of a table, or those `named`, target-only last. Raises `RunError` for one without a finished run."""
    finished = list(dict.fromkeys(method for row in table.values() for method in row))
    for method in named:
        if method not in finished:
            raise RunError(f"no run of {method} is finished; finished are {', '.join(finished)}")
    return sorted(named or finished, key=lambda method: method == BAR)
