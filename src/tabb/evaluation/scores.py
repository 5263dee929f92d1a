"""Evaluation of a policy in the target environment, and the score of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from tabb.environments.engine import Engine
from tabb.environments.own_environment import check_action_space, check_task_takes, open_environment
from tabb.environments.registration import env_factory_of
from tabb.environments.rollout import rollout
from tabb.environments.tasks import Task, get_task
from tabb.errors import UsageError
from tabb.policy import Policy

EVALUATION_SEED = 10_000
"""First reset seed of evaluations: far from any training seed, the same for every method and run."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Deterministic episodes of one policy in one environment."""

    returns: tuple[float, ...]
    """Undiscounted return of each episode."""
    lengths: tuple[int, ...]
    scores: tuple[float, ...] | None
    """100 (J - J_random) / (J_expert - J_random) of each episode; None outside the task catalogue."""
    first_seed: int
    """Episode k began with reset(seed = first_seed + k)."""

    @property
    def mean(self) -> float:
        """Mean score; mean return outside the task catalogue."""
        return float(np.mean(self.returns if self.scores is None else self.scores))

    @property
    def spread(self) -> float:
        """Standard deviation over episodes (by n - 1) of the scores (or returns) that `mean` averages; 0 of one."""
        values = self.returns if self.scores is None else self.scores
        return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def evaluate(
    policy: Policy | str | Path,
    task: str | Task | None,
    episodes: int = 10,
    seed: int = EVALUATION_SEED,
    *,
    engine: Engine | None = None,
    env_factory: Callable[[], gymnasium.Env[Any, Any]] | str | None = None,
    at_step: Callable[[], None] | None = None,
) -> Evaluation:
    """Run the deterministic policy for `episodes` episodes, reset with `seed`, `seed` + 1, ...

    `policy` may also be its file or the folder of its run, and `env_factory` the id of a Gymnasium environment.
    `at_step` is called before each step of the episodes and may raise to stop them.
    `engine` defaults to the one that the policy was trained for, and to `legacy` if the policy does not name one.

    Raises:
        RunError: the policy's file cannot be read.
        UsageError: a wrong type, an unknown task, or one whose observations or actions have other sizes than the
            policy's; an engine for an environment that is no task.
    """
    if isinstance(policy, str | Path):
        policy = Policy.load(policy)
    if not isinstance(policy, Policy):
        raise UsageError(f"policy is {type(policy).__name__}: give a tabb.Policy (run.policy), or its file")
    make = env_factory_of(env_factory) if isinstance(env_factory, str) else env_factory
    if task is None and make is None:
        raise UsageError("task and env_factory are None: name a task, or give the environment to evaluate in")
    if make is not None and engine is not None:
        raise UsageError(f"engine={engine}: an environment of your own has its own physics; leave engine out")
    if task is not None:
        task = get_task(task)
        for size in ("observation_size", "action_size"):
            if getattr(task, size) != getattr(policy, size):
                raise UsageError(
                    f"policy and task {task.name} do not fit: {size} is {getattr(policy, size)} and "
                    f"{getattr(task, size)}; evaluate in a task of the same robot"
                )
        check_task_takes(policy.action_bounds, task.name)
    checked = policy
    result = rollout(
        checked,
        task,
        episodes,
        seed,
        engine=engine or policy.about.get("engine") or "legacy",
        env_factory=None if make is None else lambda: check_action_space(open_environment(make), checked.action_bounds),
        at_step=at_step,
    )
    scores = None if result.task is None else tuple(result.scores.tolist())
    return Evaluation(tuple(result.returns.tolist()), tuple(result.lengths.tolist()), scores, seed)


def averaged(evaluations: int) -> str:
    """What the score of a run with so many evaluations is the mean of, in words."""
    return {1: "only evaluation", 2: "two evaluations"}.get(evaluations, "last three evaluations")


def final_score(means: Sequence[float]) -> float | None:
    """Score of a run: the mean over its last three evaluations, not the best one; None without evaluations."""
    return float(np.mean(means[-3:])) if means else None
