"""The data sets of a suite: which there are, how each is made, and their manifest.

A robot's policies come from a search, first in the unshifted robot, then in each shift from the best unshifted policy.
Those of the wanted qualities are rolled out. All mazes share one training, in which the ant learns to walk in an open
field. Hands plan and need no training. Whatever is finished stays in the folder and is not made again:

    practice/<task>/     policies of the search or training, with their scores
    source/, target/     the data sets under the names of `tabb.data.catalogue`, so that the folder can be TABB_DATA
    records/             the description of each data set
    manifest.json        all descriptions in one file
"""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tabb.behaviours.recipe import WALKER, Recipe
from tabb.environments.tasks import ALL_TASKS, Task, get_task
from tabb.errors import RunError, UsageError
from tabb.files import read_json, write_json
from tabb.own_files import refuse_others

if TYPE_CHECKING:
    from tabb.behaviours.episodes import LoggedRows

SUITES = ("odrl", "otdf", "adroit", "antmaze")
MAZE_QUALITY = "diverse"
SEEDS = (100_000, 900_000)
"""Least and largest reset seed of collected episodes; evaluations use smaller ones, training larger ones."""


class DataSet(NamedTuple):
    """A data set to make."""

    domain: Literal["source", "target"]
    task: Task
    quality: str
    rows: int

    @property
    def name(self) -> str:
        """Name of its file, without folder and suffix."""
        return f"{self.task.name.replace('-', '_')}_{self.quality}"

    def first_seed(self, seed: int) -> int:
        """Reset seed of its first episode. It differs between sets, so that no two share rows."""
        low, high = SEEDS
        return low + zlib.crc32(f"{self.name} {seed}".encode()) % (high - low)


def sets_of(
    suite: str, tasks: Sequence[str], qualities: Sequence[str], rows: int, source_rows: int
) -> tuple[DataSet, ...]:
    """The data sets of the suite, or those of `tasks`.

    Locomotion suites have only target sets, because their source data are D4RL's; `adroit` and `antmaze` have both.
    Raises `UsageError` for an unknown suite, task or quality.
    """
    if suite not in SUITES:
        raise UsageError(f"unknown suite {suite!r}: use one of {', '.join(SUITES)}")
    wrong = [quality for quality in qualities if quality not in ("medium", "expert")]
    if wrong or not qualities:
        raise UsageError(f"--qualities {' '.join(wrong)}: use medium, expert or both")
    members = [task for task in ALL_TASKS.values() if suite in task.suites]
    for name in tasks:
        if get_task(name) not in members:
            raise UsageError(f"{name} is not a task of suite {suite}; `tabb tasks {suite}` lists them")
    tasks_to_make = [task for task in members if not tasks or task in map(get_task, tasks)]
    kinds = (MAZE_QUALITY,) if suite == "antmaze" else tuple(qualities)
    return tuple(
        DataSet("source", task, kind, source_rows) if task.shift is None else DataSet("target", task, kind, rows)
        for task in tasks_to_make
        for kind in kinds
    )


def data_file(out: Path, data: DataSet) -> Path:
    return out / data.domain / f"{data.name}.hdf5"


def record_file(out: Path, data: DataSet) -> Path:
    return out / "records" / f"{data.name}.json"


def is_made(out: Path, data: DataSet, recipe: Recipe) -> bool:
    """Whether the data set exists, with this size and recipe.

    Raises:
        RunError: it exists with another size or recipe.
    """
    file = record_file(out, data)
    if not file.exists() or not data_file(out, data).exists():
        return False
    record = read_json(file)
    fields = recipe.of(data.task)
    if {name: record["recipe"].get(name) for name in fields} != fields or record["rows"] != data.rows:
        raise RunError(
            f"{data_file(out, data)}: was made with another recipe (see {file.name}); choose another folder with --out"
        )
    return True


def prerequisite_of(task: Task) -> str | None:
    """The search or training that comes before the task's own: in a robot, of `walker`, or None."""
    return {"tabb": task.robot, "tabb-antmaze": WALKER}.get(task.namespace)


def make_prerequisite(out: Path, name: str, recipe: Recipe, say: Callable[[str], None]) -> None:
    """Do the search in the robot `name`, or the training of `walker`.

    Raises:
        UsageError: `name` is neither an unshifted robot of locomotion nor `walker`.
    """
    if name == WALKER:
        from tabb.behaviours import walker_training

        walker_training.walker(out, recipe, say)
    elif (task := get_task(name)).shift is None and task.namespace == "tabb":
        from tabb.behaviours import robot_search

        robot_search.search_in_task(out, task, recipe, say)
    else:
        raise UsageError(f"--first-in {name}: name an unshifted robot, or {WALKER}")


