"""Online training: soft actor-critic in the simulator, which offline methods do not have. It trains the mazes' ant.

Steps of parallel episodes (lanes) and updates of the learner alternate. At even intervals the deterministic policy is
scored and saved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from tabb.batch import Sizes
from tabb.behaviours.scored_policies import ScoredPolicy
from tabb.behaviours.soft_actor_critic import LOG_DEVIATION, SoftActorCritic, append, empty, improve
from tabb.environments.lanes import Lanes
from tabb.environments.rollout import one_blas_thread
from tabb.errors import RunError, UsageError
from tabb.field_types import TypedFields
from tabb.networks import MLP, Normaliser, normaliser_of
from tabb.policy import Layers, Policy, forward, host_layers


@dataclasses.dataclass(frozen=True)
class OnlineTraining(TypedFields):
    """Constants of the training."""

    updates: int = 50_000
    """updates of the learner"""
    steps_per_update: int = 2
    """simulator steps per update"""
    lanes: int = 16
    """episodes that run at the same time"""
    stretch: int = 8
    """steps of each lane between updates"""
    warm_up: int = 2_048
    """steps with uniform random actions before the first update"""
    evaluations: int = 20
    """how often the policy is scored and saved, evenly over the training"""
    learner: SoftActorCritic = dataclasses.field(default_factory=SoftActorCritic)
    """the learner's constants"""

    def __post_init__(self) -> None:
        for name in ("updates", "steps_per_update", "lanes", "stretch", "warm_up", "evaluations"):
            if getattr(self, name) < 1:
                raise UsageError(f"online training {name}={getattr(self, name)}: must be at least 1")
        if self.steps_per_update > self.lanes * self.stretch:
            between = self.lanes * self.stretch
            raise UsageError(
                f"online training steps_per_update={self.steps_per_update}: must be at most {between}, lanes x stretch"
            )

    @property
    def updates_per_stretch(self) -> int:
        """Updates after each stretch of steps."""
        return self.lanes * self.stretch // self.steps_per_update

    @property
    def steps(self) -> int:
        """Simulator steps in all, warm-up included."""
        stretches = -(-self.updates // self.updates_per_stretch)
        return self.lanes * (-(-self.warm_up // self.lanes) + self.stretch * stretches)


def train_online(
    settings: OnlineTraining,
    lanes: Lanes,
    limit: int,
    sizes: Sizes,
    evaluate: Callable[[Policy], float],
    *,
    seed: int = 0,
    reward_scale: float = 1.0,
    tell: Callable[[ScoredPolicy], None] = lambda policy: None,
) -> list[ScoredPolicy]:
    """Train a policy in `lanes`, whose episodes are cut after `limit` steps (a truncation, not a terminal).

    The learner's rewards are multiplied by `reward_scale`. Returns the policies that were saved. The same arguments on
    the same machine give the same result.

    Raises:
        RunError: the learner diverged.
    """
    buffer = empty(settings.steps, sizes)
    init_key, update_key = jax.random.split(jax.random.key(seed))
    state = settings.learner.init(sizes, init_key)
    episodes = _Episodes(settings, lanes, limit, sizes, seed, reward_scale)
    saved: list[ScoredPolicy] = []
    done = 0

    def save() -> None:
        policy = Policy.from_networks(_mean(state.policy), normaliser)
        saved.append(ScoredPolicy(done, evaluate(policy), policy))
        tell(saved[-1])

    with one_blas_thread():
        buffer = append(buffer, jnp.asarray(episodes.rows(None, -(-settings.warm_up // settings.lanes))))
        normaliser = normaliser_of(np.asarray(buffer.matrix[: int(buffer.filled), : sizes.observation]))
        save()
        while done < settings.updates:
            rows = episodes.rows((host_layers(state.policy), normaliser), settings.stretch)
            buffer = append(buffer, jnp.asarray(rows))
            last = min(settings.updates, done + settings.updates_per_stretch)
            state, metrics = improve(settings.learner, sizes, normaliser, buffer, state, update_key, done, last)
            done = last
            if done >= len(saved) * settings.updates // settings.evaluations:
                if not np.isfinite(float(metrics["critic_loss"])):
                    raise RunError(f"online training diverged before update {done:,}; try another seed")
                save()
    # `append` clamps its position: rows for which there is no room would replace the last ones.
    assert int(buffer.filled) <= len(buffer.matrix)
    return saved


def _mean(policy: MLP) -> MLP:
    """The network of the mean action, which is the first half of the outputs."""
    half = policy.biases[-1].size // 2
    weights = (*policy.weights[:-1], policy.weights[-1][:, :half])
    return MLP(weights, (*policy.biases[:-1], policy.biases[-1][:half]), policy.activation)


class _Episodes:
    """Parallel episodes that continue from stretch to stretch."""

    def __init__(
        self, settings: OnlineTraining, lanes: Lanes, limit: int, sizes: Sizes, seed: int, reward_scale: float
    ) -> None:
        self._lanes, self._limit, self._sizes, self._reward_scale = lanes, limit, sizes, reward_scale
        self._generator = np.random.default_rng(seed)
        self._next_seed = 1_000_000 * (seed + 1)  # apart from those of evaluations and collected rows
        self._all = list(range(settings.lanes))
        self._ages = np.zeros(settings.lanes, int)
        self._now = lanes.reset(self._take_seeds(settings.lanes), settings.lanes)

    def _take_seeds(self, count: int) -> int:
        self._next_seed += count
        return self._next_seed - count

    def rows(self, policy: tuple[Layers, Normaliser] | None, steps: int) -> NDArray[np.float32]:
        """`steps` steps of all lanes with actions sampled from `policy` (None: uniform), as rows of the buffer."""
        rows = []
        for _ in range(steps):
            action = self._act(policy)
            after = self._lanes.step(self._all, action)
            reward = (self._reward_scale * after.reward).astype(np.float32)[:, None]
            terminal = after.terminal.astype(np.float32)[:, None]
            rows.append(np.concatenate([self._now, action, reward, after.observation, terminal], axis=1))
            self._now = after.observation
            self._ages += 1
            for lane in np.flatnonzero(after.terminal | after.truncated | (self._ages >= self._limit)):
                self._now[lane] = self._lanes.restart(int(lane), self._take_seeds(1))
                self._ages[lane] = 0
        return np.concatenate(rows)

    def _act(self, policy: tuple[Layers, Normaliser] | None) -> NDArray[np.float32]:
        shape = (len(self._all), self._sizes.action)
        if policy is None:
            return self._generator.uniform(-1, 1, shape).astype(np.float32)
        layers, normaliser = policy
        x = (self._now - np.asarray(normaliser.mean)) / np.asarray(normaliser.scale)
        mean, log_deviation = np.split(forward(layers, x), 2, axis=1)
        deviation = np.exp(np.clip(log_deviation, *LOG_DEVIATION))
        return np.tanh(mean + deviation * self._generator.standard_normal(shape, np.float32))
