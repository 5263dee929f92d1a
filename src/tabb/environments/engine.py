"""Build a robot's MuJoCo model: Gymnasium's file, a shift's edits, then the rules of an engine.

The benchmark data were made with MuJoCo 2.1 or older. Current MuJoCo computes the same files differently,
by as much as a small shift, so that "which engine" is part of every task:

- `legacy` restores two rules of MuJoCo 2.1 and reproduces the published data: a capsule weighs as a
  cylinder (until 2.1.0), and a contact margin is the larger one of its two geoms (until 3.4).
- `native` is the installed MuJoCo as it is; data of plain Gymnasium environments are of this kind.

Source and target of one experiment must come from the same engine.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from tabb.environments.edits import Edit
from tabb.environments.shifts import edits_of
from tabb.errors import TabbError, UsageError

Engine = Literal["legacy", "native"]
ENGINES: tuple[Engine, ...] = get_args(Engine)

ASSETS = {
    "hopper": "hopper.xml",
    "halfcheetah": "half_cheetah.xml",
    # walker2d_v5.xml, the v5 default, has another foot friction than the benchmarks.
    "walker2d": "walker2d.xml",
    "ant": "ant.xml",
}
"""Model file of each robot inside `gymnasium/envs/mujoco/assets`."""

_TOLERANCE = 1e-9  # of base values: those of shifts.py have ten digits


def build_model(
    robot: str, shift: str | None = None, level: str | None = None, engine: str = "legacy", share: float = 1.0
) -> Any:
    """The compiled `mujoco.MjModel` of a robot under a shift, or `share` (0 to 1) of it; takes 5 to 30 ms.

    Raises:
        UsageError: the robot, shift, level or engine is unknown.
        TabbError: the installed Gymnasium's file does not have the values from which the shift starts.
    """
    edits = edits_of(robot, shift, level)
    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}: choose one of {', '.join(ENGINES)}")

    spec, total_mass = _load(robot)
    for edit in edits:
        _check(robot, edit)
        _apply(spec, edit.partly(share))
    if engine == "legacy":
        _set_inertials(spec, _compile_with_cylinders(spec), total_mass)
        _use_larger_margin(spec)
    elif total_mass is not None:
        _set_inertials(spec, spec.compile(), total_mass)
    return spec.compile()


def _load(robot: str) -> tuple[Any, float | None]:
    """The robot's `MjSpec` and the total mass that its file sets (None if it does not).

    The file's `settotalmass` is cleared: since MuJoCo 3.16 each compilation with it prints a warning and
    appends to a log file in the working directory.
    """
    import gymnasium.envs.mujoco
    import mujoco

    folder = Path(str(gymnasium.envs.mujoco.__file__)).parent / "assets"
    spec = mujoco.MjSpec.from_file(str(folder / ASSETS[robot]))
    total_mass = spec.compiler.settotalmass
    spec.compiler.settotalmass = -1
    return spec, total_mass if total_mass > 0 else None


# --- Edits ---


@dataclass(frozen=True)
class _BaseModel:
    """The unshifted robot as Gymnasium ships it, to check edits against."""

    model: Any
    unit: float
    """Radians per unit of a joint limit in the file."""


@functools.lru_cache(maxsize=len(ASSETS))
def _base_model(robot: str) -> _BaseModel:
    spec, _ = _load(robot)
    return _BaseModel(spec.compile(), math.pi / 180 if spec.compiler.degree else 1.0)


def _check(robot: str, edit: Edit) -> None:
    """Raise unless the base value of `edit` is what the shipped file compiles to."""
    base = _base_model(robot)
    try:
        value = _value_in(base, edit)
    except KeyError:  # MuJoCo raises it for an unknown name
        value = []
    ways = [edit.base]
    if edit.attribute == "fromto":  # the ends of a capsule may be swapped
        ways.append(edit.base[3:] + edit.base[:3])
    if not any(len(value) == len(way) and np.allclose(value, way, rtol=0, atol=_TOLERANCE) for way in ways):
        what = " ".join(part for part in (edit.element, edit.name, edit.attribute) if part)
        raise TabbError(
            f"{ASSETS[robot]} of Gymnasium {version('gymnasium')} is not the file that tabb's shifts are made"
            f" for: {what} is {list(np.round(value, 10).tolist())}, not {list(edit.base)};"
            " use Gymnasium 1.2 to 1.4"
        )


def _value_in(base: _BaseModel, edit: Edit) -> Any:
    model = base.model
    if edit.element == "option":
        return getattr(model.opt, edit.attribute)
    element = getattr(model, edit.element)(edit.name)
    match edit.attribute:
        case "range":
            return element.range / base.unit
        case "radius":
            return element.size[:1]
        case "half_length":
            return element.size[1:2]
        case "fromto":
            # The local z axis of a capsule, from its unit quaternion (w, x, y, z).
            w, x, y, z = element.quat
            axis = np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])
            reach = element.size[1] * axis
            return np.concatenate([element.pos - reach, element.pos + reach])
        case attribute:
            return getattr(element, attribute)


def _apply(spec: Any, edit: Edit) -> None:
    """Write the value of `edit` into `spec`. Vectors are assigned whole: entries of a copy would be lost."""
    import mujoco

    if edit.element == "option":
        setattr(spec.option, edit.attribute, edit.value)
        return
    element = getattr(spec, edit.element)(edit.name)
    match edit.attribute:
        case "radius":
            element.size = [edit.value[0], *element.size[1:]]
        case "half_length":
            element.size = [element.size[0], edit.value[0], element.size[2]]
        case "fromto":
            # MuJoCo refuses ends together with a centre, and a remaining orientation would override their direction.
            element.alt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT
            element.pos, element.quat = [0, 0, 0], [1, 0, 0, 0]
            element.fromto = edit.value
        case attribute:
            setattr(element, attribute, edit.value)


# --- Rules of an engine ---


def _compile_with_cylinders(spec: Any) -> Any:
    """The model with MuJoCo 2.1's masses: a capsule of radius r and half length h counts as a cylinder of
    radius r and half length h + r/2. Good for its masses and inertias only."""
    import mujoco

    copy = spec.copy()
    for geom in copy.geoms:
        if geom.type != mujoco.mjtGeom.mjGEOM_CAPSULE:
            continue
        geom.type = mujoco.mjtGeom.mjGEOM_CYLINDER
        radius, half_length, _ = geom.size
        if np.isnan(geom.fromto[0]):
            geom.size = [radius, half_length + radius / 2, 0]
        else:
            # Longer between its ends, not resolved to a centre and a quaternion: the ant's rollouts are
            # chaotic, and the source data replay only if the inertial frames agree to the last bit.
            start, end = geom.fromto[:3], geom.fromto[3:]
            axis = (end - start) / np.linalg.norm(end - start)
            centre, reach = (start + end) / 2, np.linalg.norm(end - start) / 2 + radius / 2
            geom.fromto = [*(centre - axis * reach), *(centre + axis * reach)]
    return copy.compile()


def _set_inertials(spec: Any, model: Any, total_mass: float | None) -> None:
    """Give each body of `spec` the inertial frame, mass and inertia it has in `model`, scaled to a total
    mass in kg if one is given, and stop MuJoCo from deriving them from the geoms."""
    import mujoco

    scale = 1.0 if total_mass is None else total_mass / model.body_mass.sum()
    for body, number in zip(spec.bodies[1:], range(1, model.nbody), strict=True):
        body.explicitinertial = True
        body.mass = scale * model.body_mass[number]
        body.inertia = scale * model.body_inertia[number]
        body.ipos, body.iquat = model.body_ipos[number], model.body_iquat[number]
    spec.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_FALSE


def _use_larger_margin(spec: Any) -> None:
    """From MuJoCo 3.5 on a contact margin is the sum over both geoms. All geoms of these models share one
    margin, so halving it makes the sum what the larger one was before."""
    import mujoco

    major, minor = (int(part) for part in mujoco.__version__.split(".")[:2])
    if (major, minor) >= (3, 5):
        for geom in spec.geoms:
            geom.margin = geom.margin / 2
