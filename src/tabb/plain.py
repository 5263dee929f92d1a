"""Dataclasses as plain JSON types and back: what `config.json`, plans and other processes pass on."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any, TypeVar

import numpy as np

from tabb.backbones import BACKBONES, Backbone
from tabb.errors import RunError
from tabb.rules import RULES, Rule

C = TypeVar("C")


def plain(value: Any) -> Any:
    """Dataclasses, tuples and infinities as JSON types; `from_plain` is its inverse for dataclasses."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"name": value.name} | fields if isinstance(value, Rule | Backbone) else fields
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no infinity; float("inf") reads it back
    return value


def from_plain(kind: type[C], values: dict[str, Any]) -> C:
    """The dataclass `kind` from what `plain` made of it. Raises `RunError` for names that it does not have."""
    types = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    unknown = [name for name in values if name not in names]
    if unknown:
        raise RunError(f"{kind.__name__} has no {unknown[0]!r}: the run was written by another version of tabb")
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        wanted = types[name]
        if name == "backbone" and isinstance(value, dict):
            value = backbone_from_plain(value)
        elif isinstance(wanted, type) and issubclass(wanted, Rule):
            value = rule_from_plain(value)
        elif dataclasses.is_dataclass(wanted):
            value = from_plain(wanted, value)  # type: ignore[arg-type]
        elif wanted is float:
            value = float(value)
        elif isinstance(value, list):
            value = tuple(value)
        arguments[name] = value
    return kind(**arguments)


def rule_from_plain(values: dict[str, Any]) -> Rule:
    """The rule that `plain` wrote, found by its name."""
    values = dict(values)
    name = values.pop("name")
    if name not in RULES:
        raise RunError(f"rule {name!r} is unknown: it was registered by other code, import that first")
    return from_plain(RULES[name], values)


def backbone_from_plain(values: dict[str, Any]) -> Backbone:
    """The backbone that `plain` wrote, found by its name; runs from before there were several have IQL."""
    values = dict(values)
    name = values.pop("name", "iql")
    if name not in BACKBONES:
        raise RunError(f"backbone {name!r} is unknown: it was registered by other code, import that first")
    return from_plain(BACKBONES[name], values)
