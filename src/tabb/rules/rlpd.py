"""RLPD (Ball et al. 2023): half of each batch logged, half from steps of its own, and critics that stay sober off both.

It says which rows are drawn and which soft actor-critic learns from them: ten critics with layer normalisation, of
which a backup compares two. Here the logged half is the source. The original makes 20 updates per step: `--updates` is
then 20 times `--online.target-steps`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from tabb.rules.rule import Rule


@dataclasses.dataclass(frozen=True)
class RLPD(Rule):
    """Half of each batch from the source, half from the target, with ten layer-normalised critics."""

    name: ClassVar[str] = "rlpd"
    backbone: ClassVar[str] = "sac"
    backbone_constants: ClassVar[dict[str, Any]] = {"layer_norm": True, "critics": 10, "compared": 2, "entropy": 0.5}
    neutral: ClassVar[dict[str, Any] | None] = {}
