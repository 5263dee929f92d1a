"""The processor cores that this process may use."""

from __future__ import annotations

import os


def cores_of_this_process() -> list[int]:
    """Their numbers, in order."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def core_count() -> int:
    """How many there are. Sums on a CPU are rounded differently with another number of them."""
    return len(cores_of_this_process())
