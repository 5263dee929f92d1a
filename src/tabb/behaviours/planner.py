"""The behaviour policy of the hands: planning in the simulator (MPPI, Williams et al. 2017), without demonstrations.

At each step N sequences of H actions around the plan are simulated in a copy of the environment. The plan becomes their
mean, weighted by the exponential of their return:

    w_n ∝ exp((R_n - max R) / (λ σ_R)),    plan = Σ_n w_n a_n,    σ_R the spread of the returns R_n

The first action of the plan is taken, and the next step starts from the rest. The planner uses the whole state, the
reward and the future; a learner has only what was logged.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from tabb.behaviours.episodes import Episode, LoggedRows, Step, first_rows
from tabb.environments.engine import Engine
from tabb.environments.make_robot import make_robot
from tabb.environments.tasks import Task
from tabb.field_types import TypedFields

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


@dataclasses.dataclass(frozen=True)
class Planner(TypedFields):
    """Constants of the planner."""

    samples: int
    """N, sequences per step"""
    horizon: int
    """H, steps ahead"""
    hold: int
    """steps over which a sequence's noise is constant, as fingers need more than a hundredth of a second to move"""
    deviation: float
    """standard deviation of the noise; actions lie in [-1, 1]"""
    temperature: float = 0.3
    """λ"""
    fall: float = 20.0
    """subtracted from a return for an immediate terminal, and less for a later one"""


PLANNERS: dict[str, Planner] = {
    "pen": Planner(samples=24, horizon=12, hold=3, deviation=0.3),
    "door": Planner(samples=24, horizon=20, hold=5, deviation=0.4),
    "hammer": Planner(samples=24, horizon=20, hold=5, deviation=0.4),
    "relocate": Planner(samples=24, horizon=20, hold=5, deviation=0.4),
}
"""Planners of quality `expert`, by hand."""
MEDIUM_SAMPLES = 6
"""Samples of quality `medium`; all else is equal."""


def planner_of(hand: str, quality: str) -> Planner:
    """The planner of a hand and quality, `medium` or `expert`."""
    planner = PLANNERS[hand]
    return planner if quality == "expert" else dataclasses.replace(planner, samples=MEDIUM_SAMPLES)


def weighted_plan(
    candidates: NDArray[np.float64], returns: NDArray[np.float64], temperature: float
) -> NDArray[np.float64]:
    """Mean of the candidates [N, H, A], weighted by their returns [N]; shape [H, A]."""
    weights = np.exp((returns - returns.max()) / (temperature * max(float(returns.std()), 1e-6)))
    return np.einsum("n,nha->ha", weights / weights.sum(), candidates)


class _Simulation:
    """A second simulator of the same environment, in which sequences of actions are tried."""

    def __init__(self, task: Task, engine: Engine) -> None:
        self._env: Any = make_robot(task, engine)
        self._state = np.empty(mujoco.mj_stateSize(self._env.model, _STATE))

    def copy_state(self, env: Any) -> None:
        """Copy the state of `env`, and its model, in which a reset moves bodies."""
        self._env.model = env.model
        mujoco.mj_getState(env.model, env.data, self._state, _STATE)

    def return_of(self, actions: NDArray[np.float64], fall: float) -> float:
        """Sum of rewards of a sequence [H, A] from the copied state, less `fall` for a terminal."""
        env = self._env
        mujoco.mj_setState(env.model, env.data, self._state, _STATE)
        mujoco.mj_forward(env.model, env.data)
        total = 0.0
        for step, action in enumerate(actions):
            _, reward, terminal, _, _ = env.step(action)
            total += reward
            if terminal:
                return total - fall * (1 - step / len(actions))
        return total

    def close(self) -> None:
        self._env.close()


def plan_in_the_hand(
    planner: Planner, task: Task, rows: int, *, engine: Engine = "legacy", noise: float = 0.1, seed: int = 0
) -> LoggedRows:
    """`rows` transitions of `task`, episodes reset with `seed`, `seed` + 1, ...

    Gaussian noise of standard deviation `noise` is added to the planned actions, which are then clipped to [-1, 1];
    the next plan starts from the state that follows. About 10 steps per second.
    """
    env: Any = make_robot(task, engine)
    simulation, generator = _Simulation(task, engine), np.random.default_rng(seed)
    episodes: list[Episode] = []
    while sum(len(episode.steps) for episode in episodes) < rows:
        now = env.reset(seed=seed + len(episodes))[0].astype(np.float32)
        plan = np.zeros((planner.horizon, task.action_size))
        steps: list[Step] = []
        while not steps or not (steps[-1].terminal or steps[-1].timeout):
            simulation.copy_state(env)
            candidates = _candidates(planner, plan, generator)
            returns = np.array([simulation.return_of(one, planner.fall) for one in candidates])
            plan = weighted_plan(candidates, returns, planner.temperature)
            action = plan[0] + noise * generator.standard_normal(task.action_size)
            action = np.clip(action, -1, 1).astype(np.float32)
            following, reward, terminal, _, _ = env.step(action)
            timeout = not terminal and len(steps) + 1 >= task.max_episode_steps
            steps.append(Step(now, action, reward, following.astype(np.float32), terminal, timeout))
            now, plan = steps[-1].next_observation, np.concatenate([plan[1:], plan[-1:]])
        episodes.append(Episode(steps, counts=True))
    env.close()
    simulation.close()
    return first_rows(episodes, rows)


def _candidates(planner: Planner, plan: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """Sequences [N, H, A] around the plan; the first is the plan itself."""
    knots = -(-planner.horizon // planner.hold)
    noise = planner.deviation * generator.standard_normal((planner.samples, knots, plan.shape[1]))
    noise = np.repeat(noise, planner.hold, axis=1)[:, : planner.horizon]
    noise[0] = 0.0
    return np.clip(plan + noise, -1, 1)
