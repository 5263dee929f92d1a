"""What happens beside the updates of a run: recording, evaluating, judging by held-out rows, progress, checkpoints.

Observers take their turn after each stretch in the order of their list. None of them changes what is learned.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from tabb.errors import RunError, Stopped
from tabb.evaluation.scores import Evaluation, evaluate
from tabb.files import quoted
from tabb.tracking import Tracker
from tabb.training.held_out import HeldOut, HeldOutMeasures, measures_from
from tabb.training.interaction import Interaction, Interrupted
from tabb.training.lanes import Clock, Lanes
from tabb.training.progress import Reporter, shown_loss
from tabb.training.record import evaluation_from
from tabb.training.setup import Setup
from tabb.training.stretches import Stretch

CHECKPOINT_SECONDS = 60.0
"""seconds of training after which a stretch ends with a checkpoint; evaluations write one too"""

Metrics = dict[str, Any]  # one line of metrics.jsonl


class Diverged(RunError):
    """Losses of some seeds are no longer finite; other seeds can go on without them."""

    def __init__(self, message: str, seeds: Collection[int]) -> None:
        super().__init__(message)
        self.seeds = seeds


class Observer:
    """Looks on while the seeds of a run train. A subclass fills in the points that it needs."""

    def resume(self, lane: int, metrics: Sequence[Metrics]) -> None:
        """A seed goes on after a stop; these are its metrics until then."""

    def after(self, stretch: Stretch) -> None:
        """A stretch of updates is done."""


class Recording(Observer):
    """Writes metrics to the run folder first, then sends them to the tracker."""

    def __init__(self, lanes: Lanes, tracker: Tracker) -> None:
        self._lanes, self._tracker = lanes, tracker

    def resume(self, lane: int, metrics: Sequence[Metrics]) -> None:
        self._tracker.replay(lane, metrics)

    def after(self, stretch: Stretch) -> None:
        """Record the losses. Raises `Diverged` if one of them is no longer finite."""
        diverged: dict[int, str] = {}
        for lane, metrics in enumerate(self._lanes.split(stretch.metrics)):
            values = {name: float(value) for name, value in metrics.items()}
            bad = [name for name, value in values.items() if not math.isfinite(value)]
            if bad:
                seed = self._lanes.seeds[lane]
                diverged[seed] = f"seed {seed} diverged: {bad[0]} is {values[bad[0]]}"
            else:
                line = {"kind": "training", "update": stretch.update, "rate": round(stretch.rate, 1)}
                self.record(lane, line | values)
        if diverged:
            for lane, (seed, folder) in enumerate(zip(self._lanes.seeds, self._lanes.folders, strict=True)):
                if seed not in diverged and folder is not None:  # it goes on from its checkpoint
                    self._tracker.keep(lane)
            raise Diverged(
                f"{' and '.join(diverged.values())} before update {stretch.update:,}; lower the backbone's learning "
                "rate or check the scale of rewards and observations",
                list(diverged),
            )

    def record(self, lane: int, metrics: Metrics) -> None:
        """One line of metrics, of any kind."""
        folder = self._lanes.folders[lane]
        if folder is not None:
            folder.log(metrics)
        self._tracker.log(lane, metrics)


class Evaluating(Observer):
    """Rolls the policies out at the evaluation points. Raises `Stopped` inside a rollout where that was asked for."""

    def __init__(
        self, setup: Setup, lanes: Lanes, recording: Recording, clock: Clock, stop: threading.Event | None = None
    ) -> None:
        self._setup, self._lanes, self._recording, self._clock = setup, lanes, recording, clock
        self._stop = stop
        self._points = set(setup.settings.evaluation_points()) if setup.rolls_out else set()
        self.evaluations: list[list[tuple[int, Evaluation]]] = [[] for _ in lanes.seeds]
        """(updates done, evaluation) of each seed."""

    def resume(self, lane: int, metrics: Sequence[Metrics]) -> None:
        self.evaluations[lane] = [
            (values["update"], evaluation_from(values)) for values in metrics if values["kind"] == "evaluation"
        ]

    def after(self, stretch: Stretch) -> None:
        if stretch.update in self._points:
            with self._clock.time("evaluate"):
                for lane, state in enumerate(self._lanes.split(stretch.state)):
                    self._evaluate(lane, state, stretch.update)

    def _evaluate(self, lane: int, state: Any, update: int) -> None:
        settings = self._setup.settings
        evaluation = evaluate(
            self._setup.policy(state, self._lanes.seeds[lane], update),
            self._setup.task,
            settings.episodes,
            settings.evaluation_seed,
            engine=settings.engine if self._setup.env_factory is None else None,
            env_factory=self._setup.env_factory,
            at_step=self._check_stop,
        )
        self.evaluations[lane].append((update, evaluation))
        metrics = {"kind": "evaluation", "update": update, "mean": evaluation.mean}
        self._recording.record(lane, metrics | dataclasses.asdict(evaluation))

    def _check_stop(self) -> None:
        """An episode may last long, so a stop does not wait for its end."""
        if self._stop is not None and self._stop.is_set():
            folder = self._lanes.folders[0]
            how = "nothing is kept, because the run has no folder"
            if folder is not None:
                how = f"go on from the last checkpoint with `tabb train --resume {quoted(folder.path.parent)}`"
            raise Stopped(f"stopped during an evaluation; {how}")

    def last_score(self) -> float | None:
        """Mean over the seeds of the last evaluation; None before the first."""
        last = [evaluations[-1][1].mean for evaluations in self.evaluations if evaluations]
        return sum(last) / len(last) if last else None


class HoldingOut(Observer):
    """Keeps the policies at the evaluation points, and measures errors on the rows that training does not see."""

    def __init__(
        self,
        setup: Setup,
        models: Sequence[Any],
        lanes: Lanes,
        recording: Recording,
        clock: Clock,
    ) -> None:
        """`models` are what the rule fitted for each seed."""
        self._setup, self._models, self._lanes = setup, models, lanes
        self._held_out, self._recording, self._clock = setup.held_out, recording, clock
        self._points = set(setup.settings.evaluation_points()) if setup.held_out is not None else set()
        self.measures: list[list[HeldOutMeasures]] = [[] for _ in lanes.seeds]
        """What was measured of each seed's run, in order."""

    def resume(self, lane: int, metrics: Sequence[Metrics]) -> None:
        folder = self._lanes.folders[lane]
        if folder is not None:
            self.measures[lane] = measures_from(folder, metrics)

    def after(self, stretch: Stretch) -> None:
        if self._held_out is not None and stretch.update in self._points:
            with self._clock.time("evaluate"):
                for lane, state in enumerate(self._lanes.split(stretch.state)):
                    self._measure(self._held_out, lane, state, stretch.update)

    def _measure(self, held_out: HeldOut, lane: int, state: Any, update: int) -> None:
        policy, folder = self._setup.policy(state, self._lanes.seeds[lane], update), self._lanes.folders[lane]
        measures = held_out.measure(self._setup.learner, self._models[lane], state, policy, update)
        self.measures[lane].append(measures)
        if folder is not None:
            folder.keep_policy(policy, update)
        self._recording.record(lane, {"kind": "held-out"} | measures.to_dict())

    def value_policies(self, lane: int, report: Callable[[str, float], None]) -> None:
        """Value a seed's policies off-policy, once all updates are done."""
        if self._held_out is not None:
            with self._clock.time("evaluate"):
                self.measures[lane] = self._held_out.value(self.measures[lane], report)


