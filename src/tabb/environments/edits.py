"""Edits of a robot's model file, and the pieces that the shifts are made of.

An `Edit` names one attribute of one element together with the value that the unshifted file must hold there.
Each function below turns the parameter of a level into edits; `tabb.environments.shifts` is the table that
uses them. Lengths are in metres and positions in the frame of the element's own body; angles are in the unit
of the file: radians for halfcheetah, degrees for the other three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

Vector = tuple[float, ...]
Axis3 = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Edit:
    """One attribute of one element of a model file, before and after the shift."""

    element: str
    """"option", "geom", "joint" or "body"; names repeat across these kinds."""
    name: str | None
    """Name of the element in the file; None for the global options."""
    attribute: str
    """"gravity", "friction" (sliding, torsional, rolling), "fromto" (both ends of a capsule), "radius",
    "half_length", "pos" or "range"."""
    base: Vector
    """The value in the unshifted file; another value there is an error."""
    value: Vector
    """The value in the shifted model."""

    def partly(self, share: float) -> Edit:
        """The edit with only `share` of the change (1 is the whole change, to the last bit)."""
        if share == 1.0:
            return self
        value = tuple(base + share * (value - base) for base, value in zip(self.base, self.value, strict=True))
        return replace(self, value=value)


# --- Pieces of more than one robot ---


def _times(base: Iterable[float], factor: float) -> Vector:
    # Rounded so that 0.1 x 9.81 is the 0.981 of the published model.
    return tuple(round(factor * entry, 10) for entry in base)


def gravity(factor: float) -> list[Edit]:
    base = (0.0, 0.0, -9.81)
    return [Edit("option", None, "gravity", base, _times(base, factor))]


def friction(base: Axis3, names: str, **exceptions: Axis3) -> Callable[[float], list[Edit]]:
    """All three coefficients of every geom (`names`, floor included) times the level."""
    bases = {name: exceptions.get(name, base) for name in names.split()}
    return lambda factor: [
        Edit("geom", name, "friction", value, _times(value, factor)) for name, value in bases.items()
    ]


def hopper_friction(factor: float) -> list[Edit]:
    """Sliding friction of the body alone. A contact takes the larger coefficient of its two geoms and the
    floor keeps 1, so levels 0.1 and 0.5 are the same physics: a property of the benchmark."""
    sliding = {"torso_geom": 0.9, "thigh_geom": 0.9, "leg_geom": 0.9, "foot_geom": 2.0}
    rest = (0.005, 0.0001)
    return [
        Edit("geom", name, "friction", (base, *rest), (*_times([base], factor), *rest))
        for name, base in sliding.items()
    ]


def limits(**ranges: tuple[float | int, float | int]) -> Callable[[float], list[Edit]]:
    """Both limits of each named joint times the level (a limit of zero stays)."""
    return lambda factor: [Edit("joint", name, "range", base, _times(base, factor)) for name, base in ranges.items()]


def _capsule(name: str, base: Vector, value: Vector) -> Edit:
    return Edit("geom", name, "fromto", base, value)


def with_radius(name: str, base: float, value: float) -> Edit:
    return Edit("geom", name, "radius", (base,), (value,))


def _moved(element: str, name: str, base: Axis3, value: Axis3) -> Edit:
    return Edit(element, name, "pos", base, value)


# --- Hopper and walker2d ---


def hopper_foot(factor: float) -> list[Edit]:
    """The foot shrinks towards the ankle, which sits at x = -0.13."""
    ends = tuple(round(-0.13 + factor * reach, 10) for reach in (-0.13, 0.26))
    return [
        _capsule("foot_geom", (-0.26, 0, 0.1, 0.13, 0, 0.1), (ends[0], 0, 0.1, ends[1], 0, 0.1)),
        with_radius("foot_geom", 0.06, _times([0.06], factor)[0]),
    ]


def torso(size: tuple[float, float]) -> list[Edit]:
    """The torso grows upwards to height `size[0]` and gets the radius `size[1]`."""
    top, radius = size
    return [
        _capsule("torso_geom", (0, 0, 0.2, 0, 0, -0.2), (0, 0, top, 0, 0, -0.2)),
        with_radius("torso_geom", 0.05, radius),
    ]


def walker_legs(knee: float, sides: Iterable[str] = ("", "_left"), ankle: float = -0.25) -> list[Edit]:
    """The knee moves to height `knee` of the shin's frame, where the thigh begins at 0.7."""
    edits: list[Edit] = []
    for side in sides:
        thigh = round(knee - 0.7, 10)
        edits += [
            _capsule(f"thigh{side}_geom", (0, 0, 0, 0, 0, -0.45), (0, 0, 0, 0, 0, thigh)),
            _capsule(f"leg{side}_geom", (0, 0, 0.25, 0, 0, -0.25), (0, 0, knee, 0, 0, ankle)),
            _moved("joint", f"leg{side}_joint", (0, 0, 0.25), (0, 0, knee)),
        ]
    return edits


