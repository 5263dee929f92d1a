"""PA-RL (Mark et al. 2024): from a logged policy to one that goes on with steps of its own, whatever its class.

It says which rows are drawn and how the policy comes from V and Q: it imitates actions that were optimised on the
critics (`tabb.backbones.optimised_actions`). Half of each batch is the source, the logged half; the other half is the
target, that of the steps. The original's critics are Cal-QL's or IQL's; here they are IQL's.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from tabb.rules.rule import Rule


@dataclasses.dataclass(frozen=True)
class PARL(Rule):
    """Half of each batch from the source, half from the target, with a policy that imitates optimised actions."""

    name: ClassVar[str] = "pa-rl"
    backbone_constants: ClassVar[dict[str, Any]] = {"extraction": "optimised"}
    neutral: ClassVar[dict[str, Any] | None] = {}
