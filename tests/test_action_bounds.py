"""Actions in the robot's units become [-1, 1] and come back."""

import numpy as np
import pytest

import tabb
from tabb.action_bounds import ActionBounds, action_bounds, same_bounds

BOUNDS = ActionBounds((-2.0, 0.0), (2.0, 10.0))


def test_scaling_by_hand():
    np.testing.assert_array_equal(BOUNDS.scaled([[-2, 10], [1, 2.5]]), np.float32([[-1, 1], [0.5, -0.5]]))
    np.testing.assert_array_equal(BOUNDS.restored([[-1, 1], [0.5, -0.5]]), np.float32([[-2, 10], [1, 2.5]]))


def test_back_and_forth_is_rounding_alone():
    odd = ActionBounds((-0.1, 100.0, -1e-4), (0.3, 100.5, 7e-4))
    corners = np.float32([[-1, -1, -1], [1, 1, 1]])
    np.testing.assert_allclose(odd.restored(corners), np.stack(odd.as_float32()), rtol=3e-7)
    inside = np.random.default_rng(0).uniform(-1, 1, (1000, 3)).astype(np.float32)
    assert (np.abs(odd.scaled(odd.restored(inside)) - inside) <= 3e-7 + 2 * odd.rounding()).all()
    beyond = odd.restored(np.full((1, 3), 5.0))
    np.testing.assert_array_equal(beyond[0], odd.as_float32()[1])  # never beyond


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0, 0, "action_low is 0 and action_high 0 in entry 0"),
        ([-1, 2], [1, 1], "entry 1; give low < high"),
        ([-1, -1, -1], 1, "action_low has 3 numbers, but actions have 2 entries"),
        (-1, np.inf, "action_high is not finite"),
        (-1, "wide", "action_high is 'wide'"),
        ([[-1, -1]], 1, "action_low has shape"),
    ],
)
def test_bounds_that_cannot_be(low, high, words):
    with pytest.raises(ValueError, match=words):
        action_bounds(low, high, 2)


def test_one_number_stands_for_all_and_the_unit_box_needs_no_scaling():
    assert action_bounds(-2, [3, 4], 2) == ActionBounds((-2.0, -2.0), (3.0, 4.0))
    assert action_bounds(-1, [1, 1], 2) is None
    assert str(action_bounds(-2, 3, 2)) == "[-2, 3]"
    assert str(BOUNDS) == "[-2, 2], [0, 10]"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((-0.1, 0.1), (float(np.float32(-0.1)), float(np.float32(0.1))), True),
        ((-1.0, 1.0), (-1.0, 1.0 + 1e-7), True),
        ((-0.1, 0.1), (-0.1, 0.1001), False),
        ((-1e-9, 1e-9), (-2e-9, 2e-9), False),  # whatever the unit
        ((1000.0, 1000.5), (1000.0, 1000.50003), True),  # float32 has nothing between them
        ((-1.0, 1.0), (-2.0, 2.0), False),
    ],
)
def test_bounds_that_were_written_twice_are_the_same(one, other, same):
    here, there = (action_bounds(*bounds, 2) for bounds in (one, other))
    assert same_bounds(here, there) is same
    assert same_bounds(there, here) is same
    assert not same_bounds(here, ActionBounds((-3.0,) * 3, (3.0,) * 3))


def test_logs_and_steps_of_one_robot_are_joined():
    """Its log states 0.1, its environment's space has that in float32."""
    logs = [
        tabb.from_arrays(
            np.arange(6.0)[:, None],
            np.full((6, 1), 0.05),
            np.ones(6),
            timeouts=np.arange(6) == 5,
            action_low=-high,
            action_high=high,
        )
        for high in (0.1, float(np.float32(0.1)))
    ]
    joined = tabb.transitions.concatenate(*logs)
    assert joined.action_bounds == logs[0].action_bounds
    np.testing.assert_allclose(joined.action, 0.5, rtol=1e-6)
