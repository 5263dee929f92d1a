"""Dataclasses whose fields are checked against their annotations when an object is made.

Constants of a wrong type are found here, in one line, and not as a traceback from deep inside a computation.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import types
import typing
from typing import Any

import numpy as np

from tabb.errors import UsageError


class TypedFields:
    """Base of dataclasses of constants: wrong types are a `UsageError` before the class's own `__post_init__` runs."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        own = cls.__dict__.get("__post_init__")
        if own is None:
            return

        @functools.wraps(own)
        def checked(self: Any) -> None:
            check_field_types(self)
            own(self)

        cls.__post_init__ = checked  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        check_field_types(self)

    def without_effect(self) -> dict[str, str]:
        """Fields that change nothing beside the values of others, each with what it counts with: `extraction x`.

        The command line refuses such options; in Python, and in what earlier versions wrote, they stand.
        """
        return {}


def check_field_types(constants: Any) -> None:
    """Raise `UsageError` for the first field of a dataclass whose value is not of the annotated type.

    NumPy's numbers count as numbers and whole numbers as fractions; NaN and truth values do not count as numbers.
    """
    kind: Any = type(constants)
    for field in dataclasses.fields(constants):
        wanted, value = _types_of(kind).get(field.name, Any), getattr(constants, field.name)
        if (remedy := _remedy(wanted, value, default_of(field))) is not None:
            raise UsageError(f"{kind.__name__} {field.name}={_shown(value)}{remedy}")


@functools.cache
def _types_of(kind: type) -> dict[str, Any]:
    """The types of a class's fields; none where an annotation names what cannot be found from here."""
    try:
        return typing.get_type_hints(kind)
    except (NameError, AttributeError, TypeError):
        return {}


def _remedy(wanted: Any, value: Any, default: Any) -> str | None:
    """What to say of a value that is not of the wanted type; None if it is."""
    if _is(wanted, value):
        return None
    choices = [of for of in _alternatives(wanted) if of is not type(None)]
    if all(typing.get_origin(of) is typing.Literal for of in choices):
        known = [str(word) for of in choices for word in typing.get_args(of)]
        return f" is unknown: use {', '.join(known[:-1])}{' or ' if known[1:] else ''}{known[-1]}"
    such_as = (
        f", such as {_shown(default)}" if default not in (None, dataclasses.MISSING) and _is(wanted, default) else ""
    )
    if isinstance(value, list) and any(typing.get_origin(of) is tuple for of in choices):
        return f" is a list; give a tuple{such_as or ', such as (64, 64)'}"
    described = " or ".join(_words(of) for of in choices)
    plain_number = choices in ([int], [float], [bool])
    return f": give {described}{' or None' if len(choices) < len(_alternatives(wanted)) else ''}" + (
        "" if plain_number else such_as
    )


def _alternatives(wanted: Any) -> list[Any]:
    return list(typing.get_args(wanted)) if typing.get_origin(wanted) in (typing.Union, types.UnionType) else [wanted]


def _is(wanted: Any, value: Any) -> bool:
    """Whether a value is of an annotated type; true for annotations that say nothing that can be checked."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return any(_is(one, value) for one in arguments)
    if origin is typing.Literal:
        return any(type(value) is type(word) and value == word for word in arguments)
    if origin is tuple and arguments:
        if not isinstance(value, tuple):
            return False
        if arguments[-1] is Ellipsis:
            return all(_is(arguments[0], item) for item in value)
        return len(value) == len(arguments) and all(map(_is, arguments, value))
    if origin is collections.abc.Callable:
        return callable(value)
    if wanted is bool:
        return isinstance(value, bool | np.bool_)
    if wanted in (int, float):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return whole or (wanted is float and isinstance(value, float | np.floating) and not np.isnan(value))
    kind = wanted if origin is None else origin
    return not _can_be_checked(kind) or isinstance(value, kind)


def _can_be_checked(kind: Any) -> bool:
    """Whether `isinstance` knows this class; annotations of arrays and protocols of other libraries are left alone."""
    if not isinstance(kind, type) or kind is Any:  # a class, in Python 3.11
        return False
    return not getattr(kind, "_is_protocol", False) and kind.__module__.partition(".")[0] not in ("jaxtyping", "jax")


def _words(wanted: Any) -> str:
    """A type in words."""
    if wanted is bool:
        return "True or False"
    if wanted is int:
        return "a whole number"
    if wanted is float:
        return "a number"
    if wanted is str:
        return "text"
    if typing.get_origin(wanted) is tuple:
        several = {int: "whole numbers", float: "numbers", str: "texts"}
        return f"a tuple of {several.get(typing.get_args(wanted)[0], 'values')}"
    if typing.get_origin(wanted) is collections.abc.Callable:
        return "a function"
    if typing.get_origin(wanted) is typing.Literal:
        return " or ".join(map(str, typing.get_args(wanted)))
    return f"an instance of {getattr(wanted, '__name__', wanted)}"


def _shown(value: Any) -> str:
    """A value as a line can hold it: a class by its name, and objects with many constants without them."""
    if isinstance(value, type):
        return value.__name__
    if dataclasses.is_dataclass(value):
        return f"{type(value).__name__}()"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default of a dataclass's field; `dataclasses.MISSING` where it has none."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
