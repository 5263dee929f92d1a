"""Rules and backbones by name: RULE, or RULE@BACKBONE, with the constants of a preset.

Rules and backbones of other packages are found through the entry points `tabb.rules` and `tabb.backbones`: the name is
that of the class, the object the class. A class that a script registers (`RULES["mine"] = Mine`) is known to its
process alone, and to others by the module it is imported from.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, NamedTuple, TypeVar

from tabb.backbones import BACKBONES, Backbone, for_task
from tabb.errors import RunError, UsageError, meant
from tabb.models.target_predictor import TargetPredictor
from tabb.rules import RULES, Rule

K = TypeVar("K", Rule, Backbone)


def learner_name(rule: str, backbone: str | None) -> str:
    """`tabb`, or `tabb@cql` on a backbone that is not the rule's own: what tables and folders call a learner."""
    own = rule_class(rule).backbone if rule in RULES or rule in _installed(Rule) else Rule.backbone
    return rule if backbone in (None, own) else f"{rule}@{backbone}"


# --- Classes by name ---


def rule_class(name: str, module: str | None = None) -> type[Rule]:
    """The class of a rule.

    `module` (`package.module:Class`) is where a class of another package comes from, as `module_of` wrote it. Raises
    `RunError` (one line) where there is no such rule.
    """
    rule = _class_of(Rule, RULES, name, module)
    if rule.backbone not in BACKBONES:  # of another package as well; `own_backbone` knows it from now on
        BACKBONES[rule.backbone] = backbone_class(rule.backbone)
    return rule


def backbone_class(name: str, module: str | None = None) -> type[Backbone]:
    """The class of a backbone; otherwise as `rule_class`."""
    return _class_of(Backbone, BACKBONES, name, module)  # type: ignore[type-abstract]


def rule_names() -> list[str]:
    """Names of all rules: tabb's, those registered, and those of other packages."""
    return list(dict.fromkeys([*RULES, *_installed(Rule)]))


def backbone_names() -> list[str]:
    """Names of all backbones, likewise."""
    return list(dict.fromkeys([*BACKBONES, *_installed(Backbone)]))


def module_of(kind: type[Rule] | type[Backbone]) -> str | None:
    """`package.module:Class`, by which another process imports a class; None for tabb's own.

    Raises `UsageError` (one line) for a class that no other process can import.
    """
    module, name = kind.__module__, kind.__qualname__
    if module.partition(".")[0] == "tabb":
        return None
    value: Any = sys.modules.get(module)
    for part in name.split("."):
        value = getattr(value, part, None)
    if module == "__main__" or value is not kind:
        raise UsageError(
            f"{kind.name}: class {name} of {module} cannot be imported by another process; put it into a module of its "
            "own, or train it alone and without --ray"
        )
    return f"{module}:{name}"


def _class_of(kind: type[K], known: Mapping[str, type[K]], name: str, module: str | None) -> type[K]:
    word = kind.__name__.lower()
    problem = "it was registered by other code, import that first"
    if module is not None:
        if (here := known.get(name)) is not None and f"{here.__module__}:{here.__qualname__}" == module:
            return here
        try:
            return _checked(kind, name, _imported(module), module)
        except (ImportError, AttributeError, ValueError, RunError) as error:
            problem = f"{module} cannot be imported ({error}); install its package, or put it on PYTHONPATH"
    if name in known:
        return known[name]
    if name in _installed(kind):
        entry = _installed(kind)[name]
        try:
            return _checked(kind, name, entry.load(), entry.value)
        except (ImportError, AttributeError) as error:
            problem = f"{entry.value} cannot be imported ({error}); install its package again"
    raise RunError(f"{word} {name!r} is unknown: {problem}")


def _checked(kind: type[K], name: str, value: Any, module: str) -> type[K]:
    if not (isinstance(value, type) and issubclass(value, kind) and value.name == name):
        raise RunError(f"{module}: is no {kind.__name__.lower()} whose name is {name!r}")
    return value


def _imported(module: str) -> Any:
    package, _, names = module.partition(":")
    return functools.reduce(getattr, names.split("."), importlib.import_module(package))


def _installed(kind: type) -> dict[str, Any]:
    """The entry points of other packages, by name; nothing is imported yet."""
    return _entries("tabb.rules" if kind is Rule else "tabb.backbones")


@functools.cache
def _entries(group: str) -> dict[str, Any]:
    return {entry.name: entry for entry in entry_points(group=group)}


# --- Learners ---


class Chosen(NamedTuple):
    """A learner that was asked for: its name as given, its rule and its backbone."""

    name: str
    rule: Any
    backbone: Any


