"""The audit's own proof: faults planted into logs of four robots, and logs without fault, whose alarms are false.

    python -m tabb.experiments.planted_faults --json planted-faults.json

Each fault is put into the columns of a public target file, and the pair of files is audited as `tabb audit --source
--target` does it. A fault counts as found if the audit then says what it does not say of the clean pair, and that is a
finding of the fault's kind. A fault of columns counts only if the finding names them all. Logs without fault are all of
OTDF's targets, those of experts with the expert's source too, and logs that a linear clone of the source's policy makes
in shifted robots. Needs the public data in $TABB_DATA.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from tabb.data.audit import audit
from tabb.data.catalogue import resolve
from tabb.environments.rollout import rollout
from tabb.environments.tasks import ALL_TASKS, Task
from tabb.files import write_json
from tabb.own_files import refuse_others
from tabb.provenance import environment
from tabb.shown import percent

Columns = dict[str, NDArray[Any]]
"""Columns of a file by key, as they are stored."""

ROBOTS = ("hopper", "halfcheetah", "walker2d", "ant")
SHIFT = "morph"
"""the shift of the targets into which faults are planted"""
ROWS = 20_000
"""rows of a source file that are used: twenty episodes and more"""
SHIFTED_ROWS = 3_000
SHIFTS = 10
"""shifts of each robot without fault"""
NOISE = 0.1
"""standard deviation of the noise on the clone's actions"""
TRUE_FINDINGS = {"medium_expert": {"wrong-next"}}
"""what is wrong in public files, by quality: no false alarms"""
POSITION, OTHER_POSITION, VELOCITY = 2, 4, -2
"""columns of observations that faults are put into; in all four robots those are two positions or angles, and a
velocity among the last joints' (of ant among its 27 first columns)"""


class Said(NamedTuple):
    """What a finding says."""

    level: str
    code: str
    where: str
    numbers: frozenset[int]
    """whole numbers in its text"""


class Fault(NamedTuple):
    """Something that goes wrong in logs."""

    name: str
    codes: tuple[str, ...]
    """Findings that name it."""
    plant: Callable[[Columns, Columns], None]
    """Puts it into the target's columns; the second are the source's."""
    columns: tuple[int | Callable[[Columns], int], ...] = ()
    """Columns of observations that a finding of it must name."""


def velocity(columns: Columns) -> int:
    """The column of `VELOCITY`: of ant before its contact forces."""
    return min(columns["observations"].shape[1], 27) + VELOCITY


def on_column(
    which: int | Callable[[Columns], int], change: Callable[[NDArray[Any]], NDArray[Any]]
) -> Callable[[Columns, Columns], None]:
    """Plants a change of one column of observations, and of next observations alike."""

    def plant(columns: Columns, _: Columns) -> None:
        column = which(columns) if callable(which) else which
        for key in ("observations", "next_observations"):
            columns[key][:, column] = change(columns[key][:, column])

    return plant


def exchanged(first: int, second: int | Callable[[Columns], int]) -> Callable[[Columns, Columns], None]:
    """Plants an exchange of two columns."""

    def plant(columns: Columns, _: Columns) -> None:
        pair = [first, second(columns) if callable(second) else second]
        for key in ("observations", "next_observations"):
            columns[key][:, pair] = columns[key][:, pair[::-1]]

    return plant


def on_key(key: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Columns, Columns], None]:
    """Plants a change of all of a key."""

    def plant(columns: Columns, _: Columns) -> None:
        columns[key] = change(columns[key])

    return plant


def _copied_column(columns: Columns, _: Columns) -> None:
    for key in ("observations", "next_observations"):
        columns[key][:, OTHER_POSITION] = columns[key][:, POSITION]


def _twice(columns: Columns, _: Columns) -> None:
    for key, column in columns.items():
        columns[key] = np.concatenate([column, column[:500]])


def _of_the_source(columns: Columns, source: Columns) -> None:
    for key in ("observations", "actions", "rewards"):
        columns[key][:500] = source[key][:500].reshape(columns[key][:500].shape)
    columns["next_observations"][:499] = source["observations"][1:500]
    columns["terminals"][:500] = source["terminals"][:500].reshape(columns["terminals"][:500].shape)