class Interacting(Observer):
    """Records the episodes that came to their end, and the fits of models, while the run takes steps."""

    def __init__(self, interaction: Interaction, recording: Recording) -> None:
        self._interaction, self._recording = interaction, recording

    def after(self, stretch: Stretch) -> None:
        self.record(stretch.update)

    def record(self, update: int) -> None:
        """What has been done after so many updates, since it was recorded the last time."""
        for fit in self._interaction.fits():
            self._recording.record(0, {"kind": "refit"} | fit)
        for side in self._interaction.sides:
            if episodes := side.finished():
                totals, lengths, ends = map(list, zip(*episodes, strict=True))
                line = {"kind": f"{side.domain}-episodes", "update": update, "steps": side.taken}
                self._recording.record(0, line | {"returns": totals, "lengths": lengths, "ends": ends})


class Showing(Observer):
    """Shows rate, loss, score and steps."""

    def __init__(
        self,
        reporter: Reporter,
        lanes: Lanes,
        last_score: Callable[[], float | None],
        interaction: Interaction | None = None,
    ) -> None:
        self._reporter, self._lanes, self._last_score = reporter, lanes, last_score
        self._sides = [] if interaction is None else interaction.sides

    def after(self, stretch: Stretch) -> None:
        losses = [shown_loss(metrics) for metrics in self._lanes.split(stretch.metrics)]
        mean = sum(losses) / len(losses)
        self._reporter.training(stretch.update, stretch.rate, mean, self._last_score(), self._steps())

    def _steps(self) -> list[tuple[str, int, int]]:
        return [(side.domain, side.taken, side.plan.steps) for side in self._sides]