def learners_of(names: Sequence[str], preset: str | None = None, suites: Sequence[str] = ()) -> list[Chosen]:
    """Rules and backbones by name, with the constants of the task's `suites` and over them those of a preset.

    Raises `UsageError` for unknown names, or a preset that none of them has.
    """
    chosen, used = [], False
    for name in names:
        rule, backbone = _named(name)
        forms = _forms(rule, backbone)
        used = used or preset in (*rule.presets, *forms)
        settings, constants = rule.presets.get(preset or "", {}), forms.get(preset or "", {})
        canonical = learner_name(rule.name, backbone.name)
        # Every backbone is a dataclass, which the class above them cannot say.
        made: Any = for_task(rule, backbone, suites)
        chosen.append(Chosen(canonical, rule(**settings), dataclasses.replace(made, **constants)))
    if len({learner.name for learner in chosen}) < len(chosen):
        raise UsageError(f"{' '.join(names)}: a learner is named twice")
    if preset is not None and names and not used:
        known = [known for known in all_presets() if any(takes_preset(name, known) for name in names)]
        own, does = ("it has", "does") if len(names) == 1 else ("they have", "do")
        there = f"{own} {', '.join(sorted(known))}" if known else f"some others have: {', '.join(all_presets())}"
        raise UsageError(f"--preset {preset}: {' and '.join(names)} {does} not have it; {there}")
    return chosen


def takes_preset(name: str, preset: str) -> bool:
    """Whether the learner's rule or backbone has this preset."""
    rule, backbone = _named(name)
    return preset in (*rule.presets, *_forms(rule, backbone))


def _named(name: str) -> tuple[Any, Any]:
    """The class of the rule and the backbone of RULE or RULE@BACKBONE."""
    rule_name, at, backbone_name = name.partition("@")
    if rule_name not in (names := rule_names()):
        raise UsageError(f"unknown rule {rule_name!r}: {meant(rule_name, names)}")
    rule = rule_class(rule_name)
    try:
        return rule, backbone_named(backbone_name if at else rule.backbone, rule)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None


def backbone_named(name: str, rule: Rule | type[Rule] | None = None) -> Backbone:
    """The backbone of this name, with the constants that `rule` has for its own.

    Raises `UsageError` where there is none.
    """
    if name not in (names := backbone_names()):
        raise UsageError(f"unknown backbone {name!r}: {meant(name, names)}")
    own = rule is not None and name == rule.backbone
    return backbone_class(name)(**(rule.backbone_constants if rule is not None and own else {}))


def _forms(rule: Any, backbone: Any) -> dict[str, dict[str, Any]]:
    """The backbone's presets; none where the rule brings a form of its own (BOSA's TD3)."""
    return {} if rule.backbone_constants and rule.backbone == backbone.name else backbone.presets


def presets_help() -> str:
    """The presets of every rule and backbone, one line each, for the help."""
    return "\n".join(
        f"  {name} of {', '.join(f'{kind} ({_constants(values)})' for kind, values in owners.items())}"
        for name, owners in all_presets().items()
    )


def all_presets() -> dict[str, dict[str, dict[str, Any]]]:
    """Of each preset the rules and backbones that have it, with their constants.

    Classes of other packages that cannot be imported are left out: they are named where they are asked for.
    """
    presets: dict[str, dict[str, dict[str, Any]]] = {}
    everything: list[tuple[Callable[[str], Any], list[str]]] = [
        (rule_class, rule_names()),
        (backbone_class, backbone_names()),
    ]
    for class_named, names in everything:
        for name in names:
            with contextlib.suppress(RunError):
                kind = class_named(name)
                for preset, values in kind.presets.items():
                    presets.setdefault(preset, {})[kind.name] = values
    return presets


def about_rule(name: str) -> str:
    """A rule in one line: the first of its docstring, or why its package cannot be used."""
    try:
        return (rule_class(name).__doc__ or "").partition("\n")[0]
    except RunError as error:
        return str(error)


def _constants(values: dict[str, Any]) -> str:
    """Settings as options name them; a predictor by name; of settings within one, those that are not their default."""
    options = []
    for name, value in values.items():
        inner = {"": value}
        if isinstance(value, TargetPredictor):
            options.append(f"{name} {value.name}")
        if dataclasses.is_dataclass(value):
            fields = ((field.name, getattr(value, field.name), field.default) for field in dataclasses.fields(value))
            inner = {f".{within}": setting for within, setting, default in fields if setting != default}
        options += [f"{re.sub('_', '-', name + within)} {setting}" for within, setting in inner.items()]
    return ", ".join(options)
