"""`tabb train`: one or more rules and seeds, on one task; without arguments, the demo."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from tabb.commands.carry_out import carry_out, check_ray
from tabb.commands.learners import Chosen, learners_of, preset_of, presets_told, takes_preset
from tabb.commands.options import jobs_of, parse, without
from tabb.data.catalogue import BUNDLED, resolve
from tabb.data.report import Loaded, Report
from tabb.errors import DataWarning, RunError, UsageError
from tabb.tracking import TrackingWarning, opener
from tabb.training.config import Settings, rule_from_plain, settings_from
from tabb.training.folder import RunFolder
from tabb.training.pool import PARENT, PLAN, Cell, follow_parent, read_plan, write_plan

DEMO_TASK = "hopper-gravity-0.5"
NO_TASK = "none"
NO_PART = ("--jobs", "--track", "--ray", "--ray-gpus", "--ray-retries")
"""options that are no part of a run: how it is carried out and who is told"""


@dataclasses.dataclass(frozen=True)
class Options(Settings):
    """What to train, on what, for how long."""

    source: str = BUNDLED
    """source data: a file, `a.hdf5+b.hdf5`, a name (minari:...), or a quality (medium, expert, ...) in $TABB_DATA"""
    target: str = BUNDLED
    """target data: a file, a name (otdf:..., minari:...), or a quality (medium, medium_expert, expert) in $TABB_DATA"""
    task: str | None = None
    """task to evaluate in, see `tabb tasks`; needed for named data; `none` trains on files without rollouts"""
    env: str | None = None
    """any Gymnasium environment id to evaluate in, instead of a task"""
    seeds: tuple[int, ...] = (0,)
    """training seeds, one run each"""
    jobs: int | None = None
    """runs at the same time, one core each (CPU only); as many as there are cores if not given"""
    out: Path | None = None
    """folder of the runs; runs/<task>/<source>-<target>/<rule> if not given"""
    resume: Path | None = None
    """go on with the stopped runs in this folder; other options are taken from there"""
    progress: Literal["auto", "bar", "lines", "none"] = "auto"
    """a bar on a terminal, plain lines elsewhere, or nothing"""
    track: Literal["tensorboard", "trackio", "wandb"] | None = None
    """send metrics there as well (docs/tracking.md); no part of the run: say it again on --resume"""
    ray: str | None = None
    """train on a Ray cluster, one run per task (docs/cluster.md): auto, local or HOST:PORT; jobs is a limit then"""
    ray_gpus: float = 0.0
    """accelerators per run on a cluster; 0: one CPU core"""
    ray_retries: int = 3
    """how often a run is handed out again after its node was lost, without a new checkpoint in between"""


def run(arguments: Sequence[str]) -> int:
    arguments = list(arguments)
    if not arguments:
        from tabb.commands.demo import demo

        return demo()
    follow_parent()
    names = []
    while arguments and not arguments[0].startswith("-"):
        names.append(arguments.pop(0))
    preset, others = preset_of(arguments)
    learners = learners_of(names, preset, _suites(others))
    if not names and "--resume" not in " ".join(arguments) and not {"-h", "--help"} & set(arguments):
        from tabb.rules import RULES

        raise UsageError(f"name the rule first, e.g. `tabb train tabb ...`: one or more of {', '.join(RULES)}")
    options: Any = parse(options_for(learners), others, " ".join(["tabb train", *names]), _description(names))
    opener(options.track)  # what is missing is said before data are read and programs compiled
    if options.resume is not None:
        _only_resume(arguments)
        return _resume(options)
    if len(learners) == 1:
        learners = [Chosen(learners[0].name, options.rule, options.backbone)]
    elif options.backbone is not None:
        learners = [learner._replace(backbone=options.backbone) for learner in learners]
    for learner in learners:
        learner.backbone.check_rule(learner.rule)
    return _train(learners, options, arguments)


def _only_resume(arguments: Sequence[str]) -> None:
    """Raise `UsageError` where options are given that a resumed run would not take."""
    given = [one.split("=")[0].replace("_", "-") for one in arguments if one.startswith("--")]
    other = [one for one in given if one not in ("--resume", "--progress", *NO_PART)]
    if other:
        raise UsageError(
            f"{other[0]} with --resume: a run goes on as it was started; start another one, or leave it out"
        )


def _suites(arguments: Sequence[str]) -> tuple[str, ...]:
    """The suites of the task that the options name; options are parsed later, and complain of unknown ones."""
    from tabb.environments.tasks import ALL_TASKS

    told = [*arguments, ""]
    values = [told[i + 1] if told[i] == "--task" else told[i].partition("=")[2] for i in range(len(arguments))
              if told[i] == "--task" or told[i].startswith("--task=")]  # fmt: skip
    return ALL_TASKS[values[-1]].suites if values and values[-1] in ALL_TASKS else ()


def options_for(learners: list[Chosen]) -> type[Options]:
    """The options of `tabb train`, with those of the rule and its backbone where there is just one of them."""
    rules = {learner.rule: learner.rule for learner in learners}
    backbones = {learner.backbone: learner.backbone for learner in learners}
    fields: list[Any] = []
    if len(learners) == 1:
        fields.append(("rule", type(*rules), dataclasses.field(default=next(iter(rules)))))
    if len(backbones) == 1:
        fields.append(("backbone", type(*backbones), dataclasses.field(default=next(iter(backbones)))))
    else:
        fields.append(("backbone", Annotated[None, tyro.conf.Suppress], None))
    return dataclasses.make_dataclass("RuleOptions", fields, bases=(Options,), frozen=True)


def _description(names: list[str]) -> str:
    from tabb.backbones import BACKBONES
    from tabb.rules import RULES

    words = {name.partition("@")[0]: RULES[name.partition("@")[0]] for name in names} or RULES
    told = "\n".join(f"  {name}: {(rule.__doc__ or '').splitlines()[0]}" for name, rule in words.items())
    return (
        "Learn a policy for the target domain from source and target data.\n\n"
        f"usage: tabb train RULE[@BACKBONE] [RULE[@BACKBONE] ...] [options]\n{told}\n\n"
        f"Backbones: {', '.join(BACKBONES)}; iql if none is named, but td3-bc for bosa. `--preset NAME` sets constants "
        f"that a method's authors use on a robot or shift:\n{presets_told()}\n\n"
        "With one rule, its own options are there too (--rule...), and the backbone's (--backbone...). "
        "Without arguments: the demo."
    )


def _train(learners: list[Chosen], options: Any, arguments: list[str]) -> int:
    from tabb.training.run import check_seeds

    task, spot = where(options)
    if task != NO_TASK and options.env is None:
        from tabb.environments.tasks import get_task

        task = get_task(task).name
    # Names are looked up before anything is written: a typing error leaves no folder behind.
    needs_source = any(learner.rule.shares(learner.backbone.batch_size)[0] for learner in learners)
    paths = {"target": resolve(options.target, task, "target")}
    if needs_source:
        paths["source"] = resolve(options.source, task, "source")
    root = options.out or Path("runs") / spot / "-".join(map(_word, (options.source, options.target)))
    if options.out is None and len(learners) == 1:
        root = root / learners[0].name
    check_seeds(options.seeds)
    check_ray(options)
    one_at_a_time = options.ray is None and jobs_of(options.jobs) == 1 and len(learners) == 1
    if options.ray is None and (one_at_a_time or len(learners) * len(options.seeds) == 1):
        return _here(learners[0].rule, options, task, paths, root)
    from tabb.data import read
    from tabb.evaluation.summary import summarise

    loaded = {domain: read(files) for domain, files in paths.items()}
    _check_data(loaded, options.engine, options.progress != "none")
    del loaded
    chosen, _ = preset_of(arguments)
    shared = without(arguments, ("--seeds", "--out", "--progress", "--preset", *NO_PART))
    cells = []
    for learner in learners:
        for seed in options.seeds:
            folder = Path(learner.name if len(learners) > 1 else ".") / f"seed{seed}"
            label = f"{learner.name} seed {seed}"
            # A preset belongs to some of the learners only; the children are told by name which.
            preset = ["--preset", chosen] if chosen and takes_preset(learner.name, chosen) else []
            cell_arguments = [learner.name, *shared, *preset, "--seeds", str(seed)]
            cells.append(Cell(label, str(folder), cell_arguments, options.updates))
    write_plan(root, cells)
    carry_out(root, options)
    print(summarise(root))
    return 0


def where(options: Any) -> tuple[str, str]:
    """The task's name (or `none`) and the word for it in the run's folder."""
    if options.env is not None:
        for domain in ("source", "target"):
            if re.fullmatch(r"[a-z_]+", getattr(options, domain)):
                raise UsageError(f"--env {options.env}: data named by quality belong to a task; give --{domain} FILE")
        return NO_TASK, _word(options.env)
    if options.task is not None:
        return options.task, options.task
    if options.source == options.target == BUNDLED:
        return DEMO_TASK, DEMO_TASK
    for one, other in (("source", "target"), ("target", "source")):
        if getattr(options, other) == BUNDLED:
            raise UsageError(f"--{one} without --{other}: give both, or neither for the bundled data")
    if any(re.fullmatch(r"[a-z_]+", name) for name in (options.source, options.target)):
        raise UsageError("give --task: data named by quality belong to a task, see `tabb tasks`")
    return NO_TASK, "own"


def _here(rule: Any, options: Any, task: str, paths: dict[str, list[Path]], root: Path) -> int:
    """Train in this process."""
    from tabb.data import read
    from tabb.environments.registration import env_factory_of
    from tabb.evaluation.summary import summarise
    from tabb.training.run import train

    loaded = {domain: read(files) for domain, files in paths.items()}
    _check_data(loaded, options.engine, options.progress != "none")
    if options.progress != "none":
        _tell_limits(loaded, options)
    origin = {
        domain: {"files": [str(file.resolve()) for file in files], "report": _short(loaded[domain].report)}
        for domain, files in paths.items()
    } | {"env": options.env}
    _quietly(
        train,
        rule,
        loaded["source"].transitions if "source" in loaded else None,
        loaded["target"].transitions,
        task=None if task == NO_TASK else task,
        seeds=options.seeds,
        settings=settings_of(options),
        folder=root,
        env_factory=env_factory_of(options.env) if options.env else None,
        progress=options.progress,
        origin=origin,
        track=options.track,
    )
    if options.progress != "none":
        print(summarise(root))
    return 0


def _resume(options: Any) -> int:
    """Go on with a plan, with the seeds of a rule's folder, or with one run folder."""
    from tabb.evaluation.summary import summarise

    root, progress, track = options.resume, options.progress, options.track
    # Of a comparison: <task>/<data>/<method>/seed<k>. A run of a plan had a process and a core of its own; with other
    # threads it would round otherwise.
    above = next((folder for folder in root.resolve().parents[:4] if (folder / PLAN).exists()), None)
    if options.ray is not None and above is None and not (root / PLAN).exists():
        raise UsageError(f"{root}: was not started as a plan (of several runs, or with --ray); leave --ray out")
    check_ray(options)
    if (root / PLAN).exists():
        cells = read_plan(root)
        carry_out(root, options)
        print(summarise(root))
        return 0 if cells else 1
    if above is not None and PARENT not in os.environ:
        carry_out(above, options, only=root)
        if progress != "none":
            print(summarise(root))
        return 0
    folders = [root] if (root / "config.json").exists() else sorted(root.glob("seed*/"))
    configs = [RunFolder(folder).config() for folder in folders]
    if not configs:
        raise RunError(f"{root}: holds no run to go on with (no config.json and no seed folders); check the path")
    from tabb.data import read
    from tabb.environments.registration import env_factory_of
    from tabb.training.run import train

    first = configs[0]
    if all(RunFolder(folder).result_file.exists() for folder in folders) and len(folders) >= len(first["seeds"]):
        print(summarise(root))
        return 0
    origin = first["origin"]
    if "target" not in origin:
        raise UsageError(
            f"{root}: was trained from arrays, which tabb does not keep; go on in Python with "
            "tabb.train(..., folder=..., resume=True) and the same data"
        )
    loaded = {
        domain: read([Path(file) for file in origin[domain]["files"]])
        for domain in ("source", "target")
        if domain in origin
    }
    _check_data(loaded, first["settings"]["engine"], progress != "none")
    env = origin.get("env")
    alone = root == folders[0]
    _quietly(
        train,
        rule_from_plain(first["rule"]),
        loaded["source"].transitions if "source" in loaded else None,
        loaded["target"].transitions,
        task=first["task"],
        seeds=[first["seed"]] if alone else first["seeds"],
        settings=settings_from(first),
        folder=root.parent if alone else root,
        resume=True,
        env_factory=env_factory_of(env) if env else None,
        progress=progress,
        origin=origin,
        track=track,
    )
    if progress != "none":
        print(summarise(root))
    return 0


