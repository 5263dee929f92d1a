"""`--rule.predictor NAME` chooses a predictor before options are parsed: its constants are options, too.

With a name, help lists that predictor's constants; without one, it lists the names. The constants of the default
predictor can be set without naming it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import tyro

from tabb.errors import UsageError, meant
from tabb.field_types import default_of
from tabb.models.predictors import PREDICTORS, from_old
from tabb.models.target_predictor import TargetPredictor

NOW_RULES = {
    "weigh-by": "similarity is a rule of its own: `tabb train similarity`",
    "value-noise": "noise on V is a rule of its own: `tabb train value-noise --rule.noise 0.1`",
}
"""options that TABB had before, and where they went"""


def choose_predictors(kind: type, arguments: Sequence[str]) -> tuple[type, list[str]]:
    """The options `kind` with the predictors that the arguments name as defaults, and the other arguments.

    Raises `UsageError` for an unknown name, and for options that are rules of their own now.
    """
    arguments, asks = list(arguments), bool({"-h", "--help"} & set(arguments))
    changed: list[tuple[str, Any, Any]] = []
    for field in dataclasses.fields(kind):
        rule = default_of(field)
        usual = getattr(rule, "predictor", None)
        if not isinstance(usual, TargetPredictor):
            continue
        for option, where in NOW_RULES.items():
            if any(option_of(one) == f"--{field.name}.{option}" for one in arguments):
                raise UsageError(f"--{field.name}.{option}: {where}")
        predictor, arguments = _chosen(f"--{field.name}.predictor", usual, arguments)
        if predictor is not None:
            rule = dataclasses.replace(rule, predictor=predictor)
            changed.append((field.name, type(rule), dataclasses.field(default=rule)))
        elif asks:
            changed.append(_by_name(field.name, rule))
    if changed:
        kind = dataclasses.make_dataclass(kind.__name__, changed, bases=(kind,), frozen=True)
    return kind, arguments


def _chosen(option: str, usual: TargetPredictor, arguments: list[str]) -> tuple[TargetPredictor | None, list[str]]:
    """The predictor that `option` names, with the constants of `usual` if that is it; None if none is named."""
    named, others = _taken((option,), arguments)
    former, others = _taken((f"{option}.space", f"{option}.form"), others)
    if former:
        if named:
            raise UsageError(f"{option} with {' and '.join(former)}: give the name alone")
        predictor = from_old({name.rpartition(".")[2]: value for name, value in former.items()})
        given = " ".join(f"{name} {value}" for name, value in former.items())
        print(f"tabb: {given} is {option} {predictor.name} now", file=sys.stderr)
        return predictor, others
    if not named:
        return None, others
    name = named[option]
    if name not in PREDICTORS:
        raise UsageError(f"{option}: unknown predictor {name!r}: {meant(name, PREDICTORS)}")
    return (usual if name == usual.name else PREDICTORS[name]()), others


def _taken(options: Sequence[str], arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The values of these options, and the arguments without them. Raises `UsageError` for one without a value."""
    values: dict[str, str] = {}
    others: list[str] = []
    waiting = None
    for argument in arguments:
        name, (_, sign, value) = option_of(argument), argument.partition("=")
        if waiting is not None:
            values[waiting], waiting = argument, None
        elif name in options and sign:
            values[name] = value
        elif name in options:
            waiting = name
        else:
            others.append(argument)
    if waiting is not None:
        raise UsageError(f"{waiting}: needs a name, one of {', '.join(PREDICTORS)}")
    return values, others


def option_of(argument: str) -> str:
    """The option that an argument begins with, as help writes it."""
    return argument.partition("=")[0].replace("_", "-")


def _by_name(name: str, rule: Any) -> tuple[str, Any, Any]:
    """A field of options, for help alone: the rule with the names of predictors in the place of their constants."""
    help_text = (
        f"the predictor of the target domain; `--{name}.predictor NAME --help` lists its constants, such as "
        f"`--{name}.predictor.updates`"
    )
    names = Annotated[Literal[tuple(PREDICTORS)], tyro.conf.arg(help=help_text)]  # type: ignore[valid-type]
    options = dataclasses.make_dataclass(
        type(rule).__name__,
        [("predictor", names, dataclasses.field(default=rule.predictor.name))],
        bases=(type(rule),),
        frozen=True,
        namespace={"__doc__": type(rule).__doc__, "__post_init__": lambda self: None},
    )
    values = {field.name: getattr(rule, field.name) for field in dataclasses.fields(rule)}
    return name, options, dataclasses.field(default=options(**values | {"predictor": rule.predictor.name}))
