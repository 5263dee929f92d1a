"""Dataclasses as plain JSON types and back: what `config.json`, plans and other processes pass on."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from typing import Any, TypeVar

import numpy as np

from tabb.backbones import Backbone
from tabb.errors import RunError, UsageError
from tabb.models.predictors import PREDICTORS, from_old
from tabb.models.target_predictor import TargetPredictor
from tabb.registry import backbone_class, module_of, rule_class
from tabb.rules import Rule
from tabb.rules.earlier import as_of_now

C = TypeVar("C")


def plain(value: Any) -> Any:
    """Dataclasses, tuples and infinities as JSON types; `from_plain` is its inverse for dataclasses.

    A rule or backbone has its `name` first and, where it is not tabb's own, the `class` that it is imported from; a
    predictor of the target domain has its `name`.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, TargetPredictor):
            return {"name": value.name} | fields
        return _names(value) | fields if isinstance(value, Rule | Backbone) else fields
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no infinity; float("inf") reads it back
    return value


def _names(part: Rule | Backbone) -> dict[str, Any]:
    try:
        module = module_of(type(part))
    except UsageError:  # a script's own class: read back where it is registered
        module = None
    return {"name": part.name} | ({} if module is None else {"class": module})


def from_plain(kind: type[C], values: dict[str, Any]) -> C:
    """The dataclass `kind` from what `plain` made of it. Raises `RunError` for names that it does not have."""
    types = _types_of(kind)  # type: ignore[arg-type]
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    unknown = [name for name in values if name not in names]
    if unknown:
        raise RunError(f"{kind.__name__} has no {unknown[0]!r}: the run was written by another version of tabb")
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        wanted = types[name]
        if isinstance(value, dict):  # of `Imitation | None`, the dataclass
            wanted = next((one for one in typing.get_args(wanted) if dataclasses.is_dataclass(one)), wanted)
        if name == "backbone" and isinstance(value, dict):
            value = backbone_from_plain(value)
        elif isinstance(wanted, type) and issubclass(wanted, Rule):
            value = rule_from_plain(value)
        elif isinstance(wanted, type) and issubclass(wanted, TargetPredictor):
            value = predictor_from_plain(value)
        elif dataclasses.is_dataclass(wanted):
            value = from_plain(wanted, value)  # type: ignore[arg-type]
        elif wanted is float:
            value = float(value)
        elif isinstance(value, list):
            value = tuple(value)
        arguments[name] = value
    return kind(**arguments)


@functools.cache
def _types_of(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def rule_from_plain(values: dict[str, Any]) -> Rule:
    """The rule that `plain` wrote. Raises `RunError` where its class cannot be found."""
    values = dict(values)
    name, module = values.pop("name"), values.pop("class", None)
    name, values = as_of_now(name, values)
    return from_plain(rule_class(name, module), values)


def backbone_from_plain(values: dict[str, Any]) -> Backbone:
    """The backbone that `plain` wrote, likewise; runs from before there were several have IQL."""
    values = dict(values)
    kind = backbone_class(values.pop("name", "iql"), values.pop("class", None))
    if hasattr(kind, "policies"):
        values = {"policies": 1} | values  # before a policy could have several networks
    if hasattr(kind, "layer_norm"):
        values = {"layer_norm": False} | values  # before V and Q could be normalised
    return from_plain(kind, values)


def predictor_from_plain(values: dict[str, Any]) -> TargetPredictor:
    """The predictor that `plain` wrote; those of runs from before predictors had names are read as they were."""
    values = dict(values)
    name = values.pop("name", None)
    if name is None:
        return from_old(values)
    if name not in PREDICTORS:
        raise RunError(f"predictor {name!r} is unknown: it was registered by other code, import that first")
    return from_plain(PREDICTORS[name], values)
