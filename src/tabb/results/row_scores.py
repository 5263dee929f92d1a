"""Scores of each source row from a finished run, as its rule gives them (`Rule.row_scores`).

Other programs can use them to weight or filter the source data. Values and backups are those of the run's last update,
in units of discounted return.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from tabb.backbones import Backbone
from tabb.batch import Domains, Sizes, make_domains, normalised_domains
from tabb.data import read
from tabb.data.hdf5 import write_columns
from tabb.data.report import Loaded, Report, log_return
from tabb.environments.tasks import get_task
from tabb.errors import RunError, UsageError
from tabb.files import check_suffix, quoted
from tabb.networks import Normaliser
from tabb.own_files import refuse_others
from tabb.plain import rule_from_plain
from tabb.policy import Policy
from tabb.provenance import EXTRAS, extras_fingerprint, fingerprint
from tabb.rules import Rule
from tabb.rules.rule import Value
from tabb.training.checkpoint import load_tree
from tabb.training.config import backbone_of, normalisation_of, settings_from
from tabb.training.folder import RunFolder
from tabb.training.held_out import split
from tabb.training.loop import Program
from tabb.training.record import Run
from tabb.training.row_limit import cut_episodes, kept_rows
from tabb.training.spec import reading_from
from tabb.training.stored_rows import FITTED
from tabb.transitions import Transitions, is_stored, with_extras

Files = str | Path | Sequence[str | Path] | Transitions
"""A file, several that are joined into one data set, or the transitions themselves."""


class Finished(NamedTuple):
    """A finished run with its data and everything that it learned."""

    config: dict[str, Any]
    rule: Rule
    backbone: Backbone
    domains: Domains
    source: Loaded
    models: Any
    value: Value
    """V of the rule's features of normalised observations."""


class RowScores(NamedTuple):
    """Columns with one entry per source row, and a description of them."""

    columns: dict[str, NDArray[Any]]
    about: dict[str, Any]


def open_run(run: str | Path | Run, source: Files | None = None, target: Files | None = None) -> Finished:
    """A finished run with source data: a `Run` of this process, or a run that is read from its folder.

    `source` and `target` name the data if the run was trained from arrays or its files have moved.

    Raises:
        RunError: there is no finished run of this version, or it is damaged.
        UsageError: the data are not those that the run was trained on.
    """
    if isinstance(run, Run) and run.learned is not None:
        name = f"run of seed {run.seed}" if run.folder is None else str(run.folder)
        config, program = run.learned.config, run.learned.program
        domains, loaded = _domains(name, config, program, source, target)
        return _finished(config, program, domains, loaded, run.learned.models, run.learned.state)
    if isinstance(run, Run):
        if run.folder is None:
            raise UsageError("run: has no folder, and what it learned is not kept; train it with folder=...")
        run = run.folder
    if not isinstance(run, str | Path):
        raise UsageError(f"run is {type(run).__name__}: give a run folder, or a tabb.Run of tabb.train")
    folder = RunFolder(run)
    config = folder.config()
    if not folder.result_file.exists():
        raise RunError(f"{run}: is not finished; finish it with `tabb train --resume {quoted(run)}`")
    settings, rule = settings_from(config), rule_from_plain(config["rule"])
    program = Program(backbone_of(settings, rule), rule, settings.updates)
    domains, loaded = _domains(str(run), config, program, source, target)
    key = jax.random.key(0)
    models = folder.restore_prepared(program.rule.template(domains, key))
    sizes = Sizes(domains.target.observation_size, domains.target.action_size)
    conditions = program.conditions(models, domains)
    aim = None if conditions is None else conditions.aim
    template = program.init(sizes, key, program.extra_rows(models, domains, key), aim)
    # What the steps in environments go on from comes last in the file.
    state, header = load_tree(folder.checkpoint_file, template, more=bool(settings.online.domains))
    if header.get("update") != settings.updates:
        raise RunError(f"{run}: its checkpoint is not that of the last update; train it again")
    return _finished(config, program, domains, loaded, () if models is None else models, state)


