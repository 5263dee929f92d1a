"""What a run starts from: the rule's fitted models, the packed rows and the first state, fresh or from folders."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tabb.batch import Sizes
from tabb.data.allocation import Scratch
from tabb.errors import RunError, UsageError
from tabb.models.fitting import Report
from tabb.models.imitation import ImitatedRows, imitated_rows, imitated_template, learned_from
from tabb.models.matching import Paths, model_template, path_model, path_starts, paths_with
from tabb.models.returns_to_go import Conditions
from tabb.rules import Rule
from tabb.tracking import TrackedRun
from tabb.training.cache import cached, imitated_name, path_model_name, prepared
from tabb.training.checkpoint import load_tree, save_tree
from tabb.training.drawing import Data, Packed, Series, pack, pack_data, pack_imitated, pack_series
from tabb.training.folder import RunFolder, Saved
from tabb.training.interaction import Interaction
from tabb.training.lanes import Lanes
from tabb.training.loop import Program, compiled_updates, compiled_updates_of_seeds
from tabb.training.online import DOMAINS, step_plan
from tabb.training.record import check_same_run, warn_of_another_machine
from tabb.training.refits import Refits, refit_numbers, stand_in
from tabb.training.setup import Setup
from tabb.training.stored_rows import Feed, HostRows, columns_of, imitation_weight
from tabb.training.stretches import Updates


def open_folders(setup: Setup, lanes: Lanes, resume: bool, closing: ExitStack) -> None:
    """Make the folders of the seeds ready to write to, and hold them until `closing` ends.

    Raises `RunError` if one holds another run, or is held by another process: nothing in it is changed then.
    """
    for seed, folder in zip(lanes.seeds, lanes.folders, strict=True):
        if folder is None:
            continue
        if not (resume and folder.config_file.exists()):
            folder.make()
        closing.enter_context(folder.locked())
        folder.remove_parts()
        if resume and folder.config_file.exists():
            check_same_run(folder, setup.config_of(seed))
            folder.check_not_lost()
            warn_of_another_machine(folder, setup.config["environment"])
            folder.note_files(setup.config_of(seed)["origin"])
        else:
            folder.start(setup.config_of(seed))


def tracked_runs(setup: Setup, lanes: Lanes, resume: bool) -> list[TrackedRun | None]:
    """What the sink of each run is told of it; None for a run that is finished and sends nothing more."""

    def of_seed(seed: int, folder: RunFolder | None) -> TrackedRun | None:
        if folder is None:
            return TrackedRun.of(setup.config_of(seed), None)
        if folder.result_file.exists():
            return None
        return TrackedRun.of(setup.config_of(seed), folder.path, resume and folder.checkpoint_file.exists())

    return [of_seed(seed, folder) for seed, folder in zip(lanes.seeds, lanes.folders, strict=True)]


def random_keys(lanes: Lanes) -> tuple[list[Any], list[Any], list[Any]]:
    """The keys of each seed: for the first weights, for preparing, for drawing batches."""
    init, prepare, draw = zip(*(jax.random.split(jax.random.key(seed), 3) for seed in lanes.seeds), strict=True)
    return list(init), list(prepare), list(draw)


def fitted_models(
    setup: Setup, lanes: Lanes, keys: list[Any], resume: bool, report: Report, note: Callable[[str], None]
) -> list[Any]:
    """What the rule fits before training, for each seed: from its folder if that was finished, else fitted now."""
    rule, domains = setup.learner.rule, setup.domains
    if setup.fits_along and setup.without_rows:  # they are fitted once there are some; here are their shapes
        return [rule.template(stand_in(domains), key) for key in keys]

    def of_seed(folder: RunFolder | None, key: Any) -> Any:
        if folder is not None and resume and folder.prepared_file.exists():
            # Not traced: a template may look at the data (their scales, how many rows they have).
            return folder.restore_prepared(rule.template(domains, key))
        models = prepared(rule, domains, setup.config["data"], setup.config["normaliser"], key, report, note)
        if folder is not None:
            folder.save_prepared(models)
        return models

    return [of_seed(folder, key) for folder, key in zip(lanes.folders, keys, strict=True)]


def extra_rows(setup: Setup, models: list[Any], keys: list[Any]) -> list[Packed | None]:
    """The rows that the rule makes of its own before the first update, for each seed; None where it makes none.

    `keys` are those that the models were fitted with.
    """
    learner, domains = setup.learner, setup.domains
    return [learner.extra_rows(of_seed, domains, key) for of_seed, key in zip(models, keys, strict=True)]


IMITATED = 2_000
"""folded into the key of preparation for the copies that the policy imitates"""


def rows_to_imitate(
    setup: Setup, lanes: Lanes, keys: list[Any], resume: bool, report: Report, note: Callable[[str], None]
) -> list[Packed | None]:
    """Target rows and copies that the policy imitates, for each seed; None where it imitates the rows alone.

    They come from the run's folder if they were finished, else from the cache, else they are made now.
    """
    config, domains = setup.settings.imitation, setup.domains
    if config is None or config.plain or (setup.stored is not None and setup.stored.target_stays):
        return [None for _ in keys]  # of a target in a file, what the policy imitates is drawn with its rows

    aside = setup.learner.rule.set_aside(domains.target)
    if config.rows == "logged":  # which rows count takes no time to find
        return [pack_imitated(imitated_rows(config, domains, key, report, aside)) for key in keys]

    def of_seed(folder: RunFolder | None, key: Any) -> Packed:
        template = imitated_template(config, domains)
        if folder is not None and resume and folder.imitated_file.exists():
            return pack_imitated(load_tree(folder.imitated_file, template)[0])
        key = jax.random.fold_in(key, IMITATED)
        rows: ImitatedRows = cached(
            imitated_name(config, setup.config["data"], bool(len(domains.source)), domains.normaliser, key, aside),
            lambda: template,
            lambda: imitated_rows(config, domains, key, report, aside),
            note,
        )
        if folder is not None:
            save_tree(folder.imitated_file, rows, {})
        return pack_imitated(rows)

    return [of_seed(folder, key) for folder, key in zip(lanes.folders, keys, strict=True)]


PATHS = 3_000
"""folded into the key of preparation for the model in which the policy is held to logged paths"""


def logged_paths(
    setup: Setup, lanes: Lanes, keys: list[Any], resume: bool, report: Report, note: Callable[[str], None]
) -> list[Paths | None]:
    """The target's paths that the policy is held to and the model of it, for each seed; None without matching.

    The model comes from the run's folder if it was finished, else from the cache, else it is fitted now.
    """
    config, domains = setup.settings.imitation, setup.domains
    if config is None or not config.matching or not setup.learner.reads[1]:
        return [None for _ in keys]
    aside = setup.learner.rule.set_aside(domains.target)
    if not len(path_starts(config, domains.target, aside)):
        note(f"no episode to imitate has {config.horizon} rows in a row: the policy is held to no paths")
        return [None for _ in keys]

    def of_seed(folder: RunFolder | None, key: Any) -> Paths:
        key = jax.random.fold_in(key, PATHS)
        learned = learned_from(domains, aside)
        if folder is not None and resume and folder.path_model_file.exists():
            model = load_tree(folder.path_model_file, model_template(config, learned, key))[0]
            return paths_with(model, config, domains.target, aside)
        model = cached(
            path_model_name(config, setup.config["data"], bool(len(domains.source)), domains.normaliser, key, aside),
            lambda: model_template(config, learned, key),
            lambda: path_model(config, learned, key, report),
            note,
        )
        if folder is not None:
            save_tree(folder.path_model_file, model, {})
        return paths_with(model, config, domains.target, aside)

    return [of_seed(folder, key) for folder, key in zip(lanes.folders, keys, strict=True)]


def packed_rows(
    setup: Setup,
    models: list[Any],
    extra: Packed | None,
    imitated: Packed | None,
    paths: Paths | None,
    conditions: Sequence[Conditions | None],
) -> Data:
    """Both domains, shared by all seeds, and what the rule adds for each seed: columns, and rows of its own.

    `models` are what the rule fitted for each seed, `conditions` what its rows are conditioned on; `extra`, `imitated`
    and `paths` are those of all seeds.
    """
    rule, domains = setup.learner.rule, setup.domains
    if setup.fits_along:  # what takes the steps makes the columns too
        return pack_data(domains, {})._replace(imitated=imitated, paths=paths)
    source = [_a_row_each(rule.columns(of_seed, domains), rule, "source", len(domains.source)) for of_seed in models]
    target = [
        _a_row_each(rule.target_columns(of_seed, domains), rule, "target", len(domains.target)) for of_seed in models
    ]
    return pack_data(domains, {})._replace(
        columns=_pack_seeds(source),
        target_columns=_pack_seeds(target),
        # Rows that are made anew along the way are part of the state.
        extra=None if setup.learner.refresh_every else extra,
        imitated=imitated,
        paths=paths,
        series=_series_of_seeds(setup, conditions),
    )


def _series_of_seeds(setup: Setup, conditions: Sequence[Conditions | None]) -> Series | None:
    """What windows take from each row; with a seed axis on its condition if there are several seeds."""
    window = setup.learner.backbone.window
    series = [pack_series(setup.domains, one, window) for one in conditions if one is not None]
    if len(series) < 2:
        return series[0] if series else None
    return series[0]._replace(condition=jnp.stack([one.condition for one in series]))


def fed_rows(
    setup: Setup,
    models: Any,
    extra: Packed | None,
    imitated: Packed | None,
    key: Any,
    scratch: Scratch,
    report: Report,
) -> Feed:
    """As `packed_rows` for one seed where rows stay in files: what draws them ahead of the updates, by `key`.

    What the rule computes for each row is kept in the scratch.
    """
    assert setup.stored is not None
    learner, sides, config = setup.learner, setup.stored, setup.settings.imitation
    source, target = (
        columns_of(learner.rule, seam, models, side, setup.domains, scratch, report)
        for seam, side in (("columns", sides.source), ("target_columns", sides.target))
    )
    rows = HostRows(
        sides.source,
        sides.target,
        setup.domains.normaliser,
        source,
        target,
        None if learner.refresh_every else extra,
        None if imitated is None else imitated._replace(matrix=np.asarray(imitated.matrix)),  # type: ignore[arg-type]
        imitation_weight(config, sides.target) if sides.target_stays else None,
    )
    return Feed(learner, rows, key, setup.settings.stretch())


def starting_state(
    setup: Setup,
    lanes: Lanes,
    keys: list[Any],
    extra: list[Packed | None],
    conditions: Sequence[Conditions | None],
    resume: bool,
    steps: Any = None,
) -> Saved:
    """The state of all seeds to start from: the checkpoints', else a fresh one (or with another run's weights).

    `steps` has the shapes of what a checkpoint holds of steps in environments, if the run takes some.

    Raises `RunError` where the seeds were stopped after different updates: they cannot go on together.
    """
    sizes = Sizes(setup.domains.target.observation_size, setup.domains.target.action_size)
    fresh = [
        setup.learner.init(sizes, key, rows, None if asked is None else asked.aim)
        for key, rows, asked in zip(keys, extra, conditions, strict=True)
    ]
    saved = [
        folder.restore(state, steps) if folder is not None and resume else None
        for folder, state in zip(lanes.folders, fresh, strict=True)
    ]
    updates = sorted({0 if one is None else one.update for one in saved})
    if len(updates) > 1:
        raise RunError(
            f"the seeds {lanes.seeds} were stopped after different updates ({updates}): resume them one by one"
        )
    checkpoints = [checkpoint for checkpoint in saved if checkpoint is not None]
    if not checkpoints:
        if setup.start is not None:
            normaliser = setup.domains.normaliser
            fresh = [
                setup.start.weights(setup.learner, state, normaliser, seed)
                for state, seed in zip(fresh, lanes.seeds, strict=True)
            ]
        return Saved(lanes.stack(fresh), 0, {})
    first = checkpoints[0]
    return Saved(lanes.stack([one.state for one in checkpoints]), first.update, first.seconds, first.steps)


def interacting(
    setup: Setup,
    lanes: Lanes,
    models: list[Any],
    keys: list[Any],
    stop: threading.Event,
    report: Report,
    note: Callable[[str], None],
) -> tuple[Setup, Interaction]:
    """What takes the steps of a single seed's run; and the setup, normalised as the run that it starts from, if it has
    no logged rows.

    `keys` are those that the models were fitted with.
    """
    (seed,), domains = lanes.seeds, setup.domains
    logged = any(read and len(rows) for read, rows in zip(setup.learner.reads, domains[:2], strict=True))
    if not logged and setup.config["normaliser"] != "none" and setup.start is not None:
        setup = setup.normalised_by(setup.start.normaliser(setup.learner, seed))
    known = logged or setup.config["normaliser"] == "none" or setup.start is not None
    normaliser = setup.domains.normaliser if known else None
    started = setup.start is not None
    online = setup.settings.online
    refits = None
    if setup.fits_along:
        plans = {domain: step_plan(setup.learner, domain, online) for domain in setup.worlds}
        numbers = refit_numbers(plans, {domain: len(getattr(setup.domains, domain)) for domain in DOMAINS}, online)
        refits = Refits(setup.learner.rule, setup.domains, keys[0], numbers, models[0], report, note)
    return setup, Interaction(setup.learner, online, setup.worlds, normaliser, seed, keys[0], started, stop, refits)


def compiled(learner: Program, lanes: Lanes, models: Any, data: Data, keys: Any, state: Any) -> Updates:
    """The program that runs the updates of all seeds, compiled for these shapes."""
    updates = compiled_updates if len(lanes) == 1 else compiled_updates_of_seeds
    bound = jnp.zeros((), jnp.int32)
    program: Updates = updates.lower(learner, models, data, keys, state, bound, bound).compile()
    return program


def _a_row_each(columns: dict[str, Any], rule: Rule, domain: str, rows: int) -> dict[str, Any]:
    """The columns, if each has an entry per row: of others, rows would be drawn with another row's values."""
    for name, column in columns.items():
        if not jnp.ndim(column) or len(column) != rows:
            entries = f"{len(column):,} entries" if jnp.ndim(column) else "one value"
            raise UsageError(
                f"rule {rule.name}: column {name!r} has {entries} for {rows:,} {domain} rows; give one per row of "
                f"domains.{domain}, which has only those kept of a file and not held out"
            )
    return columns


def _pack_seeds(columns: list[dict[str, Any]]) -> Packed | None:
    """The columns of one seed packed, or those of several stacked on a leading axis; None if there are none."""
    packed = [pack(of_seed) for of_seed in columns]
    first = packed[0]
    if first is None or len(packed) == 1:
        return first
    return Packed(jnp.stack([of_seed.matrix for of_seed in packed if of_seed is not None]), first.layout)
