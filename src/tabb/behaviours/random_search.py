"""Augmented random search (Mania, Guy and Recht 2018) over a policy's last layer, in the simulator itself.

It makes behaviour policies for data sets; no compared method uses it. With θ the last layer's weights and biases, and u
the standard deviation of their entries at the start, one round is

    J±_k = objective of an episode with θ ± σ u ε_k,  ε_k ~ N(0, I),  k = 1 ... n
    θ   += α u / (b s) · sum over the b best k of (J+_k - J-_k) ε_k       best: by max(J+_k, J-_k)

with s the standard deviation of the 2b objectives. The hidden layers stay those of the first policy. An episode's
objective is its return less `penalty` per step, so that a robot with a reward for being alive does not learn to stand
still. If a shift breaks the gait, the search can start in the unshifted robot and let the shift grow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tabb.behaviours.scored_policies import ScoredPolicy
from tabb.environments.lanes import Lanes
from tabb.environments.rollout import one_blas_thread
from tabb.errors import RunError, UsageError
from tabb.field_types import TypedFields
from tabb.policy import Layers, Policy, forward


@dataclasses.dataclass(frozen=True)
class RandomSearch(TypedFields):
    """Constants of the search."""

    steps: int = 300_000
    """simulator steps; the round that reaches them is the last"""
    directions: int = 32
    """n, directions per round, each tried with both signs [paper: 8 to 60]"""
    best: int = 16
    """b, directions that enter the step [paper: 4 to 20]"""
    deviation: float = 0.15
    """σ, in units of u [ours]"""
    rate: float = 0.15
    """α, in units of u [ours]"""
    penalty: float = 0.5
    """subtracted from the objective for each step of an episode [paper: the reward for being alive, 1]"""
    noise: float = 0.0
    """standard deviation of the Gaussian noise on actions, as in the collection; they are then clipped to [-1, 1]"""
    levels: int = 0
    """number of levels in which the shift grows from none to full; 0: full from the start"""
    recovered: float = 0.6
    """the shift grows when a round's mean return reaches this part of the first round's"""
    grown_by: float = 0.8
    """the shift also grows at even intervals, so that it is full after this part of `steps`"""
    rounds_between: int = 2
    """rounds between policies that are scored and saved"""

    def __post_init__(self) -> None:
        for name in ("steps", "directions", "best", "rounds_between"):
            if getattr(self, name) < 1:
                raise UsageError(f"search {name}={getattr(self, name)}: must be at least 1")
        for name in ("deviation", "rate", "recovered", "grown_by"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"search {name}={getattr(self, name)}: must lie in (0, 1]")
        if self.noise < 0 or self.levels < 0:
            raise UsageError(f"search noise={self.noise}, levels={self.levels}: must not be negative")
        if self.best > self.directions:
            raise UsageError(f"search best={self.best}: at most the {self.directions} directions that are tried")

    @property
    def lanes(self) -> int:
        """Episodes that run at the same time."""
        return 2 * self.directions


def search(
    settings: RandomSearch,
    lanes_at: Callable[[float], Lanes],
    limit: int,
    start: Policy,
    evaluate: Callable[[Policy], float],
    *,
    seed: int = 0,
    tell: Callable[[ScoredPolicy], None] = lambda policy: None,
) -> list[ScoredPolicy]:
    """Improve `start`; `lanes_at(share)` has `settings.lanes` lanes with that share of the task's shift.

    Episodes are cut after `limit` steps. Returns the policies that were saved, without `start`. The same arguments on
    the same machine give the same result.

    Raises:
        RunError: the search diverged.
    """
    generator = np.random.default_rng(seed)
    theta = last_layer(start)
    # The entries of a blank policy are all zero; u is then that of a new layer.
    unit = float(theta.std()) or (3 * len(theta)) ** -0.5
    saved: list[ScoredPolicy] = []
    steps = rounds = level = built = 0
    wanted = np.inf
    lanes = lanes_at(0.0 if settings.levels else 1.0)
    try:
        while steps < settings.steps:
            least = int(settings.levels * steps / (settings.grown_by * settings.steps))
            level = min(max(level, least), settings.levels)
            if level > built:
                lanes.close()
                built, lanes = level, lanes_at(level / settings.levels)
            noise = generator.standard_normal((settings.directions, *theta.shape), np.float32)
            moved = settings.deviation * unit * noise
            first_seed = 1_000_000 * (seed + 1) + rounds * settings.directions  # not those of evaluations or rows
            both = np.concatenate([theta + moved, theta - moved])
            with one_blas_thread():
                returns, lengths = episodes(lanes, limit, start, both, first_seed, settings.noise)
            objective = (returns - settings.penalty * lengths).reshape(2, settings.directions)
            theta = theta + settings.rate * unit * ascent(objective, noise, settings.best)
            if not np.isfinite(theta).all():
                raise RunError(f"the search diverged after {steps:,} steps (a return is not finite); try another seed")
            steps, rounds = steps + int(lengths.sum()), rounds + 1
            mean = float(returns.mean())
            wanted = mean - (1.0 - settings.recovered) * abs(mean) if rounds == 1 else wanted
            level += mean >= wanted
            if rounds % settings.rounds_between == 0 or steps >= settings.steps:
                policy = with_last_layer(start, theta)
                saved.append(ScoredPolicy(steps, evaluate(policy), policy))
                tell(saved[-1])
    finally:
        lanes.close()
    return saved


def ascent(objective: NDArray[np.float64], noise: NDArray[np.float32], best: int) -> NDArray[np.float32]:
    """1 / (b s) · sum over the b best of (J+ - J-) ε, of objectives [2, n] and noise [n, ...] (algorithm 2, V1-t)."""
    chosen = np.argsort(-objective.max(axis=0), kind="stable")[:best]
    spread = objective[:, chosen].std()
    difference = (objective[0] - objective[1])[chosen]
    return (np.tensordot(difference, noise[chosen], axes=1) / (best * max(spread, 1e-8))).astype(np.float32)


def last_layer(policy: Policy) -> NDArray[np.float32]:
    """Weights of a policy's last layer, with the biases as last row: [F + 1, A]."""
    return np.concatenate([policy.weights[-1], policy.biases[-1][None]])


