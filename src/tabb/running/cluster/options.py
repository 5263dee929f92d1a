"""What a user says of the cluster."""

from __future__ import annotations

import dataclasses
import math

from tabb.errors import UsageError
from tabb.field_types import TypedFields


@dataclasses.dataclass(frozen=True)
class Cluster(TypedFields):
    """A Ray cluster, and how its cells run.

    Raises `UsageError` (one line) for values that cannot work.
    """

    address: str
    """`auto` (the cluster that this machine is a node of), `local` (one for the time of the command) or `host:port`"""
    gpus: float = 0.0
    """accelerators per cell; 0 trains on one CPU core, a half lets two cells share one"""
    retries: int = 3
    """how often a cell is handed out again after its node was lost, unless it got to a new checkpoint meanwhile"""

    def __post_init__(self) -> None:
        if "://" in self.address:
            raise UsageError(
                f"--ray {self.address}: Ray's client is not supported; make this machine a node (`ray start "
                "--address=HOST:PORT --num-cpus=0`) and say --ray auto"
            )
        if self.address not in ("auto", "local") and not (self.host and self.port):
            raise UsageError(f"--ray {self.address}: use auto, local or HOST:PORT (Ray's port is 6379 unless changed)")
        if not math.isfinite(self.gpus) or self.gpus < 0 or (self.gpus > 1 and self.gpus != int(self.gpus)):
            raise UsageError(f"--ray-gpus {self.gpus:g}: use 0, a fraction of one, or a whole number")
        if self.retries < 0:
            raise UsageError(f"--ray-retries {self.retries}: must be at least 0")

    @property
    def host(self) -> str:
        """The host of `host:port`, else empty."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port of `host:port`; 0 where there is none."""
        text = self.address.rpartition(":")[2]
        return int(text) if text.isascii() and text.isdigit() and int(text) < 65536 else 0
