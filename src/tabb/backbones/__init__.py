"""Backbones: single-domain offline learners that a transfer rule acts on. `BACKBONES` lists them by name."""

from tabb.backbones.backbone import Backbone
from tabb.backbones.bcq import BCQ
from tabb.backbones.cql import CQL
from tabb.backbones.iql import IQL
from tabb.backbones.td3_bc import TD3BC
from tabb.rules.rule import Rule

BACKBONES: dict[str, type[Backbone]] = {backbone.name: backbone for backbone in (IQL, TD3BC, CQL, BCQ)}


def own_backbone(rule: Rule | type[Rule]) -> Backbone:
    """The backbone that the rule's authors put it on, with the constants that belong to the rule."""
    return BACKBONES[rule.backbone](**rule.backbone_constants)


__all__ = ["BACKBONES", "BCQ", "CQL", "IQL", "TD3BC", "Backbone", "own_backbone"]
