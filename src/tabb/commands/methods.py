"""What `tabb benchmark --methods` names: learners, and learners with options under a name of the user's choice."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Sequence

from tabb.commands.presets import preset_of
from tabb.commands.train_options import changed_learner
from tabb.environments.tasks import Task
from tabb.errors import UsageError
from tabb.experiments.benchmark import Learner, Method, plain_method, preset_for
from tabb.registry import backbone_names, learners_of, rule_names

ALLOWED = (
    *("--rule.", "--backbone.", "--imitation.", "--preset", "--normalise"),
    *("--source-rows", "--target-rows", "--rows-seed"),
)
"""beginnings of the options that make a method; the others are the same for all that is compared"""
SEED = "{seed}"
"""in an option's value: the run's seed"""


def methods_of(words: Sequence[str], limits: Sequence[str] = ()) -> tuple[Method, ...]:
    """The methods that are named.

    `words` are learners (RULE or RULE@BACKBONE) or `NAME=LEARNER OPTIONS`, where {seed} is the run's seed; `limits` are
    the options that every run has. Raises `UsageError` for learners, names and options that cannot be.
    """
    methods = []
    for word in words:
        name, sign, rest = word.partition("=")
        if re.search(r"\s", name) and (not sign or re.search(r"\s-", name)):  # else a name with spaces in it
            raise UsageError(f"method {word!r}: a learner with options has a name: sharp='tabb --rule.temperature 0.3'")
        if sign:
            methods.append(_with_options(name, rest, limits))
        else:
            (learner,) = learners_of([word])
            learner.backbone.check_rule(learner.rule)
            methods.append(plain_method(learner.name))
    if not methods:
        raise UsageError("name at least one method")
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise UsageError(f"{' '.join(names)}: a method is named twice")
    return tuple(methods)


def _with_options(name: str, text: str, limits: Sequence[str]) -> Method:
    """The method `name` from its learner and options, checked as `tabb train` would."""
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9._-]*", name):
        raise UsageError(
            f"method {name!r}: a name is of letters, digits, '-', '_' and '.', since it is the name of a folder"
        )
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"method {name}: {text!r} cannot be read ({error})") from None
    if not words or words[0].startswith("-"):
        raise UsageError(f"method {name}: give a learner, then its options: {name}='tabb --rule.temperature 0.3'")
    learner = learners_of(words[:1])[0].name
    if name in (*rule_names(), *backbone_names()) and name != learner:
        raise UsageError(f"method {name}: is the name of something else than {words[0]}; choose another one")
    for word in words[1:]:
        if word.startswith("--") and not word.startswith(ALLOWED):
            raise UsageError(
                f"method {name}: {word.partition('=')[0]} cannot differ between methods that are compared; "
                "--rule.*, --backbone.*, --imitation.*, --preset, --normalise and the options of rows can"
            )
        if word.partition("=")[0] in limits:
            raise UsageError(f"method {name}: {word.partition('=')[0]} is given for all methods already")
    own_preset, options = preset_of(words[1:])

    @functools.cache
    def parsed(preset: str | None, suites: tuple[str, ...], seed: int) -> Learner:
        """Parsed once for each seed, preset and suite that makes a difference."""
        given = [option.replace(SEED, str(seed)) for option in options]
        return Learner(*changed_learner(learner, given, preset=preset, suites=suites))

    def make(task: Task, seed: int, presets: bool) -> Learner:
        preset = own_preset or (preset_for(learner, task) if presets else None)
        return parsed(preset, task.suites, seed if any(SEED in option for option in options) else 0)

    try:
        parsed(own_preset, (), 0)
    except UsageError as error:
        raise UsageError(f"method {name}: {error}") from None
    return Method(name, learner, make, shlex.join(words))
