"""Compiled programs that a process keeps: too many of them crash it without a message."""

from __future__ import annotations

from pathlib import Path

MAPS = Path("/proc/self/maps")
"""Linux's list of the pieces of memory that this process has mapped, a line each"""
LIMIT = Path("/proc/sys/vm/max_map_count")
"""how many pieces Linux allows a process; 65,530 unless somebody changed it"""
SHARE = 0.4
"""share of the limit from which on compiled programs are dropped: one run may add some thousand pieces"""


def mapped_share() -> float:
    """Share of the allowed pieces of memory that this process has mapped; 0 where the system does not say."""
    try:
        with MAPS.open("rb") as maps:
            return sum(1 for _ in maps) / int(LIMIT.read_text())
    except (OSError, ValueError, ZeroDivisionError):
        return 0.0


def drop_programs_if_many(share: float = SHARE) -> bool:
    """Drop all programs that JAX has compiled in this process once they hold many pieces of memory; whether it did.

    Each program holds some, and a process that compiles beyond Linux's limit dies inside the compiler. Programs that
    are needed again are compiled again.
    """
    import jax

    if mapped_share() < share:
        return False
    jax.clear_caches()
    return True
