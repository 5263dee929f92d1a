"""The options of `tabb train`, and the specs of runs that they describe."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from tabb.commands.options import parse, take
from tabb.commands.predictors import option_of
from tabb.commands.presets import preset_of
from tabb.data.catalogue import BUNDLED, is_quality, resolve
from tabb.data.reading import Reading
from tabb.errors import UsageError
from tabb.models.imitation import LOGGED, Imitation
from tabb.registry import Chosen, about_rule, backbone_names, learners_of, presets_help, rule_names
from tabb.rules import RULES, Rule
from tabb.training.config import Settings, check_imitation, own_imitation
from tabb.training.online import Domain
from tabb.training.spec import RunSpec
from tabb.training.starting_weights import PARTS

DEMO_TASK = "hopper-gravity-0.5"
NO_TASK = "none"
_MISSING = {
    "target": "name the data of the domain that matters too, --target FILE; without both it is the bundled data",
    "source": "name the data of the other domain too, --source FILE, or learn from the target's rows alone, with "
    "`tabb train target-only --target FILE`; without both it is the bundled data",
}
"""what to do where the data of one domain are named alone, by the other"""


@dataclasses.dataclass(frozen=True)
class Options(Settings, Reading):
    """What to train, on what, for how long."""

    source: str = BUNDLED
    """source data: a file, `a.hdf5+b.hdf5` (`\\+` is a plus in a name), a name (minari:...), or a quality (medium,
    expert, ...) in $TABB_DATA"""
    target: str = BUNDLED
    """target data: a file, a name (otdf:..., minari:...), or a quality (medium, medium_expert, expert) in $TABB_DATA"""
    task: str | None = None
    """task to evaluate in, see `tabb tasks`; needed for named data; `none` trains on files without rollouts"""
    env: str | None = None
    """any Gymnasium environment id to evaluate in, instead of a task"""
    source_env: str | None = None
    """any Gymnasium environment id to take source steps in (`--online.source-steps`), instead of the task's robot"""
    store: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """for data larger than memory: keep the rows in a file of the cache, made once, and draw batches from there"""
    seeds: tuple[int, ...] = (0,)
    """training seeds, one run each"""
    start: Annotated[Path | None, tyro.conf.arg(aliases=["--from"])] = None
    """start from the weights of this finished run of the same backbone; a folder of runs gives each seed its own"""
    start_parts: tuple[Literal["policy", "critic"], ...] = ("policy", "critic")
    """what --from takes from that run"""
    jobs: int | None = None
    """runs at the same time, one core each (CPU only). If not given, as many as there are cores; one where they take
    steps in --env or --source-env, which may be a robot"""
    out: Path | None = None
    """folder of the runs; runs/<task>/<source>-<target>/<rule> if not given"""
    resume: Path | None = None
    """continue the stopped runs in this folder, with the options that they have; --source and --target may say where
    the same data lie now"""
    progress: Literal["auto", "bar", "lines", "none"] = "auto"
    """a bar on a terminal, plain lines elsewhere, or nothing"""
    track: Literal["tensorboard", "trackio", "wandb"] | None = None
    """send metrics to this tracker too (docs/tracking.md); with --resume, give it again"""
    ray: str | None = None
    """train on a Ray cluster, one run per task (docs/cluster.md): auto, local or HOST:PORT; jobs is a limit then"""
    ray_gpus: float = 0.0
    """accelerators per run on a cluster; 0: one CPU core"""
    ray_retries: int = 3
    """how often a run is started again after a lost node, without a new checkpoint in between"""


def parse_train(names: Sequence[str], arguments: Sequence[str]) -> tuple[list[Chosen], Any]:
    """The learners that are named, with the constants that the options give them, and the options.

    Raises `UsageError` for unknown learners, presets and options, and for those that cannot work together.
    """
    preset, others = preset_of(arguments)
    learners = learners_of(names, preset, _suites(others))
    if not names and "--resume" not in " ".join(arguments) and not {"-h", "--help"} & set(arguments):
        rules = ", ".join(rule_names())
        raise UsageError(f"name the rule first, e.g. `tabb train tabb ...`: one or more of {rules}")
    _check_shared(learners, others)
    options: Any = parse(_options_for(learners, others), others, " ".join(["tabb train", *names]), _description(names))
    if options.start is None and options.start_parts != PARTS:
        raise UsageError("--start-parts: says what to take from another run; name that run with --start RUN")
    if len(learners) == 1:
        learners = [Chosen(learners[0].name, options.rule, options.backbone)]
    elif options.backbone is not None:
        learners = [learner._replace(backbone=options.backbone) for learner in learners]
    for learner in learners:
        learner.backbone.check_rule(learner.rule)
    return learners, options


