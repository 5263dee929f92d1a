"""Online training: soft actor-critic in the simulator, which offline methods do not have. It trains the mazes' ant.

It is a run of `target-only@sac` with steps, without data and a folder. At even intervals the deterministic policy is
scored and saved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from tabb.backbones import SAC
from tabb.batch import Domains, Sizes
from tabb.behaviours.scored_policies import ScoredPolicy
from tabb.environments.lanes import Lanes
from tabb.environments.rollout import one_blas_thread
from tabb.environments.running_episodes import World
from tabb.errors import RunError, UsageError
from tabb.field_types import TypedFields
from tabb.policy import Policy
from tabb.rules import TargetOnly
from tabb.training.drawing import pack_data
from tabb.training.interaction import InteractingUpdates, Interaction
from tabb.training.loop import Program
from tabb.training.online import Online
from tabb.training.worlds import no_rows


@dataclasses.dataclass(frozen=True)
class OnlineTraining(TypedFields):
    """Constants of the training."""

    updates: int = 50_000
    """updates of the learner"""
    steps_per_update: int = 2
    """simulator steps per update"""
    lanes: int = 16
    """episodes that run at the same time"""
    warm_up: int = 2_048
    """steps with uniform random actions before the first update"""
    evaluations: int = 20
    """how often the policy is scored and saved, evenly over the training"""
    learner: SAC = dataclasses.field(default_factory=lambda: SAC(temperature=0.1, entropy=0.5, layer_norm=True))
    """the learner's constants [those that differ from SAC's are RLPD's]"""

    def __post_init__(self) -> None:
        for name in ("updates", "steps_per_update", "lanes", "warm_up", "evaluations"):
            if getattr(self, name) < 1:
                raise UsageError(f"online training {name}={getattr(self, name)}: must be at least 1")

    @property
    def steps(self) -> int:
        """Simulator steps in all, warm-up included."""
        return self.warm_up + self.updates * self.steps_per_update


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
    world = World("simulator", lambda count: lanes, limit, *sizes, None, repeats=False, reward_scale=reward_scale)
    program = Program(settings.learner, TargetOnly(), settings.updates)
    online = Online(target_steps=settings.steps, lanes=settings.lanes, warm_up=settings.warm_up)
    init_key, step_key, draw_key = jax.random.split(jax.random.key(seed), 3)
    interaction = Interaction(program, online, {"target": world}, None, seed, step_key, started=False)
    saved: list[ScoredPolicy] = []

    def save(done: int) -> None:
        policy = settings.learner.policy(state, interaction.normaliser, {})
        saved.append(ScoredPolicy(done, evaluate(policy), policy))
        tell(saved[-1])

    with one_blas_thread():
        interaction.begin(None)
        nothing = no_rows(world)
        data = interaction.with_room(pack_data(Domains(nothing, nothing, interaction.normaliser), {}), (0, 0))
        state = program.init(sizes, init_key)
        updates = InteractingUpdates(program, interaction, data, (), draw_key, state)
        save(0)
        # Of fewer updates than evaluations, some would come after no update at all, which has no losses.
        ends = sorted({settings.updates * (i + 1) // settings.evaluations for i in range(settings.evaluations)} - {0})
        for first, last in zip([0, *ends], ends, strict=False):
            bounds = jnp.asarray(first, jnp.int32), jnp.asarray(last, jnp.int32)
            state, metrics = updates((), None, draw_key, state, *bounds)
            if not np.isfinite(float(metrics["critic_loss"])):
                raise RunError(f"online training diverged before update {last:,}; try another seed")
            save(last)
    return saved