def _check_data(loaded: dict[str, Loaded], engine: str, show: bool) -> None:
    """Check that the data sets fit together and, to `show`, say what they are and what looks wrong in them."""
    from tabb.audit import pair_form, short_form
    from tabb.data import check_domains, check_side

    if len(loaded) == 1:
        found = check_side("target", loaded["target"].transitions)
    else:
        source, target = loaded["source"], loaded["target"]
        found = check_domains(source.transitions, target.transitions, source.report, target.report)
    _check_engine(loaded, engine)
    if not show:
        return
    for domain, data in loaded.items():
        _tell(domain, data.report)
        found += [f"{domain}: {line}" for line in short_form(data)]
    if len(loaded) == 2:
        found += pair_form(source.transitions, target.transitions)
    for warning in found:
        print(f"tabb: warning: {warning}", file=sys.stderr)


def _quietly(train: Any, *arguments: Any, **options: Any) -> None:
    """`train` without warnings of data: `_check_data` gives them, with the names of files, or is asked not to.

    Of tracking, one line of ours.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        warnings.simplefilter("always", TrackingWarning)
        warnings.showwarning = lambda message, *_, **__: print(f"tabb: warning: {message}", file=sys.stderr)
        train(*arguments, **options)


def _tell(domain: str, report: Report) -> None:
    """A data set in one line, and what a user should know of it."""
    dropped = "".join(f", {count:,} dropped ({reason})" for reason, count in report.dropped.items())
    print(
        f"{domain}: {report.kept:,} transitions in {report.episodes:,} episodes ({report.terminals:,} terminal, "
        f"{report.truncations:,} truncated){dropped}: {report.name}",
        file=sys.stderr,
    )
    for note in (*report.notes, *report.doubts):
        print(f"tabb: warning: {domain}: {note}", file=sys.stderr)


def _tell_limits(loaded: dict[str, Loaded], options: Any) -> None:
    """Say where a run learns from fewer rows than there are."""
    for domain, data in loaded.items():
        rows = getattr(options, f"{domain}_rows")
        if rows is not None and rows < len(data.transitions):
            print(f"{domain}: {rows:,} of these rows are used (--{domain}-rows)", file=sys.stderr)


def _check_engine(loaded: dict[str, Any], engine: str) -> None:
    """Data of one engine evaluated on the other would hide a shift as large as gravity's."""
    for domain, data in loaded.items():
        stated = data.report.engine
        if stated is not None and stated != engine:
            raise UsageError(
                f"{data.report.name}: the {domain} data come from engine {stated} but --engine is {engine}; "
                f"say --engine {stated}"
            )


def _short(report: Any) -> dict[str, Any]:
    """What of a data report goes into a run's record: not the return of each of a thousand episodes."""
    return {
        "layout": report.layout,
        "rows": report.rows,
        "kept": report.kept,
        "dropped": report.dropped,
        "episodes": report.episodes,
        "mean_return": report.mean_return,
        "engine": report.engine,
    }


def _word(spec: str) -> str:
    """A file name or quality as one word of a folder's name."""
    return "+".join(re.sub(r"[^\w.-]", "_", Path(part).stem) for part in spec.split("+"))


def settings_of(options: Options) -> Settings:
    """The part of the options that a run is made of."""
    return Settings(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Settings)})