def check_effect(options: Any, arguments: Sequence[str], learners: Sequence[Chosen]) -> None:
    """Raise `UsageError` for an option of a rule, a backbone, imitation or steps that another choice makes meaningless.

    `options` and `learners` are what `parse_train` made of the arguments.
    """
    rule = options.rule.on(options.backbone) if hasattr(options, "rule") else None
    given = {option_of(one).replace(".no-", ".") for one in arguments if one.startswith("--")}
    parts = {"rule": rule, **{name: getattr(options, name) for name in ("backbone", "imitation", "online")}}
    for name, part in parts.items():
        for field, partner in ({} if part is None else part.without_effect()).items():
            option = f"--{name}.{field.replace('_', '-')}"
            if option in given:
                raise UsageError(f"{option}: changes nothing here; it counts with --{name}.{partner}")
    if "--online.refits" in given and learners and not any(learner.rule.fits_again for learner in learners):
        told = " and ".join(learner.name for learner in learners) + (" fits" if len(learners) == 1 else " fit")
        again = ", ".join(name for name, rule in RULES.items() if rule.fits_again)
        raise UsageError(
            f"--online.refits: {told} no models again along the run; leave it out, or train a rule that does: {again}"
        )


class Changed(NamedTuple):
    """A learner as options make it."""

    rule: Any
    backbone: Any
    settings: Settings


def changed_learner(
    name: str, arguments: Sequence[str], *, preset: str | None = None, suites: Sequence[str] = ()
) -> Changed:
    """A learner by name, with the constants of a preset and of the task's suites, changed by options of `tabb train`.

    Raises `UsageError` as `parse_train` does.
    """
    (learner,) = learners_of([name], preset, suites)
    options: Any = parse(_options_for([learner], arguments), arguments, "tabb train", "")
    options.backbone.check_rule(options.rule)
    check_imitation(options.imitation, options.backbone)
    check_effect(options, arguments, [learner])
    return Changed(options.rule.on(options.backbone), options.backbone, settings_of(options))


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

    try:
        task, _ = take(arguments, "--task")
    except UsageError:
        return ()
    return ALL_TASKS[task].suites if task is not None and task in ALL_TASKS else ()


def _options_for(learners: list[Chosen], arguments: Sequence[str]) -> type[Options]:
    """The options of `tabb train`, with those of the rule and its backbone where there is just one of them.

    Learners that imitate different rows by themselves imitate the same where `arguments` say which.
    """
    rules = {learner.rule: learner.rule for learner in learners}
    backbones = {learner.backbone: learner.backbone for learner in learners}
    fields: list[Any] = []
    if len(learners) == 1:
        fields.append(("rule", type(*rules), dataclasses.field(default=next(iter(rules)))))
    if len(backbones) == 1:
        fields.append(("backbone", type(*backbones), dataclasses.field(default=next(iter(backbones)))))
    else:
        fields.append(("backbone", Annotated[None, tyro.conf.Suppress], None))
    steps = _takes_steps(arguments)
    own = {own_imitation(learner.rule, learner.backbone, steps) for learner in learners}
    if len(own) == 1 or any(one.startswith("--imitation.") for one in arguments):
        fields.append(("imitation", Imitation, dataclasses.field(default=own.pop() if len(own) == 1 else LOGGED)))
    else:
        fields.append(("imitation", Annotated[None, tyro.conf.Suppress], None))
    return dataclasses.make_dataclass("RuleOptions", fields, bases=(Options,), frozen=True)


def _takes_steps(arguments: Sequence[str]) -> bool:
    names = [one.partition("=")[0].replace("_", "-") for one in arguments]
    return "--online.target-steps" in names or "--online.source-steps" in names


def _description(names: Sequence[str]) -> str:
    lines = "\n".join(f"  {name}: {about_rule(name)}" for name in (_rules_of(names) or rule_names()))
    others: dict[str, list[str]] = {}
    for rule in RULES.values():
        if rule.backbone != Rule.backbone:
            others.setdefault(rule.backbone, []).append(rule.name)
    exceptions = "; ".join(f"{backbone} for {', '.join(rules)}" for backbone, rules in others.items())
    forms = (
        "usage: tabb train                                        the demo, on the bundled data\n"
        "       tabb train --source FILE --target FILE [options]  your own data: tabb and its three controls\n"
        "       tabb train RULE[@BACKBONE] ... [options]          one or more of these rules:\n"
    )
    return (
        "Learn a policy for the target domain from source and target data.\n\n"
        f"{forms if not names else ''}{lines}\n\n"
        f"Backbones: {', '.join(backbone_names())}; {Rule.backbone} if none is named, but {exceptions}. "
        "`--preset NAME` sets constants that a method's authors use on a robot or shift, or that serve one purpose:\n"
        f"{presets_help()}\n\n"
        "With one rule, its own options are there too (--rule...), and the backbone's (--backbone...)."
    )


