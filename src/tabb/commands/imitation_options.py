"""`--imitation.*` for all methods of a comparison: they change what each method would imitate by itself."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Sequence
from typing import Any

from tabb.commands.options import parse
from tabb.environments.tasks import Task
from tabb.errors import UsageError
from tabb.experiments.benchmark import Learner, Method
from tabb.models.imitation import Imitation
from tabb.training.config import check_imitation, own_imitation

PREFIX = "--imitation."
PROGRAM = "tabb train tabb"
"""whose help lists these options"""
FOR_ALL = f"Options --imitation.* (`{PROGRAM} --help` lists them) change what the policies of all methods imitate."


def imitation_words(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options `--imitation.*` with their values, and the other arguments."""
    words: list[str] = []
    others: list[str] = []
    waits_for_value = False
    for argument in arguments:
        begins = argument.startswith(PREFIX)
        ours = begins or (waits_for_value and not argument.startswith("--"))
        (words if ours else others).append(argument)
        waits_for_value = begins and "=" not in argument
    return words, others


def names_of(words: Sequence[str]) -> list[str]:
    """The options among these words."""
    return [word.partition("=")[0] for word in words if word.startswith(PREFIX)]


def imitating(methods: Sequence[Method], words: Sequence[str]) -> tuple[Method, ...]:
    """The methods with what each imitates changed by the options `words`.

    Raises `UsageError` for unknown options. What a method's policy cannot imitate is a `UsageError` when
    the method is made.
    """
    if not words:
        return tuple(methods)
    changed = functools.cache(functools.partial(_changed, tuple(words)))
    changed(Imitation())  # a typing error is named before anything else
    return tuple(dataclasses.replace(method, make=functools.partial(_make, method, changed)) for method in methods)


def check_effect(words: Sequence[str], imitations: Collection[Imitation]) -> None:
    """Raise `UsageError` for an option among `words` that changes nothing in any of what the methods imitate."""
    for name in names_of(words):
        field = name.removeprefix(PREFIX).replace("-", "_")
        silent = [imitation.without_effect().get(field) for imitation in imitations]
        if silent and all(silent):
            raise UsageError(f"{name}: changes nothing in any method; it counts with {PREFIX}{silent[0]}")


def _changed(words: tuple[str, ...], imitation: Imitation) -> Imitation:
    field = "imitation", Imitation, dataclasses.field(default=imitation)
    options: Any = parse(dataclasses.make_dataclass("ImitationOptions", [field], frozen=True), words, PROGRAM, "")
    changed: Imitation = options.imitation
    return changed


def _make(method: Method, changed: Any, task: Task, seed: int, presets: bool) -> Learner:
    made = method.make(task, seed, presets)
    imitation = changed(made.settings.imitation or own_imitation(made.rule, made.backbone))
    try:
        check_imitation(imitation, made.backbone)
    except UsageError as error:
        raise UsageError(f"method {method.name}: {error}") from None
    return made._replace(settings=dataclasses.replace(made.settings, imitation=imitation))
