"""Backbones: single-domain offline learners that a transfer rule acts on."""

from tabb.backbones.iql import IQL

__all__ = ["IQL"]
