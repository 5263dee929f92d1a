"""The text of the gallery: its introduction, and what each task's shift changes in the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tabb.environments.adroit_shifts import HandEdit, hand_edits
from tabb.environments.antmaze import maze_rows
from tabb.environments.edits import Edit
from tabb.environments.mazes import CELL
from tabb.environments.shifts import edits_of
from tabb.environments.tasks import Task

INTRODUCTION = """# Gallery of shifts

The pictures show every task of the catalogue, drawn by MuJoCo: the unshifted robot on the left, its shifts beside it.
The tables say what each shift changes in the model. `docs/tools/gallery.py` makes this page from the models of the
tasks. `kinematic` and `morph` without a level, and gravity 0.5, are OTDF's twelve shifts; all shifts with a level are
ODRL's.

- **Shape** (`morph`, `shrink-finger`): the robot in one pose.
- **Limits** (`kinematic`, `broken-joint`): the joints that the shift limits, solid at one end of their range and pale
  at the other; the other joints rest.
- **Gravity and friction** are not visible in a still picture. The pictures show the state after the same actions and
  number of steps from the same start, which is pale. The actions are a slow swing of all joints, without a policy.
  Some of the differences are chance, because contacts magnify small ones.
- **Mazes** from above: the ant at its start, and the goal red in the middle of its cell (each reset draws it nearby).

Lengths are those of a capsule's axis, without its round ends. Masses are not visible: in the shape shifts they follow
the sizes, and halfcheetah's parts always have a total of 14 kg. [`tabb watch`](commands/index.md) makes films of your
own policies in these tasks.
"""
SHOWN = {
    "shape": "One pose.",
    "limits": "Limited joints at their upper limits; pale: at their lower limits.",
    "maze": "From above; x to the right, y upwards.",
}
_PEN = "The pen is drawn transparent, because it would hide the fingers."
_BROKEN = "FF: index finger, TH: thumb. Actuators keep their ranges, so part of each action range has no effect."
NOTES = {
    "hopper-friction": "Levels 0.1 and 0.5 are the same physics: a contact uses the larger friction of its two geoms, "
    "and the floor keeps 1.0.",
    "ant-kinematic-anklejnt": "Solid are the limits at 30°, which stay; pale are the outer limits.",
    "halfcheetah-morph-thigh": "The shins are shortened by the same amount at all levels.",
    "halfcheetah-morph-torso": "Hips and head follow the ends of the torso.",
    "walker2d-morph-leg": "The knees move down; a leg as a whole keeps its length.",
    "pen-broken-joint": f"{_BROKEN} {_PEN}",
    "door-broken-joint": _BROKEN,
    "hammer-broken-joint": _BROKEN,
    "relocate-broken-joint": _BROKEN,
    "pen-shrink-finger": _PEN,
}
"""Captions of some pictures, in addition to that of their kind."""
SHRUNK = (
    "The little finger's knuckle is lowered too. At level hard its tip is 0.03125 m out, ten times too far: an error "
    "of the published model, which is kept."
)
FINGERS = {"ff": "index", "mf": "middle", "rf": "ring", "lf": "little"}


def changes(task: Task) -> str:
    """One line with the differences to the unshifted robot, in numbers and units."""
    if task.namespace == "tabb-antmaze":
        return _maze(task)
    if task.shift is None:
        return "unshifted"
    if task.namespace == "tabb-adroit":
        return _hand(hand_edits(task.robot, task.shift, task.level))
    return _robot(edits_of(task.robot, task.shift, task.level), "rad" if task.robot == "halfcheetah" else "°")


def _robot(edits: Sequence[Edit], unit: str) -> str:
    by_change: dict[str, list[str]] = {}
    for edit in edits:
        by_change.setdefault(_change(edit, unit), []).append(str(edit.name or ""))
    if all(edit.attribute == "friction" for edit in edits):
        # One factor on many geoms: the numbers of each would add nothing.
        return _friction(edits)
    return "; ".join(f"{_names(names)} {change}".strip() for change, names in by_change.items() if change)


def _change(edit: Edit, unit: str) -> str:
    old, new = edit.base, edit.value
    match edit.attribute:
        case "gravity":
            return f"gravity {_n(-old[2])} → {_n(-new[2])} m/s²"
        case "range":
            return f"{_n(old[0])} to {_n(old[1])} → {_n(new[0])} to {_n(new[1])} {unit}".replace(" °", "°")
        case "radius":
            return f"radius {_n(old[0])} → {_n(new[0])} m"
        case "half_length":
            return f"length {_n(2 * old[0])} → {_n(2 * new[0])} m"
        case "fromto":
            before, after = (np.linalg.norm(np.subtract(ends[3:], ends[:3])) for ends in (old, new))
            return f"length {_n(before)} → {_n(after)} m"
    return ""  # the positions of joints and bodies follow from the lengths


def _friction(edits: Sequence[Edit]) -> str:
    factor = edits[0].value[0] / edits[0].base[0]
    if all(edit.value[1:] == edit.base[1:] for edit in edits):
        return f"sliding friction of the {len(edits)} geoms of the body × {_n(factor)}; the floor keeps its own"
    return f"sliding, torsional and rolling friction of all {len(edits)} geoms, floor included, × {_n(factor)}"


def _hand(edits: Sequence[HandEdit]) -> str:
    by_change: dict[str, list[str]] = {}
    for edit in edits:
        if edit.attribute == "range":
            (low, high), (new_low, new_high) = edit.base, edit.value
            by_change.setdefault(f"{_n(low)} to {_n(high)} → {_n(new_low)} to {_n(new_high)} rad", []).append(edit.name)
        elif edit.attribute == "size":
            segment = edit.name[4:]  # C_ffproximal
            by_change.setdefault(f"{segment} length {_n(2 * edit.base[0])} → {_n(2 * edit.value[0])} m", [])
    if any(edit.attribute == "size" for edit in edits):
        return f"{_names(list(FINGERS.values()))} finger: {', '.join(by_change)}"
    return "; ".join(f"{_names(names)} {change}" for change, names in by_change.items())


def _maze(task: Task) -> str:
    rows = maze_rows(task.robot.removeprefix("antmaze-"), task.shift)
    free = sum(row.count(cell) for row in rows for cell in "0rg")
    size = f"{_n(CELL * len(rows[0]))} m × {_n(CELL * len(rows))} m"
    steps = _shortest(rows)
    return f"{size}, {free} free cells, {_n(CELL * steps)} m from start to goal by the shortest route from cell to cell"


def _shortest(rows: Sequence[str]) -> int:
    """Number of steps between neighbouring free cells from r to g."""
    free = {(i, j): cell for i, row in enumerate(rows) for j, cell in enumerate(row) if cell != "1"}
    reached = {place for place, cell in free.items() if cell == "r"}
    steps = 0
    while all(free[place] != "g" for place in reached):
        near = {(i + a, j + b) for i, j in reached for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0))}
        if near & free.keys() <= reached:
            raise ValueError("no way from start to goal")
        reached |= near & free.keys()
        steps += 1
    return steps


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _n(number: float) -> str:
    """A number with up to four digits and without trailing zeros."""
    return f"{float(number):.4g}".replace("-", "−")
