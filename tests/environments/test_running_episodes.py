"""Episodes that go on: together as one by one, gone on with as if never left, in a robot's world begun anew."""

import warnings

import gymnasium
import numpy as np
import pytest

from cart import Cart
from tabb import files
from tabb.environments import running_episodes
from tabb.environments.running_episodes import RunningEpisodes, world_of_environment, world_of_task
from tabb.environments.tasks import get_task
from tabb.errors import MachineWarning, RunError

HOPPER = world_of_task(get_task("hopper-gravity-0.5"), "legacy")
CART = world_of_environment(Cart)


def pushes(count, lanes, size, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, lanes, size)).astype(np.float32)


def taken(episodes, actions):
    """The rows of one step after another, each column stacked."""
    return [np.stack(column) for column in zip(*(episodes.step(one) for one in actions), strict=True)]


def test_steps_together_are_those_of_each_episode_alone():
    actions = pushes(12, 2, 3)
    together = taken(RunningEpisodes(HOPPER, 2, 7), actions)
    for lane in range(2):
        alone = taken(RunningEpisodes(HOPPER, 1, 7 + lane), actions[:, lane : lane + 1])
        for both, one in zip(together[:-1], alone[:-1], strict=True):
            np.testing.assert_array_equal(both[:, lane : lane + 1], one)
        assert (together[-1][:, lane] == lane).all()  # the number of its episode


def test_episodes_that_go_on_are_those_that_were_never_left():
    """Two lanes of a robot that falls after some 20 steps, left in the middle of an episode."""
    actions = pushes(70, 2, 3, seed=1)
    whole = RunningEpisodes(HOPPER, 2, 7)
    rows = taken(whole, actions[:45])
    state, ended = whole.state(), len(whole.finished())
    assert ended > 0
    assert (state.age > 0).all()
    rest, episodes = taken(whole, actions[45:]), whole.finished()
    again = RunningEpisodes(HOPPER, 2, 7)
    assert again.restore(state)
    for one, other in zip(taken(again, actions[45:]), rest, strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.finished() == episodes  # their returns count what came before as well
    assert rows[0].shape == (45, 2, 11)


def test_a_world_that_may_be_a_robot_begins_new_episodes():
    first = RunningEpisodes(CART, 1, 3)
    taken(first, pushes(5, 1, 1))
    again = RunningEpisodes(CART, 1, 3)
    assert not again.restore(first.state())
    assert int(again.state().started) == 1
    np.testing.assert_array_equal(again.observe()[0], Cart().reset(seed=4)[0])  # the next episode, not the same again


def test_no_environment_is_opened_before_the_first_step():
    episodes = RunningEpisodes(CART, 1, 3)
    again = RunningEpisodes(CART, 1, 3)
    assert again.restore(episodes.state())
    assert int(again.state().started) == 0


def test_an_episode_is_cut_by_its_limit_and_ended_by_the_task():
    episodes = RunningEpisodes(CART, 1, 0)
    rows = taken(episodes, np.zeros((20, 1, 1), np.float32))  # nothing moves: the time limit cuts
    assert not rows[4].any()
    pushed = np.full((20, 1, 1), np.sign(episodes.observe()[0, 0]), np.float32)
    rows = taken(episodes, pushed)  # off the track
    last = int(rows[4][:, 0].argmax())
    assert abs(rows[3][last, 0, 0]) > 1
    assert abs(rows[0][last + 1, 0, 0]) == pytest.approx(0.6)
    lengths = [one.length for one in episodes.finished()]
    assert lengths[:2] == [20, last + 1]
    assert CART.limit == 1_000  # it states none: its own truncation counts


def test_actions_reach_the_environment_in_its_units():
    class Wide(Cart):
        action_space = gymnasium.spaces.Box(0.0, 4.0, (1,))

        def step(self, action):
            self.given = action
            return super().step((np.asarray(action) - 2.0) / 2.0)

    world = world_of_environment(Wide)
    episodes = RunningEpisodes(world, 1, 0)
    rows = episodes.step(np.array([[0.5]], np.float32))
    plain = RunningEpisodes(CART, 1, 0).step(np.array([[0.5]], np.float32))
    assert world.action_bounds is not None
    np.testing.assert_allclose(rows.next_observation, plain.next_observation, atol=1e-7)
    assert rows.action.tolist() == [[0.5]]


def test_steps_that_are_cut_where_no_limit_is_stated_say_so(monkeypatch):
    monkeypatch.setattr(files, "_WARNED", set())
    monkeypatch.setattr(running_episodes, "STEP_LIMIT", 3)
    endless = RunningEpisodes(world_of_environment(lambda: Cart(limit=100)), 1, 0)
    taken(endless, pushes(2, 1, 1))
    with pytest.warns(MachineWarning, match="environment Cart: states no step limit, so its episodes are cut after 3"):
        taken(endless, pushes(1, 1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        limited = world_of_environment(lambda: gymnasium.wrappers.TimeLimit(Cart(), 4))
        taken(RunningEpisodes(limited, 1, 0), pushes(9, 1, 1))


def test_what_cannot_be_played_again_is_not_kept_for_it():
    """A state of a robot's episodes has the same size whatever their limit, and one that has their actions is read."""
    episodes = RunningEpisodes(world_of_environment(lambda: gymnasium.wrappers.TimeLimit(Cart(), 10**9)), 2, 0)
    taken(episodes, pushes(5, 2, 1))
    state = episodes.state()
    assert state.action.shape == (2, 0, 1)
    assert RunningEpisodes(HOPPER, 2, 0).state().action.shape == (2, 1_000, 3)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_an_action_that_is_no_number_moves_nothing(wrong):
    """Of a learner that has diverged, before anything is measured of it."""
    episodes = RunningEpisodes(CART, 2, 0)
    before = episodes.observe()
    with pytest.raises(
        RunError, match=r"the action for Cart is \[(nan|inf)\].*nothing was moved; lower the backbone's"
    ):
        episodes.step(np.array([[0.5], [wrong]], np.float32))
    np.testing.assert_array_equal(episodes.observe(), before)
    assert episodes.state().age.tolist() == [0, 0]
