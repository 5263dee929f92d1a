"""`tabb tasks`: the task catalogue."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Annotated

import tyro

from tabb.commands.options import parse
from tabb.environments.tasks import MORE_TASKS, SAME_PHYSICS, TASKS
from tabb.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Options:
    """What to list."""

    words: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """only tasks whose name or suite holds all of these words, e.g. `hopper gravity` or `otdf`"""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """print JSON instead of a table"""


def run(arguments: Sequence[str]) -> int:
    options = parse(Options, arguments, "tabb tasks", "List the tasks: robot, shift, level, reference returns.")
    # "ant" and "medium" are also parts of names in the other suites: those are listed when asked for by name.
    others = {word for task in MORE_TASKS.values() for word in (*task.suites, task.robot)}
    pool = MORE_TASKS if any(word in others or word in MORE_TASKS for word in options.words) else TASKS
    tasks = [task for task in pool.values() if all(word in task.name or word in task.suites for word in options.words)]
    if not tasks:
        raise UsageError(f"no task holds {' and '.join(options.words)}; `tabb tasks` lists {len(TASKS)}, {_others()}")
    if options.json:
        print(json.dumps([dataclasses.asdict(task) | {"same_physics": task.same_physics} for task in tasks], indent=2))
        return 0
    width = max(len(task.name) for task in tasks)
    print(f"{'task':{width}}  {'suites':10}  {'random':>9}  {'expert':>9}  obs  act")
    for task in tasks:
        print(
            f"{task.name:{width}}  {','.join(task.suites):10}  {task.random_return:z9.1f}  {task.expert_return:z9.1f}  "
            f"{task.observation_size:3}  {task.action_size:3}"
        )
    for names, reason in SAME_PHYSICS:
        if {task.name for task in tasks} & set(names):
            print(f"\n{' and '.join(names)} are the same physics: {reason}.")
    ids = f"{tasks[0].namespace}/<task>-v0"
    print(f"\n{len(tasks)} tasks; score = 100 (return - random) / (expert - random); gymnasium id: {ids}")
    if not options.words:
        print(f"more: {_others()}")
    return 0


def _others() -> str:
    """The suites that are listed when asked for by name: `tabb tasks adroit` 28, `tabb tasks antmaze` 21"""
    suites = [suite for task in MORE_TASKS.values() for suite in task.suites]
    return ", ".join(f"`tabb tasks {suite}` {suites.count(suite)}" for suite in dict.fromkeys(suites))
