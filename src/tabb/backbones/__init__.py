"""Backbones: single-domain learners that a transfer rule acts on. `BACKBONES` lists them by name."""

import dataclasses
from collections.abc import Sequence

from tabb.backbones.backbone import Backbone, Inputs
from tabb.backbones.bcq import BCQ
from tabb.backbones.bear import BEAR
from tabb.backbones.clone import Clone
from tabb.backbones.cql import CQL
from tabb.backbones.dt import DT
from tabb.backbones.iql import IQL
from tabb.backbones.sac import SAC
from tabb.backbones.td3_bc import TD3BC
from tabb.rules.rule import Rule

BACKBONES: dict[str, type[Backbone]] = {
    backbone.name: backbone for backbone in (IQL, TD3BC, CQL, BCQ, BEAR, Clone, SAC, DT)
}


def own_backbone(rule: Rule | type[Rule]) -> Backbone:
    """The backbone that the rule's authors put it on, with the constants that belong to the rule."""
    return BACKBONES[rule.backbone](**rule.backbone_constants)


def for_task(rule: Rule | type[Rule], backbone: Backbone, suites: Sequence[str]) -> Backbone:
    """The backbone with the constants it has for a task's suite; a rule that brings its own keeps them."""
    if rule.backbone_constants and rule.backbone == backbone.name:
        return backbone
    constants = {name: value for suite in suites for name, value in backbone.suite_constants.get(suite, {}).items()}
    return dataclasses.replace(backbone, **constants)  # type: ignore[type-var]


__all__ = [
    "BACKBONES",
    "BCQ",
    "BEAR",
    "CQL",
    "DT",
    "IQL",
    "SAC",
    "TD3BC",
    "Backbone",
    "Clone",
    "Inputs",
    "for_task",
    "own_backbone",
]
