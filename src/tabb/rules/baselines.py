"""The baselines that every method is measured against: pooled, target-only and source-only IQL."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from tabb.rules.rule import Rule


@dataclasses.dataclass(frozen=True)
class Pooled(Rule):
    """Ignore the shift: half of each batch from the source, half from the target, all rows alike."""

    name: ClassVar[str] = "pooled"
    neutral: ClassVar[dict[str, Any] | None] = {}


@dataclasses.dataclass(frozen=True)
class TargetOnly(Rule):
    """Ignore the source: whole batches of target rows. A method that does not beat it transfers nothing."""

    name: ClassVar[str] = "target-only"
    neutral: ClassVar[dict[str, Any] | None] = {}

    def shares(self, batch_size: int) -> tuple[int, int]:
        return 0, batch_size


@dataclasses.dataclass(frozen=True)
class SourceOnly(Rule):
    """Ignore the target: whole batches of source rows, normalised by the source alone.

    What the source's policy is worth in the target domain as it is: zero-shot transfer.
    """

    name: ClassVar[str] = "source-only"
    neutral: ClassVar[dict[str, Any] | None] = {}

    def shares(self, batch_size: int) -> tuple[int, int]:
        return batch_size, 0
