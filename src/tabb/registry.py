"""Rules and backbones by name: RULE, or RULE@BACKBONE, with the constants of a preset."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from tabb.backbones import BACKBONES, for_task, own_backbone
from tabb.errors import UsageError, meant
from tabb.rules import RULES


def learner_name(rule: str, backbone: str | None) -> str:
    """`tabb`, or `tabb@cql` on a backbone that is not the rule's own: what tables and folders call a learner."""
    own = RULES[rule].backbone if rule in RULES else "iql"
    return rule if backbone in (None, own) else f"{rule}@{backbone}"


class Chosen(NamedTuple):
    """A learner that was asked for: its name as given, its rule and its backbone."""

    name: str
    rule: Any
    backbone: Any


def learners_of(names: Sequence[str], preset: str | None = None, suites: Sequence[str] = ()) -> list[Chosen]:
    """Rules and backbones by name, with the constants of the task's `suites` and over them those of a preset.

    Raises `UsageError` for names that there are not, or a preset that none of them has.
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
        there = f"they have {', '.join(sorted(known))}" if known else f"some others have: {', '.join(all_presets())}"
        raise UsageError(f"--preset {preset}: {' and '.join(names)} do not have it; {there}")
    return chosen


def takes_preset(name: str, preset: str) -> bool:
    """Whether the learner's rule or backbone has this preset."""
    rule, backbone = _named(name)
    return preset in (*rule.presets, *_forms(rule, backbone))


def _named(name: str) -> tuple[Any, Any]:
    """The class of the rule and the backbone of RULE or RULE@BACKBONE."""
    rule_name, at, backbone_name = name.partition("@")
    if rule_name not in RULES:
        raise UsageError(f"unknown rule {rule_name!r}: {meant(rule_name, RULES)}")
    if at and backbone_name not in BACKBONES:
        raise UsageError(f"{name}: unknown backbone {backbone_name!r}: {meant(backbone_name, BACKBONES)}")
    rule, own = RULES[rule_name], own_backbone(RULES[rule_name])
    return rule, own if backbone_name in ("", own.name) else BACKBONES[backbone_name]()


def _forms(rule: Any, backbone: Any) -> dict[str, dict[str, Any]]:
    """The backbone's presets; none where the rule brings a form of its own (BOSA's TD3)."""
    return {} if rule.backbone_constants and rule.backbone == backbone.name else backbone.presets


def presets_told() -> str:
    """The presets of every rule and backbone, one line each, for the help."""
    return "\n".join(
        f"  {name} of {', '.join(f'{kind} ({_constants(values)})' for kind, values in owners.items())}"
        for name, owners in all_presets().items()
    )


def all_presets() -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    things: dict[str, Any] = {**RULES, **BACKBONES}
    for kind, thing in things.items():
        for name, values in thing.presets.items():
            found.setdefault(name, {})[kind] = values
    return found


def _constants(values: dict[str, Any]) -> str:
    """Settings as options name them; of settings within one, those that are not their default."""
    told = []
    for name, value in values.items():
        inner = {"": value}
        if dataclasses.is_dataclass(value):
            fields = ((field.name, getattr(value, field.name), field.default) for field in dataclasses.fields(value))
            inner = {f".{within}": held for within, held, default in fields if held != default}
        told += [f"{re.sub('_', '-', name + within)} {held}" for within, held in inner.items()]
    return ", ".join(told)
