"""Rollouts: what they record, how they end, and that they do not depend on how many run at once."""

import math

import gymnasium
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tabb.environments import make, rollout
from tabb.errors import RunError, UsageError


def gait(observation, rng):
    """Depends on each row alone, to the last bit; falls after 20 to 60 steps in hopper."""
    return np.sin(7 * observation[:, :3]) * np.float32(0.8)


def still(observation, rng):
    return np.zeros((len(observation), 6))


def _by_hand(task, policy, seed, engine="legacy"):
    """One episode of the Gymnasium environment: lists of (s, a, r, s', terminal, truncated)."""
    env = make(task, engine)
    observation, _ = env.reset(seed=seed)
    steps, over = [], False
    while not over:
        seen = observation.astype(np.float32)
        action = policy(seen[None], None)[0]
        observation, reward, terminal, truncated, _ = env.step(action)
        steps.append((seen, action, reward, observation.astype(np.float32), terminal, truncated))
        over = terminal or truncated
    env.close()
    return steps


@pytest.mark.parametrize("engine", ["legacy", "native"])
def test_episodes_equal_those_run_one_by_one(engine):
    result = rollout(gait, "hopper-gravity-0.5", 4, seed=5, engine=engine, record=True)
    end = 0
    for k in range(4):
        steps = _by_hand("hopper-gravity-0.5", gait, 5 + k, engine)
        assert result.lengths[k] == len(steps)
        assert result.returns[k] == pytest.approx(sum(step[2] for step in steps), rel=1e-12)
        assert (result.terminal[k], result.truncated[k]) == (True, False)
        rows = slice(end, end := end + len(steps))
        for column, name in enumerate(("observation", "action", "reward", "next_observation", "terminal")):
            expected = np.array([step[column] for step in steps], np.float32)
            np.testing.assert_array_equal(getattr(result.rows, name)[rows], expected)
    assert end == len(result.rows.reward)
    assert not result.rows.timeout.any()
    assert len(set(result.lengths)) > 1  # lanes ended at different steps
    np.testing.assert_allclose(result.scores, result.task.normalised_score(result.returns))
    for column in vars(result.rows).values():
        assert column.dtype == np.float32


def test_results_do_not_depend_on_the_number_of_episodes():
    few, many = (rollout(gait, "hopper-morph", count, seed=11, record=True) for count in (2, 7))
    np.testing.assert_array_equal(few.returns, many.returns[:2])
    np.testing.assert_array_equal(few.rows.observation, many.rows.observation[: few.lengths.sum()])


def test_a_seed_decides_everything():
    def noisy(observation, rng):
        return rng.uniform(-1, 1, (len(observation), 8))

    first, again, other = (rollout(noisy, "ant", 3, seed=s, max_steps=30, record=True) for s in (1, 1, 2))
    for name, column in vars(first.rows).items():
        np.testing.assert_array_equal(column, getattr(again.rows, name))
    assert not np.array_equal(first.returns, other.returns)


def test_a_policy_may_keep_what_it_was_shown():
    kept = []
    result = rollout(lambda o, rng: kept.append(o) or gait(o, rng), "hopper", 1, max_steps=9, record=True)
    np.testing.assert_array_equal(np.concatenate(kept), result.rows.observation)


def test_limits_truncate_and_are_no_terminals():
    full = rollout(still, "halfcheetah", 1, record=True)
    assert (full.lengths[0], full.terminal[0], full.truncated[0]) == (1000, False, True)
    assert full.rows.timeout.sum() == full.rows.timeout[-1] == 1
    assert not full.rows.terminal.any()
    cut = rollout(still, "halfcheetah", 2, max_steps=7, record=True)
    assert cut.lengths.tolist() == [7, 7]
    assert np.flatnonzero(cut.rows.timeout).tolist() == [6, 13]


def test_a_terminal_on_the_last_allowed_step_is_no_timeout():
    length = int(rollout(gait, "hopper", 1).lengths[0])
    last = rollout(gait, "hopper", 1, max_steps=length, record=True)
    assert (last.terminal[0], last.truncated[0]) == (True, False)
    assert (last.rows.terminal[-1], last.rows.timeout[-1]) == (1, 0)
    assert rollout(gait, "hopper", 1, max_steps=length - 1).truncated[0]