def _domains(
    name: str, config: dict[str, Any], program: Program, source: Files | None, target: Files | None
) -> tuple[Domains, Loaded]:
    """The domains that a run learned from, and its source rows with their positions in the files."""
    if not program.reads[0]:
        raise UsageError(f"{name}: {program.rule.name} draws no source rows, so there is nothing to score")
    loaded = {
        domain: run_data(config, domain, given, name) for domain, given in (("source", source), ("target", target))
    }
    for domain, data in loaded.items():
        if too_many(data.transitions):
            raise UsageError(
                f"{name}: learned from {len(data.transitions):,} {domain} rows in a file, but rows are scored in "
                f"memory; score a run of {FITTED:,} rows at most (--{domain}-rows)"
            )
    if any(steps_alone(config, domain, name) for domain in loaded):
        # Observations were normalised before most of these rows were there.
        policy = Policy.load(RunFolder(name).policy_file)
        normaliser = Normaliser(jnp.asarray(policy.mean), jnp.asarray(policy.scale))
        rows = loaded["source"].transitions, loaded["target"].transitions
        return normalised_domains(*rows, normaliser, program.rule.extras), loaded["source"]
    settings = settings_from(config)
    seen = split(loaded["target"].transitions, settings.held_out or 0.0).train
    how = (normalisation_of(config), program.reads, program.rule.extras)
    return make_domains(loaded["source"].transitions, seen, *how), loaded["source"]


def steps_alone(config: dict[str, Any], domain: str, folder: str | Path) -> Path | None:
    """The data set of the run's own steps where these were all of its rows of a domain; None where it had others."""
    taken = domain in config["data"].get("steps", {}) and not isinstance(config.get("origin", {}).get(domain), dict)
    file = RunFolder(folder).steps_file(domain)
    return file if taken and file.exists() else None


def too_many(rows: Transitions) -> bool:
    """Whether rows stay in a file and are too many to score in memory."""
    return is_stored(rows) and len(rows) > FITTED


def _finished(
    config: dict[str, Any], program: Program, domains: Domains, source: Loaded, models: Any, state: Any
) -> Finished:
    value = program.backbone.value_at(program.rule, models, state)
    return Finished(config, program.rule, program.backbone, domains, source, models, value)


def run_data(config: dict[str, Any], domain: str, given: Files | None, folder: str) -> Loaded:
    """The run's data of one domain, from its own files or from `given`: rows and rewards that it learned from.

    Raises:
        UsageError: it was trained from arrays and no files are given, or on other data than these.
        DataError: a file is missing or damaged.
    """
    origin = config.get("origin", {}).get(domain)
    reading = reading_from(config.get("origin", {}))
    store = bool(config.get("origin", {}).get("store", False))
    steps = steps_alone(config, domain, folder) if given is None else None
    if steps is not None:
        loaded = _with_offset(read([steps]), config)
        if fingerprint(loaded.transitions[:0]) == config["data"][domain]:
            return loaded
    if given is None and not isinstance(origin, dict):
        raise UsageError(f"{folder}: was trained from arrays, which tabb does not keep; name the files with --{domain}")
    if isinstance(given, Transitions):
        loaded = _arrays(given, domain)
    elif given is not None:
        loaded = read([given] if isinstance(given, str | Path) else list(given), reading, store=store)
    else:
        loaded = read([Path(file) for file in origin["files"]], reading, store=store)
    settings = settings_from(config)
    kept = kept_rows(loaded.transitions, getattr(settings, f"{domain}_rows"), settings.rows_seed)
    if len(kept) < len(loaded.transitions):
        rows, places = loaded.transitions[kept], loaded.report.kept_rows[kept]
        cut = cut_episodes(loaded.transitions.episode, rows.episode) | set(loaded.report.cut or ())
        had = log_return(rows.reward, rows.episode, cut)
        report = dataclasses.replace(loaded.report, kept_rows=places, mean_return=had, cut=tuple(sorted(cut)))
        loaded = Loaded(rows, report)
    loaded = _with_offset(loaded, config)
    if fingerprint(loaded.transitions) != config["data"][domain] or not _same_extras(config, domain, loaded):
        raise UsageError(
            f"{loaded.report.name}: is not the {domain} data that {folder} was trained on; name them with --{domain}"
        )
    return loaded


def _with_offset(loaded: Loaded, config: dict[str, Any]) -> Loaded:
    """The rows with the rewards that the run's task has in training."""
    offset = get_task(config["task"]).reward_offset if config["task"] is not None else 0.0
    if not offset:
        return loaded
    rows = loaded.transitions
    return loaded._replace(transitions=dataclasses.replace(rows, reward=rows.reward + offset))


