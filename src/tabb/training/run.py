"""`train`: from two data sets to policies and their scores."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gymnasium
import jax

from tabb.backbones import Backbone
from tabb.batch import Sizes
from tabb.data.allocation import Scratch
from tabb.data.store import stores_folder
from tabb.environments.registration import env_factory_of
from tabb.environments.tasks import Task, get_task
from tabb.errors import DataWarning, RunError, Stopped, UsageError, warn_caller
from tabb.jax_programs import drop_programs_if_many
from tabb.jax_switches import check_switches
from tabb.own_files import refuse_inside_run
from tabb.plain import plain
from tabb.provenance import environment
from tabb.rules import Rule
from tabb.tracking import Opener, Tracker, opener
from tabb.tracking.tracker import Told, kept_sinks
from tabb.training.checks import (
    check_data,
    check_environment,
    check_held_out,
    check_origin,
    check_seeds,
    check_types,
    resolved_backbone,
    usable_source,
    usable_target,
)
from tabb.training.config import Settings, check_imitation, imitation_of, normalisation_of
from tabb.training.interaction import InteractingUpdates, Interrupted
from tabb.training.lanes import Clock, Lanes, run_folder
from tabb.training.learned_rows import learned_rows
from tabb.training.loop import Program
from tabb.training.observers import (
    Diverged,
    Evaluating,
    HoldingOut,
    Interacting,
    Observer,
    Recording,
    Saving,
    Showing,
    how_to_go_on,
    interruptible,
    resume_observers,
    stoppable,
)
from tabb.training.online import Domain
from tabb.training.opening import (
    compiled,
    extra_rows,
    fed_rows,
    fitted_models,
    interacting,
    logged_paths,
    open_folders,
    packed_rows,
    random_keys,
    rows_to_imitate,
    starting_state,
    tracked_runs,
)
from tabb.training.progress import Style, check_style, open_reporter
from tabb.training.record import Learned, Run
from tabb.training.result import write_results
from tabb.training.same_row import check_seeds_alike
from tabb.training.setup import Setup
from tabb.training.signals import stop_on_signal
from tabb.training.starting_weights import PARTS, start_from
from tabb.training.stored_rows import StoredUpdates
from tabb.training.stretches import Updates, stretch_ends, stretches
from tabb.training.worlds import check_online, check_rows, in_units_of, no_rows, target_world, worlds_of
from tabb.transitions import Transitions, is_stored, with_extras


def train(
    rule: Rule,
    source: Transitions | None,
    target: Transitions | None,
    *,
    task: str | Task | None = None,
    seeds: Sequence[int] = (0,),
    backbone: Backbone | str | None = None,
    settings: Settings | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    env_factory: Callable[[], gymnasium.Env[Any, Any]] | str | None = None,
    progress: Style = "none",
    origin: dict[str, Any] | None = None,
    track: str | Opener | None = None,
    start: str | Path | Run | None = None,
    start_parts: Sequence[str] = PARTS,
    source_env: Callable[[], gymnasium.Env[Any, Any]] | str | None = None,
) -> list[Run]:
    """Train `rule` on both data sets, one run per seed, and evaluate each in the target environment.

    Args:
        source: data of the source domain; None for a rule that draws none (target-only).
        target: data of the target domain; None where all of its rows are steps of the run (`Settings.online`).
        task: where to evaluate; None trains without rollouts (or rolls out in `env_factory`'s environment).
        backbone: the single-domain learner that the rule acts on, taken as it is, or its name (`"cql"`), which has the
            constants of the rule and of the task's suite. None is that of the settings, else the rule's own.
        seeds: one run each. On an accelerator they are one compiled program; on a CPU they follow one another.
        settings: length, evaluation, held-out episodes; `Settings()` if None.
        folder: where runs are kept, `folder/seed0` and so on; None keeps nothing on disk.
        resume: go on with runs that `folder` holds; each ends bit-equal to one that was never stopped.
        env_factory: makes the environment to evaluate in, a new one in each call; also the id of a Gymnasium
            environment.
        progress: "auto" (bar or lines), "bar", "lines" or "none".
        origin: where the data come from, for the record (paths, reports): values that JSON can hold, and paths.
        track: where metrics go besides the folder: "tensorboard", "trackio", "wandb", or what opens a
            `tabb.tracking.Sink` for a run; not part of the run, and nothing in its results depends on it.
        start: a finished run, or its folder, whose weights the new runs start from; a folder of runs (`seed0`, ...)
            gives each seed its own. Functions of raw observations are the same as there, whatever the normaliser.
        start_parts: what is taken from it: "policy", "critic", or both.
        source_env: makes the environment in which source steps are taken, where that is not the task's robot without
            its shift; also the id of a Gymnasium environment.

    Data that can be used but look wrong are a `DataWarning`.

    Raises:
        DataError: the two data sets do not belong together.
        UsageError: unknown task, options that cannot work.
        RunError: the folder holds other runs or cannot be written; a run diverged. With a folder, the other seeds are
            trained before that is raised.
        Stopped: Ctrl-C, SIGTERM or SIGHUP; what was done is saved.
    """
    settings = settings or Settings()
    check_switches()
    drop_programs_if_many()
    check_types(rule, source, target, settings, backbone, env_factory)
    check_style(progress)
    origin = check_origin(origin)
    if isinstance(env_factory, str) and not settings.online.domains:  # else it says that there are no logged rows
        origin = {"env": env_factory} | origin
    given_envs = {"env": env_factory, "source_env": source_env}
    if made := [name for name, env in given_envs.items() if callable(env) and not origin.get(name)]:
        origin = {"made": made} | origin
    open_sink = opener(track)
    if resume and folder is None:
        raise UsageError("resume=True without folder: name the folder that holds the runs")
    if start is None and tuple(start_parts) != PARTS:
        raise UsageError(f"start_parts={start_parts}: says what to take from another run; name that run as start")
    starting_run = None if start is None else start_from(start, start_parts)
    task = None if task is None else get_task(task)
    backbone = resolved_backbone(rule, backbone, settings, task)
    rule = rule.on(backbone)
    backbone.check_rule(rule)
    stored = any(data is not None and is_stored(data) for data in (source, target))
    imitation = imitation_of(settings, rule, backbone, stored)
    check_imitation(imitation, backbone)
    settings = dataclasses.replace(settings, imitation=imitation)
    settings = check_held_out(settings, backbone)
    reads = rule.reads(backbone.batch_size)
    env_factory, source_env = (
        env_factory_of(given) if isinstance(given, str) else given for given in (env_factory, source_env)
    )
    worlds = worlds_of(settings, task, env_factory, source_env)
    check_online(settings, rule, backbone, worlds)
    if worlds:  # no default share either: the run would be recorded with one, and refused as it goes on
        settings = dataclasses.replace(settings, held_out=0.0)
    if target is None:
        target = no_rows(target_world(worlds, task, settings.engine, env_factory))
    target = usable_target(target, reads[1], worlds)
    if source is None and "source" in worlds:
        source = no_rows(worlds["source"])
    source = usable_source(rule, source, target, reads[0], "source" in worlds)
    if worlds:
        given: dict[Domain, Transitions] = {"source": source, "target": target}
        check_rows(rule, backbone, given, worlds)
        worlds = in_units_of(worlds, given)
    for warning in check_data(source, target, task):
        warn_caller(warning, DataWarning)
    source, target = (with_extras(data, rule.extras) for data in (source, target))
    if env_factory is not None:
        evaluated = bool(settings.evaluation_points())
        check_environment(env_factory, target, evaluated and (settings.episodes > 1 or "target" in worlds))
    seeds = check_seeds(seeds)
    learner = Program(backbone, rule, settings.updates)
    if starting_run is not None:
        starting_run.check(learner, seeds, Sizes(target.observation_size, target.action_size), target)
    if folder is not None:
        if not str(folder):
            raise UsageError("folder is empty; name a folder for the runs, or give None to keep nothing on disk")
        refuse_inside_run(Path(folder))
    if folder is not None and not resume:
        for seed in seeds:  # before the first of them is trained, not when its turn comes
            run_folder(folder, seed).check_new()

    # From data sets to the rows to learn from, and those to judge policies by.
    if task is not None and task.reward_offset:
        source, target = (dataclasses.replace(d, reward=d.reward + task.reward_offset) for d in (source, target))
    begun = [run for run in (run_folder(folder, seed) for seed in seeds) if run.config_file.exists()] if folder else []
    normalisation = normalisation_of(begun[0].config()) if resume and begun else settings.normalise
    logged = any(read and len(data) for read, data in zip(reads, (source, target), strict=True))
    rows = learned_rows(
        learner,
        source,
        target,
        settings,
        task is not None or env_factory is not None,
        normalisation if logged else "none",
    )
    settings = dataclasses.replace(settings, backbone=backbone, held_out=rows.share)
    config = {
        "rule": plain(rule),
        "settings": plain(settings),
        "normaliser": normalisation,
        "task": None if task is None else task.name,
        "seeds": seeds,
        "origin": origin,
        "data": rows.data | ({"steps": {domain: world.name for domain, world in worlds.items()}} if worlds else {}),
        "environment": environment(),
    }
    if folder is not None:
        check_seeds_alike(Path(folder), config, seeds, starting_run)
    setup = Setup(
        learner, rows.domains, settings, task, env_factory, rows.held_out, starting_run, config, worlds, rows.stored
    )

    # On an accelerator all seeds are one program; on a CPU, and where the host draws or makes the rows, they follow one
    # another.
    together = jax.default_backend() != "cpu" and rows.stored is None and not worlds
    waiting = [(group, resume) for group in _groups(seeds, folder if resume else None, together)]
    runs: list[Run] = []
    diverged: list[str] = []
    with stop_on_signal() as stop, kept_sinks() as kept:
        while waiting:
            group, goes_on = waiting.pop(0)
            lanes = Lanes(group, folder)
            if stop.is_set():  # it was heard too late to stop the seeds before
                raise Stopped(how_to_go_on(lanes))
            try:
                runs += _train_together(setup, lanes, goes_on, progress, open_sink, stop, kept)
            except Diverged as error:
                if folder is None:  # the others have no checkpoint to go on from
                    raise
                diverged.append(str(error))
                if others := [seed for seed in group if seed not in error.seeds]:
                    waiting.insert(0, (others, True))
    if diverged:
        raise RunError("; ".join(diverged))
    return sorted(runs, key=lambda run: seeds.index(run.seed))


def _groups(seeds: list[int], folder: str | Path | None, together: bool) -> list[list[int]]:
    """The seeds of each compiled program: one seed, or `together` all that go on from the same update in `folder`."""
    if not together:
        return [[seed] for seed in seeds]
    groups: dict[int, list[int]] = {}
    for seed in seeds:
        groups.setdefault(0 if folder is None else run_folder(folder, seed).saved_update(), []).append(seed)
    return list(groups.values())


def _train_together(
    setup: Setup,
    lanes: Lanes,
    resume: bool,
    progress: Style,
    open_sink: Opener | None,
    stop: threading.Event,
    kept: dict[str, Told],
) -> list[Run]:
    """Train seeds in one compiled program: prepare, compile, update stretch by stretch, write policies and results.

    `kept` are the sinks of seeds that go on without one that diverged.
    """
    learner, settings = setup.learner, setup.settings
    clock = Clock()
    with ExitStack() as closing:
        open_folders(setup, lanes, resume, closing)
        tracker = Tracker(open_sink, tracked_runs(setup, lanes, resume), kept)
        closing.callback(tracker.close)
        reporter = open_reporter(progress, setup.label_of(lanes.seeds), settings.updates)
        closing.callback(reporter.close)

        init_keys, prepare_keys, draw_keys = random_keys(lanes)
        with clock.time("prepare"):
            report = stoppable(reporter.phase, lanes, stop)
            models = fitted_models(setup, lanes, prepare_keys, resume, report, reporter.note)
            extra = extra_rows(setup, models, prepare_keys)
            conditions = [learner.conditions(of_seed, setup.domains) for of_seed in models]
            imitated = rows_to_imitate(setup, lanes, prepare_keys, resume, report, reporter.note)
            if setup.stored is None:
                paths = logged_paths(setup, lanes, prepare_keys, resume, report, reporter.note)
                made = lanes.stack(extra), lanes.stack(imitated), lanes.stack(paths)
                rows: Any = packed_rows(setup, models, *made, conditions)
            else:
                for text in setup.stored.notes:
                    reporter.note(text)
                scratch = closing.enter_context(Scratch(stores_folder()))
                rows = fed_rows(setup, models[0], extra[0], imitated[0], draw_keys[0], scratch, report)
        interaction = None
        if setup.worlds:
            setup, interaction = interacting(setup, lanes, models, prepare_keys, stop, reporter.phase, reporter.note)
            closing.callback(interaction.close)
        steps = None if interaction is None else interaction.template()
        start = starting_state(setup, lanes, init_keys, extra, conditions, resume, steps)
        clock.add(start.seconds)
        if interaction is not None:
            try:
                told = interaction.begin(start.steps, start.update < settings.updates, lanes.folders[0])
            except Interrupted:
                raise Stopped(how_to_go_on(lanes)) from None
            for text in told:
                reporter.note(text)
            setup = setup.normalised_by(interaction.normaliser)
            models = models if interaction.refits is None else [interaction.refits.models]

        recording = Recording(lanes, tracker)
        evaluating = Evaluating(setup, lanes, recording, clock, stop)
        holding_out = HoldingOut(setup, models, lanes, recording, clock)
        showing = Showing(reporter, lanes, evaluating.last_score, interaction)
        episodes = [] if interaction is None else [Interacting(interaction, recording)]
        saving = Saving(setup, lanes, clock, stop, interaction)
        observers: list[Observer] = [recording, *episodes, evaluating, holding_out, showing, saving]
        if start.update:
            resume_observers(observers, lanes)

        state = start.state
        if start.update < settings.updates:
            inputs = lanes.stack(models), rows, lanes.stack(draw_keys)
            with clock.time("compile"):
                reporter.phase("compile", 0.0)
                program: Updates
                if interaction is not None:
                    data = interaction.with_room(rows, (len(setup.domains.source), len(setup.domains.target)))
                    program = InteractingUpdates(learner, interaction, data, *inputs[::2], state)
                elif setup.stored is None:
                    program = compiled(learner, lanes, *inputs, state)
                else:
                    ends = stretch_ends(settings)
                    program = stored = StoredUpdates(learner, rows, *inputs[::2], state, start.update, ends)
                    closing.callback(stored.close)
                reporter.phase("compile", 1.0)
            for stretch in interruptible(
                stretches(program, *inputs, start, settings.updates, stretch_ends(settings)), episodes, saving
            ):
                fits = 0.0 if interaction is None else interaction.fit_seconds()
                clock.add({"train": stretch.seconds - fits, "prepare": fits})
                for observer in observers:
                    observer.after(stretch)
                state = stretch.state

        if interaction is not None:
            models = models if interaction.refits is None else [interaction.refits.models]
            own = lanes.folders[0]
            if own is not None and not own.result_file.exists():
                interaction.keep(own)
        runs = []
        states = lanes.split(state)
        for lane, (seed, folder) in enumerate(zip(lanes.seeds, lanes.folders, strict=True)):
            holding_out.value_policies(lane, stoppable(reporter.phase, lanes, stop, settings.updates))
            policy = setup.policy(states[lane], seed, settings.updates)
            evaluations, held_out = tuple(evaluating.evaluations[lane]), tuple(holding_out.measures[lane])
            path = None if folder is None else folder.path
            learned = Learned(setup.config_of(seed), learner, models[lane], states[lane])
            runs.append(Run(policy, learner.rule, seed, evaluations, dict(clock.seconds), path, held_out, learned))
            if folder is not None and not folder.finished:
                write_results(folder, runs[-1], setup)
        return runs