def with_last_layer(policy: Policy, theta: NDArray[np.float32]) -> Policy:
    """The policy with another last layer [F + 1, A]."""
    return dataclasses.replace(
        policy, weights=(*policy.weights[:-1], theta[:-1].copy()), biases=(*policy.biases[:-1], theta[-1].copy())
    )


def episodes(
    lanes: Lanes, limit: int, policy: Policy, thetas: NDArray[np.float32], first_seed: int, noise: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return and length of one episode for each last layer [N, F + 1, A], N even.

    Layers k and N / 2 + k start from the same state, that of seed `first_seed` + k, and get the same noise on actions.
    """
    count = len(thetas)
    generator = np.random.default_rng(first_seed)
    now = lanes.reset(first_seed, count)
    for k in range(count // 2):
        now[count // 2 + k] = lanes.restart(count // 2 + k, first_seed + k)
    hidden: Layers = (policy.weights[:-1], policy.biases[:-1])
    returns, lengths = np.zeros(count), np.zeros(count, np.int64)
    going = np.arange(count)
    for _ in range(limit):
        seen = np.maximum(forward(hidden, (now[going] - policy.mean) / policy.scale), 0.0)
        before = np.matmul(seen[:, None], thetas[going, :-1])[:, 0] + thetas[going, -1]
        action = np.tanh(before)
        if noise:
            drawn = generator.standard_normal((count // 2, action.shape[1]), np.float32)
            action = np.clip(action + noise * drawn[going % (count // 2)], -1.0, 1.0)
        after = lanes.step(going.tolist(), action)
        returns[going] += after.reward
        lengths[going] += 1
        now[going] = after.observation
        going = going[~(after.terminal | after.truncated)]
        if not going.size:
            break
    return returns, lengths
