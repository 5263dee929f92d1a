"""SAC in the source, then in the target: fine-tuning where both domains may be stepped in.

    first     the share p of the run's updates: whole batches of source rows
    then      whole batches of target rows; fresh optimisers, rates times k

It is `finetune` on soft actor-critic, with the budget of the ODRL benchmark as its default. Steps in the source are
taken in the first part of the run, steps in the target in the second, by the policy that the source left behind.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tabb.rules.finetune import FineTune


@dataclasses.dataclass(frozen=True)
class SACTune(FineTune):
    """Train SAC on the source, then go on with target rows."""

    name: ClassVar[str] = "sac-tune"
    backbone: ClassVar[str] = "sac"

    source_updates: float = 0.9
    """p, share of the run's updates that learn from the source alone [ODRL: 1,000,000 of 1,100,000]"""
