"""A public data set: its name, and the address and checksum of its file."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """One public file, from the engine `legacy`."""

    name: str
    """`otdf:<task>-<quality>`"""
    task: str
    quality: str
    file: str
    address: str
    bytes: int
    sha256: str
    domain: str = "target"
    shelf: str = "target"
    """The folder of $TABB_DATA where a local copy is looked for."""
