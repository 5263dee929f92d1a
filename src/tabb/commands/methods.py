"""What `tabb benchmark --methods` names: learners, and learners with options under a name of the user's choice."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from tabb.errors import UsageError

ALLOWED = ("--rule.", "--backbone.", "--preset", "--normalise", "--source-rows", "--target-rows", "--rows-seed")
"""beginnings of the options that make a method; the others are the same for all that is compared"""


def methods_of(words: Sequence[str], limits: Sequence[str] = ()) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Names of the methods, and of those with options the learner and its options.

    `words` are learners (RULE or RULE@BACKBONE) or `NAME=LEARNER OPTIONS`, where {seed} is the run's seed; `limits` are
    the options of every cell. Raises `UsageError` for learners, names and options that cannot be.
    """
    from tabb.registry import learners_of

    names: list[str] = []
    variants: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, sign, rest = word.partition("=")
        if re.search(r"\s", name):
            raise UsageError(f"method {word!r}: a learner with options has a name: sharp='tabb --rule.temperature 0.3'")
        if sign:
            names.append(name)
            variants[name] = _options(name, rest, limits)
            learners = learners_of(variants[name][:1])
        else:
            learners = learners_of([word])
            names.append(learners[0].name)
        learners[0].backbone.check_rule(learners[0].rule)
    if not names:
        raise UsageError("name at least one method")
    if len(set(names)) < len(names):
        raise UsageError(f"{' '.join(names)}: a method is named twice")
    return tuple(names), variants


def _options(name: str, text: str, limits: Sequence[str]) -> tuple[str, ...]:
    """The learner and the options of method `name`, checked as `tabb train` would."""
    from tabb.backbones import BACKBONES
    from tabb.commands.benchmark import made_of
    from tabb.registry import learners_of
    from tabb.rules import RULES

    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9._-]*", name):
        raise UsageError(f"method {name!r}: a name is of letters, digits, '-', '_' and '.', since a folder bears it")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"method {name}: {text!r} cannot be read ({error})") from None
    if not words or words[0].startswith("-"):
        raise UsageError(f"method {name}: give a learner, then its options: {name}='tabb --rule.temperature 0.3'")
    if name in (*RULES, *BACKBONES) and name != learners_of(words[:1])[0].name:
        raise UsageError(f"method {name}: is the name of something else than {words[0]}; choose another one")
    for word in words[1:]:
        if word.startswith("--") and not word.startswith(ALLOWED):
            raise UsageError(
                f"method {name}: {word.partition('=')[0]} cannot differ between methods that are compared; "
                "--rule.*, --backbone.*, --preset, --normalise and the options of rows can"
            )
        if word.partition("=")[0] in limits:
            raise UsageError(f"method {name}: {word.partition('=')[0]} is given for all methods already")
    try:
        made_of([word.replace("{seed}", "0") for word in words])
    except UsageError as error:
        raise UsageError(f"method {name}: {error}") from None
    return tuple(words)