def make_set(out: Path, data: DataSet, recipe: Recipe, say: Callable[[str], None]) -> None:
    """Make the policy, roll it out, and write the file and its record."""
    from tabb.provenance import environment

    path = data_file(out, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    behaviour, rows = _MAKERS[data.task.namespace](out, data, recipe, say)
    record = {
        "file": f"{data.domain}/{path.name}",
        "task": data.task.name,
        "quality": data.quality,
        "rows": data.rows,
        "first_seed": data.first_seed(recipe.seed),
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        **rows,
        "behaviour": behaviour,
        "recipe": recipe.of(data.task),
        "environment": environment(),
    }
    record_file(out, data).parent.mkdir(parents=True, exist_ok=True)
    write_json(record_file(out, data), record)
    say(f"{data.name}: {path} ({rows['episodes']} episodes, score {rows['score']})")


Made = tuple[dict[str, Any], dict[str, Any]]
"""The description of the behaviour policy; episodes and score of the data."""


def _by_search(out: Path, data: DataSet, recipe: Recipe, say: Callable[[str], None]) -> Made:
    from tabb.behaviours import robot_search
    from tabb.behaviours.collect import collect

    behaviour = robot_search.behaviour_policy(out, data.task, data.quality, recipe, say)
    report = collect(
        behaviour.policy,
        data.task,
        data_file(out, data),
        rows=data.rows,
        noise=recipe.noise,
        seed=data.first_seed(recipe.seed),
        engine=recipe.engine,
        next_observations=True,
        provenance={"behaviour": behaviour.about["how"], "quality": data.quality},
    )
    return behaviour.about, {"episodes": report.episodes, "score": report.provenance.get("mean_score")}


def _by_walking(out: Path, data: DataSet, recipe: Recipe, say: Callable[[str], None]) -> Made:
    from tabb.behaviours import walker_training
    from tabb.behaviours.waypoints import walk_the_maze

    behaviour = walker_training.walker(out, recipe, say)
    seed = data.first_seed(recipe.seed)
    logged = walk_the_maze(behaviour.policy, data.task, data.rows, engine=recipe.engine, noise=recipe.noise, seed=seed)
    return behaviour.about, _written(out, data, recipe, logged, behaviour.about["how"])


def _by_planning(out: Path, data: DataSet, recipe: Recipe, say: Callable[[str], None]) -> Made:
    from tabb.behaviours.planner import plan_in_the_hand, planner_of

    planner, seed = planner_of(data.task.robot, data.quality), data.first_seed(recipe.seed)
    say(f"{data.name}: planning {data.rows:,} steps, about {data.rows * planner.samples / 15_000:.0f} minutes ...")
    logged = plan_in_the_hand(planner, data.task, data.rows, engine=recipe.engine, noise=recipe.noise, seed=seed)
    how = f"planning in the simulator of {data.task.name} (MPPI, {planner.samples} samples a step), no demonstrations"
    return {"how": how, "planner": dataclasses.asdict(planner)}, _written(out, data, recipe, logged, how)


_MAKERS: dict[str, Callable[[Path, DataSet, Recipe, Callable[[str], None]], Made]] = {
    "tabb": _by_search,
    "tabb-antmaze": _by_walking,
    "tabb-adroit": _by_planning,
}


def _written(out: Path, data: DataSet, recipe: Recipe, logged: LoggedRows, how: str) -> dict[str, Any]:
    """Write the logged rows to their file; returns their episodes and score."""
    from tabb.behaviours.collect import about_task, arrays_of
    from tabb.data.hdf5 import write_hdf5

    attributes = about_task(data.task, recipe.engine, data.first_seed(recipe.seed), recipe.noise)
    attributes |= {"behaviour": how, "quality": data.quality}
    score = None
    if logged.returns.size:
        score = attributes["mean_score"] = round(float(data.task.normalised_score(logged.returns).mean()), 2)
    write_hdf5(data_file(out, data), arrays_of(logged.rows, next_observations=True), attributes)
    return {"episodes": int((logged.rows.terminal + logged.rows.timeout).sum()), "score": score}


def write_manifest(out: Path, command: str) -> Path:
    """Write all records in `out` to one file, with the command that makes them."""
    records = [read_json(file) for file in sorted((out / "records").glob("*.json"))]
    path = out / "manifest.json"
    refuse_others(path, "manifest")
    write_json(path, {"command": command, "sets": records})
    return path
