"""A learner as one object: a transfer rule on a backbone that is fitted to two data sets, then acts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypedDict, Unpack

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tabb.backbones import Backbone
from tabb.data import Loaded, read
from tabb.environments.engine import Engine
from tabb.environments.tasks import Task, get_task
from tabb.errors import UsageError, meant
from tabb.models.imitation import Imitation
from tabb.policy import Policy
from tabb.registry import backbone_named, learner_name, learners_of
from tabb.results.row_scores import RowScores, score_rows
from tabb.rules import Rule
from tabb.tracking import Opener
from tabb.training import Run, Settings, train
from tabb.training.checks import check_backbone, check_seeds
from tabb.training.from_files import check_engine
from tabb.training.online import Online
from tabb.training.progress import Style
from tabb.transitions import Transitions

Data = Transitions | str | Path | Sequence[str | Path]
"""The rows of one domain, or the file or files that `tabb.load` takes."""


class SettingsByName(TypedDict, total=False):
    """The fields of `tabb.Settings`, apart from the backbone."""

    updates: int
    evaluations: int
    episodes: int
    evaluation_seed: int
    normalise: Literal["pooled", "none"]
    engine: Engine
    held_out: float | None
    source_rows: int | None
    target_rows: int | None
    rows_seed: int
    imitation: Imitation | None
    online: Online


class Learner:
    """A transfer rule on a backbone, fitted to a source and a target data set.

    >>> learner = tabb.Learner(tabb.TABB(), "iql", updates=50_000)
    >>> learner = learner.fit("simulator.hdf5", "robot.hdf5", task="hopper-gravity-0.5")
    >>> learner.predict(tabb.load("robot.hdf5").observation).shape  # a row per observation
    (300, 3)
    >>> trust = learner.score_rows().columns["weight"]
    >>> trust.shape, bool((trust > 0).all())
    ((600,), True)

    `tabb.train` is the same as a function, with one `Run` for each seed.
    """

    def __init__(
        self,
        rule: Rule,
        backbone: Backbone | str | None = None,
        *,
        seed: int | None = None,
        seeds: Sequence[int] | None = None,
        settings: Settings | None = None,
        **changes: Unpack[SettingsByName],
    ) -> None:
        """
        Args:
            rule: the transfer rule, such as `tabb.TABB()`.
            backbone: the single-domain learner that it acts on, or its name; None is the rule's own.
            seed: the seed of the run, 0 if none is given.
            seeds: several seeds, one run each; the policy is that of the first.
            settings: length of training and evaluation; `tabb.Settings()` if None.
            **changes: fields of the settings by name, such as `updates=50_000`.

        Raises:
            UsageError: a wrong type, an unknown field or a value that cannot work.
        """
        if isinstance(rule, str):
            raise UsageError(f"rule is {rule!r}: give an instance such as tabb.TABB(), or use Learner.named({rule!r})")
        if isinstance(rule, type) or not isinstance(rule, Rule):
            name = rule.__name__ if isinstance(rule, type) else type(rule).__name__
            raise UsageError(f"rule is {name}: give an instance such as tabb.TABB()")
        if seed is not None and seeds is not None:
            raise UsageError(f"seed={seed} and seeds={seeds}: give one of them")
        known = [field.name for field in dataclasses.fields(Settings) if field.name != "backbone"]
        for name in changes:
            if name not in known:
                raise UsageError(f"{name} is no setting: {meant(name, known)}")
        check_backbone(backbone)
        if isinstance(backbone, str):
            backbone_named(backbone, rule)  # an unknown name is refused now, not when the learner is fitted
        self.rule = rule
        self.backbone = backbone
        self.seeds = check_seeds([seed if seed is not None else 0] if seeds is None else seeds)
        self.settings = dataclasses.replace(settings or Settings(), **changes)
        if isinstance(backbone, Backbone) or backbone is None:
            self.settings = dataclasses.replace(self.settings, backbone=backbone or self.settings.backbone)
        self._runs: list[Run] = []
        self._data: tuple[Transitions | None, Transitions] | None = None

    @classmethod
    def named(
        cls,
        name: str,
        preset: str | None = None,
        *,
        task: str | Task | None = None,
        seed: int | None = None,
        seeds: Sequence[int] | None = None,
        settings: Settings | None = None,
        **changes: Unpack[SettingsByName],
    ) -> Self:
        """The learner of a name, such as `tabb` or `tabb@cql`, with the constants of a preset.

        `task` is the task to train for, where the preset is the backbone's and the task's suite has constants of its
        own (AntMaze, Adroit).

        Raises `UsageError` for an unknown name, or a preset that the learner does not have.
        """
        suites = get_task(task).suites if task is not None else ()
        (chosen,), (plain,) = learners_of([name], preset, suites), learners_of([name])
        backbone: Any = chosen.backbone
        if not suites and backbone == plain.backbone:
            backbone = backbone.name if "@" in name else None  # `fit` knows the task, and its suite's constants
        return cls(chosen.rule, backbone, seed=seed, seeds=seeds, settings=settings, **changes)

    def __repr__(self) -> str:
        backbone = self.backbone if self.backbone is not None else self.settings.backbone
        return f"Learner({self.rule}, {backbone}, seeds={self.seeds})"

    @property
    def name(self) -> str:
        """`tabb`, or `tabb@cql` on another backbone than the rule's own."""
        backbone = self.backbone if self.backbone is not None else self.settings.backbone
        return learner_name(self.rule.name, backbone.name if isinstance(backbone, Backbone) else backbone)

    def fit(
        self,
        source: Data | None,
        target: Data | None,
        task: str | Task | None = None,
        folder: str | Path | None = None,
        *,
        env_factory: Callable[[], gymnasium.Env[Any, Any]] | str | None = None,
        resume: bool = False,
        progress: Style = "none",
        track: str | Opener | None = None,
        start: str | Path | Run | None = None,
        source_env: Callable[[], gymnasium.Env[Any, Any]] | str | None = None,
    ) -> Self:
        """Train on both data sets; returns the learner itself. What an earlier call learned is replaced.

        Args:
            source: rows of the source domain, or their files; None for a rule that draws none.
            target: rows of the target domain, or their files; None where all of them are steps (`Settings.online`).
            task: where to evaluate; None trains without rollouts.
            folder: where the runs are kept, as `folder/seed0` and so on; None keeps nothing on disk.

        The other arguments, and what is raised, are those of `tabb.train`.
        """
        origin: dict[str, Any] = {}
        given = {"source": source, "target": target}
        loaded = {domain: _read(data, domain) for domain, data in given.items() if not _are_rows(data)}
        check_engine(loaded, self.settings.engine, task)
        origin |= {domain: one.report.origin() for domain, one in loaded.items()}
        rows = {domain: loaded[domain].warned() if domain in loaded else data for domain, data in given.items()}
        runs = train(
            self.rule,
            rows["source"],  # type: ignore[arg-type]
            rows["target"],  # type: ignore[arg-type]
            task=task,
            seeds=self.seeds,
            backbone=self.backbone,
            settings=self.settings,
            folder=folder,
            resume=resume,
            env_factory=env_factory,
            progress=progress,
            origin=origin,
            track=track,
            start=start,
            source_env=source_env,
        )
        self._runs, self._data = runs, (rows["source"], rows["target"])  # type: ignore[assignment]
        return self

    @property
    def runs(self) -> list[Run]:
        """The finished run of each seed. Raises `UsageError` before `fit`."""
        if not self._runs:
            raise UsageError(f"learner {self.name} is not fitted: call fit(source, target) first")
        return self._runs

    @property
    def policy(self) -> Policy:
        """The policy of the first seed after its last update; `runs` has those of the others."""
        return self.runs[0].policy

    @property
    def score(self) -> float | None:
        """Mean score of the runs, each over its last three evaluations; None if nothing was evaluated."""
        scores = [run.score for run in self.runs]
        known = [score for score in scores if score is not None]
        return float(np.mean(known)) if known else None

    def predict(self, observation: ArrayLike) -> NDArray[np.float32]:
        """Actions inside their bounds, shape [..., A], of `policy` for raw observations of shape [..., S]."""
        return self.policy.predict(observation)

    act = predict

    def save(self, path: str | Path) -> Path:
        """Write `policy` to a file that `tabb.Policy.load` reads."""
        return self.policy.save(path)

    def score_rows(self) -> RowScores:
        """How far the first seed's run trusts each source row, as `tabb.score_rows`: `columns["weight"]` of `tabb`.

        Raises `UsageError` for a rule that keeps no score per row.
        """
        run = self.runs[0]
        assert self._data is not None
        return score_rows(run, *self._data)


def _are_rows(data: Any) -> bool:
    """Whether these are the rows of a domain, or none."""
    return data is None or isinstance(data, Transitions)


def _read(data: Any, domain: str) -> Loaded:
    """The rows of one domain from its files."""
    if not isinstance(data, str | Path | list | tuple):
        raise UsageError(
            f"{domain} is {type(data).__name__}: give a file, or Transitions from tabb.load or tabb.from_arrays"
        )
    return read(data)