def _one_value(value: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def change(table: NDArray[Any]) -> NDArray[Any]:
        table[len(table) // 2, 0] = value
        return table

    return change


def _shuffled(table: NDArray[Any]) -> NDArray[Any]:
    return np.random.default_rng(0).permutation(table)


def _changes(columns: Columns, _: Columns) -> None:
    columns["next_observations"] = columns["next_observations"] - columns["observations"]


def _own_rows(columns: Columns, _: Columns) -> None:
    columns["next_observations"] = columns["observations"].copy()


def _rows_on(columns: Columns, _: Columns) -> None:
    columns["next_observations"] = np.roll(columns["observations"], -2, axis=0)


def _cuts(columns: Columns) -> NDArray[Any]:
    """Whether each row is the last of its episode."""
    following, states = columns["next_observations"], columns["observations"]
    return np.r_[(following[:-1] != states[1:]).any(axis=1), True]


def _summed(columns: Columns, _: Columns) -> None:
    rewards, last = columns["rewards"].reshape(-1).astype(np.float64), -1
    for end in np.flatnonzero(_cuts(columns)).tolist():
        rewards[last + 1 : end + 1] = np.cumsum(rewards[last + 1 : end + 1])
        last = end
    columns["rewards"] = rewards


def _starts_as_timeouts(columns: Columns, _: Columns) -> None:
    columns["timeouts"] = np.roll(_cuts(columns), 1)


def _in_turn(columns: Columns, _: Columns) -> None:
    half = len(columns["rewards"]) // 2
    for key, column in columns.items():
        columns[key] = np.stack([column[:half], column[half : 2 * half]], axis=1).reshape(-1, *column.shape[1:])
    del columns["next_observations"]


def _every_second(columns: Columns, _: Columns) -> None:
    """As if the log had half the rate, with next observations two rows on; the last step of an odd episode goes."""
    starts = np.r_[0, np.flatnonzero(_cuts(columns))[:-1] + 1]
    place = np.arange(len(columns["rewards"])) - np.repeat(starts, np.diff(starts, append=len(columns["rewards"])))
    first = np.flatnonzero((place % 2 == 0) & ~_cuts(columns))
    for key, column in columns.items():
        columns[key] = column[first + (key in ("next_observations", "terminals"))]


def _ends_as_terminals(columns: Columns, _: Columns) -> None:
    columns["terminals"] = np.maximum(columns["terminals"].reshape(-1), _cuts(columns)).astype(np.float64)


FAULTS = (
    Fault("the sign of a position", ("sign", "misfit"), on_column(POSITION, lambda x: -x), (POSITION,)),
    Fault("the sign of a velocity", ("sign", "misfit"), on_column(velocity, lambda x: -x), (velocity,)),
    Fault("a position in degrees", ("units", "misfit"), on_column(POSITION, lambda x: 57.3 * x), (POSITION,)),
    Fault("a velocity in degrees", ("units", "misfit"), on_column(velocity, lambda x: 57.3 * x), (velocity,)),
    Fault("a position x 1000", ("units", "misfit"), on_column(POSITION, lambda x: 1000 * x), (POSITION,)),
    Fault("a velocity x 1000", ("units", "misfit"), on_column(velocity, lambda x: 1000 * x), (velocity,)),
    Fault("a position / 1000", ("units", "misfit"), on_column(POSITION, lambda x: x / 1000), (POSITION,)),
    Fault("a velocity / 1000", ("units", "misfit"), on_column(velocity, lambda x: x / 1000), (velocity,)),
    Fault("a position from another origin", ("offset", "misfit"), on_column(POSITION, lambda x: x + 10), (POSITION,)),
    Fault("a velocity from another origin", ("offset", "misfit"), on_column(velocity, lambda x: x + 50), (velocity,)),
    Fault(
        "two positions exchanged", ("order", "misfit"), exchanged(POSITION, OTHER_POSITION), (POSITION, OTHER_POSITION)
    ),
    Fault(
        "a position and a velocity exchanged",
        ("order", "units", "misfit"),
        exchanged(POSITION, velocity),
        (POSITION, velocity),
    ),
    Fault("a position that float32 does not resolve", ("doubt",), on_column(0, lambda x: x + np.float32(5.4e6)), (0,)),
    Fault("a dead sensor", ("constant",), on_column(POSITION, lambda x: 0 * x), (POSITION,)),
    Fault("a sensor written twice", ("duplicated-column",), _copied_column, (POSITION, OTHER_POSITION)),
    Fault("one absurd number", ("outlier",), on_key("observations", _one_value(1e7))),
    Fault("one NaN", ("nan",), on_key("observations", _one_value(np.nan))),
    Fault("rewards x 1000", ("rewards",), on_key("rewards", lambda x: 1000 * x)),
    Fault("rewards negated", ("rewards",), on_key("rewards", lambda x: -x)),
    Fault("rewards summed along the episode", ("reward-sums",), _summed),
    Fault("rewards a row late", ("reward-timing",), on_key("rewards", lambda x: np.roll(x, 1, axis=0))),
    Fault("actions halved", ("actions", "pair"), on_key("actions", lambda x: x / 2)),
    Fault("actions negated", ("actions",), on_key("actions", lambda x: -x)),
    Fault("actions in [0, 1]", ("actions", "action-scale"), on_key("actions", lambda x: (x + 1) / 2)),
    Fault("actions unscaled", ("action-range",), on_key("actions", lambda x: 2 * x)),
    Fault("actions a row late", ("action-timing",), on_key("actions", lambda x: np.roll(x, 1, axis=0))),
    Fault("actions a row early", ("action-timing",), on_key("actions", lambda x: np.roll(x, -1, axis=0))),
    Fault("every second row alone", ("rate",), _every_second),
    Fault("next states that are the states", ("doubt",), _own_rows),
    Fault("next states two rows on", ("doubt",), _rows_on),
    Fault("next states shuffled", ("doubt",), on_key("next_observations", _shuffled)),
    Fault("next states that are changes", ("doubt",), _changes),
    Fault("two environments in turn", ("doubt",), _in_turn),
    Fault("first rows marked as timeouts", ("doubt",), _starts_as_timeouts),
    Fault("terminals that mean the opposite", ("doubt",), on_key("terminals", lambda x: 1 - x)),
    Fault("time limits as terminals", ("doubt",), _ends_as_terminals),
    Fault("rows twice in the file", ("duplicated-rows",), _twice),
    Fault("rows of the source in the target", ("shared-rows",), _of_the_source),
)


def columns_of(file: Path, rows: int | None = None) -> Columns:
    """The columns of a file, or its first rows."""
    with h5py.File(file, "r", locking=False) as raw:
        return {key: raw[key][:rows] for key in raw if isinstance(raw[key], h5py.Dataset) and raw[key].ndim}


def written(columns: Mapping[str, NDArray[Any]], file: Path) -> Path:
    """A file of these columns, just as they are."""
    with h5py.File(file, "w") as raw:
        for key, column in columns.items():
            raw[key] = column
    return file


def findings(source: Path, target: Path) -> set[Said]:
    """What the audit of a pair finds in the target or in the pair."""
    found = audit(source=source, target=target).findings
    return {
        Said(one.level, one.code, one.where, columns_named(one.what))
        for one in found
        if str(target) in one.where or "source" in one.where
    }


def columns_named(what: str) -> frozenset[int]:
    """Whole numbers of a finding's text outside of brackets, and those of ranges: the columns that it names."""
    named = set()
    what = re.sub(r"\([^)]*\)", "", what)
    for first, last in re.findall(r"(?<![\d.,])(\d+)(?:(?:-| to )(\d+))?(?![\d.%])", what):
        named |= set(range(int(first), min(int(last or first), int(first) + 1_000) + 1))
    return frozenset(named)


def plant_all(source: Columns, target: Columns, folder: Path) -> dict[str, dict[str, Any]]:
    """For each fault whether it is found, by which findings, and what else is found that is no note."""
    source_file, target_file = written(source, folder / "source.hdf5"), folder / "target.hdf5"
    clean: dict[tuple[str, str], frozenset[int]] = {}
    for one in findings(source_file, written(target, target_file)):
        clean[one.code, one.where] = clean.get((one.code, one.where), frozenset()) | one.numbers
    results = {}
    for fault in FAULTS:
        columns = {key: column.copy() for key, column in target.items()}
        fault.plant(columns, source)
        wanted = {of(target) if callable(of) else of for of in fault.columns}
        said = findings(source_file, written(columns, target_file))
        new = {one for one in said if (one.code, one.where) not in clean}
        by = {
            one.code
            for one in said
            if one.code in fault.codes
            and (one.code, one.level) != ("misfit", "note")
            and (wanted <= one.numbers - clean.get((one.code, one.where), frozenset()) if wanted else one in new)
        }
        also = {one.code for one in new if one.level != "note"} - set(fault.codes)
        results[fault.name] = {"found": bool(by), "by": sorted(by), "also": sorted(also)}
    return results


def alarms(source: Path, target: Path, known: Sequence[str] | set[str] = ()) -> list[str]:
    """The warnings and errors about a pair without fault."""
    return sorted({one.code for one in findings(source, target) if one.level != "note"} - set(known))


def clone_of(source: Columns) -> Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]]:
    """A linear policy, fitted to the logged actions, with noise: it acts where the source's did, and worse."""
    states = source["observations"].astype(np.float64)
    middle, spread = states.mean(axis=0), states.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    seen = np.c_[(states - middle) / spread, np.ones(len(states))]
    gram = seen.T @ seen + 1e-3 * len(seen) * np.eye(seen.shape[1])
    weights = np.linalg.solve(gram, seen.T @ source["actions"])

    def act(observations: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
        actions = np.c_[(observations - middle) / spread, np.ones(len(observations))] @ weights
        noisy: NDArray[np.float32] = (actions + NOISE * generator.standard_normal(actions.shape)).astype(np.float32)
        return noisy

    return act


def shifted_log(task: Task, source: Columns) -> Columns:
    """A log of the source's linear clone in a shifted robot, in D4RL's layout with next observations."""
    rows = rollout(clone_of(source), task, episodes=4, seed=0, rows=SHIFTED_ROWS).rows
    assert rows is not None
    return {
        "observations": rows.observation,
        "actions": rows.action,
        "rewards": rows.reward,
        "next_observations": rows.next_observation,
        "terminals": rows.terminal.astype(bool),
        "timeouts": rows.timeout.astype(bool),
    }


def shifts_of(robot: str) -> list[Task]:
    """`SHIFTS` of ODRL's shifts of a robot, spread over its kinds and levels."""
    tasks = [task for task in ALL_TASKS.values() if task.robot == robot and "odrl" in task.suites and task.shift]
    return [tasks[round(k * (len(tasks) - 1) / (SHIFTS - 1))] for k in range(SHIFTS)]


def without_fault(robot: str, source: Columns, folder: Path) -> Iterator[dict[str, Any]]:
    """Alarms over OTDF's targets of a robot (of experts also beside the expert's source), and over logs of shifts."""
    source_file = written(source, folder / "source.hdf5")
    for task in ALL_TASKS.values():
        if task.robot != robot or "otdf" not in task.suites or not task.shift:
            continue
        for quality in ("medium", "medium_expert", "expert"):
            (file,) = resolve(quality, task.name, "target")
            known = TRUE_FINDINGS.get(quality, set())
            yield {"data": "otdf", "task": task.name, "quality": quality, "alarms": alarms(source_file, file, known)}
    expert = written(columns_of(resolve("expert", robot, "source")[0], ROWS), folder / "source_expert.hdf5")
    for task in ALL_TASKS.values():
        if task.robot == robot and "otdf" in task.suites and task.shift:
            (file,) = resolve("expert", task.name, "target")
            yield {"data": "expert", "task": task.name, "quality": "expert", "alarms": alarms(expert, file)}
    for task in shifts_of(robot):
        file = written(shifted_log(task, source), folder / "shifted.hdf5")
        yield {"data": "shift", "task": task.name, "quality": "clone", "alarms": alarms(source_file, file)}


def table(results: Mapping[str, Any]) -> str:
    """A row for each fault, as Markdown, then the rates."""
    planted = results["planted"]
    robots = list(planted)
    lines = [f"| planted into {SHIFT} targets | finding | {' | '.join(robots)} |", "|---" * (len(robots) + 2) + "|"]
    codes = {fault.name: fault.codes for fault in FAULTS}
    names = list(next(iter(planted.values())))
    for name in names:
        cells = ["found" if planted[robot][name]["found"] else "-" for robot in robots]
        lines.append(f"| {name} | {', '.join(f'`{code}`' for code in codes.get(name, ()))} | {' | '.join(cells)} |")
    counts = [sum(planted[robot][name]["found"] for name in names) for robot in robots]
    lines.append(f"| found, of {len(names)} | | {' | '.join(map(str, counts))} |")
    share = sum(counts) / (len(names) * len(robots))
    clean = results["clean"]
    sentences = [f"{sum(counts)} of {len(names) * len(robots)} faults are found ({percent(share)})."]
    kinds = {
        "otdf": "OTDF's target files",
        "expert": "OTDF's expert files with the expert source",
        "shift": "logs of shifted robots",
    }
    for data, what in kinds.items():
        of = [one for one in clean if one["data"] == data]
        if not of and data == "expert":
            continue
        wrong = [one for one in of if one["alarms"]]
        named = "; ".join(f"{one['task']} {one['quality']}: {', '.join(one['alarms'])}" for one in wrong)
        sentences.append(f"False alarms: {len(wrong)} of {len(of)} {what}{f' ({named})' if named else ''}.")
    return "\n".join([*lines, "", " ".join(sentences)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    if options.json:
        refuse_others(options.json, "planted-faults")
    planted, clean = {}, []
    for robot in ROBOTS:
        source = columns_of(resolve("medium", robot, "source")[0], ROWS)
        target = columns_of(resolve("medium", f"{robot}-{SHIFT}", "target")[0])
        with tempfile.TemporaryDirectory() as folder:
            planted[robot] = plant_all(source, target, Path(folder))
            found = sum(one["found"] for one in planted[robot].values())
            print(f"{robot}: {found} of {len(planted[robot])} faults found", file=sys.stderr, flush=True)
            clean += list(without_fault(robot, source, Path(folder)))
        wrong = sum(bool(one["alarms"]) for one in clean)
        print(f"{robot}: {wrong} false alarms of {len(clean)} by now", file=sys.stderr, flush=True)
    results = {"environment": environment(), "planted": planted, "clean": clean}
    print(table(results))
    if options.json:
        write_json(options.json, results)


if __name__ == "__main__":
    main()
