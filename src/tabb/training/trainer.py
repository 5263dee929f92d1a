"""The course of a run: prepare, compile, train stretch by stretch, evaluate, save, stop on request, finish."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp

from tabb.batch import Domains, Sizes
from tabb.environments.tasks import Task
from tabb.errors import RunError, Stopped, UsageError
from tabb.evaluation.scores import Evaluation, evaluate
from tabb.files import write_json
from tabb.policy import Policy
from tabb.registry import learner_name
from tabb.rules import Rule
from tabb.tracking import Opener, TrackedRun, Tracker
from tabb.training.cache import prepared
from tabb.training.config import Settings, backbone_of
from tabb.training.folder import RunFolder
from tabb.training.held_out import HeldOut, Look, describe
from tabb.training.loop import Packed, Program, compiled_updates, compiled_updates_of_seeds, pack, pack_data
from tabb.training.progress import Reporter, Style, reporter
from tabb.training.record import Run, check_same_run, evaluation_from, result_of
from tabb.training.signals import stop_on_signal
from tabb.training.starting_weights import Start

CHECKPOINT_SECONDS = 60.0
"""longest time of training that a kill can cost (evaluations write checkpoints too)"""


class Trainer:
    """One compiled program over one or more seeds (lanes), and what surrounds it: folders, evaluation, stops."""

    def __init__(
        self,
        rule: Rule,
        domains: Domains,
        task: Task | None,
        seeds: list[int],
        settings: Settings,
        folders: list[RunFolder | None],
        env_factory: Callable[[], gymnasium.Env[Any, Any]] | None,
        config: dict[str, Any],
        resume: bool,
        track: Opener | None = None,
        held_out: HeldOut | None = None,
        start: Start | None = None,
    ) -> None:
        self.rule, self.domains, self.task, self.seeds = rule, domains, task, seeds
        self.settings, self.folders, self.env_factory = settings, folders, env_factory
        self.learner = Program(backbone_of(settings, rule), rule, settings.updates)
        self.label = learner_name(rule.name, self.learner.backbone.name)
        self.evaluations: list[list[tuple[int, Evaluation]]] = [[] for _ in seeds]
        self.held_out = held_out
        self.looks: list[list[Look]] = [[] for _ in seeds]
        self.seconds = dict.fromkeys(("prepare", "compile", "train", "evaluate", "checkpoint"), 0.0)
        self.resume, self.config = resume, config
        self.start = start
        self.track, self.tracker = track, Tracker(None, [None] * len(seeds))
        for seed, folder in zip(seeds, folders, strict=True):
            if folder is None:
                continue
            of_seed = config if start is None else config | {"start": start.record(seed)}
            if resume and folder.config_file.exists():
                check_same_run(folder, of_seed)
            else:
                folder.start(of_seed | {"seed": seed})

    # --- Lanes: one seed has no seed axis, several are stacked on a leading one ---

    def _stack(self, trees: list[Any]) -> Any:
        return trees[0] if len(trees) == 1 else jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)

    def _lane(self, tree: Any, i: int) -> Any:
        return tree if len(self.seeds) == 1 else jax.tree.map(lambda leaf: leaf[i], tree)

    # --- The run ---

    def run(self, progress: Style) -> list[Run]:
        where = self.task.name if self.task else "no task"
        seeds = ",".join(map(str, self.seeds))
        tell = reporter(progress, f"{self.label} {where} seed {seeds}", self.settings.updates)
        with ExitStack() as held, stop_on_signal() as stopped:
            for folder in self.folders:
                if folder is not None:
                    held.enter_context(folder.locked())
            self.tracker = Tracker(self.track, [self._tracked(i) for i in range(len(self.seeds))])
            held.callback(self.tracker.close)
            try:
                return self._run(tell, stopped)
            finally:
                tell.close()

    def _columns(self, model: Any) -> dict[str, Any]:
        return _a_row_each(self.rule.columns(model, self.domains), self.rule, "source", len(self.domains.source))

    def _target_columns(self, model: Any) -> dict[str, Any]:
        return _a_row_each(self.rule.target_columns(model, self.domains), self.rule, "target", len(self.domains.target))

    def _run(self, tell: Reporter, stopped: threading.Event) -> list[Run]:
        keys = [jax.random.split(jax.random.key(seed), 3) for seed in self.seeds]  # init, prepare, draw
        with self._timed("prepare"):
            models = [self._prepare(i, key[1], tell, stopped) for i, key in enumerate(keys)]
            data = pack_data(self.domains, {})._replace(
                columns=_pack_lanes([self._columns(model) for model in models]),
                target_columns=_pack_lanes([self._target_columns(model) for model in models]),
            )
            extra = [
                self.learner.extra_rows(model, self.domains, key[1]) for model, key in zip(models, keys, strict=True)
            ]
            if not self.learner.refresh_every:
                data = data._replace(extra=self._stack(extra))
        models = self._stack(models)
        draw_keys = self._stack([key[2] for key in keys])
        state, update = self._begin([key[0] for key in keys], extra)

        if update == self.settings.updates:
            return self._end(state, tell, stopped)
        with self._timed("compile"):
            tell.phase("compile", 0.0)
            updates = compiled_updates if len(self.seeds) == 1 else compiled_updates_of_seeds
            bounds = jnp.zeros((), jnp.int32)
            program = updates.lower(self.learner, models, data, draw_keys, state, bounds, bounds).compile()
            tell.phase("compile", 1.0)

        points = set(self.settings.evaluation_points())  # checkpoints too, where nothing is evaluated
        stretch, end = self.settings.stretch(), self.settings.updates
        saved = time.monotonic()
        while update < end:
            # Stretches end at fixed updates, whenever the run was stopped: the metrics are the same lines then.
            ahead = [point for point in points if point > update]
            until = min([end, (update // stretch + 1) * stretch, *ahead])
            started = time.monotonic()
            with self._timed("train"):
                state, metrics = program(
                    models,
                    data,
                    draw_keys,
                    state,
                    jnp.asarray(update, jnp.int32),
                    jnp.asarray(until, jnp.int32),
                )
                jax.block_until_ready(state)
            metrics = jax.device_get(metrics)
            rate = (until - update) / (time.monotonic() - started)
            update = until
            self._log_metrics(update, metrics, rate)
            if update in points and self._evaluates():
                self._evaluate(update, state)
            if update in points and self.held_out is not None:
                self._look(update, models, state)
            loss = sum(float(self._lane(metrics, i)["critic_loss"]) for i in range(len(self.seeds)))
            tell.training(update, rate * len(self.seeds), loss / len(self.seeds), self._last_score())
            if update in points or update == end or time.monotonic() - saved > CHECKPOINT_SECONDS or stopped.is_set():
                self._save(update, state)
                saved = time.monotonic()
            if stopped.is_set() and update < end:
                raise Stopped(self._how_to_go_on(update))
        return self._end(state, tell, stopped)

    def _end(self, state: Any, tell: Reporter, stopped: threading.Event) -> list[Run]:
        """Value the policies along the runs, where episodes were held out for that, and write the results."""
        runs = []
        for i in range(len(self.seeds)):
            if self.held_out is not None:
                with self._timed("evaluate"):
                    report = self._reporting(tell, stopped, self.settings.updates)
                    self.looks[i] = self.held_out.value(self.looks[i], report)
            runs.append(self._finish(i, state))
        return runs

    def _reporting(self, tell: Reporter, stopped: threading.Event, update: int) -> Callable[[str, float], None]:
        """Shows the progress of a part, and hears Ctrl-C."""

        def report(what: str, share: float) -> None:
            tell.phase(what, share)
            if stopped.is_set():
                raise Stopped(self._how_to_go_on(update))

        return report

    def _prepare(self, i: int, key: Any, tell: Reporter, stopped: threading.Event) -> Any:
        """The rule's fitted models for one seed: from the folder if they were finished, else fitted now."""
        folder = self.folders[i]
        if folder is not None and self.resume and folder.prepared_file.exists():
            # Not traced: a template may look at the data (their scales, how many rows they have).
            return folder.restore_prepared(self.rule.template(self.domains, key))
        data = self.config["data"]
        report = self._reporting(tell, stopped, 0)
        models = prepared(self.rule, self.domains, data, self.settings.normalise, key, report, tell.note)
        if folder is not None:
            folder.save_prepared(models)
        return models

    def _begin(self, keys: list[Any], extra: list[Packed | None]) -> tuple[Any, int]:
        """The state to start from: fresh (or with the weights that another run ended with), or the checkpoints'."""
        sizes = Sizes(self.domains.target.observation_size, self.domains.target.action_size)
        states = [self.learner.init(sizes, key, rows) for key, rows in zip(keys, extra, strict=True)]
        found = [
            folder.restore(state) if folder is not None and self.resume else None
            for folder, state in zip(self.folders, states, strict=True)
        ]
        if all(saved is None for saved in found):
            if self.start is not None:
                states = [
                    self.start.weights(self.learner, state, self.domains.normaliser, seed)
                    for state, seed in zip(states, self.seeds, strict=True)
                ]
            return self._stack(states), 0
        if any(saved is None for saved in found):
            missing = [seed for seed, saved in zip(self.seeds, found, strict=True) if saved is None]
            raise RunError(
                f"the seeds {missing} have no checkpoint and the others have: resume them one by one, or delete the "
                "folders without one and start these seeds alone"
            )
        at = {saved.update for saved in found if saved is not None}
        if len(at) > 1:
            raise RunError(
                f"the seeds {self.seeds} were stopped after different updates ({sorted(at)}): resume them one by one"
            )
        for i, (folder, saved) in enumerate(zip(self.folders, found, strict=True)):
            assert folder is not None
            assert saved is not None
            self.evaluations[i] = [
                (line["update"], evaluation_from(line)) for line in folder.metrics() if line["kind"] == "evaluation"
            ]
            if self.held_out is not None:
                self.looks[i] = self.held_out.looks_of(folder)
            self.tracker.replay(i, folder.metrics())
            if i == 0:
                self.seconds = {part: self.seconds[part] + saved.seconds.get(part, 0.0) for part in self.seconds}
        return self._stack([saved.state for saved in found if saved is not None]), at.pop()

    # --- Records ---

    def _evaluates(self) -> bool:
        return self.task is not None or self.env_factory is not None

    def _evaluate(self, update: int, state: Any) -> None:
        with self._timed("evaluate"):
            for i in range(len(self.seeds)):
                evaluation = evaluate(
                    self._policy(i, state, update),
                    self.task,
                    self.settings.episodes,
                    self.settings.evaluation_seed,
                    engine=self.settings.engine,
                    env_factory=self.env_factory,
                )
                self.evaluations[i].append((update, evaluation))
                line = {"kind": "evaluation", "update": update, "mean": evaluation.mean}
                self._record(i, line | dataclasses.asdict(evaluation))

    def _look(self, update: int, models: Any, state: Any) -> None:
        """Keep the policies, and measure the errors on the rows that training does not see."""
        assert self.held_out is not None
        with self._timed("evaluate"):
            for i, folder in enumerate(self.folders):
                policy = self._policy(i, state, update)
                look = self.held_out.look(self.learner, self._lane(models, i), self._lane(state, i), policy, update)
                self.looks[i].append(look)
                if folder is not None:
                    folder.keep_policy(policy, update)
                self._record(i, {"kind": "held-out"} | describe(look))

    def _log_metrics(self, update: int, metrics: Any, rate: float) -> None:
        for i in range(len(self.seeds)):
            values = {name: float(value) for name, value in self._lane(metrics, i).items()}
            bad = [name for name, value in values.items() if not math.isfinite(value)]
            if bad:
                raise RunError(
                    f"seed {self.seeds[i]} diverged: {bad[0]} is {values[bad[0]]} before update {update:,}; lower "
                    "the backbone's learning rate or check the scale of rewards and observations"
                )
            self._record(i, {"kind": "training", "update": update, "rate": round(rate, 1)} | values)

    def _record(self, i: int, line: dict[str, Any]) -> None:
        """A line of the run's record, of any kind: into its metrics file first, then to its sink."""
        folder = self.folders[i]
        if folder is not None:
            folder.log(line)
        self.tracker.log(i, line)

    def _tracked(self, i: int) -> TrackedRun | None:
        """What the sink of a run is told of it; None for a run that is finished and sends nothing more."""
        folder = self.folders[i]
        if folder is not None and folder.result_file.exists():
            return None
        resumed = folder is not None and self.resume and folder.checkpoint_file.exists()
        path = None if folder is None else folder.path
        return TrackedRun.of(self.config | {"seed": self.seeds[i]}, path, resumed)

    def _save(self, update: int, state: Any) -> None:
        with self._timed("checkpoint"):
            for i, folder in enumerate(self.folders):
                if folder is not None:
                    folder.save(self._lane(state, i), update, self.seconds)

    def _policy(self, i: int, state: Any, update: int) -> Policy:
        about = {
            "task": self.task.name if self.task else None,
            "rule": self.rule.name,
            "backbone": self.learner.backbone.name,
            "seed": self.seeds[i],
            "updates": update,
            "engine": self.settings.engine if self.task else None,
        }
        return self.learner.backbone.policy(self._lane(state, i), self.domains.normaliser, about)

    def _finish(self, i: int, state: Any) -> Run:
        folder = self.folders[i]
        run = Run(
            self._policy(i, state, self.settings.updates),
            self.rule,
            self.seeds[i],
            tuple(self.evaluations[i]),
            dict(self.seconds),
            folder.path if folder else None,
            tuple(self.looks[i]),
        )
        if folder is not None:
            run.policy.save(folder.policy_file)
            result = result_of(run, self.task, self.settings)
            if self.held_out is not None:
                result["held_out"] = self.held_out.about | {"policies": [describe(look) for look in run.held_out]}
            write_json(folder.result_file, result)
            if run.evaluations:
                from tabb.evaluation.figures import learning_curves

                learning_curves({self.label: [run.evaluations]}, self.task, folder.curve_file)
        return run

    def _last_score(self) -> float | None:
        last = [evaluations[-1][1].mean for evaluations in self.evaluations if evaluations]
        return sum(last) / len(last) if last else None

    def _how_to_go_on(self, update: int) -> str:
        folder = self.folders[0]
        if folder is None:
            return f"stopped after {update:,} updates; nothing is kept, because the run has no folder"
        return f"stopped and saved after {update:,} updates; go on with `tabb train --resume {folder.path.parent}`"

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[part] += time.monotonic() - started


def _a_row_each(columns: dict[str, Any], rule: Rule, domain: str, rows: int) -> dict[str, Any]:
    """The columns, if each has an entry per row: of others, rows would be drawn with another row's values."""
    for name, column in columns.items():
        if not jnp.ndim(column) or len(column) != rows:
            found = f"{len(column):,} entries" if jnp.ndim(column) else "one value"
            raise UsageError(
                f"rule {rule.name}: column {name!r} has {found} for {rows:,} {domain} rows; give one per row of "
                f"domains.{domain}, which has only those kept of a file and not held out"
            )
    return columns


def _pack_lanes(columns: list[dict[str, Any]]) -> Packed | None:
    """The columns of one seed packed, or those of several stacked on a leading axis; None if there are none."""
    packed = [pack(lane) for lane in columns]
    first = packed[0]
    if first is None or len(packed) == 1:
        return first
    return Packed(jnp.stack([lane.matrix for lane in packed if lane is not None]), first.layout)
