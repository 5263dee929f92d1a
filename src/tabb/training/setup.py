"""What all seeds of a training run share, resolved and checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium

from tabb.batch import Domains
from tabb.environments.running_episodes import World
from tabb.environments.tasks import Task
from tabb.networks import Normaliser
from tabb.policy import Policy, SequencePolicy
from tabb.registry import learner_name
from tabb.training.config import Settings
from tabb.training.held_out import HeldOut
from tabb.training.learned_rows import StoredSides
from tabb.training.loop import Program
from tabb.training.online import Domain
from tabb.training.refits import fits_along
from tabb.training.starting_weights import Start


@dataclasses.dataclass(frozen=True)
class Setup:
    """A learner, its data, and where and how it is judged."""

    learner: Program
    domains: Domains
    """The rows to learn from; held-out episodes are not among them."""
    settings: Settings
    """With the backbone and the share of held-out episodes that the run has."""
    task: Task | None
    env_factory: Callable[[], gymnasium.Env[Any, Any]] | None
    held_out: HeldOut | None
    """None where no episode is held out."""
    start: Start | None
    """The run whose weights the new runs start from, if any."""
    config: dict[str, Any]
    """What `config.json` says of every seed's run, as JSON types."""
    worlds: dict[Domain, World] = dataclasses.field(default_factory=dict)
    """Where steps are taken along the run, by domain."""
    stored: StoredSides | None = None
    """The rows that batches are drawn from where they stay in files: then `domains` are those that rules fit to."""

    def config_of(self, seed: int) -> dict[str, Any]:
        """What `config.json` says of this seed's run."""
        start = {} if self.start is None else {"start": self.start.record(seed)}
        return self.config | {"seed": seed} | start

    def normalised_by(self, normaliser: Normaliser) -> Setup:
        """The same with another normaliser, where no logged row was normalised by the one that it had."""
        return dataclasses.replace(self, domains=self.domains._replace(normaliser=normaliser))

    @property
    def label(self) -> str:
        """The learner's name."""
        return learner_name(self.learner.rule.name, self.learner.backbone.name)

    def label_of(self, seeds: Sequence[int]) -> str:
        """What to call the runs of these seeds."""
        where = f" {self.task.name}" if self.task else ""
        return f"{self.label}{where} seed {','.join(map(str, seeds))}"

    @property
    def fits_along(self) -> bool:
        """Whether what the rule fits is fitted again as steps come in."""
        return bool(self.worlds) and fits_along(self.learner.rule, tuple(self.worlds))

    @property
    def without_rows(self) -> bool:
        """Whether a domain in which steps are taken begins without rows."""
        return any(not len(getattr(self.domains, domain)) for domain in self.worlds)

    @property
    def rolls_out(self) -> bool:
        """Whether policies are run in an environment."""
        return self.task is not None or self.env_factory is not None

    def policy(self, state: Any, seed: int, update: int) -> Policy:
        """The policy of one seed in this state, after so many updates."""
        about = {
            "task": self.task.name if self.task else None,
            "rule": self.learner.rule.name,
            "backbone": self.learner.backbone.name,
            "seed": seed,
            "updates": update,
            "engine": self.settings.engine if self.task else None,
        }
        policy = self.learner.backbone.policy(state, self.domains.normaliser, about)
        if isinstance(policy, SequencePolicy) and self.task is not None:
            policy = dataclasses.replace(policy, reward_offset=self.task.reward_offset)
        return dataclasses.replace(policy, action_bounds=self.domains.target.action_bounds)
