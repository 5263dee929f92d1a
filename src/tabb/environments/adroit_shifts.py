"""Adroit's shifts as edits of gymnasium-robotics' model files, and the two values in which ODRL's models differ.

`broken-joint` narrows the joints of index finger and thumb (actuator ranges stay, so part of each action range has
no effect); `shrink-finger` shortens the four long fingers, keeping radii, masses and thumb. The level is the factor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tabb.errors import UsageError

LEVELS: Mapping[str, float] = {"easy": 0.5, "medium": 0.25, "hard": 0.125}
SHIFTS = ("broken-joint", "shrink-finger")
HANDS = ("pen", "door", "hammer", "relocate")

_RANGES = {
    "FFJ3": (-0.436, 0.436),
    "FFJ2": (0.0, 1.571),
    "FFJ1": (0.0, 1.571),
    "FFJ0": (0.0, 1.571),
    "THJ4": (-1.047, 1.047),
    "THJ3": (0.0, 1.309),
    "THJ2": (-0.262, 0.262),
    "THJ1": (-0.524, 0.524),
    "THJ0": (-1.571, 0.0),
}
# The published levels of this joint are parts of -1.57, although the file's own limit is -1.571.
_SCALED_FROM = {"THJ0": (-1.57, 0.0)}
_MIDDLE_CENTRES = {"ff": 0.011, "mf": 0.012, "rf": 0.012, "lf": 0.012}


@dataclass(frozen=True, slots=True)
class HandEdit:
    """One attribute of one element (radians, metres), or one entry of it, before and after."""

    element: str
    """"joint", "geom", "body" or "site"."""
    name: str
    attribute: str
    index: int | None
    """The entry that changes; None for the whole vector."""
    base: tuple[float, ...]
    value: tuple[float, ...]


def base_edits(hand: str) -> list[HandEdit]:
    """The edits that make gymnasium-robotics' unshifted model ODRL's: hammer's centre of mass, relocate's soft ball."""
    if hand == "hammer":
        return [HandEdit("body", "Object", "ipos", None, (-0.11025, 0.0, 0.0), (0.0, 0.0, 0.0))]
    if hand == "relocate":
        return [HandEdit("geom", "sphere", "solref", None, (0.02, 1.0), (0.01, 1.0))]
    return []


def hand_edits(hand: str, shift: str | None, level: str | None = None) -> list[HandEdit]:
    """The edits of a shift, without `base_edits`. Raises `UsageError` for unknown names."""
    if hand not in HANDS:
        raise UsageError(f"unknown robot {hand!r}: choose one of {', '.join(HANDS)}")
    if shift is None and level is None:
        return []
    if shift not in SHIFTS:
        raise UsageError(f"unknown shift {shift!r} of {hand}: choose one of {', '.join(SHIFTS)}")
    if level is None or level not in LEVELS:
        raise UsageError(f"unknown level {level!r} of {hand} {shift}: choose one of {', '.join(LEVELS)}")
    factor = LEVELS[level]
    if shift == "broken-joint":
        return [
            HandEdit("joint", name, "range", None, ends, _scaled(_SCALED_FROM.get(name, ends), factor))
            for name, ends in _RANGES.items()
        ]
    return _shrunk(factor)


def _scaled(ends: tuple[float, float], factor: float) -> tuple[float, ...]:
    return tuple(round(factor * end, 10) for end in ends)


def _shrunk(factor: float) -> list[HandEdit]:
    def entry(element: str, name: str, attribute: str, index: int, base: float) -> HandEdit:
        value = round(factor * base, 10)
        if (name, attribute, factor) == ("lfdistal", "pos", LEVELS["hard"]):
            value = 0.03125  # ten times too far: a slip of the published model, kept because its data have it
        return HandEdit(element, name, attribute, index, (base,), (value,))

    edits = [entry("body", "lfknuckle", "pos", 2, 0.044)]
    for finger, centre in _MIDDLE_CENTRES.items():
        for segment, half in (("proximal", 0.0225), ("middle", 0.0125), ("distal", 0.012)):
            edits.append(entry("geom", f"C_{finger}{segment}", "pos", 2, half))
            edits.append(entry("geom", f"C_{finger}{segment}", "size", 1, half))
        edits.append(entry("body", f"{finger}middle", "pos", 2, 0.045))
        edits.append(entry("body", f"{finger}distal", "pos", 2, 0.025))
        for segment, place in (("proximal", 0.023), ("middle", centre), ("distal", 0.015)):
            edits.append(entry("body", f"{finger}{segment}", "ipos", 2, place))
        edits.append(entry("site", f"S_{finger}tip", "pos", 2, 0.026))
    return edits
