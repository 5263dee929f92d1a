"""`tabb train`: one or more rules and seeds, on one task; without arguments, the demo."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from tabb.commands.carry_out import NO_PART, carry_out, check_ray
from tabb.commands.options import jobs_of, parse, without
from tabb.commands.presets import preset_of
from tabb.commands.training_data import check_data, quietly, short_of, tell_limits
from tabb.data.catalogue import BUNDLED, resolve
from tabb.errors import UsageError
from tabb.registry import Chosen, learners_of, presets_told, takes_preset
from tabb.running.plan import Cell, follow_parent, write_plan
from tabb.tracking import opener
from tabb.training.config import Settings

DEMO_TASK = "hopper-gravity-0.5"
NO_TASK = "none"


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
    _check_shared(learners, others)
    options: Any = parse(options_for(learners), others, " ".join(["tabb train", *names]), _description(names))
    opener(options.track)  # what is missing is said before data are read and programs compiled
    if options.resume is not None:
        from tabb.commands.resume import only_resume, resume

        only_resume([*names, *arguments])
        return resume(options)
    if len(learners) == 1:
        learners = [Chosen(learners[0].name, options.rule, options.backbone)]
    elif options.backbone is not None:
        learners = [learner._replace(backbone=options.backbone) for learner in learners]
    for learner in learners:
        learner.backbone.check_rule(learner.rule)
    return _train(learners, options, arguments)


def _check_shared(learners: list[Chosen], arguments: Sequence[str]) -> None:
    """Raise `UsageError` for an option of a rule or of a backbone where the learners have several."""
    for name, kinds in (
        ("rule", {learner.rule for learner in learners}),
        ("backbone", {learner.backbone for learner in learners}),
    ):
        given = next((one.partition("=")[0] for one in arguments if one.startswith(f"--{name}.")), None)
        if given and (len(kinds) > 1 or (name == "rule" and len(learners) > 1)):
            raise UsageError(f"{given}: is of one {name}, and these are several learners; train them one at a time")


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
        f"that a method's authors use on a robot or shift, or that serve one purpose:\n{presets_told()}\n\n"
        "With one rule, its own options are there too (--rule...), and the backbone's (--backbone...). "
        "Without arguments: the demo."
    )


def _train(learners: list[Chosen], options: Any, arguments: list[str]) -> int:
    from tabb.training.run import check_seeds

    # Names are looked up before anything is written: a typing error leaves no folder behind.
    needs_source = any(learner.rule.shares(learner.backbone.batch_size)[0] for learner in learners)
    task, spot = where(options, needs_source)
    if task != NO_TASK and options.env is None:
        from tabb.environments.tasks import get_task

        task = get_task(task).name
    paths = {"target": resolve(options.target, task, "target")}
    if needs_source:
        paths["source"] = resolve(options.source, task, "source")
    source = "none" if not needs_source and options.source == BUNDLED != options.target else options.source
    root = options.out or Path("runs") / spot / "-".join(map(_word, (source, options.target)))
    if options.out is None and len(learners) == 1:
        root = root / learners[0].name
    check_seeds(options.seeds)
    check_ray(options)
    # A rule that is not tabb's own is known to this process alone.
    own = [learner.name for learner in learners if not type(learner.rule).__module__.startswith("tabb.")]
    if own and (len(learners) > 1 or options.ray is not None):
        raise UsageError(
            f"{own[0]} is a rule of yours: train it alone and without --ray, so that it stays in this process"
        )
    one_at_a_time = bool(own) or (options.ray is None and jobs_of(options.jobs) == 1 and len(learners) == 1)
    if options.ray is None and (one_at_a_time or len(learners) * len(options.seeds) == 1):
        return _here(learners[0].rule, options, task, paths, root)
    from tabb.data import read
    from tabb.results.summary import summarise
    from tabb.training.held_out import share_of

    loaded = {domain: read(files) for domain, files in paths.items()}
    check_data(loaded, options.engine, options.progress != "none")
    # The runs' own words of it go to their logs.
    quietly(share_of, settings_of(options), task != NO_TASK or options.env is not None, loaded["target"].transitions)
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


def where(options: Any, needs_source: bool = True) -> tuple[str, str]:
    """The task's name (or `none`) and the word for it in the run's folder."""
    if options.env is not None:
        if options.task is not None:
            raise UsageError(f"--task {options.task} with --env {options.env}: give one of them")
        for domain in ("source", "target"):
            if re.fullmatch(r"[a-z_]+", getattr(options, domain)):
                raise UsageError(f"--env {options.env}: data named by quality belong to a task; give --{domain} FILE")
        return NO_TASK, _word(options.env)
    if options.task is not None:
        return options.task, options.task
    if options.source == options.target == BUNDLED:
        return DEMO_TASK, DEMO_TASK
    named = [("source", "target")] + [("target", "source")] * needs_source
    for one, other in named:
        if getattr(options, other) == BUNDLED:
            raise UsageError(f"--{one} without --{other}: give both, or neither for the bundled data")
    if any(re.fullmatch(r"[a-z_]+", getattr(options, other)) for _, other in named):
        raise UsageError("give --task: data named by quality belong to a task, see `tabb tasks`")
    return NO_TASK, "own"


def _here(rule: Any, options: Any, task: str, paths: dict[str, list[Path]], root: Path) -> int:
    """Train in this process."""
    from tabb.data import read
    from tabb.environments.registration import env_factory_of
    from tabb.results.summary import summarise
    from tabb.training.run import train

    loaded = {domain: read(files) for domain, files in paths.items()}
    check_data(loaded, options.engine, options.progress != "none")
    if options.progress != "none":
        tell_limits(loaded, options)
    origin = {
        domain: {"files": [str(file.resolve()) for file in files], "report": short_of(loaded[domain].report)}
        for domain, files in paths.items()
    } | {"env": options.env}
    quietly(
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


def _word(spec: str) -> str:
    """A file name or quality as one word of a folder's name."""
    return "+".join(re.sub(r"[^\w.-]", "_", Path(part).stem) for part in spec.split("+"))


def settings_of(options: Options) -> Settings:
    """The part of the options that a run is made of."""
    return Settings(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Settings)})
