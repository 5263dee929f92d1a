"""The wrapper that bounds actions and their change: by hand, and what a run then keeps."""

import gymnasium
import numpy as np
import pytest

from cart import Cart
from tabb import files
from tabb.environments import SafeActions, rollout
from tabb.environments.running_episodes import RunningEpisodes, world_of_environment
from tabb.errors import MachineWarning, UsageError


class Arm(Cart):
    """Two joints of other units, which notes what it was given."""

    action_space = gymnasium.spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 10.0], np.float32))

    def reset(self, *, seed=None, options=None):
        self.given = []
        return super().reset(seed=seed)

    def step(self, action):
        self.given.append(action.tolist())
        return super().step(action[:1])


def applied(env, *actions):
    return [env.step(np.array(action, np.float32))[4]["applied_action"].tolist() for action in actions]


def test_bounds_and_change_by_hand():
    arm = Arm()
    env = SafeActions(arm, low=[-0.5, 2.0], high=[0.5, 20.0], change=[0.25, 3.0])
    env.reset(seed=0)
    asked = [[1.0, 10.0], [1.0, 0.0], [1.0, 10.0], [-1.0, 10.0], [-1.0, 10.0]]
    # Rest is 0, of the second joint 2: the nearest that is allowed. 20 is beyond its space, which ends at 10.
    wanted = [[0.25, 5.0], [0.5, 2.0], [0.5, 5.0], [0.25, 8.0], [0.0, 10.0]]
    assert applied(env, *asked) == wanted
    assert arm.given == wanted
    assert env.action_space == arm.action_space
    env.reset(seed=0)
    assert applied(env, asked[0]) == wanted[:1]  # from rest again


def test_rest_may_be_elsewhere_and_nothing_else_need_be_given():
    env = SafeActions(Arm(), rest=[0.0, 10.0], change=1.0)
    env.reset(seed=0)
    assert applied(env, [0.5, 0.0]) == [[0.5, 9.0]]
    free = SafeActions(Arm())
    free.reset(seed=0)
    assert applied(free, [2.0, -5.0]) == [[1.0, 0.0]]


def test_a_robot_that_says_itself_what_it_was_given_is_believed():
    """Two wrappers, as where the robot's own limits are known to it: the inner one has the last word."""
    env = SafeActions(SafeActions(Arm(), low=[-0.2, 0.0]), high=5.0)
    env.reset(seed=0)
    assert applied(env, [-1.0, 9.0]) == [[np.float32(-0.2), 5.0]]


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ([0.5, 0.5], r"applied_action'\] of shape \(2,\); its action space says numbers, \(1,\)"),
        ("fast", r"applied_action'\] of type <U4; its action space says numbers"),
        ([np.nan], r"applied_action'\] with NaN or infinity; mend the environment"),
        (0.5, None),
    ],
)
def test_what_an_environment_says_was_applied_is_checked(told, says):
    class Telling(Cart):
        def step(self, action):
            *result, _ = super().step(action)
            return *result, {"applied_action": told}

    episodes = RunningEpisodes(world_of_environment(Telling), 1, 0)
    if says is None:
        assert episodes.step(np.array([[1.0]], np.float32)).action.tolist() == [[0.5]]
        return
    with pytest.raises(UsageError, match=says):
        episodes.step(np.array([[1.0]], np.float32))


def test_what_was_applied_in_other_units_is_told(monkeypatch):
    """A wrapper that scales actions around this one: of the second joint 5 is said where the space ends at 1."""
    monkeypatch.setattr(files, "_WARNED", set())
    one = np.ones(2, np.float32)
    world = world_of_environment(lambda: gymnasium.wrappers.RescaleAction(SafeActions(Arm()), -one, one))
    scaled = RunningEpisodes(world, 1, 0)
    with pytest.warns(MachineWarning, match=r"info\['applied_action'\] lies outside of its action space; .* units"):
        scaled.step(np.zeros((1, 2), np.float32))
    told = rollout(
        lambda seen, generator: np.zeros((len(seen), 2)),
        None,
        1,
        env_factory=lambda: gymnasium.wrappers.RescaleAction(SafeActions(Arm()), -one, one),
        record=True,
        max_steps=2,
    )
    assert told.rows.action.tolist() == [[0.0, 1.0]] * 2  # rows of a rollout keep the nearest as well


def test_gymnasium_makes_it_by_the_id_of_the_robot():
    gymnasium.register(
        "SafeArm-v0", entry_point=Arm, additional_wrappers=(SafeActions.wrapper_spec(low=-0.5, high=5.0, change=0.25),)
    )
    env = gymnasium.make("SafeArm-v0", disable_env_checker=True)
    env.reset(seed=0)
    assert applied(env, [1.0, 9.0]) == [[0.25, 0.25]]


def test_steps_and_rollouts_keep_the_actions_that_were_applied():
    """Of the second joint -1 and 1 are 0 and 10."""
    world = world_of_environment(lambda: SafeActions(Arm(), change=[0.5, 1.0]))
    episodes = RunningEpisodes(world, 1, 0)
    taken = [episodes.step(np.ones((1, 2), np.float32)).action[0].tolist() for _ in range(3)]
    np.testing.assert_allclose(taken, [[0.5, -0.8], [1.0, -0.6], [1.0, -0.4]], atol=1e-6)
    told = rollout(
        lambda seen, generator: np.tile(np.array([1.0, 10.0]), (len(seen), 1)),
        None,
        1,
        env_factory=lambda: SafeActions(Arm(), change=[0.5, 1.0]),
        record=True,
    )
    np.testing.assert_allclose(told.rows.action[:2], [[0.5, 1.0], [1.0, 2.0]])


@pytest.mark.parametrize("action", [[np.nan, 0.0], [np.inf, 0.0], [0.0]])
def test_what_is_no_action_moves_nothing(action):
    arm = Arm()
    env = SafeActions(arm)
    env.reset(seed=0)
    with pytest.raises(UsageError, match="nothing was moved"):
        env.step(np.array(action, np.float32))
    assert arm.given == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"low": 0.5, "high": 0.1}, "leave no action"),
        ({"low": [2.0, 0.0]}, "leave no action"),
        ({"change": 0.0}, "change=0.0 must be positive"),
        ({"change": [1.0, 1.0, 1.0]}, "one for each of 2"),
        ({"rest": np.nan}, "rest=nan must be a number"),
    ],
)
def test_bounds_that_cannot_be(wrong, says):
    with pytest.raises(UsageError, match=says):
        SafeActions(Arm(), **wrong)


def test_an_environment_without_box_actions_is_refused():
    with pytest.raises(UsageError, match="flat box actions, not Discrete"):
        SafeActions(gymnasium.make("CartPole-v1"))


class SaysSometimes(Arm):
    """Tells what it was given only where that is something else than it was asked for."""

    def step(self, action):
        given = np.clip(action, [-0.1, 0.0], [0.1, 10.0]).astype(np.float32)
        observation, reward, terminated, truncated, _ = super().step(given)
        return observation, reward, terminated, truncated, {} if (given == action).all() else {"applied_action": given}


def test_lanes_keep_what_each_robot_was_given():
    """Of two robots one was spared its action and says so; the other did as it was told."""

    def act(observations, generator):
        return np.array([[0.75, 5.0], [0.05, 5.0]], np.float32)[: len(observations)]

    rows = rollout(act, None, episodes=2, max_steps=1, record=True, env_factory=SaysSometimes).rows
    np.testing.assert_array_equal(rows.action, np.array([[0.1, 5.0], [0.05, 5.0]], np.float32))
