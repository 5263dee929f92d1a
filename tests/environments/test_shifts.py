"""The table of shifts against the published one, and what unknown names say."""

import json
import os
from pathlib import Path

import pytest

from tabb.environments import TASKS
from tabb.environments.shifts import SHIFTS, edits_of
from tabb.errors import UsageError

DATA = os.environ.get("TABB_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="set TABB_DATA to the folder of shifts.json")


def _vector(value):
    return tuple(map(float, value)) if isinstance(value, list) else (float(value),)


def test_the_benchmarks_have_80_and_8_shifts_of_their_own():
    counted = {"odrl": 0, "otdf": 0}
    for robot, shifts in SHIFTS.items():
        for name, shift in shifts.items():
            counted[shift.suites[0]] += len(shift.levels)
            for level in shift.levels:
                edits = edits_of(robot, name, level)
                assert edits
                assert all(edit.base != edit.value for edit in edits)
    assert counted == {"odrl": 80, "otdf": 8}


@pytest.mark.data
@needs_data
def test_every_edit_equals_the_published_table():
    published = json.loads((Path(DATA) / "shifts.json").read_text())["shifts"]
    seen = set()
    for suite in published.values():
        for robot, shifts in suite.items():
            for shift, levels in shifts.items():
                for level, edits in levels.items():
                    level = None if level == "default" else level
                    seen.add((robot, shift, level))
                    expected = {
                        (edit["element"], edit["name"], edit["attr"]): (
                            _vector(edit["base"]),
                            _vector(edit["value"]),
                        )
                        for edit in edits
                    }
                    ours = edits_of(robot, shift, level)
                    assert len(ours) == len(edits)
                    assert {
                        (edit.element, edit.name, edit.attribute): (edit.base, edit.value) for edit in ours
                    } == expected, (robot, shift, level)
    assert seen == {(task.robot, task.shift, task.level) for task in TASKS.values() if task.shift}


def test_an_unshifted_robot_has_no_edits():
    assert edits_of("ant", None) == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("humanoid", None, None),
            "unknown robot 'humanoid': choose one of hopper, halfcheetah, walker2d, ant",
        ),
        (
            ("hopper", "gravityy", "0.5"),
            "unknown shift 'gravityy' of hopper: choose one of gravity, friction",
        ),
        (
            ("hopper", "gravity", "0.3"),
            "unknown level '0.3' of hopper gravity: choose one of 0.1, 0.5, 2.0, 5.0",
        ),
        (
            ("hopper", "morph-foot", None),
            "unknown level None of hopper morph-foot: choose one of easy, medium",
        ),
        (("hopper", None, "easy"), "level 'easy' given without a shift of hopper"),
    ],
)
def test_wrong_names_say_what_there_is(names, message):
    with pytest.raises(UsageError) as caught:
        edits_of(*names)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