@pytest.mark.parametrize("at_once", [1, 5])
def test_rows_are_cut_at_exactly_the_number_asked_for(at_once):
    whole = rollout(gait, "hopper", 12, seed=3, record=True)
    ends = np.cumsum(whole.lengths)
    wanted = int(ends[8]) + 4  # in the middle of the tenth episode
    cut = rollout(gait, "hopper", at_once, seed=3, rows=wanted)
    assert len(cut.rows.reward) == wanted == cut.lengths.sum()
    for name in ("observation", "action", "reward", "next_observation", "terminal"):
        np.testing.assert_array_equal(getattr(cut.rows, name), getattr(whole.rows, name)[:wanted])
    assert np.flatnonzero(cut.rows.timeout).tolist() == [wanted - 1]
    assert cut.terminal.tolist() == 9 * [True] + [False]
    assert cut.returns[-1] == pytest.approx(whole.rows.reward[ends[8] : wanted].sum(), rel=1e-5)

    exact = rollout(gait, "hopper", at_once, seed=3, rows=int(ends[8]))
    assert len(exact.lengths) == 9
    assert exact.terminal.all()
    assert not exact.rows.timeout.any()


def test_actions_are_clipped_before_they_act():
    wild = rollout(lambda o, rng: np.full((len(o), 6), 3.0), "halfcheetah", 1, max_steps=5, record=True)
    tame = rollout(lambda o, rng: np.full((len(o), 6), 1.0), "halfcheetah", 1, max_steps=5, record=True)
    assert set(wild.rows.action.ravel()) == {1.0}
    np.testing.assert_array_equal(wild.rows.reward, tame.rows.reward)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            lambda o, rng: np.full((len(o), 3), np.nan),
            "the policy returned an action that is not finite at step 1",
        ),
        (
            lambda o, rng: np.zeros(3),
            r"the policy returned actions of shape \(3,\) at step 1: expected \(2, 3\)",
        ),
    ],
)
def test_broken_policies_are_named(policy, message):
    with pytest.raises(RunError, match=f"^{message}$"):
        rollout(policy, "hopper", 2)


class Corridor(gymnasium.Env):
    """Walk to 1 on a line by at most 0.5 a step; actions reach from -2 to 2 and are divided by 4."""

    observation_space = gymnasium.spaces.Box(-1, 9, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.uniform(0, 0.1)
        return np.array([self.place], np.float32), {}

    def step(self, action):
        self.place += float(action[0]) / 4
        return np.array([self.place], np.float32), -1.0, self.place >= 1, False, {}


def test_any_environment_can_be_used():
    def forward(observation, rng):
        return np.full((len(observation), 1), 5.0)

    result = rollout(forward, None, 3, env_factory=Corridor, record=True)
    assert result.returns.tolist() == [-2, -2, -2]
    assert set(result.rows.action.ravel()) == {2.0}
    with pytest.raises(UsageError, match=r"no normalised scores"):
        _ = result.scores
    limited = rollout(
        lambda o, rng: np.zeros((len(o), 1)),
        None,
        2,
        env_factory=lambda: gymnasium.wrappers.TimeLimit(Corridor(), 6),
    )
    assert limited.lengths.tolist() == [6, 6]
    assert limited.truncated.all()


def test_unfit_environments_and_numbers_are_refused():
    with pytest.raises(UsageError, match=r"^env_factory must make an environment of flat Box"):
        rollout(gait, None, env_factory=lambda: gymnasium.make("CartPole-v1"))
    with pytest.raises(UsageError, match=r"^give either a task or an env_factory"):
        rollout(gait, None)
    with pytest.raises(UsageError, match=r"^give either a task or an env_factory"):
        rollout(gait, "hopper", env_factory=Corridor)
    for numbers, says in (
        ({"episodes": 1.5}, "episodes is 1.5: give a whole number"),
        ({"seed": -1}, "seed is -1: give a whole number from 0 on"),
        ({"seed": 0.5}, "seed is 0.5: give a whole number from 0 on"),
    ):
        with pytest.raises(UsageError, match=f"^{says}$"):
            rollout(lambda observation, generator: None, "hopper-gravity-0.5", **numbers)
    with pytest.raises(UsageError, match=r"^episodes is 0: it must be at least 1$"):
        rollout(gait, "hopper", 0)
    with pytest.raises(UsageError, match=r"^unknown task 'hoppper'"):
        rollout(gait, "hoppper")


def test_returns_are_summed_without_loss():
    result = rollout(still, "halfcheetah", 1, max_steps=50, record=True)
    assert result.returns[0] == pytest.approx(math.fsum(result.rows.reward.tolist()), rel=1e-5)


def test_a_policys_products_run_on_one_thread_and_the_callers_threads_come_back():
    def blas_threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    seen = []
    with threadpool_limits(2, user_api="blas"):
        rollout(lambda o, rng: seen.append(blas_threads()) or gait(o, rng), "hopper", 2, max_steps=1)
        assert seen
        assert set(seen[0]) == {1}
        assert set(blas_threads()) == {2}
        with pytest.raises(RunError):
            rollout(lambda o, rng: np.zeros(3), "hopper", 2)
        assert set(blas_threads()) == {2}
