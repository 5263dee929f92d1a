"""The two baselines that every method is measured against: pooled IQL and target-only IQL."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tabb.rules.rule import Rule


@dataclasses.dataclass(frozen=True)
class Pooled(Rule):
    """Ignore the shift: half of each batch from the source, half from the target, all rows alike."""

    name: ClassVar[str] = "pooled"


@dataclasses.dataclass(frozen=True)
class TargetOnly(Rule):
    """Ignore the source: whole batches of target rows. A method that does not beat it transfers nothing."""

    name: ClassVar[str] = "target-only"

    def shares(self, batch_size: int) -> tuple[int, int]:
        return 0, batch_size