class Saving(Observer):
    """Writes checkpoints, and stops the run after one where that was asked for. Comes last.

    Whatever the others wrote of a stretch is on disk before its checkpoint is.
    """

    def __init__(
        self,
        setup: Setup,
        lanes: Lanes,
        clock: Clock,
        stop: threading.Event,
        interaction: Interaction | None = None,
    ) -> None:
        self._lanes, self._clock, self._stop = lanes, clock, stop
        self._interaction = interaction
        self._updates = setup.settings.updates
        self._points = {*setup.settings.evaluation_points(), self._updates}  # where nothing is evaluated as well
        self._unsaved = 0.0  # seconds of training

    def after(self, stretch: Stretch) -> None:
        """Save where it is time. Raises `Stopped` if the run is to stop before its end."""
        stopping = self._stop.is_set()
        self._unsaved += stretch.seconds
        if stretch.update in self._points or self._unsaved > CHECKPOINT_SECONDS or stopping:
            self.save(stretch.state, stretch.update)
        if stopping and stretch.update < self._updates:
            raise Stopped(how_to_go_on(self._lanes, stretch.update))

    def save(self, state: Any, update: int) -> None:
        """Write the checkpoints after so many updates."""
        self._unsaved = 0.0
        with self._clock.time("checkpoint"):
            steps = None if self._interaction is None else self._interaction.state()
            for folder, of_seed in zip(self._lanes.folders, self._lanes.split(state), strict=True):
                if folder is not None:
                    folder.save(of_seed, update, self._clock.seconds, steps)

    def interrupted(self, cut: Interrupted) -> Stopped:
        """Save where a run is stopped within a stretch, and what to say of it."""
        self.save(cut.state, cut.updates)
        return Stopped(how_to_go_on(self._lanes, cut.updates))


def interruptible(updates: Iterator[Stretch], episodes: Sequence[Interacting], saving: Saving) -> Iterator[Stretch]:
    """The stretches of a run, which is saved where it is stopped within one of them. Raises `Stopped` there."""
    try:
        yield from updates
    except Interrupted as cut:
        for observer in episodes:
            observer.record(cut.updates)
        raise saving.interrupted(cut) from None


def resume_observers(observers: Sequence[Observer], lanes: Lanes) -> None:
    """Bring the observers to where the runs were stopped."""
    for lane, folder in enumerate(lanes.folders):
        if folder is not None:
            metrics = folder.metrics()
            for observer in observers:
                observer.resume(lane, metrics)


def stoppable(
    phase: Callable[[str, float], None], lanes: Lanes, stop: threading.Event, update: int | None = None
) -> Callable[[str, float], None]:
    """`phase`, which shows the progress of a part before or after training, made to stop where that was asked for.

    `update`: as in `how_to_go_on`.
    """

    def report(what: str, share: float) -> None:
        phase(what, share)
        if stop.is_set():
            raise Stopped(how_to_go_on(lanes, update))

    return report


def how_to_go_on(lanes: Lanes, update: int | None = None) -> str:
    """What to say of seeds that stop after so many updates; before they train, after those of their checkpoints."""
    folder = lanes.folders[0]
    if update is None:
        update = 0 if folder is None else folder.saved_update()
    seeds = " and ".join(str(seed) for seed in lanes.seeds)
    after = f"after {update:,} updates of seed{'s' * (len(lanes) > 1)} {seeds}"
    if folder is None:
        return f"stopped {after}; nothing is kept, because the run has no folder"
    return f"stopped and saved {after}; go on with `tabb train --resume {quoted(folder.path.parent)}`"