def walker_morph(_: None) -> list[Edit]:
    """OTDF: the right thigh almost vanishes, the shin grows and the right foot sits 0.2 m higher."""
    return [
        *walker_legs(0.695, sides=[""], ankle=-0.05),
        _capsule("foot_geom", (-0.2, 0, 0.1, 0, 0, 0.1), (-0.2, 0, 0.3, 0, 0, 0.3)),
        _moved("joint", "foot_joint", (-0.2, 0, 0.1), (-0.2, 0, 0.3)),
    ]


# --- Halfcheetah ---

# Ends of the base capsules, which the file gives by centre, angle and length: centre -+ half length x axis.
_THIGHS_AND_SHINS = {
    "bthigh": (0.01128060581, 0, -0.01530968177, 0.1887193942, 0, -0.2446903182),
    "bshin": (-0.005539138827, 0, -0.00351483765, -0.2744608612, 0, -0.1364851623),
    "fthigh": (-0.003914941667, 0, -0.004580049103, -0.1360850583, 0, -0.2354199509),
    "fshin": (0.00514789782, 0, -0.00251442482, 0.1248521022, 0, -0.1774855752),
}
_NEXT_BODY = {  # the body that hangs on each segment, and its origin in the base model
    "bthigh": ("bshin", (0.16, 0, -0.25)),
    "bshin": ("bfoot", (-0.28, 0, -0.14)),
    "fthigh": ("fshin", (-0.14, 0, -0.24)),
    "fshin": ("ffoot", (0.13, 0, -0.18)),
}


def _cheetah_legs(tips: Mapping[str, tuple[float, float]]) -> list[Edit]:
    """Each segment runs from its joint to `tips` (x, z), where the next body hangs."""
    edits: list[Edit] = []
    for name, (x, z) in tips.items():
        edits.append(_capsule(name, _THIGHS_AND_SHINS[name], (0, 0, 0, x, 0, z)))
        child, origin = _NEXT_BODY[name]
        edits.append(_moved("body", child, origin, (x, 0, z)))
    return edits


def cheetah_thighs(tips: tuple[tuple[float, float], tuple[float, float]]) -> list[Edit]:
    """Thighs of the given tips; the shins are shortened alike at every level."""
    back, front = tips
    return _cheetah_legs({"bthigh": back, "bshin": (-0.13, -0.15), "fthigh": front, "fshin": (0.11, -0.13)})


def cheetah_torso(half: float) -> list[Edit]:
    return [
        _capsule("torso", (-0.5, 0, 0, 0.5, 0, 0), (-half, 0, 0, half, 0, 0)),
        _moved("geom", "head", (0.6, 0, 0.1), (round(half + 0.1, 10), 0, 0.1)),
        _moved("body", "bthigh", (-0.5, 0, 0), (-half, 0, 0)),
        _moved("body", "fthigh", (0.5, 0, 0), (half, 0, 0)),
    ]


def cheetah_morph(_: None) -> list[Edit]:
    """OTDF: thighs of almost no length, shorter shins, a shorter back foot."""
    tips = {
        "bthigh": (-0.0001, -0.0001),
        "bshin": (-0.13, -0.15),
        "fthigh": (0.0001, 0.0001),
        "fshin": (0.01, -0.16),
    }
    return [*_cheetah_legs(tips), Edit("geom", "bfoot", "half_length", (0.094,), (0.07,))]


# --- Ant ---


def ant_legs(*names: str) -> Callable[[float], list[Edit]]:
    """The outer segment of the named legs ends at `reach` along x and y instead of 0.4."""
    signs = {"left": (1, 1), "right": (-1, 1), "third": (-1, -1), "fourth": (1, -1)}

    def edits(reach: float) -> list[Edit]:
        return [
            _capsule(
                f"{name}_ankle_geom",
                (0, 0, 0, 0.4 * signs[name][0], 0.4 * signs[name][1], 0),
                (0, 0, 0, reach * signs[name][0], reach * signs[name][1], 0),
            )
            for name in names
        ]

    return edits


def ant_ankles(outer: float) -> list[Edit]:
    """The limit at 30 degrees stays, the outer one moves in from 70; two ankles are mirrored."""
    up, down = ((30.0, 70.0), (30.0, outer)), ((-70.0, -30.0), (-outer, -30.0))
    ranges = {"ankle_1": up, "ankle_2": down, "ankle_3": down, "ankle_4": up}
    return [Edit("joint", name, "range", base, value) for name, (base, value) in ranges.items()]