def _rules_of(names: Sequence[str]) -> list[str]:
    return [name.partition("@")[0] for name in names]


def settings_of(options: Options) -> Settings:
    """The part of the options that a run is made of."""
    return Settings(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Settings)})


class Place(NamedTuple):
    """Where a command trains: on which data, in which task, and what its folder is called."""

    task: str | None
    env: str | None
    files: dict[str, tuple[str, ...]]
    """Absolute paths by domain; no `source` where no learner draws source rows."""
    folder: Path
    """Task and data as a path below `runs`."""


def place_of(options: Any, learners: Sequence[Chosen]) -> Place:
    """The task and the data files that the options name.

    Raises `UsageError` or `DataError` for an unknown task or missing data: a typing error leaves no folder behind.
    """
    needs_source = any(draws_source(learner) for learner in learners)
    task, word = _task_of(options, needs_source)
    if task != NO_TASK and options.env is None:
        from tabb.environments.tasks import get_task

        task = get_task(task).name
    read: list[Domain] = ["target", "source"] if needs_source else ["target"]
    logged = [domain for domain in read if _has_rows(options, domain)]
    files: dict[str, tuple[str, ...]] = {}
    for domain in logged:
        files[domain] = absolute(resolve(getattr(options, domain), task, domain))
    source = "none" if not needs_source and options.source == BUNDLED != options.target else options.source
    words = {"source": source, "target": options.target}
    words |= {domain: "online" for domain in options.online.domains if domain not in logged}
    folder = Path(word) / "-".join(map(_word, words.values()))
    return Place(None if task == NO_TASK else task, options.env, files, folder)


def _has_rows(options: Any, domain: str) -> bool:
    """Whether there are logged rows of a domain: not where steps are taken in it, unless the options name some."""
    return domain not in options.online.domains or getattr(options, domain) != BUNDLED


def draws_source(learner: Chosen) -> bool:
    """Whether the learner's batches have source rows."""
    return bool(learner.rule.reads(learner.backbone.batch_size)[0])


def absolute(paths: Sequence[Path]) -> tuple[str, ...]:
    """Paths as specs name files."""
    return tuple(str(path.resolve()) for path in paths)


def specs_of(learner: Chosen, options: Any, place: Place) -> list[RunSpec]:
    """The runs of a learner, one for each seed."""
    return [
        RunSpec(
            rule=learner.rule,
            backbone=learner.backbone,
            source=place.files.get("source") if draws_source(learner) else None,
            target=place.files.get("target"),
            task=place.task,
            env=place.env,
            seed=seed,
            settings=dataclasses.replace(settings_of(options), backbone=None),
            start=None if options.start is None else str(options.start),
            start_parts=options.start_parts,
            reading=Reading.within(options),
            store=options.store,
            source_env=options.source_env,
        )
        for seed in options.seeds
    ]


def _task_of(options: Any, needs_source: bool) -> tuple[str, str]:
    """The task's name (or `none`) and the word for it in the run's folder."""
    if options.env is not None:
        if options.task is not None:
            raise UsageError(f"--task {options.task} with --env {options.env}: give one of them")
        domains = ("source", "target") if needs_source or options.source != BUNDLED else ("target",)
        for domain in (domain for domain in domains if _has_rows(options, domain)):
            if is_quality(getattr(options, domain)):
                raise UsageError(f"--env {options.env}: data named by quality belong to a task; give --{domain} FILE")
        return NO_TASK, _word(options.env)
    if options.task is not None:
        return options.task, options.task
    if options.source == options.target == BUNDLED:
        return DEMO_TASK, DEMO_TASK
    named = [("source", "target")] + [("target", "source")] * needs_source
    for one, other in named:
        if getattr(options, other) == BUNDLED and _has_rows(options, other):
            raise UsageError(f"--{one} without --{other}: {_MISSING[other]}")
    if any(is_quality(getattr(options, other)) and _has_rows(options, other) for _, other in named):
        raise UsageError("give --task: data named by quality belong to a task, see `tabb tasks`")
    return NO_TASK, "own"


def _word(name: str) -> str:
    """A file name or quality as one word of a folder's name."""
    return "+".join(re.sub(r"[^\w.-]", "_", Path(part).stem) for part in name.split("+"))
