"""Where a result comes from: the data by content, the versions and the machine."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from tabb.cores import core_count
from tabb.jax_switches import switches
from tabb.transitions import COLUMNS, PIECE, StoredRows, Transitions

EXTRAS = "extras"
"""in the data of a run's `config.json`: the fingerprints of the extras that its rule reads, by domain"""


def fingerprint(rows: Transitions | StoredRows) -> str:
    """SHA-256 over all columns and, where there are some, bounds: tells on resuming whether the data are the same."""
    digest = hashlib.sha256()
    data, numbers = (rows.data, rows.numbers) if isinstance(rows, StoredRows) else (rows, None)
    for name in COLUMNS:
        array = np.asarray(getattr(data, name))
        count = len(array) if numbers is None else len(numbers)
        digest.update(f"{name} {(count, *array.shape[1:])} {array.dtype}".encode())
        for begin in range(0, count, PIECE):
            piece = slice(begin, begin + PIECE)
            digest.update(np.ascontiguousarray(array[piece if numbers is None else numbers[piece]]).data)
    if data.action_bounds is not None:
        digest.update(repr(data.action_bounds).encode())
    return digest.hexdigest()


def extras_fingerprint(rows: Transitions) -> str | None:
    """SHA-256 over the extras, in the order of their names; None where there are none."""
    if not rows.extras:
        return None
    digest = hashlib.sha256()
    for name, column in sorted(rows.extras.items()):
        array = np.ascontiguousarray(column)
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def comparable(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `data` of two runs' configs, less what one of them does not tell: runs from before had no `extras`."""
    both = (dict(first), dict(second))
    for data in both:
        if not all(EXTRAS in one for one in (first, second)):
            data.pop(EXTRAS, None)
    return both


def environment() -> dict[str, Any]:
    """Versions, machine and JAX's switches of this process, for the record of a run."""
    from importlib.metadata import PackageNotFoundError, version

    names = ("tabb-rl", "jax", "jaxlib", "equinox", "optax", "numpy", "mujoco", "gymnasium")
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "unknown"
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device.platform}: {device.device_kind}",
        "cores": core_count(),
        "versions": versions,
        "jax": switches(),
    }