def _same_extras(config: dict[str, Any], domain: str, loaded: Loaded) -> bool:
    """Whether the extras that the run's rule reads are those that it learned from; runs from before do not tell."""
    if EXTRAS not in config["data"]:
        return True
    read = with_extras(loaded.transitions, rule_from_plain(config["rule"]).extras)
    return bool(extras_fingerprint(read) == config["data"][EXTRAS][domain])


def _arrays(rows: Transitions, name: str) -> Loaded:
    """Transitions without a file; the position of each row is its index."""
    count = len(rows)
    report = Report(
        *(name, "arrays", count, count, {}, {}, (), (), (), (), 0, 0),
        mean_return=log_return(rows.reward, rows.episode) if count else None,
        kept_rows=np.arange(count),
    )
    return Loaded(rows, report)


def score_rows(run: str | Path | Run, source: Files | None = None, target: Files | None = None) -> RowScores:
    """Scores of every source row of a finished run, in the order of `tabb.load`.

    The run is a `Run` of this process, or its folder. One that was trained from arrays needs them again, as `source`
    and `target`.

    Columns are those of the rule's `row_scores`. For `tabb`, in units of return but for the last: `own_backup` b [N],
    `predicted_backup` b̂_k [N, K], `tbm` |b̂ - b|, `tbm_plus` with the predictor's doubt times the run's β, and `weight`
    in [f, 1], whose unit is the mean over all source rows (in training it was that over a batch). For most other
    rules: the numbers that they keep per row. Always `file_row` and `episode`; where several files were read as one,
    `file` too, from 0 in their order (`file_row` numbers their rows through).

    Raises as `open_run` does, and `UsageError` for a rule that keeps no score.
    """
    return scores_of(open_run(run, source, target), run)


def scores_of(run: Finished, origin: str | Path | Run) -> RowScores:
    """`score_rows` of a run that was opened from `origin`."""
    folder = origin.folder if isinstance(origin, Run) else origin
    given = run.rule.row_scores(run.models, run.domains, run.value, run.backbone.discount)
    columns = {name: np.asarray(column) for name, column in given.items()}
    if not columns:
        raise UsageError(
            f"{folder or run.rule.name}: {run.rule.name} keeps no score per source row; score a run of tabb or igdf"
        )
    rows = _places(run.source)
    about = {
        "run": None if folder is None else str(Path(folder).resolve()),
        "rule": run.config["rule"],
        "seed": run.config["seed"],
        "source": run.source.report.name,
        "files": [name for name, _ in run.source.report.parts] or None,
        "file_rows": [rows for _, rows in run.source.report.parts] or None,
        "source_sha256": run.config["data"]["source"],
        "discount": getattr(run.backbone, "discount", None),
        "versions": run.config["environment"]["versions"],
    }
    return RowScores(rows | columns, {key: value for key, value in about.items() if value is not None})


PLACES = ("file_row", "episode", "file", "row_in_file")
"""columns that are positions of rows, not scores"""


def _places(source: Loaded) -> dict[str, NDArray[Any]]:
    """The position of each row: `file_row`, `episode`, and `file` if several files were read as one."""
    report = source.report
    places = {"file_row": report.kept_rows, "episode": np.asarray(source.transitions.episode)}
    if report.parts:
        ends = np.cumsum([rows for _, rows in report.parts])
        places["file"] = np.searchsorted(ends, report.kept_rows, side="right").astype(np.int32)
        places["row_in_file"] = report.kept_rows - np.append(0, ends)[places["file"]]
    return places


SCORE_FILES = (".hdf5", ".h5", ".parquet")
"""how names of files of scores end"""


def save_scores(scores: RowScores, path: str | Path) -> Path:
    """Write scores as HDF5, or as Parquet if `path` ends so: a column each, and the description as attributes.

    `file_row` is the row of the file, from 0, and `episode` numbers episodes as `tabb.load` does. Of several files,
    `file` is which, from 0, and `row_in_file` the row in it.

    Raises `RunError` if it fails, and `UsageError` for another suffix and where `path` is there and is no file of
    scores.
    """
    path = Path(path)
    check_suffix(path, "a file of scores", *SCORE_FILES)
    about = scores.about | {"tabb_scores": 1}
    if path.suffix.lower() == ".parquet":
        from tabb.data.write_tables import write_columns as write_table

        refuse_others(path, "table")
        write_table(path, scores.columns, about)
        return path
    refuse_others(path, "scores")
    write_columns(path, scores.columns, about)
    return path
