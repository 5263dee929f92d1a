"""The dynamics shifts of the ODRL and OTDF benchmarks, as a table of edits of Gymnasium's own model files.

A shift is a named change of a robot's physics and a level is its strength. `edits_of` turns (robot, shift,
level) into edits, which `tabb.environments.engine` applies. Nothing here imports MuJoCo.

Sources: ODRL (Lyu et al., 2024, github.com/OffDynamicsRL/off-dynamics-rl) and OTDF (Lyu et al., 2025,
github.com/dmksjfl/OTDF). The shifts of OTDF have one strength and no level, except its gravity, which is
ODRL's gravity 0.5. ODRL's are named after the part they change, OTDF's are `kinematic` and `morph`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tabb.environments.edits import (
    Edit,
    ant_ankles,
    ant_legs,
    cheetah_morph,
    cheetah_thighs,
    cheetah_torso,
    friction,
    gravity,
    hopper_foot,
    hopper_friction,
    limits,
    torso,
    walker_legs,
    walker_morph,
    with_radius,
)
from tabb.errors import UsageError


@dataclass(frozen=True, slots=True)
class Shift:
    """A shift of one robot: its levels, each with the parameter that `edits` turns into edits."""

    levels: Mapping[str | None, Any]
    edits: Callable[[Any], list[Edit]]
    suites: tuple[str, ...] = ("odrl",)


_FACTORS: dict[str | None, float] = {"0.1": 0.1, "0.5": 0.5, "2.0": 2.0, "5.0": 5.0}
_JOINTS: dict[str | None, float] = {"easy": 0.8, "medium": 0.5, "hard": 0.2}


def _three(easy: Any, medium: Any, hard: Any) -> dict[str | None, Any]:
    return {"easy": easy, "medium": medium, "hard": hard}


def _otdf(edits: Callable[[Any], list[Edit]], parameter: Any = None) -> Shift:
    return Shift({None: parameter}, edits, suites=("otdf",))


_GRAVITY = Shift(_FACTORS, gravity)
_TORSO = Shift(_three((0.28, 0.075), (0.44, 0.1), (0.6, 0.125)), torso)

_WALKER_GEOMS = "floor torso_geom thigh_geom leg_geom foot_geom thigh_left_geom leg_left_geom foot_left_geom"
_ANT_GEOMS = (
    "floor torso_geom aux_1_geom left_leg_geom left_ankle_geom aux_2_geom right_leg_geom right_ankle_geom"
    " aux_3_geom back_leg_geom third_ankle_geom aux_4_geom rightback_leg_geom fourth_ankle_geom"
)
_HIPS = {f"hip_{leg}": (-30.0, 30.0) for leg in (1, 2, 3, 4)}

SHIFTS: Mapping[str, Mapping[str, Shift]] = {
    "hopper": {
        "gravity": _GRAVITY,
        "friction": Shift(_FACTORS, hopper_friction),
        "kinematic-footjnt": Shift(_JOINTS, limits(foot_joint=(-45, 45))),
        "kinematic-legjnt": Shift(_JOINTS, limits(leg_joint=(-150, 0))),
        "morph-foot": Shift(_three(0.8, 0.6, 0.4), hopper_foot),
        "morph-torso": _TORSO,
        "kinematic": _otdf(lambda _: limits(thigh_joint=(-150, 0))(0.001) + limits(foot_joint=(-45, 45))(0.4)),
        "morph": _otdf(lambda _: [with_radius("torso_geom", 0.05, 0.125), with_radius("thigh_geom", 0.05, 0.04)]),
    },
    "halfcheetah": {
        "gravity": _GRAVITY,
        "friction": Shift(
            _FACTORS,
            friction((0.4, 0.1, 0.1), "floor torso head bthigh bshin bfoot fthigh fshin ffoot"),
        ),
        "kinematic-footjnt": Shift(_JOINTS, limits(bfoot=(-0.4, 0.785), ffoot=(-0.5, 0.5))),
        "kinematic-thighjnt": Shift(_JOINTS, limits(bthigh=(-0.52, 1.05), fthigh=(-1.0, 0.7))),
        "morph-thigh": Shift(
            _three(
                ((0.11, -0.11), (-0.09, -0.1)),
                ((0.08, -0.08), (-0.07, -0.08)),
                ((0.02, -0.02), (-0.04, -0.05)),
            ),
            cheetah_thighs,
        ),
        "morph-torso": Shift(_three(0.4, 0.25, 0.1), cheetah_torso),
        "kinematic": _otdf(limits(bthigh=(-0.52, 1.05)), 0.01),
        "morph": _otdf(cheetah_morph),
    },
    "walker2d": {
        "gravity": _GRAVITY,
        "friction": Shift(
            _FACTORS,
            friction((0.9, 0.1, 0.1), _WALKER_GEOMS, floor=(0.7, 0.1, 0.1), foot_left_geom=(1.9, 0.1, 0.1)),
        ),
        "kinematic-footjnt": Shift(_JOINTS, limits(foot_joint=(-45, 45), foot_left_joint=(-45, 45))),
        "kinematic-thighjnt": Shift(_JOINTS, limits(thigh_joint=(-150, 0), thigh_left_joint=(-150, 0))),
        "morph-leg": Shift(_three(0.15, 0.0, -0.15), walker_legs),
        "morph-torso": _TORSO,
        "kinematic": _otdf(limits(foot_joint=(-45, 45)), 0.01),
        "morph": _otdf(walker_morph),
    },
    "ant": {
        "gravity": _GRAVITY,
        "friction": Shift(_FACTORS, friction((1.0, 0.5, 0.5), _ANT_GEOMS)),
        "kinematic-anklejnt": Shift(_three(62.0, 50.0, 38.0), ant_ankles),
        "kinematic-hipjnt": Shift(_JOINTS, limits(**_HIPS)),
        "morph-alllegs": Shift(_three(0.32, 0.2, 0.08), ant_legs("left", "right", "third", "fourth")),
        "morph-halflegs": Shift(_three(0.32, 0.2, 0.08), ant_legs("left", "right")),
        "kinematic": _otdf(limits(hip_1=(-30, 30), hip_2=(-30, 30)), 0.01),
        "morph": _otdf(ant_legs("left", "right"), 0.1),
    },
}
"""Every shift by robot and name. Reference scores stand in `tabb.environments.tasks`."""


def edits_of(robot: str, shift: str | None, level: str | None = None) -> list[Edit]:
    """The edits of `robot` under `shift` at `level`; none for the unshifted robot (`shift=None`).

    Raises:
        UsageError: no such robot, shift or level; the message lists those there are.
    """
    if robot not in SHIFTS:
        raise UsageError(f"unknown robot {robot!r}: choose one of {', '.join(SHIFTS)}")
    if shift is None:
        if level is not None:
            raise UsageError(f"level {level!r} given without a shift of {robot}")
        return []
    if shift not in SHIFTS[robot]:
        raise UsageError(f"unknown shift {shift!r} of {robot}: choose one of {', '.join(SHIFTS[robot])}")
    definition = SHIFTS[robot][shift]
    if level not in definition.levels:
        levels = ", ".join(str(known) for known in definition.levels)
        raise UsageError(f"unknown level {level!r} of {robot} {shift}: choose one of {levels}")
    return definition.edits(definition.levels[level])
